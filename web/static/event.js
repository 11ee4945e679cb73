// One event: what became of it, its deliveries, its proof, its payload.

import {act, labelOf} from './act.js';
import {get, text as apiText} from './api.js';
import {badge, copyButton, h, link, update} from './dom.js';
import {age, time} from './time.js';

export const title = 'Event';

export async function load(context) {
	return get('event', {id: context.parameters.id}, context);
}

const WORDS = {
	new: 'It waits for its handler.',
	waiting: 'The handler failed, and it is tried again.',
	failed: 'It failed, and no handler gets it until you put it back.',
	handled: 'It was handled.',
};

function status(data) {
	const due = data.status === 'waiting' && data.due_at ? [' Next try ', age(data.due_at), ', ', time(data.due_at), '.'] : [];
	return h('section', {class: 'state', 'aria-label': 'State'},
		h('p', {class: 'sentence'}, badge(data.status), ' ', WORDS[data.status] || '', due),
		data.reason ? h('p', {}, 'Reason: ', h('strong', {}, data.reason)) : null,
		data.invalid ? h('p', {}, 'It is no event that psapi knows: ', data.invalid) : null);
}

const POSSIBLE = {failed: ['retry', 'done'], handled: ['replay'], new: ['done'], waiting: ['done']};

function buttons(data, context) {
	const names = data.probe ? [] : POSSIBLE[data.status] || [];
	if (!context.session.actions || names.length === 0)
		return null;
	return h('p', {class: 'buttons'}, names.map((name, i) => h('button', {type: 'button', 'data-act': name,
		class: i === 0 ? 'primary' : '', onclick: async () => {
			if (await act(name, [data.name]))
				context.reload();
		}}, `${labelOf(name)}…`)));
}

// A word of a shell.
function quoted(word) {
	return /^[A-Za-z0-9_.%-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

function copies(data) {
	return h('p', {class: 'buttons'}, copyButton('Copy id', data.webhook_id),
		copyButton('Copy JSON', () => apiText('show', {id: data.name})),
		copyButton('Copy command', `sudo -u psapi psapi show ${quoted(data.name)}`));
}

// ---- the timeline ----

function delivery(one) {
	return [time(one.at), badge(one.outcome), h('span', {}, [`delivered from ${one.remote_addr || 'an unknown address'}`,
		one.host ? ` to ${one.host}` : '', one.reason ? `: ${one.reason}` : '', ` (${one.status}, ${one.ms} ms`,
		one.skew_s === undefined ? '' : `, skew ${one.skew_s} s`, ')'].join(''))];
}

function steps(data) {
	const list = data.deliveries.map((one) => [one.at, delivery(one)]);
	if (data.tries > 0 && data.tried_at)
		list.push([data.tried_at, [time(data.tried_at), badge(data.status === 'failed' ? 'failed' : 'error'),
			h('span', {}, `handler ${(data.handler || '').replace(/^.*\//, '')}: ${data.reason || 'failed'}`)]]);
	if (data.failed_at && data.failed_at !== data.tried_at)
		list.push([data.failed_at, [time(data.failed_at), badge('failed'), h('span', {}, data.reason || 'failed')]]);
	// A state has no fractions of a second: what was tried in one was delivered before.
	const when = (iso) => new Date(iso).getTime() + (iso.includes('.') ? 0 : 999);
	list.sort(([a], [b]) => when(a) - when(b));
	if (data.status === 'waiting' && data.due_at)
		list.push([data.due_at, [time(data.due_at), badge('waiting', 'due'), h('span', {}, 'next try')]]);
	return list;
}

function timeline(data) {
	const list = steps(data);
	return h('section', {'aria-labelledby': 'timeline-title'}, h('h2', {id: 'timeline-title'}, 'Timeline'),
		list.length ? h('ol', {class: 'timeline'}, list.map(([, cells]) => h('li', {}, cells))) :
			h('p', {class: 'quiet'}, 'The attempts log has no delivery of it any more.'),
		data.deliveries_whole ? null : h('p', {class: 'quiet'}, 'The log is long: there may be more deliveries. ',
			link({view: 'deliveries', id: data.webhook_id}, 'Look for them.')),
		data.stderr ? [h('h3', {}, 'End of standard error'), h('pre', {tabindex: '0', 'aria-label': 'Standard error'},
			data.stderr)] : null);
}

// ---- the evidence ----

function pair(name, value) {
	return value ? [h('dt', {}, name), h('dd', {}, value)] : null;
}

function evidence(data) {
	const {verified} = data;
	return h('section', {'aria-labelledby': 'evidence-title'}, h('h2', {id: 'evidence-title'}, 'Evidence'),
		h('p', {}, verified.good ? badge('good', `signed with secret ${verified.key}`) :
			badge('bad', `not proven: ${verified.why}`)),
		h('dl', {}, pair('Webhook-id', data.webhook_id), pair('Event id', data.event_id), pair('NPN', data.npn),
			pair('Generated', data.timestamp ? time(data.timestamp) : ''), pair('Received', time(data.received_at)),
			pair('Signed', data.webhook_timestamp ? time(new Date(data.webhook_timestamp * 1000).toISOString()) : ''),
			pair('Signature', h('code', {}, data.webhook_signature)),
			pair('File', data.file ? h('code', {}, data.file) : '')));
}

function payload(data) {
	const body = data.payload === undefined ? data.body_base64 : data.payload;
	return h('section', {'aria-labelledby': 'payload-title'},
		h('h2', {id: 'payload-title'}, data.payload === undefined ? 'Body, which is no JSON, as base64' : 'Payload'),
		h('pre', {tabindex: '0', 'aria-labelledby': 'payload-title'}, body || ''));
}

export function render(root, data, context) {
	const words = [data.type || 'Event', data.npn && `NPN ${data.npn}`].filter(Boolean);
	update(root, [h('h1', {tabindex: '-1'}, words.join(', ')), status(data), buttons(data, context), copies(data),
		timeline(data), evidence(data), payload(data)]);
}
