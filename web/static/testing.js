// The three examples of the portal: send one, and see the reply beside it.

import {confirm} from './act.js';
import {get, post} from './api.js';
import {badge, busy, h, link, tell} from './dom.js';

export const title = 'Testing';

export async function load(context) {
	return get('examples', {}, context);
}

function indented(body) {
	try {
		return JSON.stringify(JSON.parse(body), null, 2);
	} catch {
		return body;
	}
}

function replyOf(result) {
	if (result.failed)
		return [h('p', {}, badge('error', 'no reply')), h('pre', {tabindex: '0', 'aria-label': 'What failed'}, result.failed)];
	const good = result.status >= 200 && result.status < 300;
	return [h('p', {}, badge(good ? 'good' : 'rejected', String(result.status)),
		` after ${result.ms.toLocaleString(undefined, {maximumFractionDigits: 1})} ms`),
	h('pre', {tabindex: '0', 'aria-label': 'Reply'}, result.body),
	good ? h('p', {}, link({view: 'event', id: result.id}, 'The event that was stored')) : null].filter(Boolean);
}

function example(one, context) {
	const reply = h('div', {class: 'reply', 'data-reply': one.type},
		h('p', {class: 'quiet'}, context.session.send ? 'Not sent yet.' : ''));
	const button = h('button', {type: 'button', class: 'primary', 'data-send': one.type, onclick: () => busy(button, async () => {
		if (!await confirm('Send this example?', [h('p', {}, 'It is signed with your secret and sent to your endpoint. ' +
			'It is stored as an event, and your handler gets it.')], 'Send'))
			return;
		reply.replaceChildren(h('p', {class: 'quiet'}, 'Sending…'));
		try {
			reply.replaceChildren(...replyOf(await post('send', {type: one.type})));
		} catch (error) {
			reply.replaceChildren(h('p', {}, badge('error', error.message)));
		}
		tell(reply.textContent);
	})}, 'Send…');
	const can = context.session.send && context.session.actions;
	return h('section', {class: 'example'}, h('h2', {}, one.type),
		h('div', {class: 'pair'}, h('div', {}, h('pre', {tabindex: '0', 'aria-label': `Example ${one.type}`},
			indented(one.body)), can ? h('p', {class: 'buttons'}, button) : null), reply));
}

function why(session) {
	if (!session.enabled)
		return 'This page is read-only. PSAPI_WEB_ACTIONS=yes in psapi.conf allows to send.';
	if (!session.actions)
		return 'Nobody has signed in, so that nothing can be sent from here.';
	return session.send ? '' : 'PSAPI_ENDPOINT_URL in psapi.conf says where to send. It is not set.';
}

export function render(root, data, context) {
	const words = why(context.session);
	root.replaceChildren(h('h1', {tabindex: '-1'}, 'Testing'),
		h('p', {class: 'quiet'}, 'The events that the portal sends with "Send Example".'),
		...(words ? [h('p', {class: 'banner'}, words, ' On the command line: ', h('code', {}, 'psapi send'), '.')] : []),
		...data.examples.map((one) => example(one, context)));
}

// Replies must not be swept away.
export const still = true;
