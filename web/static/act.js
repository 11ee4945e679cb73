// Actions: what one will do is said first, and what it did afterwards.

import {post} from './api.js';
import {byId, h, plural, report} from './dom.js';

// A question with two answers. The browser gives the focus back to where it was.
export function confirm(title, body, yes) {
	const dialog = byId('dialog');
	byId('dialog-title').textContent = title;
	byId('dialog-text').replaceChildren(...body);
	byId('dialog-yes').textContent = yes;
	byId('dialog-yes').hidden = !yes;
	byId('dialog-no').textContent = yes ? 'Cancel' : 'Close';
	dialog.returnValue = 'no';
	dialog.showModal();
	return new Promise((resolve) => {
		dialog.addEventListener('close', () => resolve(dialog.returnValue === 'yes'), {once: true});
	});
}

export function show(title, ...body) {
	return confirm(title, body, '');
}

const ACTIONS = {
	retry: {label: (which) => `Retry${which}`, yes: 'Put back', does: (n) => `${plural(n, 'event')} back to the queue`,
		more: 'The handler gets it again, as if it had never been tried.'},
	replay: {label: (which) => `Replay${which}`, yes: 'Put back', does: (n) => `${plural(n, 'event')} back to the queue`,
		more: 'It was handled before: the handler gets it once more.'},
	done: {label: (which) => `Mark${which} as done`, yes: 'Mark as done', does: (n) => `${plural(n, 'event')} out of the queue`,
		more: 'No handler gets it. It stays in the archive, and Replay brings it back.'},
	discard: {label: (which) => `Discard${which}`, yes: 'Discard', does: (n) => `${plural(n, 'held request')} discarded`,
		more: 'The request is deleted. The sender was told that it arrived, and does not send it again.', key: 'names'},
};

// which: " all 3 shown".
export function labelOf(name, which = '') {
	return ACTIONS[name].label(which);
}

// A request has at most 1,000 ids and 64 KiB.
const PART_IDS = 1000, PART_BYTES = 60000;

function inParts(ids) {
	const parts = [];
	let room = 0;
	for (const id of ids) {
		const size = new TextEncoder().encode(JSON.stringify(id)).length + 1;
		if (size > room || parts.at(-1).length === PART_IDS) {
			parts.push([]);
			room = PART_BYTES;
		}
		parts.at(-1).push(id);
		room -= size;
	}
	return parts;
}

// Returns what came of it: how many were moved, why others were not.
async function send(name, ids) {
	const done = {moved: 0, whys: []};
	try {
		for (const part of inParts(ids)) {
			const {moved, refused} = await post(name, {[ACTIONS[name].key || 'ids']: part});
			done.moved += moved;
			done.whys.push(...refused.map((one) => one.why));
		}
	} catch (error) {
		done.whys.push(error.message);
	}
	return done;
}

let working = false;

// Ask, act, and say what came of it. Returns whether something was done.
export async function act(name, ids) {
	const action = ACTIONS[name];
	if (working) {
		report('The action before still runs.');
		return false;
	}
	if (!await confirm(`${action.does(ids.length)}?`, [h('p', {}, action.more)], action.yes))
		return false;
	working = true;
	report('Working…');
	const {moved, whys} = await send(name, ids);
	working = false;
	const left = ids.length - moved;
	if (moved > 0)
		report(`${action.does(moved)}: done${left > 0 ? `; ${left.toLocaleString()} not` : ''}`);
	else
		report(`Not done: ${whys[0] || 'nothing was moved'}`);
	// A question of another view stays.
	if (whys.length > 0 && !byId('dialog').open)
		await show(moved > 0 ? `${moved.toLocaleString()} done, ${left.toLocaleString()} not` : 'Not done',
			h('ul', {}, whys.map((why) => h('li', {}, why))));
	return moved > 0;
}
