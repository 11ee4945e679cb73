// The address decides the view and its filters. A view is loaded, shown, and asked again while it is seen.

import {show} from './act.js';
import {Failure, get, UNCHANGED} from './api.js';
import {byId, choose, chosen, h, report, tell} from './dom.js';
import * as event from './event.js';
import {listView} from './list.js';
import * as overview from './overview.js';
import * as setup from './setup.js';
import * as testing from './testing.js';
import {isUtc, switchZone} from './time.js';

const VIEWS = {overview, deliveries: listView('deliveries'), events: listView('events'), event, testing, setup};
const POLL_MS = 7000;

const main = byId('main');
let session = null;     // who has signed in, once it is known
let current = null;     // the context of the view that is shown
let timer = 0;

function trouble(error) {
	const banner = byId('trouble');
	banner.textContent = error ? error.message : '';
	banner.hidden = !error;
}

// ---- a view ----

function contextOf(parameters) {
	const name = Object.hasOwn(VIEWS, parameters.view) ? parameters.view : 'overview';
	const abort = new AbortController();
	const context = {name, view: VIEWS[name], parameters, session: session || {}, abort, signal: abort.signal, tags: new Map(), state: {},
		search: location.search, go, trouble, reload: () => location.search === context.search && open(false, true)};
	return context;
}

// Returns why it is not known yet.
async function learnSession(context) {
	if (session)
		return null;
	try {
		session = await get('session', {}, {signal: context.signal});
	} catch (error) {
		return error;
	}
	byId('who').replaceChildren(h('span', {title: session.user}, session.user || ''), session.actions ? '' : h('span', {}, 'read-only'));
	context.session = session;
	return null;
}

// An answer is remembered with its tag, and only when all of it has come. It is rendered also when nothing changed: ages do.
async function refresh(context) {
	try {
		const unknown = await learnSession(context);
		const tags = new Map(context.tags);
		const data = await context.view.load({...context, tags});
		if (context !== current)
			return false;
		trouble(unknown);
		if (data !== UNCHANGED)
			Object.assign(context, {data, tags});
		context.view.render(main, context.data, context);
		document.title = `${main.querySelector('h1').textContent} · psapi`;
		return true;
	} catch (error) {
		if (context !== current || error.name === 'AbortError')
			return false;
		if (!(error instanceof Failure))
			console.error(error);
		if (context.shown) {
			trouble(error);
			return false;
		}
		main.replaceChildren(h('h1', {tabindex: '-1'}, error.status === 404 ? 'Not found' : 'This view cannot be shown'),
			h('p', {}, error.message), h('p', {}, h('a', {href: '?view=overview'}, 'Back to the overview')));
		return true;
	}
}

// What a question is about does not change while it is open; older rows stay where they are.
function mayChange() {
	return current && !current.view.still && !current.state.paused && !byId('dialog').open;
}

function schedule() {
	clearTimeout(timer);
	if (!document.hidden)
		timer = setTimeout(async () => {
			if (mayChange())
				await refresh(current);
			schedule();
		}, POLL_MS);
}

// anew: another view, or the same with other filters; else it stays while it is asked again. focus: to its heading,
// or to where it was left.
async function open(anew, focus = anew, left = null) {
	const parameters = Object.fromEntries(new URLSearchParams(location.search));
	if (current)
		current.abort.abort();
	const context = contextOf(parameters);
	Object.assign(context.state, left?.older);
	current = context;
	document.title = `${context.view.title} · psapi`;
	for (const anchor of document.querySelectorAll('nav a'))
		if (anchor.dataset.view === context.name)
			anchor.setAttribute('aria-current', 'page');
		else
			anchor.removeAttribute('aria-current');
	// A view that answers at once shows no other words before.
	const waiting = setTimeout(() => {
		if (anew && context === current && !context.shown)
			main.replaceChildren(h('h1', {tabindex: '-1'}, context.view.title), h('p', {class: 'quiet'}, 'Loading…'));
	}, 300);
	if (anew) {
		if (byId('dialog').open)
			byId('dialog').close('no');
		main.replaceChildren();
		report();
	}
	const shown = await refresh(context);
	clearTimeout(waiting);
	if (!shown || context !== current)
		return;
	context.shown = true;
	main.dataset.shown = context.name;
	const heading = main.querySelector('h1');
	if (focus && heading) {
		heading.focus({preventScroll: true});
		scrollTo(0, left ? left.y : 0);
		[...main.querySelectorAll('a')].find((one) => one.getAttribute('href') === left?.href)?.focus();
	}
	if (anew)
		tell(`${context.view.title}: loaded`);
	schedule();
}

// Browsers limit what history keeps.
const ROWS_KEPT = 1000;

// Where the view is left, for Back: how far down, by which link, and older rows.
function remember(href) {
	const {rows, next, reached, paused} = current.state;
	const older = paused && rows.length <= ROWS_KEPT ? {rows, next, reached, paused} : null;
	history.replaceState({y: scrollY, href, older}, '');
}

function go(href) {
	remember(href);
	delete main.dataset.shown;
	history.pushState(null, '', href);
	return open(true);
}

// ---- events of the page ----

document.addEventListener('click', (click) => {
	const anchor = click.target.closest('a');
	const href = anchor && anchor.getAttribute('href');
	if (!href || !href.startsWith('?') || click.button !== 0 || click.ctrlKey || click.metaKey || click.shiftKey)
		return;
	click.preventDefault();
	go(href);
});

addEventListener('popstate', (event) => {
	if (current && location.search === current.search)
		return;     // only the fragment is another one: the link to the contents
	delete main.dataset.shown;
	open(true, true, event.state);
});

document.addEventListener('visibilitychange', () => {
	if (!document.hidden && mayChange())
		refresh(current);
	schedule();
});

const KEYS = [['/', 'to the filters'], ['↑ ↓', 'to the row above or below'], ['Enter', 'open it'], ['Esc', 'leave the filters, close a dialog'],
	['?', 'this list']];

// Keys of one character are in the way of those who speak to their computer.
let characters = chosen('psapi-keys') !== 'off';

function showKeys() {
	const box = h('input', {type: 'checkbox', checked: characters, onchange: () => {
		characters = box.checked;
		choose('psapi-keys', characters ? 'on' : 'off');
	}});
	show('Keys', h('dl', {class: 'keys'}, KEYS.map(([key, words]) => [h('dt', {}, h('kbd', {}, key)), h('dd', {}, words)])),
		h('p', {}, h('label', {}, box, ' / and ? are on')));
}

// A row's link; a row of a list without one itself.
function moveRow(step) {
	const stops = [...main.querySelectorAll('tbody tr')].map((tr) => tr.querySelector('a') ||
		(tr.hasAttribute('tabindex') ? tr : null)).filter(Boolean);
	const at = stops.indexOf(document.activeElement);
	const next = stops[at < 0 ? (step > 0 ? 0 : stops.length - 1) : at + step];
	if (next)
		next.focus();
	return Boolean(next);
}

function toFilters() {
	const first = main.querySelector('.filters select, .filters input');
	if (first) {
		first.closest('details').open = true;
		first.focus();
	}
	return Boolean(first);
}

document.addEventListener('keydown', (press) => {
	const writing = press.target.closest('input, select, textarea');
	if (press.ctrlKey || press.metaKey || press.altKey || byId('dialog').open)
		return;
	if (writing) {
		if (press.key === 'Escape')
			main.querySelector('h1')?.focus();
		return;
	}
	if (characters && press.key === '/') {
		if (!toFilters())
			go('?view=deliveries').then(toFilters);
	} else if (characters && press.key === '?')
		showKeys();
	else if (!['ArrowDown', 'ArrowUp'].includes(press.key) || !moveRow(press.key === 'ArrowDown' ? 1 : -1))
		return;
	press.preventDefault();
});

byId('keys').addEventListener('click', showKeys);

function showZone() {
	byId('zone').setAttribute('aria-pressed', String(isUtc()));
}

byId('zone').addEventListener('click', () => {
	switchZone([...main.querySelectorAll('input[type="datetime-local"]')]);
	showZone();
	if (current.data && !current.view.still)
		current.view.render(main, current.data, current);
});

// ---- the beginning ----

history.scrollRestoration = 'manual';     // the rows come later
showZone();
open(true);
