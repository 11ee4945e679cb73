// Is all well? What waits, what came in the last 24 hours.

import {get} from './api.js';
import {badge, bytes, h, link, plural, row, svg, table, update} from './dom.js';
import {age, duration, hour, text, time} from './time.js';

export const title = 'Overview';

const OUTCOMES = ['accepted', 'duplicate', 'held', 'ignored', 'rejected', 'error'];
const HOUR_MS = 3600000;
// So many are looked at for the oldest.
const MANY = 10000;

export async function load(context) {
	return get('overview', {}, context);
}

// What needs a look, with the name of the check of psapi check that looks at the same, and its severity.
function findings(data) {
	const found = [];
	if (data.disk && data.disk.free < data.disk.min_free)
		found.push(['bad', 'The disk is full: events are refused.', 'space']);
	if (data.failed > 0)
		found.push(['remark', `${plural(data.failed, 'event')} failed and wait${data.failed === 1 ? 's' : ''} for you.`, 'failed']);
	if (data.oldest && Date.now() - new Date(data.oldest) > HOUR_MS)
		found.push(['remark', `The oldest event has waited for ${duration(data.oldest)}: does psapi drain run?`, 'oldest']);
	else if (data.waiting > 0 && !data.oldest)
		found.push(['remark', data.waiting > MANY ? `More than ${plural(MANY, 'event')} wait.` :
			`At least ${plural(data.waiting, 'event')} wait${data.waiting === 1 ? 's' : ''}.`]);
	if (data.held > 0)
		found.push(['remark', `${plural(data.held, 'request')} held: not verified yet, see Setup.`, 'held']);
	return found;
}

const VERDICTS = {OK: 'good', WARNING: 'remark', CRITICAL: 'bad', UNKNOWN: 'skipped'};
const ORDER = ['bad', 'remark', 'skipped', 'good'];
const VERDICT_MAX_MS = HOUR_MS;

function isFresh(verdict) {
	return Boolean(verdict) && Date.now() - verdict.at * 1000 <= VERDICT_MAX_MS;
}

// The worst of what is found here and what a fresh verdict says of the same: its limits may be the operator's own.
function severity(own, check, {verdict}) {
	const same = isFresh(verdict) ? verdict.findings.filter((one) => one.check === check) : [];
	return [own, ...same.map((one) => VERDICTS[one.status])].sort((a, b) => ORDER.indexOf(a) - ORDER.indexOf(b))[0];
}

// What psapi check found, if it runs: one line for each fault, but for those that are counted here, and later.
function verdictOf({verdict}, counted) {
	if (!isFresh(verdict))
		return [['skipped', `Not checked ${verdict ? `for ${duration(verdict.at * 1000)}` : 'yet'}: does psapi-check.timer run?`]];
	return verdict.findings.filter((one) => one.status !== 'OK' && !counted.includes(one.check))
		.map((one) => [VERDICTS[one.status], one.text]);
}

function sentence(data) {
	const idle = !data.history.searching && !data.history.last_accepted && data.waiting === 0;
	const found = findings(data);
	const verdict = verdictOf(data, ['failed', 'held', ...found.map(([, , check]) => check)]);
	const own = found.map(([kind, words, check]) => [severity(kind, check, data), words]);
	const all = [...(idle ? [['skipped', 'Nothing was delivered yet.']] : []), ...own, ...verdict]
		.sort(([a], [b]) => ORDER.indexOf(a) - ORDER.indexOf(b));
	const [first, ...others] = all.length ? all : [['good', 'All is well.']];
	return h('section', {class: `health ${first[0]}`, 'aria-label': 'Health'},
		h('p', {class: 'sentence'}, badge(...first)), others.map((one) => h('p', {}, badge(...one))),
		data.verdict ? h('p', {class: 'quiet'}, 'The last check said ', data.verdict.status, ' ',
			age(new Date(data.verdict.at * 1000).toISOString()), '. ', link({view: 'setup'}, 'All checks')) : null);
}

// "30,000+": counting was ended, there may be more.
function number(count, atLeast) {
	return `${count.toLocaleString()}${atLeast ? '+' : ''}`;
}

function tile(label, value, detail, to) {
	const body = [h('span', {class: 'label'}, label), h('span', {class: 'value'}, value),
		h('span', {class: 'quiet'}, detail)];
	return h('li', {class: 'tile'}, to ? link(to, ...body) : h('div', {}, ...body));
}

function tiles(data) {
	const {last_accepted: last, last_daily: daily, run_date: runDate, searching} = data.history;
	const disk = data.disk;
	return h('ul', {class: 'tiles'},
		tile('Waiting', number(data.waiting, data.waiting_at_least), data.oldest ? `oldest ${age(data.oldest)}` :
			data.waiting ? 'still counting' : 'nothing waits', {view: 'events', status: 'new,waiting'}),
		tile('Failed', number(data.failed, data.failed_at_least), data.failed ? 'see why' : 'none', {view: 'events', status: 'failed'}),
		tile('Held', data.held.toLocaleString(), data.held ? 'not verified yet' : 'none', {view: 'setup'}),
		tile('Daily event', runDate || '–', daily ? `received ${age(daily.at)}` : searching ? 'still counting' : 'none found',
			daily ? {view: 'event', id: daily.webhook_id} : null),
		tile('Last accepted', last ? age(last.at) : '–', last ? (last.type || '').replace('producersync.', '') :
			searching ? 'still counting' : 'nothing yet', last ? {view: 'event', id: last.webhook_id} : null),
		disk ? tile('Disk', bytes(disk.free), `free of ${bytes(disk.total)}`, null) : null);
}

// ---- the last 24 hours ----

const WIDTH = 24, GAP = 6;
// As style.css has it: there the chart is small, and its letters are twice as high in its own units.
const NARROW = matchMedia('(max-width: 46rem)');

function bar(one, i, most, {height: base, label}) {
	let y = base;
	const total = OUTCOMES.reduce((sum, outcome) => sum + one[outcome], 0);
	const group = svg('g', {transform: `translate(${i * (WIDTH + GAP)} 0)`},
		svg('title', {}, `${hour(one.hour)}: ${total}`));
	for (const outcome of OUTCOMES) {
		if (!one[outcome])
			continue;
		const height = Math.max(2, one[outcome] / most * (base - 4));
		y -= height;
		group.append(svg('rect', {class: `bar ${outcome}`, x: 0, y, width: WIDTH, height}));
	}
	group.append(svg('line', {class: 'base', x1: 0, x2: WIDTH, y1: base, y2: base}));
	if (i % 6 === 0)
		group.append(svg('text', {x: i === 24 ? WIDTH : 0, y: base + label, 'text-anchor': i === 24 ? 'end' : 'start'},
			hour(one.hour)));
	return group;
}

function chart(hours) {
	const most = Math.max(1, ...hours.map((one) => OUTCOMES.reduce((sum, outcome) => sum + one[outcome], 0)));
	const size = NARROW.matches ? {height: 240, label: 24} : {height: 120, label: 16};
	return svg('svg', {class: 'chart', viewBox: `0 0 ${hours.length * (WIDTH + GAP)} ${size.height + size.label + 6}`, role: 'img',
		'aria-label': 'Deliveries by hour; the table below has the numbers'}, hours.map((one, i) => bar(one, i, most, size)));
}

function legend(hours) {
	return h('ul', {class: 'legend'}, OUTCOMES.map((outcome) => {
		const total = hours.reduce((sum, one) => sum + one[outcome], 0);
		return total ? h('li', {}, h('span', {class: `swatch ${outcome}`, 'aria-hidden': 'true'}),
			link({view: 'deliveries', outcome, since: hours[0].hour}, `${outcome} ${total.toLocaleString()}`)) : null;
	}));
}

function history(data, open) {
	const {hours, complete, since} = data.history;
	const columns = ['Hour', ...OUTCOMES];
	const rows = hours.filter((one) => OUTCOMES.some((outcome) => one[outcome])).reverse()
		.map((one) => row(columns, [time(one.hour), ...OUTCOMES.map((outcome) => one[outcome].toLocaleString())]));
	return h('section', {'aria-labelledby': 'history-title'},
		h('h2', {id: 'history-title'}, 'Deliveries of the last 24 hours'),
		rows.length ? [chart(hours), legend(hours)] : h('p', {class: 'quiet'}, 'None.'),
		complete ? null : h('p', {class: 'quiet'}, since ? `Counted back to ${text(since)} so far.` : 'Still counting.'),
		rows.length ? h('details', {open, 'data-keep': 'history'}, h('summary', {}, 'As a table'),
			table('Deliveries by hour', columns, rows)) : null);
}

function causes(data) {
	const columns = ['Events', 'Handler', 'Cause'];
	if (!data.causes_too_many && data.causes.length === 0)
		return null;
	const some = data.causes_of === undefined ? '' : `, of the newest ${plural(data.causes_of, 'failure')}`;
	return h('section', {'aria-labelledby': 'causes-title'}, h('h2', {id: 'causes-title'}, `Failures by cause${some}`),
		data.causes_too_many ? h('p', {}, 'There are too many to group here: ', h('code', {}, 'psapi list --failed --by-cause'), '.') :
			[table('Failures by cause', columns, data.causes.map((one) => row(columns,
				[one.count.toLocaleString(), one.handler || '–', one.others ? 'other causes' :
					link({view: 'events', status: 'failed', reason: one.reason}, one.reason || 'no reason given')]))),
			h('p', {class: 'quiet'}, 'A cause leads to the failed events with this reason, whichever the handler was.')]);
}

export function render(root, data) {
	const details = root.querySelector('[data-keep="history"]');
	update(root, [h('h1', {tabindex: '-1'}, 'Overview'), sentence(data), tiles(data),
		history(data, Boolean(details && details.open)), causes(data)]);
}
