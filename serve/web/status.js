// What the page may be trusted with: whether it is live, how old its data is, which feeds live. A stale page says so within ten seconds.
import { $, make, refill, setText } from "/assets/dom.js";
import { clockTime, span, zone } from "/assets/format.js";
import { isDead, nowMs, on, store, tell } from "/assets/store.js";
import { streaming } from "/assets/stream.js";
import { decimal, t } from "/assets/text.js";

const STALE_MS = 9000; // two heartbeats missed
const QUIET_MS = 40000; // the stream lives, but nothing comes through it
const OLD_MS = 90000; // records come, but they tell of the past (GTFS-RT good practice: positions are at most 90 s old)
const REPLAY_MS = 86400000; // older than a day it is a replay: said, but not greyed

// Feeds that vehicles come from: when all of them are dead, no street is measured by vehicles.
function blind() {
  const feeds = new Set([...store.vehicles.values()].map((v) => v.record.feed));
  return feeds.size > 0 && [...feeds].every(isDead);
}

export function showStatus() {
  const now = Date.now(), ageMs = nowMs() - store.logMs;
  const lost = store.lost || (streaming() && now - store.aliveAt > STALE_MS);
  let state = "loading", text = t("loading");
  if (lost) {
    state = "stale";
    text = store.dataAt ? t("stale", { t: clockTime(store.dataAt) }) : t("never");
  } else if (store.trouble) {
    state = "quiet";
    text = t("waiting", { why: store.trouble });
  } else if (store.network !== null) {
    const quiet = !store.dataAt || nowMs() - store.dataAt > QUIET_MS;
    state = quiet || ageMs > OLD_MS ? "quiet" : "live";
    text = t("live");
    if (quiet) text = store.dataAt ? t("quiet", { t: clockTime(store.dataAt) }) : t("never");
    else if (ageMs > OLD_MS) text = t("old", { s: span(ageMs / 1000) });
    else if (blind()) [state, text] = ["quiet", t("blind")];
  }
  store.state = state;
  $("status").dataset.state = state;
  setText($("status-text"), text);
  const grey = state === "stale" || (state === "quiet" && store.dataAt > 0 && ageMs < REPLAY_MS);
  for (const id of ["map", "feeds", "side", "lines-view"]) $(id).classList.toggle("stale", grey && store.at === null);
  setText($("clock"), store.logMs && store.city ? `${t("data", { t: `${clockTime(store.logMs)} ${zone(store.logMs)}` })} · ${t("age", { s: span(ageMs / 1000) })}` : "");
  $("simulated").hidden = !store.simulated;
  $("generated").hidden = !store.generated;
}

const known = new Map();

function chip(h) {
  const parts = [];
  if (h.lag_p50_s !== undefined) parts.push(`${t("lag")} ${decimal(h.lag_p50_s)} s`);
  if (h.gap_s !== undefined) parts.push(`${t("gap")} ${span(h.gap_s)}`);
  parts.push(`${t("rejects")} ${h.reject_ratio === undefined ? "–" : `${decimal(h.reject_ratio * 100)} %`}`);
  parts.push(`${t("since")} ${clockTime(Date.parse(h.since))}`);
  if (h.detail) parts.push(h.detail);
  return make("li", [make("span", "", { class: "dot", "aria-hidden": "true" }), make("strong", h.feed),
    make("span", t(h.state === "stale" ? "f_stale" : h.state), { class: "state" }), make("small", parts.join(" · "))], { "data-state": h.state });
}

function showFeeds() {
  refill($("feeds"), [...store.health.values()].sort((a, b) => (a.feed < b.feed ? -1 : 1)).map(chip));
  for (const h of store.health.values()) {
    if (known.get(h.feed) !== h.state) tell("feed", h.feed); // what hangs on it is drawn anew
    known.set(h.feed, h.state);
  }
}

export function start() {
  for (const id of ["simulated", "generated"]) $(id).textContent = t(id);
  on("health", showFeeds);
  on("status tick", showStatus);
  showStatus();
}
