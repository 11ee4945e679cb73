// Making elements. Texts only ever become text nodes: there is no way from a string to markup here.

const SVG = 'http://www.w3.org/2000/svg';

function fill(element, attributes, children) {
	for (const [name, value] of Object.entries(attributes)) {
		if (name.startsWith('on'))
			element.addEventListener(name.slice(2), value);
		else if (value === true)
			element.setAttribute(name, '');
		else if (value !== false && value !== null && value !== undefined)
			element.setAttribute(name, value);
	}
	element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
	return element;
}

export function h(tag, attributes = {}, ...children) {
	return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
	return fill(document.createElementNS(SVG, tag), attributes, children);
}

export function byId(id) {
	return document.getElementById(id);
}

// For those who hear the page.
export function tell(text) {
	byId('told').textContent = text;
}

// What came of an action, seen and heard until the next action or view; without a text, nothing.
export function report(text = '') {
	byId('done').textContent = text;
	byId('done').className = text ? 'banner done' : 'unseen';
}

// Each outcome and status: a word, a shape, a colour.
const SHAPES = {
	good: 'M3 8.5 6.5 12 13 4.5',
	same: 'M3 6h10M3 10h10',
	wait: 'M8 3v5l3 2M8 1.8a6.2 6.2 0 1 0 .01 0',
	none: 'M3 8h10',
	bad: 'M4 4l8 8M12 4l-8 8',
	alarm: 'M8 2 15 14H1ZM8 6v4M8 11.6v.4',
};
const KINDS = {
	accepted: 'good', handled: 'good', good: 'good', ok: 'good',
	duplicate: 'same', new: 'wait', waiting: 'wait', held: 'wait', remark: 'wait',
	ignored: 'none', skipped: 'none', rejected: 'bad', failed: 'alarm', error: 'alarm', bad: 'alarm',
};

export function kindOf(word) {
	return KINDS[word] || 'none';
}

export function badge(word, text = word) {
	const kind = kindOf(word);
	return h('span', {class: `badge ${kind}`},
		svg('svg', {viewBox: '0 0 16 16', 'aria-hidden': 'true'}, svg('path', {d: SHAPES[kind]})), text);
}

// A link within the page; empty parameters are left out.
export function address(parameters) {
	const search = new URLSearchParams();
	for (const [name, value] of Object.entries(parameters))
		if (value)
			search.set(name, value);
	return `?${search}`;
}

export function link(parameters, ...children) {
	return h('a', {href: address(parameters)}, ...children);
}

async function copyText(text) {
	if (navigator.clipboard)
		return navigator.clipboard.writeText(text);
	// Without TLS there is no clipboard for scripts but this.
	const area = h('textarea', {class: 'unseen', 'aria-hidden': 'true'});
	area.value = text;
	document.body.append(area);
	area.select();
	const copied = document.execCommand('copy');
	area.remove();
	if (!copied)
		throw new Error('The browser does not allow it.');
	return undefined;
}

export function copyButton(label, text) {
	const button = h('button', {type: 'button', class: 'small', 'data-copy': label, onclick: async () => {
		try {
			await copyText(typeof text === 'function' ? await text() : text);
			report();
			tell(`${label}: copied`);
			button.textContent = 'Copied';
		} catch (error) {
			report(`${label}: not copied. ${error.message}`);
			button.textContent = 'Not copied';
		}
		setTimeout(() => { button.textContent = label; }, 1500);
	}}, label);
	return button;
}

// What the user of this browser chose. Where storage is forbidden, a choice lasts as long as the page.
export function chosen(name) {
	try {
		return localStorage.getItem(name);
	} catch {
		return null;
	}
}

export function choose(name, value) {
	try {
		localStorage.setItem(name, value);
	} catch { /* as above */ }
}

// What a button starts, once at a time. One that were disabled meanwhile would lose the focus.
export async function busy(button, work) {
	if (button.getAttribute('aria-disabled'))
		return;
	button.setAttribute('aria-disabled', 'true');
	try {
		await work();
	} finally {
		button.removeAttribute('aria-disabled');
	}
}

export function plural(count, word) {
	return `${count.toLocaleString()} ${word}${count === 1 ? '' : 's'}`;
}

export function bytes(number) {
	const units = ['bytes', 'kB', 'MB', 'GB', 'TB'];
	let i = 0;
	while (number >= 1000 && i < units.length - 1) {
		number /= 1000;
		i++;
	}
	return `${number.toLocaleString(undefined, {maximumFractionDigits: i ? 1 : 0})} ${units[i]}`;
}

// ---- what is shown anew ----

// The same link, button or table as before, also with other words.
function isLike(one, other) {
	const keys = (element) => JSON.stringify([element.tagName, element.closest('[data-key]')?.dataset.key,
		element.getAttribute('href'), element.getAttribute('aria-label'), element.dataset]);
	return keys(one) === keys(other);
}

function focusable(root) {
	return [...root.querySelectorAll('a[href], button, summary, [tabindex]')];
}

// Also while a button says for a moment what came of copying.
function isSame(old, element) {
	const plain = old.cloneNode(true);
	for (const button of plain.querySelectorAll('[data-copy]'))
		button.textContent = button.dataset.copy;
	return plain.isEqualNode(element);
}

// Show these elements, null is none. One that is as it was stays, with what is selected or scrolled in it. The focus
// goes to the element that is like the one that had it; without one, to the link at its place, or to the view's heading:
// never to another button, which somebody might be about to press.
export function update(root, elements) {
	const before = focusable(root);
	const at = before.indexOf(document.activeElement);
	const wanted = elements.filter(Boolean);
	wanted.forEach((element, i) => {
		const old = root.children[i];
		if (!old)
			root.append(element);
		else if (!isSame(old, element))
			old.replaceWith(element);
	});
	while (root.children.length > wanted.length)
		root.lastElementChild.remove();
	if (at < 0 || root.contains(before[at]))
		return;
	const now = focusable(root);
	const same = [now[at], ...now].find((one) => one && isLike(one, before[at]));
	const place = now[Math.min(at, now.length - 1)];
	(same || (place?.matches('a') ? place : document.querySelector('main h1')))?.focus({preventScroll: true});
}

// A table that a narrow screen shows as cards: each cell has its column's name.
export function table(caption, columns, rows, attributes = {}) {
	return h('table', {role: 'table', ...attributes},
		h('caption', {class: 'unseen'}, caption),
		h('thead', {role: 'rowgroup'}, h('tr', {role: 'row'}, columns.map((name) =>
			h('th', {scope: 'col', role: 'columnheader'}, name)))),
		h('tbody', {role: 'rowgroup'}, rows));
}

export function row(columns, cells, attributes = {}) {
	return h('tr', {role: 'row', ...attributes}, cells.map((cell, i) =>
		h('td', {role: 'cell', 'data-label': columns[i]}, Array.isArray(cell) ? h('div', {}, cell) : cell)));
}
