// Times: local ones, with UTC in the title; or the other way round. Ages.

import {choose, chosen, h} from './dom.js';

let utc = chosen('psapi-zone') === 'utc';

export function isUtc() {
	return utc;
}

// Also in these fields.
export function switchZone(fields) {
	const times = fields.map((one) => [one.defaultValue, one.value].map(fromField));
	utc = !utc;
	fields.forEach((one, i) => { [one.defaultValue, one.value] = times[i].map(toField); });
	choose('psapi-zone', utc ? 'utc' : 'local');
}

function format(date, options, inUtc) {
	return new Intl.DateTimeFormat(undefined, {...options, timeZone: inUtc ? 'UTC' : undefined}).format(date);
}

const FULL = {year: 'numeric', month: '2-digit', day: '2-digit', hour: '2-digit', minute: '2-digit', second: '2-digit',
	hourCycle: 'h23'};

export function text(iso) {
	const date = new Date(iso);
	return Number.isNaN(date.getTime()) ? iso : format(date, FULL, utc);
}

export function time(iso) {
	const date = new Date(iso);
	if (!iso || Number.isNaN(date.getTime()))
		return h('span', {}, iso || '–');
	const other = format(date, {...FULL, timeZoneName: 'short'}, !utc);
	return h('time', {datetime: iso, title: other}, format(date, FULL, utc));
}

export function hour(iso) {
	return format(new Date(iso), {hour: '2-digit', minute: '2-digit', hourCycle: 'h23'}, utc);
}

// Seconds as a number of units.
function inUnits(seconds) {
	const steps = [[60, 1, 'second'], [3600, 60, 'minute'], [86400 * 2, 3600, 'hour'], [Infinity, 86400, 'day']];
	const [, size, unit] = steps.find(([limit]) => Math.abs(seconds) < limit);
	return [Math.round(seconds / size), unit];
}

export function age(iso, now = Date.now()) {
	const [count, unit] = inUnits(Math.round((now - new Date(iso).getTime()) / 1000));
	return new Intl.RelativeTimeFormat('en', {numeric: 'always', style: 'short'}).format(-count, unit);
}

// How long ago, an ISO time or milliseconds since 1970: "2 hours".
export function duration(at, now = Date.now()) {
	const [count, unit] = inUnits(Math.round((now - new Date(at)) / 1000));
	return new Intl.NumberFormat('en', {style: 'unit', unit, unitDisplay: 'long'}).format(count);
}

// The value of <input type="datetime-local"> for an ISO time, and back.
export function toField(iso) {
	const date = new Date(iso);
	// Without a zone it is UTC for the server, and not for Date.
	if (!iso || !iso.endsWith('Z') || Number.isNaN(date.getTime()))
		return '';
	const shifted = utc ? date : new Date(date.getTime() - date.getTimezoneOffset() * 60000);
	return shifted.toISOString().slice(0, 16);
}

// Whether the field shows all of it: no ages, no seconds.
export function isExact(iso) {
	return Date.parse(fromField(toField(iso))) === Date.parse(iso);
}

export function fromField(value) {
	const date = value ? new Date(utc ? `${value}Z` : value) : null;
	return date && !Number.isNaN(date.getTime()) ? date.toISOString() : '';
}
