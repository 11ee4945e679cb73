// How the receiver is set up: secrets by fingerprint, checks with remedies, what is held.

import {act, labelOf} from './act.js';
import {get} from './api.js';
import {badge, h, row, table, update} from './dom.js';
import {age, time} from './time.js';

export const title = 'Setup';

export async function load(context) {
	return get('setup', {}, context);
}

// What cannot be read is not what there is none of.
function unread(what, why) {
	return [h('p', {}, badge('error', `${what} cannot be read.`)), h('pre', {tabindex: '0', 'aria-label': 'Why'}, why)];
}

function secrets(data) {
	const columns = ['Secret', 'Added', 'Last used'];
	return h('section', {'aria-labelledby': 'secrets-title'}, h('h2', {id: 'secrets-title'}, 'Secrets'),
		data.secrets_error ? unread('The secrets', data.secrets_error) : data.secrets.length === 0 ? h('p', {}, 'There is no secret yet: ', h('code', {}, 'sudo psapi secret add'), '.') :
			table('Secrets by fingerprint', columns, data.secrets.map((one) => row(columns, one.unusable ?
				[`line ${one.line}`, badge('bad', one.unusable), '–'] :
				[h('code', {}, one.fingerprint), one.added ? time(one.added) : '–',
					one.matched ? [time(one.matched), ` (${age(one.matched)})`] : 'not in the newest deliveries']))));
}

const WORDS = {OK: 'ok', WARNING: 'remark', CRITICAL: 'failed', UNKNOWN: 'skipped'};

// The results of a command that ran at some time: [badge, name, text, remedy] each.
function results(id, title, command, at, rows) {
	const columns = ['Result', 'Check', 'What was found'];
	return h('section', {'aria-labelledby': id}, h('h2', {id}, title),
		at === undefined ? h('p', {}, 'They have not run yet: ', h('code', {}, command), '.') :
			[h('p', {class: 'quiet'}, 'Found ', age(new Date(at * 1000).toISOString()), '. To look again: ', h('code', {}, command)),
				table(title, columns, rows.map(([result, check, text, remedy]) => row(columns, [result, check,
					[h('div', {}, text), remedy ? h('pre', {class: 'remedy'}, remedy) : null].filter(Boolean)])))]);
}

function check(data) {
	return results('checks-title', 'Checks', 'sudo -u psapi psapi check --mail', data.verdict?.at, data.verdict?.findings.map((one) =>
		[badge(WORDS[one.status], one.status.toLowerCase()), one.check, one.text, one.remedy]));
}

function doctor(data) {
	return results('doctor-title', 'Thorough checks', 'sudo psapi doctor', data.doctor?.at, data.doctor?.rows.map((one) => {
		const word = one.remark ? 'remark' : one.ok === null ? 'skipped' : one.ok ? 'ok' : 'failed';
		return [badge(word, word), one.check, one.text, one.remedy];
	}));
}

function held(data, context) {
	const columns = ['Arrived', 'Webhook-id', 'Bytes', ''];
	if (data.held_error)
		return h('section', {'aria-labelledby': 'held-title'}, h('h2', {id: 'held-title'}, 'Held requests'),
			unread('The held requests', data.held_error));
	if (data.held.length === 0)
		return null;
	return h('section', {'aria-labelledby': 'held-title'}, h('h2', {id: 'held-title'}, 'Held requests'),
		h('p', {class: 'quiet'}, 'They arrived before the first secret, and anybody can have sent them. With a secret ' +
			'they are verified, and the authentic ones accepted: psapi secret add, then psapi adopt.'),
		table('Held requests', columns, data.held.map((one) => row(columns, [time(one.received_at), one.webhook_id,
			one.bytes.toLocaleString(), context.session.actions ? h('button', {type: 'button', class: 'small',
				'data-discard': one.name, 'aria-label': `Discard ${one.webhook_id}`, onclick: async () => {
					if (await act('discard', [one.name]))
						context.reload();
				}}, `${labelOf('discard')}…`) : '']))));
}

export function render(root, data, context) {
	update(root, [h('h1', {tabindex: '-1'}, 'Setup'), secrets(data), check(data), doctor(data), held(data, context),
		h('section', {'aria-labelledby': 'about-title'}, h('h2', {id: 'about-title'}, 'About'), h('dl', {},
			h('dt', {}, 'Version'), h('dd', {}, data.version), h('dt', {}, 'Store'), h('dd', {}, data.store),
			h('dt', {}, 'Endpoint'), h('dd', {}, data.endpoint_url || 'PSAPI_ENDPOINT_URL is not set'),
			h('dt', {}, 'You'), h('dd', {}, context.session.user || 'nobody has signed in')))]);
}
