// The panel of what is selected: a segment, a vehicle, a situation, a feed. Says only what is known, and what it is not sure of.
import { Chart } from "/assets/charts.js";
import { $, button, make } from "/assets/dom.js";
import { aheadMs, clockTime, dayTime, delayText, figure, kmh, percent, span, zone } from "/assets/format.js";
import { UNSURE_BELOW } from "/assets/layers.js";
import { inWords, titleOf } from "/assets/situations.js";
import { base, getJson, look, on, situationsShown, store, vehiclesShown } from "/assets/store.js";
import { decimal, language, t } from "/assets/text.js";

const SHOWN_MS = 7200000;
const GAP_MS = 360000; // a segment is told again at least every 5 minutes
const segmentOf = (id) => `${base()}/segments/${encodeURIComponent(id)}`;

// ---- a segment

// CO2 of the street, kg/h and km, with its bounds: of now from its record, of then from what the map shows.
function givenOff(p, record) {
  if (store.at !== null) return store.layer === "co2" ? store.map.co2.get(p.segment_id) : null;
  return record ? ["value", "lo95", "hi95"].map((name) => record.co2_total[name] / p.length_m) : null;
}

function segmentRows(p, given) {
  const rows = [], add = (name, value) => { if (value !== undefined && value !== null) rows.push([t(name), value]); };
  const known = p.los && p.los !== "unknown";
  add("level", make("span", known ? p.los : "–", { class: `badge ${known ? p.los : "none"}` }));
  if (p.speed_kmh !== undefined) {
    const band = p.speed_p20_kmh !== undefined && p.speed_p80_kmh !== undefined ? ` (${Math.round(p.speed_p20_kmh)}–${Math.round(p.speed_p80_kmh)})` : "";
    add("speed", kmh(p.speed_kmh) + band + (p.speed_ratio !== undefined ? ` · ${percent(p.speed_ratio)} ${t("ratio")}` : ""));
  }
  if (p.free_flow_kmh !== undefined) add("free_flow", kmh(p.free_flow_kmh));
  if (p.speed_limit_kmh !== undefined) add("limit", kmh(p.speed_limit_kmh));
  if (p.delay_s !== undefined) add("delay", t("delay_here", { s: decimal(p.delay_s), m: Math.round(p.length_m) }));
  if (p.flow_vph !== undefined) add("flow", `${Math.round(p.flow_vph)} ${t("veh_h")}${p.flow_source ? ` · ${t(`flow_${p.flow_source}`)}` : ""}`);
  if (given) add("co2", `${figure(given[0])} kg/h per km (${t("bounds95", { lo: figure(given[1]), hi: figure(given[2]) })})`);
  if (p.closed) add("status", t("closed"));
  add("origin", t(p.origin === "none" ? "no_origin" : p.origin));
  if (p.confidence !== undefined) add("confidence", percent(p.confidence));
  if (p.source_mix) add("sources", Object.entries(p.source_mix).map(([name, share]) => `${t(`src_${name}`)} ${percent(share)}`).join(", "));
  add("count", p.vehicle_count);
  if (p.data_age_s !== undefined) add("data_age", span(p.data_age_s));
  if (p.window_start) add("window", `${clockTime(Date.parse(p.window_start))} – ${clockTime(Date.parse(p.window_end))} ${zone(Date.parse(p.window_end))}`);
  if (p.status) add("record_status", `${t(p.status)}, ${t("revision", { n: p.revision })}`);
  add("represents", t(p.represents));
  return rows;
}

function speeds(past, now) {
  const at = past.window_starts_ms.map((ms) => ms + 60000), end = store.at ?? Math.max(store.logMs, at.at(-1) ?? 0);
  const points = at.map((ms, n) => [ms, past.speed_kmh[n]]), band = at.map((ms, n) => [ms, past.speed_p20_kmh[n], past.speed_p80_kmh[n]]);
  if (now?.speed_kmh !== undefined && store.at === null) points.push([Date.parse(now.window_end), now.speed_kmh]);
  if (!points.some((p) => p[1] !== null)) return make("p", t("series_none"), { class: "nothing" });
  const high = Math.max(now?.free_flow_kmh ?? 0, ...points.map((p) => p[1] ?? 0), ...band.map((p) => p[2] ?? 0));
  const first = Math.min(end - 600000, Math.max(end - SHOWN_MS, at[0] ?? end));
  const chart = new Chart({ width: 330, height: 130, first, last: end, low: 0, high: high * 1.08 || 10, label: t("series_label", { n: points.length }) });
  chart.axes(aheadMs, { count: 3, unit: "km/h", format: (v) => String(Math.round(v)) });
  if (now?.free_flow_kmh) chart.line([[first, now.free_flow_kmh], [end, now.free_flow_kmh]], Infinity, { class: "usual" });
  chart.band(band.filter((p) => p[1] !== null), GAP_MS, { class: "band" });
  chart.line(points, GAP_MS, { class: "series" });
  // measured minutes have a dot, so that what was filled in is seen for what it is
  chart.line(at.map((ms, n) => [ms, ["measured", "blended"].includes(past.origin[n]) ? past.speed_kmh[n] : null]), 0, { class: "dots" });
  return chart.node;
}

function mix(past) {
  const sums = Object.entries(past.source_mix_pct).map(([name, shares]) => [name, shares.length ? shares.reduce((a, b) => a + b, 0) / shares.length : 0]).filter(([, share]) => share >= 0.5);
  return sums.length ? make("p", `${t("sources_2h")}: ${sums.map(([name, share]) => `${t(`src_${name}`)} ${Math.round(share)} %`).join(", ")}`, { class: "note" }) : null;
}

// What the explain view says: members as rows, lists of things as tables, whatever they are called.
function told(value, depth = 0) {
  if (Array.isArray(value)) return value.length && value.every((v) => v === null || typeof v !== "object") ? value.join(", ") : make("ol", value.slice(0, 12).map((v) => make("li", told(v, depth + 1))));
  if (value === null || typeof value !== "object") return typeof value === "number" ? figure(value) : String(value ?? "–");
  return make("dl", Object.entries(value).filter(([, v]) => v !== null && v !== undefined).flatMap(([name, v]) => [make("dt", name.replaceAll("_", " ")), make("dd", told(v, depth + 1))]));
}

async function explain(node, id) {
  const why = await getJson(`${segmentOf(id)}/explain?lang=${language}`).catch(() => null);
  node.replaceChildren(why?.text ? make("div", why.text.map((line) => make("p", line))) : why ? told(why) : make("p", t("why_none"), { class: "nothing" }));
}

async function showSegment(id, moved) {
  const end = store.at ?? store.logMs, when = `${new Date(end - SHOWN_MS).toISOString()}/${new Date(end).toISOString()}`;
  const [feature, past] = await Promise.all([getJson(segmentOf(id)), getJson(`${base()}/past/segments/${encodeURIComponent(id)}?datetime=${when}`)]).catch(() => []);
  if (!feature || store.selected?.id !== id) return;
  let p = feature.properties;
  store.map.selectSegment(feature);
  if (store.at !== null) { // the record of now says nothing of then
    const n = past.window_starts_ms.length - 1, { segment_id, name, length_m, represents, speed_limit_kmh } = p;
    const pick = (column) => past[column][n] ?? undefined;
    p = { segment_id, name, length_m, represents, speed_limit_kmh, origin: "none", ...(n < 0 ? {} : { los: pick("los"), origin: pick("origin"), confidence: pick("confidence_pct") / 100, speed_kmh: pick("speed_kmh"),
      speed_p20_kmh: pick("speed_p20_kmh"), speed_p80_kmh: pick("speed_p80_kmh"), flow_vph: pick("flow_vph"), delay_s: pick("delay_s"), closed: past.closed[n], window_start: new Date(past.window_starts_ms[n]).toISOString(), window_end: new Date(past.window_starts_ms[n] + 60000).toISOString() }) };
  }
  let caution = null;
  if (p.origin === "none") caution = t("caution_none");
  else if (p.origin === "inferred" || p.origin === "historical") caution = t("caution_inferred");
  else if (p.confidence < UNSURE_BELOW) caution = t("caution_low");
  const why = make("details", [make("summary", t("why")), make("div", t("loading_short"))], { "data-kept": "why" });
  why.addEventListener("toggle", () => { if (why.open) explain(why.lastChild, id); });
  fill({ title: p.name ?? `${t("unnamed")} · ${t("segment")} ${id}`, moved, caution, rows: segmentRows(p, givenOff(p, past.emission)), topic: store.city.topics["segment-state"], record: p,
    more: [make("h3", t("last_2h")), speeds(past, p), mix(past), ...(store.at === null ? [why] : [])] });
}

// ---- a vehicle, a situation, a feed

function vehicleRows(v) {
  const rows = [], add = (name, value) => { if (value !== undefined && value !== null) rows.push([t(name), value]); };
  add("route", v.route_id);
  add("headsign", v.headsign);
  if (v.mode) add("mode", t(`m_${v.mode}`));
  if (v.delay_s !== undefined) add("delay", delayText(v.delay_s));
  if (v.speed_mps !== undefined) add("speed", kmh(v.speed_mps * 3.6));
  add("stop", v.stop_id);
  if (v.at_stop) add("status", t("at_stop"));
  if (v.off_route) add("status", t("off_route"));
  if (v.occupancy_pct !== undefined) add("occupancy", `${Math.round(v.occupancy_pct)} %`);
  add("fix", clockTime(v.event_time ? Date.parse(v.event_time) : v.event_ms));
  if (v.position_method) add("position", t(`p_${v.position_method}`));
  add("from_feed", v.feed);
  return rows;
}

function showVehicle(id, moved) {
  const v = vehiclesShown().find((each) => each.vehicle_id === id);
  if (!v) return;
  const key = `${v.route_id}:${v.direction_id ?? 0}`;
  const more = v.route_id ? [button(t("line_of_it"), () => look({ view: "lines", line: key }))] : [];
  fill({ title: `${t(`m_${v.mode ?? "unknown"}`)} ${v.route_id ?? ""} · ${id}`, moved, rows: vehicleRows(v), topic: store.city.topics["vehicle-position"], record: v, more });
}

function showSituation(id, moved) {
  const s = situationsShown().get(id);
  if (!s) return;
  const rows = [], add = (name, value) => { if (value !== undefined && value !== null && value !== "") rows.push([t(name), value]); };
  add("kind", t(`k_${s.kind}`));
  if (s.severity && s.severity !== "unknown") add("severity", t(`sev_${s.severity}`));
  if (s.closed) add("status", t("closed"));
  if (s.valid_from) add("from", `${dayTime(Date.parse(s.valid_from))} ${zone(Date.parse(s.valid_from))}`);
  add("until", s.valid_to ? `${dayTime(Date.parse(s.valid_to))} ${zone(Date.parse(s.valid_to))}` : t("open_end"));
  add("cause", s.cause);
  add("effect", s.effect);
  add("routes", s.routes?.join(", "));
  add("areas", s.areas?.join(", "));
  if (s.segment_ids) add("streets", t("n_segments", { n: s.segment_ids.length }));
  add("told_by", s.source ?? s.feed);
  const words = inWords(s.text), first = s.segment_ids?.[0];
  fill({ title: titleOf(s), moved, rows, topic: store.city.topics.situation, record: s,
    more: [words && words !== titleOf(s) ? make("p", words) : null, first ? button(t("segment_of_it"), () => look({ selected: { kind: "segment", id: first } })) : null] });
}

function showFeed(id, moved) {
  const h = store.health.get(id);
  if (!h) return;
  const rows = [[t("record_status"), t(h.state === "stale" ? "f_stale" : h.state)], [t("since"), `${dayTime(Date.parse(h.since))} ${zone(Date.parse(h.since))}`]];
  const add = (name, value) => { if (value !== undefined) rows.push([t(name), value]); };
  add("lag", h.lag_p50_s === undefined ? undefined : `${decimal(h.lag_p50_s)} s (95 %: ${decimal(h.lag_p95_s ?? h.lag_p50_s)} s)`);
  add("gap", h.gap_s === undefined ? undefined : span(h.gap_s));
  add("messages", `${decimal(h.messages_s)} /s`);
  add("rejects", h.reject_ratio === undefined ? undefined : `${decimal(h.reject_ratio * 100)} %`);
  add("doubles", h.duplicate_ratio === undefined ? undefined : `${decimal(h.duplicate_ratio * 100)} %`);
  add("entities", h.entity_count);
  add("detail", h.detail);
  const hanging = [...store.vehicles.values()].filter((v) => v.record.feed === id).length;
  fill({ title: `${t("feed")} ${id}`, moved, caution: ["dead", "stale"].includes(h.state) ? t("feed_dead", { n: hanging }) : null, rows, topic: store.city.topics["feed-health"], record: h, more: [] });
}

// ---- the panel

function fill({ title, moved, caution, rows, topic, record, more }) {
  const open = new Set([...$("panel-body").querySelectorAll("details[open]")].map((d) => d.dataset.kept));
  $("panel-title").textContent = title;
  const json = make("details", [make("summary", t("record")), make("pre", JSON.stringify(record, null, 2), { tabindex: "0", "aria-label": t("record") })], { "data-kept": "record" });
  $("panel-body").replaceChildren(...[
    store.at === null ? null : make("p", t("past_short", { t: dayTime(store.at) }), { class: "caution" }), caution ? make("p", caution, { class: "caution" }) : null,
    make("dl", rows.flatMap(([name, value]) => [make("dt", name), make("dd", value)])), ...more,
    ...(store.at === null ? [make("p", [`${t("topic")}: `, make("code", topic)]), json] : []),
  ].filter(Boolean));
  if (!moved) for (const d of $("panel-body").querySelectorAll("details")) d.open = open.has(d.dataset.kept);
  $("panel").hidden = false;
  if (moved) $("panel").focus({ preventScroll: true });
}

const SHOW = { segment: showSegment, vehicle: showVehicle, situation: showSituation, feed: showFeed };

function show(moved) {
  const { kind, id } = store.selected ?? {};
  if (kind !== "segment") store.map?.selectSegment(null);
  store.map?.fleet.select(kind === "vehicle" ? id : null);
  if (kind) SHOW[kind](id, moved);
  else $("panel").hidden = true;
}

export function start() {
  $("close").onclick = () => look({ selected: null });
  on("selected", () => show(true));
  on("at loaded past", () => { if (store.selected) show(false); });
  on("co2", () => { if (store.at !== null && store.selected?.kind === "segment") show(false); });
  const again = (kind, idOf) => (record) => { if (store.at === null && store.selected?.kind === kind && store.selected.id === idOf(record)) show(false); };
  on("segment", again("segment", (s) => s.segment_id));
  on("vehicle", again("vehicle", (v) => v.record.vehicle_id));
  on("situation", again("situation", (s) => s.situation_id));
  on("feed", again("feed", (feed) => feed));
}
