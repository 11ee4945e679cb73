// Deliveries and Events: filters, which are the address; rows, the newest first; more rows.

import {act, labelOf} from './act.js';
import {get, path, UNCHANGED} from './api.js';
import {address, badge, busy, byId, h, link, plural, row, table, tell, update} from './dom.js';
import {fromField, isExact, text as timeText, time, toField} from './time.js';

// The types of the examples, which the type's field offers; it takes any other, too.
let types = [];

// How often one request of the page looks further back by itself, where it found too little.
const LOOKS = 20;

// Why the receiver refuses: receiver/receive.c. A delivery has one of them, an event its handler's words.
const REASONS = ['method_not_allowed', 'unsupported_encoding', 'missing_header', 'malformed_header', 'truncated_body',
	'body_too_large', 'stale_timestamp', 'future_timestamp', 'signature_mismatch', 'no_secret', 'spool_full', 'spool_error'];

// Of these there is an event.
const STORED = ['accepted', 'duplicate'];

function choice(name, label, options) {
	return {name, label, options};
}

const common = (reason) => [{name: 'type', label: 'Type', suggests: () => types}, {name: 'npn', label: 'NPN', mode: 'numeric'},
	{name: 'id', label: 'Webhook-id'}, {name: 'reason', ...reason}, {name: 'since', label: 'Since', time: true},
	{name: 'until', label: 'Until', time: true}];

export const LISTS = {
	deliveries: {
		title: 'Deliveries', api: 'attempts', csv: 'attempts.csv', word: 'delivery',
		empty: 'Nothing was delivered yet. The portal sends a test request when you register the endpoint.',
		fields: [choice('outcome', 'Outcome', [['', 'any'], 'accepted', 'duplicate', 'held', 'ignored', 'rejected',
			'error']), ...common({label: 'Reason', suggests: () => REASONS})],
		columns: ['Time', 'Outcome', 'Type or reason', 'NPN', 'Webhook-id', 'ms', 'Skew', 'Key'],
		key: (one) => `${one.at} ${one.webhook_id || ''} ${one.outcome}`,
		cells: (one) => [time(one.at), badge(one.outcome),
			[one.reason || one.type || '–', one.suppressed ? ` (and ${one.suppressed} more)` : ''], one.npn || '–',
			!one.webhook_id ? '–' : STORED.includes(one.outcome) ? link({view: 'event', id: one.webhook_id}, one.webhook_id) :
				one.webhook_id,
			one.ms === undefined ? '–' : one.ms.toLocaleString(undefined, {minimumFractionDigits: 1, maximumFractionDigits: 1}),
			one.skew_s === undefined ? '–' : `${one.skew_s} s`, one.key || '–'],
	},
	events: {
		title: 'Events', api: 'events', csv: 'events.csv', word: 'event',
		empty: 'There is no event yet.',
		fields: [choice('status', 'Status', [['', 'any'], ['new,waiting', 'in the queue'], 'new', 'waiting', 'failed',
			'handled']), ...common({label: 'Reason contains'})],
		columns: ['Received', 'Status', 'Type', 'NPN', 'Webhook-id', 'Tries', 'Reason'],
		key: (one) => one.file,
		cells: (one) => [time(one.received_at), badge(one.status), one.type || '–', one.npn || '–',
			link({view: 'event', id: one.file}, one.webhook_id), String(one.tries), one.reason || '–'],
	},
};

export function listView(name) {
	const list = LISTS[name];
	return {title: list.title, load: (context) => load(list, context), render: (root, data, context) =>
		render(name, list, root, data, context)};
}

function filtersOf(list, parameters) {
	return Object.fromEntries(list.fields.map(({name}) => [name, parameters[name]]).filter(([, value]) => value));
}

// Rows behind a cursor, until there are some or the end is reached.
async function fetchRows(list, filters, after, context) {
	let result = await get(list.api, {...filters, after}, context);
	if (result === UNCHANGED)
		return result;
	const rows = [...result.rows];
	for (let i = 0; i < LOOKS && rows.length === 0 && result.next; i++) {
		if (result.reached)
			tell(`Looked back to ${timeText(result.reached)}`);
		result = await get(list.api, {...filters, after: result.next}, {signal: context.signal});
		rows.push(...result.rows);
	}
	return {next: null, reached: null, ...result, rows};     // also what this answer has no more
}

async function loadTypes(context) {
	if (types.length > 0)
		return;
	try {
		types = (await get('examples', {}, {signal: context.signal})).examples.map((one) => one.type);
	} catch {
		// The field works without them.
	}
}

async function load(list, context) {
	const [rows] = await Promise.all([fetchRows(list, filtersOf(list, context.parameters), '', context),
		loadTypes(context)]);
	return rows;
}

// ---- the form ----

// The options, and the one in force, which may be another.
function choices(options, value = '') {
	const pairs = options.map((option) => Array.isArray(option) ? option : [option, option]);
	return pairs.some(([word]) => word === value) ? pairs : [...pairs, [value, value]];
}

function field(one, parameters) {
	const id = `filter-${one.name}`;
	const value = parameters[one.name];
	let input;
	if (one.options)
		input = h('select', {id, name: one.name}, choices(one.options, value).map(([word, label]) =>
			h('option', {value: word, selected: word === (value || '')}, label)));
	else
		input = h('input', {id, name: one.name, type: one.time ? 'datetime-local' : 'text', autocomplete: 'off',
			spellcheck: 'false', list: one.suggests ? `${id}-list` : null, inputmode: one.mode,
			value: one.time ? toField(value) : value});
	return h('div', {class: 'field'}, h('label', {for: id}, one.label), input,
		one.suggests ? h('datalist', {id: `${id}-list`}, one.suggests().map((word) => h('option', {value: word}))) : null,
		value && one.time && !isExact(value) ? h('span', {class: 'quiet'}, `In force: ${value} `,
			link({...parameters, [one.name]: ''}, 'remove')) : null);
}

function form(name, list, context) {
	const filters = filtersOf(list, context.parameters);
	const details = byId('filters').content.cloneNode(true).querySelector('details');
	const made = details.querySelector('form');
	// A narrow screen shows the rows first.
	details.open = Object.keys(filters).length > 0 || innerWidth > 740;
	made.querySelector('.fields').append(...list.fields.map((one) => field(one, context.parameters)));
	made.querySelector('[data-clear]').href = address({view: name});
	const csv = made.querySelector('[data-csv]');
	csv.href = path(list.csv, filters);
	csv.setAttribute('download', '');
	made.addEventListener('submit', (event) => {
		event.preventDefault();
		const chosen = {view: name};
		for (const one of list.fields) {
			const input = made.elements[one.name];
			const value = input.value.trim();
			chosen[one.name] = input.value === input.defaultValue ? filters[one.name] : one.time ? fromField(value) : value;
		}
		context.go(address(chosen));
	});
	return details;
}

// ---- many at once ----

const BULK = {failed: ['retry', 'done'], handled: ['replay'], new: ['done'], waiting: ['done']};

function bulk(list, state, context) {
	const status = context.parameters.status;
	if (list.word !== 'event' || !context.session.actions || !BULK[status])
		return null;
	return h('p', {class: 'buttons bulk'}, BULK[status].map((name) => h('button', {type: 'button', 'data-bulk': name,
		onclick: async () => {
			if (await act(name, state.rows.map((one) => one.file)))
				context.reload();
		}}, `${labelOf(name, ` all ${state.rows.length.toLocaleString()} shown`)}…`)));
}

// ---- the rows ----

function rowOf(list, one) {
	const made = row(list.columns, list.cells(one), {'data-key': list.key(one)});
	if (!made.querySelector('a'))
		made.tabIndex = -1;     // for the arrow keys
	return made;
}

function note(list, state, filtered) {
	if (state.rows.length === 0 && !state.next)
		return filtered ? 'Nothing matches these filters.' : list.empty;
	const reached = state.next && state.reached ? ` Looked back to ${timeText(state.reached)}.` : '';
	const words = list.word === 'delivery' && state.rows.length !== 1 ?
		`${state.rows.length.toLocaleString()} deliveries` : plural(state.rows.length, list.word);
	return `${words}, the newest first.${state.next ? reached : ' No older ones.'}`;
}

function fillRows(list, root, state, context) {
	const filtered = Object.keys(filtersOf(list, context.parameters)).length > 0;
	update(root.querySelector('tbody'), state.rows.map((one) => rowOf(list, one)));
	root.querySelector('table').hidden = state.rows.length === 0;
	root.querySelector('[data-note]').replaceChildren(note(list, state, filtered), ...(state.paused ?
		[' Not updated while older rows are shown: ', link(context.parameters, 'back to the newest'), '.'] : []));
	root.querySelector('[data-more]').hidden = !state.next;
	const place = root.querySelector('[data-bulk-place]');
	const buttons = state.rows.length ? bulk(list, state, context) : null;
	if (!place.contains(document.activeElement))
		place.replaceChildren(...(buttons ? [buttons] : []));
}

async function showOlder(list, root, context) {
	const {state} = context;
	const before = {paused: state.paused, count: state.rows.length};
	state.paused = true;
	try {
		const page = await fetchRows(list, filtersOf(list, context.parameters), state.next, {signal: context.signal});
		Object.assign(state, page, {rows: [...state.rows, ...page.rows]});
		const hadFocus = document.activeElement.matches('[data-more]');
		fillRows(list, root, state, context);
		// The end is reached: the button is gone.
		if (hadFocus && !state.next) {
			const first = root.querySelectorAll('tbody tr')[Math.min(before.count, state.rows.length - 1)];
			(first?.querySelector('a') || first || root.querySelector('h1')).focus();
		}
		context.trouble(null);
		tell(`${state.rows.length} rows`);
	} catch (error) {
		state.paused = before.paused;
		if (error.name !== 'AbortError')
			context.trouble(error);
	}
}

function render(name, list, root, data, context) {
	const state = context.state;
	if (!state.paused)
		Object.assign(state, data);
	if (!state.made) {
		state.made = true;
		const more = h('button', {type: 'button', 'data-more': true, onclick: () => busy(more, () => showOlder(list, root, context))},
			'Look further back');
		root.replaceChildren(h('h1', {tabindex: '-1'}, list.title), form(name, list, context),
			h('p', {'data-note': true, class: 'quiet'}), h('div', {'data-bulk-place': true}),
			table(list.title, list.columns, [], {'data-list': true}), h('p', {class: 'buttons'}, more));
	}
	fillRows(list, root, state, context);
}
