// Numbers and times as people read them. Times are those of the city, and say so.
import { store } from "/assets/store.js";
import { decimal, language } from "/assets/text.js";

const locale = language === "en" ? "en-GB" : language;

function format(ms, options) {
  return new Intl.DateTimeFormat(locale, { timeZone: store.city?.timezone, ...options }).format(ms);
}

export const clockTime = (ms) => format(ms, { timeStyle: "medium" });
export const hourMinute = (ms) => format(ms, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
export const dayTime = (ms) => format(ms, { weekday: "short", day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
export const dayOnly = (ms) => format(ms, { weekday: "short", day: "numeric", month: "numeric" });
export const zone = (ms) => new Intl.DateTimeFormat(locale, { timeZone: store.city?.timezone, timeZoneName: "short" }).formatToParts(ms).find((p) => p.type === "timeZoneName").value;

// Milliseconds that local time of the city is ahead of UTC.
export function aheadMs(ms) {
  const p = Object.fromEntries(new Intl.DateTimeFormat("en-GB", { timeZone: store.city.timezone, hourCycle: "h23", year: "numeric", month: "numeric", day: "numeric", hour: "numeric", minute: "numeric", second: "numeric" })
    .formatToParts(ms).map((part) => [part.type, Number(part.value)]));
  return Date.UTC(p.year, p.month - 1, p.day, p.hour, p.minute, p.second) - Math.floor(ms / 1000) * 1000;
}

export function span(seconds) {
  if (seconds < 100) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 6000) return `${Math.round(seconds / 60)} min`;
  return seconds < 200000 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} d`;
}

export const kmh = (value) => `${decimal(value, value < 10 ? 1 : 0)} km/h`;
export const percent = (share) => `${Math.round(share * 100)} %`;

// Late is positive; said in minutes, as dispatchers do.
export function delayText(seconds) {
  const sign = seconds < 0 ? "−" : "+", s = Math.abs(Math.round(seconds));
  return s < 60 ? `${sign}${s} s` : `${sign}${Math.floor(s / 60)}:${String(s % 60).padStart(2, "0")} min`;
}

// About three digits, never an exponent.
export function figure(value) {
  const size = Math.abs(value);
  return decimal(value, size >= 100 || size === 0 ? 0 : size >= 10 ? 1 : 2);
}
