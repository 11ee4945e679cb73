// Actions: what one will do is said first, and what it did afterwards.

import {post} from './api.js';
import {byId, h, plural, tell} from './dom.js';

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
	retry: {label: 'Retry', yes: 'Put back', does: (n) => `${plural(n, 'event')} back to the queue`,
		more: 'The handler gets it again, as if it had never been tried.'},
	replay: {label: 'Replay', yes: 'Put back', does: (n) => `${plural(n, 'event')} back to the queue`,
		more: 'It was handled before: the handler gets it once more.'},
	done: {label: 'Mark as done', yes: 'Mark as done', does: (n) => `${plural(n, 'event')} out of the queue`,
		more: 'No handler gets it. It stays in the archive, and Replay brings it back.'},
	discard: {label: 'Discard', yes: 'Discard', does: (n) => `${plural(n, 'held request')} discarded`,
		more: 'The request is deleted. The sender was told that it arrived, and does not send it again.', key: 'names'},
};

export function labelOf(name) {
	return ACTIONS[name].label;
}

// Ask, act, and say what came of it. Returns whether something was done.
export async function act(name, ids) {
	const action = ACTIONS[name];
	if (!await confirm(`${action.does(ids.length)}?`, [h('p', {}, action.more)], action.yes))
		return false;
	let result;
	try {
		result = await post(name, {[action.key || 'ids']: ids});
	} catch (error) {
		await show('Not done', h('p', {}, error.message));
		return false;
	}
	if (result.refused.length > 0)
		await show(result.moved ? `${result.moved} done, ${result.refused.length} refused` : 'Not done',
			h('ul', {}, result.refused.map((one) => h('li', {}, one.why))));
	tell(`${action.does(result.moved)}: done`);
	return result.moved > 0;
}
