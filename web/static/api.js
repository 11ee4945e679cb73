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

function read({response, text}) {
	const type = response.headers.get('Content-Type') || '';
	if (!type.startsWith('application/json'))
		throw new Failure(response.status, foreign(response.status));
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

// The shipped web servers wait for psapi-web for 30 s; an action may be part of the way then.
const VIEW_MS = 20000, ACTION_MS = 60000;

// The whole answer, or a failure after so long. AbortSignal.any() is missing in browsers that are older than 2024.
async function ask(path, {signal, ...options}, ms = VIEW_MS) {
	const own = new AbortController(), abort = () => own.abort();
	const timer = setTimeout(abort, ms);
	if (signal?.aborted)
		abort();
	signal?.addEventListener('abort', abort);
	try {
		const response = await fetch(path, {cache: 'no-store', credentials: 'same-origin', ...options, signal: own.signal});
		return {response, text: await response.text()};
	} catch (error) {
		if (error.name === 'AbortError' && signal?.aborted)
			throw error;
		throw new Failure(0, options.method && own.signal.aborted ? 'There was no answer: look whether it was done.' :
			'The server cannot be reached.');
	} finally {
		clearTimeout(timer);
		signal?.removeEventListener('abort', abort);
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
	const answer = await ask(where, {headers, signal});
	const {response} = answer;
	if (response.status === 304)
		return UNCHANGED;
	const data = read(answer);
	if (tags && response.headers.get('ETag'))
		tags.set(where, response.headers.get('ETag'));
	return data;
}

export async function post(name, data) {
	return read(await ask(path(name), {method: 'POST', headers: {'Content-Type': 'application/json'},
		body: JSON.stringify(data)}, ACTION_MS));
}

// The text of an answer as it is, for copying.
export async function text(name, parameters) {
	const answer = await ask(path(name, parameters), {});
	read(answer);
	return answer.text;
}
