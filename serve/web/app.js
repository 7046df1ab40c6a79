// The live page: loads the network once, the picture at each (re)connection, and then applies changes. An older record never replaces a newer one.
/* global maplibregl */
import { CityMap, UNSURE_BELOW } from "/assets/map.js";
import { decimal, language, names, t } from "/assets/text.js";
import { segmentRows, vehicleRows } from "/assets/panel.js";

const VEHICLE_MEMORY_MS = 120000; // as serve/state.py
const STALE_MS = 9000; // two heartbeats missed
const QUIET_MS = 40000; // the stream lives, but nothing comes through it
const AGAIN_MS = 2000;
const OLD_MS = 90000; // records come, but they tell of the past (GTFS-RT good practice: positions are at most 90 s old)
const REPLAY_MS = 86400000; // older than a day it is a replay: said, but not greyed
// first letters, as in the picture
const LOS = { A: "A", B: "B", C: "C", D: "D", E: "E", F: "F", u: "unknown" };
const ORIGIN = { m: "measured", b: "blended", i: "inferred", h: "historical", n: "none" };
const $ = (id) => document.getElementById(id);

const page = {
  city: null, map: null, stream: null, networkTag: null, drawn: null,
  order: new Map(), // segment_id -> which window and revision is known
  vehicles: new Map(), health: new Map(),
  logMs: 0, clockOffsetMs: 0, aliveAt: 0, dataAt: 0, lost: false, trouble: null, simulated: false, generated: false, selected: null,
};

function make(tag, content, attributes = {}) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...(Array.isArray(content) ? content : [content]));
  return node;
}

function clockTime(ms) {
  return new Intl.DateTimeFormat(language === "en" ? "en-GB" : language, { timeZone: page.city?.timezone, timeStyle: "medium" }).format(ms);
}

function span(seconds) {
  if (seconds < 100) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 6000) return `${Math.round(seconds / 60)} min`;
  return seconds < 200000 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} d`;
}

async function getJson(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

// ---- status, clock, feeds

function showStatus() {
  const now = Date.now();
  const ageMs = now + page.clockOffsetMs - page.logMs;
  const lost = page.lost || (page.stream && now - page.aliveAt > STALE_MS);
  let state = "loading", text = t("loading");
  if (lost) {
    state = "stale";
    text = page.dataAt ? t("stale", { t: clockTime(page.dataAt + page.clockOffsetMs) }) : t("never");
  } else if (page.trouble) {
    state = "quiet";
    text = t("waiting", { why: page.trouble });
  } else if (page.networkTag !== null) {
    const quiet = !page.dataAt || now - page.dataAt > QUIET_MS;
    state = quiet || ageMs > OLD_MS ? "quiet" : "live";
    text = t("live");
    if (quiet) text = page.dataAt ? t("quiet", { t: clockTime(page.dataAt + page.clockOffsetMs) }) : t("never");
    else if (ageMs > OLD_MS) text = t("old", { s: span(ageMs / 1000) });
  }
  $("status").dataset.state = state;
  if ($("status-text").textContent !== text) $("status-text").textContent = text;
  for (const id of ["map", "feeds"]) $(id).classList.toggle("stale", state === "stale" || (state === "quiet" && page.dataAt > 0 && ageMs < REPLAY_MS));
  $("clock").textContent = page.logMs && page.city
    ? `${t("data", { t: clockTime(page.logMs) })} (${page.city.timezone}) · ${t("age", { s: span(ageMs / 1000) })}` : "";
  $("simulated").hidden = !page.simulated && !page.generated;
  $("simulated").textContent = t(page.generated ? "generated" : "simulated");
}

function showFeeds() {
  const items = [...page.health.values()].sort((a, b) => (a.feed < b.feed ? -1 : 1)).map((h) => {
    const parts = [];
    if (h.lag_p50_s !== undefined) parts.push(`${t("lag")} ${decimal(h.lag_p50_s)} s`);
    if (h.gap_s !== undefined) parts.push(`${t("gap")} ${span(h.gap_s)}`);
    parts.push(`${t("since")} ${clockTime(Date.parse(h.since))}`);
    if (h.detail) parts.push(h.detail);
    return make("li", [make("span", "", { class: "dot", "aria-hidden": "true" }), make("strong", h.feed),
      make("span", t(h.state === "stale" ? "f_stale" : h.state), { class: "state" }), make("small", parts.join(" · "))], { "data-state": h.state });
  });
  $("feeds").replaceChildren(...items);
}

// ---- records

function advance(ms) {
  if (ms > page.logMs) page.logMs = ms;
}

// One number for window and revision: 150,000 pairs would be slow to make.
function order(windowStartMs, revision) {
  return windowStartMs * 1000 + Math.min(revision, 999);
}

function newer(id, at) {
  if (page.order.get(id) > at) return false;
  page.order.set(id, at);
  return true;
}

function takeSegment(s) {
  if (!newer(s.segment_id, order(Date.parse(s.window_start), s.revision))) return;
  page.map.setSegment(s.segment_id, s.los ?? "unknown", s.origin, s.confidence, s.closed === true);
  if (page.selected?.kind === "segment" && page.selected.id === s.segment_id) showSegment(s.segment_id, s);
}

function takeVehicle(v) {
  const ms = Date.parse(v.event_time);
  advance(Date.parse(v.ingest_time));
  const held = page.vehicles.get(v.vehicle_id);
  if ((held && held.ms > ms) || ms < page.logMs - VEHICLE_MEMORY_MS) return;
  page.vehicles.set(v.vehicle_id, { ms, record: v });
  page.map.moveVehicle(v, ms);
  if (page.selected?.kind === "vehicle" && page.selected.id === v.vehicle_id) showVehicle(v.vehicle_id);
}

function takeHealth(h) {
  advance(Date.parse(h.event_time));
  const held = page.health.get(h.feed);
  if (held && held.event_time > h.event_time) return;
  page.health.set(h.feed, h);
  showFeeds();
}

const take = { "segment-state": takeSegment, "vehicle-position": takeVehicle, "feed-health": takeHealth };

function takeStatus(status) {
  page.trouble = status.ready ? null : status.detail;
  page.simulated = status.simulated;
  page.clockOffsetMs = Date.parse(status.server_time) - Date.now();
  if (status.log_time) advance(Date.parse(status.log_time));
  if (status.ready && page.networkTag !== null && status.network !== page.networkTag) load();
}

// ---- loading and the stream

// The version is for the caches on the way: with it, a tile may be kept.
function tiles(version) {
  return `/api/v1/cities/${encodeURIComponent(page.city.name)}/tiles/{z}/{x}/{y}.mvt?version=${encodeURIComponent(version)}`;
}

// The picture as it is now, then the stream from the place in the log where the picture stands: nothing between them is missed, and nothing is waited for twice.
async function load() {
  if (page.loading) return;
  page.loading = true;
  const base = `/api/v1/cities/${encodeURIComponent(page.city.name)}`;
  try {
    const picture = await getJson(`${base}/picture`);
    if (picture.network !== page.networkTag) {
      if (picture.network !== page.drawn) page.map.setNetwork(tiles(picture.network));
      page.drawn = picture.network;
      page.order.clear();
      const first = page.networkTag === null && !page.city.bbox;
      page.networkTag = picture.network;
      if (first) {
        const bounds = (await getJson("/api/v1/cities")).cities.find((c) => c.name === page.city.name)?.bbox;
        if (bounds) page.map.fit([[bounds[0], bounds[1]], [bounds[2], bounds[3]]]);
        else page.networkTag = null; // there is no network yet
      }
    }
    const s = picture.states, closed = new Set(s.closed);
    s.segment_id.forEach((id, n) => {
      if (newer(id, order(s.window_starts_ms[s.window[n]], s.revision[n]))) {
        page.map.setSegment(id, LOS[s.los[n]], ORIGIN[s.origin[n]], s.confidence_pct[n] / 100, closed.has(n));
      }
    });
    if (picture.log_time) {
      advance(Date.parse(picture.log_time));
      page.dataAt = Math.max(page.dataAt, Math.min(Date.now(), page.logMs - page.clockOffsetMs));
    }
    picture.vehicles.forEach(takeVehicle);
    picture.health.forEach(takeHealth);
    page.simulated = picture.simulated;
    page.generated = picture.generated;
    if (!page.stream) listen(`${base}/stream?last_event_id=${encodeURIComponent(picture.mark)}`);
  } catch (error) {
    console.warn(error);
    page.lost = true;
    setTimeout(load, AGAIN_MS);
  } finally {
    page.loading = false;
    showStatus();
  }
}

// The browser would come back with the last id it has, and be told all that it missed; a page wants the picture of now instead.
function comeBack(stream) {
  stream.close();
  if (page.stream !== stream) return;
  page.stream = null;
  page.lost = true;
  showStatus();
  setTimeout(load, AGAIN_MS);
}

function listen(url) {
  const stream = new EventSource(url);
  page.stream = stream;
  page.aliveAt = Date.now();
  const alive = (then) => (event) => {
    page.aliveAt = Date.now();
    page.lost = false;
    then(JSON.parse(event.data));
  };
  for (const [name, apply] of Object.entries(take)) {
    stream.addEventListener(name, alive((record) => {
      page.dataAt = Date.now();
      if (record.simulated) page.simulated = true;
      apply(record);
    }));
  }
  for (const name of ["hello", "heartbeat"]) stream.addEventListener(name, alive(takeStatus));
  stream.addEventListener("ready", alive((status) => { takeStatus(status); load(); }));
  for (const name of ["gap", "overflow"]) stream.addEventListener(name, () => comeBack(stream));
  stream.onerror = () => comeBack(stream);
}

// ---- panel

function openPanel(kind, id, title, rows, caution, topic, record) {
  const moved = page.selected?.kind !== kind || page.selected?.id !== id;
  page.selected = { kind, id };
  $("panel-title").textContent = title;
  const list = make("dl", rows.flatMap(([name, value]) => [make("dt", name), make("dd", value)]));
  const open = $("panel-body").querySelector("details")?.open ?? false;
  const json = make("details", [make("summary", t("record")), make("pre", JSON.stringify(record, null, 2))]);
  json.open = open;
  const told = caution ? [make("p", caution, { class: "caution" })] : [];
  $("panel-body").replaceChildren(...told, list, make("p", [`${t("topic")}: `, make("code", topic)]), json);
  $("panel").hidden = false;
  if (moved) $("panel").focus({ preventScroll: true });
}

function closePanel() {
  page.map.selectSegment(null);
  page.map.selectVehicle(null);
  page.selected = null;
  $("panel").hidden = true;
}

async function showSegment(id, state) {
  const feature = await getJson(`/api/v1/cities/${encodeURIComponent(page.city.name)}/segments/${encodeURIComponent(id)}`).catch(() => null);
  if (!feature || (state && page.selected?.id !== id)) return;
  const p = feature.properties;
  if (!state) page.map.selectSegment(feature);
  let caution = null;
  if (p.origin === "none") caution = t("caution_none");
  else if (p.origin === "inferred" || p.origin === "historical") caution = t("caution_inferred");
  else if (p.confidence < UNSURE_BELOW) caution = t("caution_low");
  openPanel("segment", id, p.name ?? `${t("segment")} ${id}`, segmentRows(p, { make, clockTime, span }), caution, page.city.topics["segment-state"], p);
}

function showVehicle(id) {
  const held = page.vehicles.get(id);
  if (!held) return;
  openPanel("vehicle", id, `${t("vehicle")} ${id}`, vehicleRows(held.record, { clockTime }), null, page.city.topics["vehicle-position"], held.record);
}

function select(kind, id) {
  closePanel();
  if (kind === "segment") {
    showSegment(id);
  } else {
    page.map.selectVehicle(id);
    showVehicle(id);
  }
}

// ---- search, legend, start

async function search(text) {
  const wanted = text.trim().toLowerCase(), found = [];
  const offer = (label, act) => found.push(make("li", Object.assign(make("button", label, { type: "button" }), { onclick: () => { act(); $("found").replaceChildren(); } })));
  if (wanted.length > 1) {
    const base = `/api/v1/cities/${encodeURIComponent(page.city.name)}`;
    const { features } = await getJson(`${base}/segments?limit=500&name=${encodeURIComponent(wanted)}`).catch(() => ({ features: [] }));
    if ($("query").value.trim().toLowerCase() !== wanted) return; // typed on meanwhile
    const streets = Map.groupBy?.(features, (f) => f.properties.name) ?? new Map(features.map((f) => [f.properties.name, [f]]));
    for (const [name, parts] of [...streets].slice(0, 8)) {
      offer(name, () => {
        const box = new maplibregl.LngLatBounds();
        for (const f of parts) for (const c of f.geometry.coordinates) box.extend(c);
        page.map.fit(box, { maxZoom: 16 });
        select("segment", parts.reduce((a, f) => (f.properties.length_m > a.properties.length_m ? f : a)).id);
      });
    }
    for (const [id, { record: v }] of page.vehicles) {
      if (found.length > 11) break;
      if (id.toLowerCase().includes(wanted) || v.route_id?.toLowerCase() === wanted) {
        offer(`${t("vehicle")} ${id}${v.route_id ? ` · ${v.route_id}` : ""}`, () => { page.map.flyTo(id); select("vehicle", id); });
      }
    }
    if (!found.length) found.push(make("li", t("nothing"), { class: "nothing" }));
  }
  $("found").replaceChildren(...found);
}

function legend() {
  const row = (cls, words) => [make("dt", make("span", "", { class: cls })), make("dd", words)];
  const grades = ["A", "B", "C", "D", "E", "F"].flatMap((g) => row(`line ${g}`, t(`L${g}`)));
  const other = [...row("line unsure", t("unsure", { p: UNSURE_BELOW * 100 })), ...row("line dashed inferred", t("inferred")), ...row("line thin none", t("no_origin")), ...row("line closed", t("closed"))];
  const delays = ["on_time", "late", "very_late", "early", "delay_unknown"].flatMap((d) => row(`disc ${d}`, t(d)));
  $("legend").querySelector("summary").textContent = t("legend");
  $("legend-body").replaceChildren(make("h3", t("los")), make("dl", [...grades, ...other]), make("small", t("paler")), make("h3", t("vehicles")), make("dl", delays));
  if (innerWidth < 640) $("legend").open = false;
}

function goTo(changes) {
  const query = new URLSearchParams(location.search);
  for (const [key, value] of Object.entries(changes)) query.set(key, value);
  location.search = query.toString();
}

async function start() {
  document.documentElement.lang = language;
  for (const [id, word] of [["city", "city"], ["language", "language"], ["query", "search"], ["close", "close"], ["feeds", "feeds"]]) $(id).setAttribute("aria-label", t(word));
  $("query").placeholder = t("search");
  $("language").append(...Object.entries(names).map(([code, name]) => new Option(name, code, false, code === language)));
  $("language").onchange = (e) => goTo({ lang: e.target.value });
  $("query").oninput = (e) => search(e.target.value);
  $("search").onsubmit = async (e) => { e.preventDefault(); await search($("query").value); $("found").querySelector("button")?.click(); };
  $("close").onclick = closePanel;
  addEventListener("keydown", (e) => {
    if (e.key !== "Escape") return;
    if ($("found").childElementCount) $("found").replaceChildren();
    else if (!$("panel").hidden) { closePanel(); page.map.map.getCanvas().focus(); }
  });
  legend();
  showStatus();
  const { cities, background } = await getJson("/api/v1/cities");
  const asked = new URLSearchParams(location.search).get("city");
  page.city = cities.find((c) => c.name === asked) ?? cities[0];
  document.title = `${page.city.title} – tilannekuva`;
  $("city").hidden = cities.length < 2;
  $("place").hidden = cities.length > 1;
  $("place").textContent = page.city.title;
  $("city").append(...cities.map((c) => new Option(c.title, c.name, false, c === page.city)));
  $("city").onchange = (e) => goTo({ city: e.target.value });
  $("attribution").textContent = [...page.city.attribution, "MapLibre GL JS"].join(" · ");
  const box = page.city.bbox;
  page.drawn = page.city.network;
  try {
    page.map = new CityMap($("map"), {
      background, label: t("map"), tiles: tiles(page.city.network), bounds: box && [[box[0], box[1]], [box[2], box[3]]],
      onSegment: (id) => select("segment", id), onVehicle: (id) => select("vehicle", id), onNothing: closePanel,
    });
  } catch (error) {
    $("map").textContent = t("no_map");
    throw error;
  }
  window.tilannekuva = page; // for the console, and for tests
  load();
  setInterval(() => {
    showStatus();
    for (const [id, v] of page.vehicles) if (v.ms < page.logMs - VEHICLE_MEMORY_MS) page.vehicles.delete(id);
    page.map.forget(page.logMs, VEHICLE_MEMORY_MS);
  }, 1000);
}

start().catch((error) => {
  console.warn(error);
  if (!page.map) setTimeout(() => location.reload(), 5000);
});
