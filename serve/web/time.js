// Time: a scrubber over what is kept, any day of the archive, playing at 1 to 60 times real time. What is past never looks like what is live.
import { $, setText } from "/assets/dom.js";
import { aheadMs, dayTime, hourMinute, zone } from "/assets/format.js";
import { base, getJson, lineKey, look, on, order, store, tell } from "/assets/store.js";
import { columns } from "/assets/stream.js";
import { t } from "/assets/text.js";

const STEP_MS = 60000;
const DAY_MS = 86400000;
const TICK_MS = 1000;

let kept = null; // { from, to } of what can be shown, ms
let shownMinute = null, asking = 0, timer = null;

const end = () => Math.floor((store.logMs || Date.now()) / STEP_MS) * STEP_MS;

// The local midnight that began the day of a time: clocks may have changed since.
function midnightBefore(ms) {
  const day = Math.floor((ms + aheadMs(ms)) / DAY_MS) * DAY_MS, near = day - aheadMs(ms);
  return day - aheadMs(near);
}

// The bounds of the scrubber: the last 24 hours, or the local day that is looked at when it is an earlier one.
function bounds() {
  const last = end();
  if (store.at === null || store.at >= last - DAY_MS) return [Math.max(last - DAY_MS, Math.min(kept?.from ?? last - 3600000, last - 600000)), last];
  const midnight = midnightBefore(store.at);
  return [midnight, midnightBefore(midnight + 1.5 * DAY_MS)]; // 23, 24 or 25 hours
}

async function ask() {
  const answer = await getJson(`${base()}/past`).catch(() => null);
  kept = answer?.from ? { from: Date.parse(answer.from), to: Date.parse(answer.to) } : null;
  setText($("reach"), kept ? t("kept_from", { t: dayTime(kept.from) }) : t("kept_none"));
  show();
}

function show() {
  const [first, last] = bounds(), at = store.at ?? last, scrub = $("scrub");
  Object.assign(scrub, { min: first, max: last, step: STEP_MS, value: at });
  const words = store.at === null ? t("live_now") : `${dayTime(at)} ${zone(at)}`;
  scrub.setAttribute("aria-valuetext", words);
  setText($("when"), store.at === null ? `${hourMinute(last)} ${zone(last)}` : words);
  setText($("first"), hourMinute(first));
  const past = store.at !== null;
  document.body.dataset.time = past ? "past" : "live";
  $("past").hidden = !past;
  if (past) setText($("past-text"), t("past", { t: `${dayTime(at)} ${zone(at)}` }));
  $("to-live").disabled = !past;
  $("play").textContent = store.speed ? `⏸ ${t("pause")}` : `▶ ${t("play")}`;
  $("day").max = new Date(last + aheadMs(last)).toISOString().slice(0, 10);
  $("day").value = new Date(at + aheadMs(at)).toISOString().slice(0, 10);
}

async function fetchAt() {
  const mine = asking += 1, at = store.at;
  const p = await getJson(`${base()}/past/picture?datetime=${new Date(at).toISOString()}`).catch(() => null);
  if (mine !== asking || store.at === null) return;
  const states = new Map();
  if (p) columns(p.states, (id, start, revision, los, origin, confidence, closed) => states.set(id, { order: order(start, revision), los, origin, confidence, closed }));
  const told = (product, keyOf) => new Map((p?.records[product] ?? []).map((r) => [keyOf(r), r]));
  store.past = { vehicles: p?.vehicles ?? [], situations: told("situation", (s) => s.situation_id), lines: told("line-fluency", lineKey) };
  store.map.show(states);
  store.map.fleet.replace(store.past.vehicles, store.speed ? TICK_MS : 0);
  setText($("past-none"), states.size ? "" : t("past_none"));
  shownMinute = Math.floor(at / STEP_MS);
  tell("past");
}

// Vehicles move every tick; what is fetched is the whole picture of that time.
function go(at) {
  store.at = Math.min(at, end());
  show();
  fetchAt();
  const minute = Math.floor(store.at / STEP_MS);
  if (minute !== shownMinute) look({ at: store.at });
}

function live() {
  clearInterval(timer);
  shownMinute = null;
  asking += 1;
  store.speed = 0;
  store.past = null;
  look({ at: null });
  setText($("past-none"), "");
  store.map.show(store.segments);
  store.map.fleet.replace([]);
  for (const { ms, record } of store.vehicles.values()) store.map.fleet.move(record, ms);
  tell("mapready");
  show();
}

function play() {
  clearInterval(timer);
  if (store.speed) {
    store.speed = 0;
    return show();
  }
  store.speed = Number($("speed").value);
  if (store.at === null) go(Math.max(bounds()[0], end() - 3600000));
  timer = setInterval(() => {
    const next = store.at + store.speed * TICK_MS;
    if (next >= end()) live();
    else go(next);
  }, TICK_MS);
  return show();
}

export function start(at) {
  $("to-live").onclick = live;
  $("back-to-live").onclick = live;
  $("play").onclick = play;
  $("speed").append(...[1, 5, 15, 60].map((n) => new Option(`${n}×`, n, n === 15, n === 15)));
  $("speed").onchange = (e) => { if (store.speed) store.speed = Number(e.target.value); };
  $("scrub").oninput = (e) => { const to = Number(e.target.value); if (to >= end()) live(); else go(to); };
  $("hour-ago").onclick = () => go((store.at ?? end()) - 3600000);
  $("day").onchange = (e) => {
    const utc = Date.parse(`${e.target.value}T12:00:00Z`);
    if (!Number.isFinite(utc)) return;
    const there = (store.at ?? end()) + aheadMs(store.at ?? end()), local = Date.parse(`${e.target.value}T00:00:00Z`) + (there % DAY_MS);
    const to = local - aheadMs(utc);
    if (to >= end()) live(); else go(to);
  };
  let ticks = 0;
  on("tick", () => { ticks += 1; if (store.at === null && store.logMs) show(); if (ticks % 60 === 0) ask(); });
  let first = true;
  on("loaded", () => {
    ask();
    if (first && at !== null) go(at);
    first = false;
  });
}
