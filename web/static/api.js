// The API, /api/1/. A view that asks again sends the ETag that it has, and is told if nothing changed.

export class Failure extends Error {
	constructor(status, text) {
		super(text);
		this.status = status;
	}
}

export const UNCHANGED = Symbol('unchanged');

// An answer that is not psapi-web's.
function foreign(status) {
	if (status === 401 || status === 403)
		return 'You have no permission: sign in again by reloading the page.';
	const why = status >= 502 && status <= 504 ? ': psapi-web may not be running' : '';
	return `The web server answers ${status}${why}.`;
}

async function read(response) {
	const type = response.headers.get('Content-Type') || '';
	if (!type.startsWith('application/json'))
		throw new Failure(response.status, foreign(response.status));
	const text = await response.text();
	let data;
	try {
		data = JSON.parse(text);
	} catch {
		throw new Failure(response.status, 'The answer broke off.');
	}
	if (!response.ok)
		throw new Failure(response.status, data.error || `The answer is ${response.status}.`);
	return data;
}

async function ask(path, options) {
	try {
		return await fetch(path, {cache: 'no-store', credentials: 'same-origin', ...options});
	} catch (error) {
		if (error.name === 'AbortError')
			throw error;
		throw new Failure(0, 'The server cannot be reached.');
	}
}

export function path(name, parameters = {}) {
	const search = new URLSearchParams();
	for (const [key, value] of Object.entries(parameters))
		if (value)
			search.set(key, value);
	const query = search.toString();
	return `api/1/${name}${query ? `?${query}` : ''}`;
}

// tags: a Map of the view's own, path to ETag; without it the answer is always whole.
export async function get(name, parameters, {signal, tags} = {}) {
	const where = path(name, parameters);
	const headers = tags && tags.has(where) ? {'If-None-Match': tags.get(where)} : {};
	const response = await ask(where, {headers, signal});
	if (response.status === 304)
		return UNCHANGED;
	const data = await read(response);
	if (tags && response.headers.get('ETag'))
		tags.set(where, response.headers.get('ETag'));
	return data;
}

export async function post(name, data) {
	return read(await ask(path(name), {method: 'POST', headers: {'Content-Type': 'application/json'},
		body: JSON.stringify(data)}));
}

// The text of an answer as it is, for copying.
export async function text(name, parameters) {
	const response = await ask(path(name, parameters), {});
	const whole = response.clone();
	await read(response);
	return whole.text();
}
