// What is wrong now, the worst first, each a click to its place.
import { $, button, make, refill, setText } from "/assets/dom.js";
import { clockTime, delayText, percent, span } from "/assets/format.js";
import { current, placeOf, severity, titleOf } from "/assets/situations.js";
import { linesShown, look, on, shownMs, store } from "/assets/store.js";
import { t } from "/assets/text.js";

const MOST = 40;
const BUNCHED = 0.2; // share of headways under a quarter of the scheduled from which a line is said to be bunched
const LATE_S = 300;
const DEAD = { dead: 90, stale: 75, empty: 60, degraded: 45 };
const KINDS = { incident: 12, closure: 10, weather: 0, roadwork: -8, event: -8, transit_alert: -4, information: -20 };

export function ranked() {
  const items = [];
  const now = shownMs();
  for (const h of store.at === null ? store.health.values() : []) {
    if (DEAD[h.state]) items.push({ key: `feed ${h.feed}`, score: DEAD[h.state], kind: "feed", title: `${t("feed")} ${h.feed}: ${t(h.state === "stale" ? "f_stale" : h.state)}`, detail: `${t("since")} ${clockTime(Date.parse(h.since))}${h.detail ? ` · ${h.detail}` : ""}` });
  }
  for (const s of current()) {
    const fresh = now - Date.parse(s.valid_from ?? s.event_time) < 900000 ? 6 : 0;
    const score = 30 + 14 * severity(s) + (KINDS[s.kind] ?? 0) + (s.closed ? 8 : 0) + fresh;
    const since = s.valid_from ?? s.event_time;
    items.push({ key: s.situation_id, score, kind: s.kind, title: titleOf(s), situation: s,
      detail: [t(`k_${s.kind}`), s.severity && s.severity !== "unknown" ? t(`sev_${s.severity}`) : null, `${t("for")} ${span((now - Date.parse(since)) / 1000)}`, s.source ?? s.feed].filter(Boolean).join(" · ") });
  }
  for (const [key, l] of linesShown()) {
    const bunched = l.bunched_share ?? 0, late = l.delay_p50_s ?? 0;
    if (bunched < BUNCHED && late < LATE_S) continue;
    items.push({ key: `line ${key}`, score: Math.min(80, 35 + 60 * bunched + Math.max(0, late - LATE_S) / 30), kind: "line", line: key,
      title: `${t("route")} ${l.route_id}: ${bunched >= BUNCHED ? t("bunched_of", { p: percent(bunched) }) : t("late_by", { d: delayText(late) })}`,
      detail: [l.headsign, l.vehicles !== undefined ? t("n_vehicles", { n: l.vehicles }) : null].filter(Boolean).join(" · ") });
  }
  return items.sort((a, b) => b.score - a.score || (a.key < b.key ? -1 : 1));
}

function act(item) {
  if (item.line) return look({ view: "lines", line: item.line });
  if (item.situation) {
    const at = placeOf(item.situation);
    look({ view: "map" });
    if (at) store.map.goTo(at);
    return look({ selected: { kind: "situation", id: item.situation.situation_id } });
  }
  $("feeds").scrollIntoView({ block: "nearest" });
  return look({ selected: { kind: "feed", id: item.key.slice(5) } });
}

const level = (score) => (score >= 75 ? "serious" : score >= 50 ? "middling" : "slight");

function show() {
  const items = ranked();
  setText($("wrong-count"), items.length ? String(items.length) : "");
  const rows = items.slice(0, MOST).map((item) => make("li", button([
    make("span", level(item.score) === "serious" ? "▲" : level(item.score) === "middling" ? "◆" : "●", { class: "sign", title: t(level(item.score)) }),
    make("span", [make("span", `${t(level(item.score))}: `, { class: "unseen" }), make("strong", item.title), make("small", item.detail)]),
  ], () => act(item), { "data-key": item.key, class: level(item.score) })));
  const well = store.network === null ? "loading" : store.at === null ? "all_well" : "all_well_then";
  refill($("wrong"), rows.length ? rows : [make("li", t(well), { class: "nothing" })]);
}

export function start() {
  let dirty = true;
  on("health situation line loaded", () => { dirty = true; });
  on("tick", () => { if (dirty || store.logMs % 30000 < 1000) show(); dirty = false; });
  on("loaded past at", show);
}
