// The one store of the page: what is known of the city, what is looked at, and who wants to hear of changes. Knows no element and no network address.
export const VEHICLE_MEMORY_MS = 120000; // as serve/state.py
export const HOLDS_MS = 600000; // a segment is told again at least every 5 minutes; two of them missed, and its state no longer holds

export const store = {
  city: null, cities: [], background: null, products: [], network: null,
  segments: new Map(), // segment_id -> { order, los, origin, confidence, closed }
  vehicles: new Map(), // vehicle_id -> { ms, record }
  health: new Map(), situations: new Map(), lines: new Map(),
  area: {}, // product -> latest record of the whole city
  logMs: 0, clockOffsetMs: 0, aliveAt: 0, dataAt: 0, lost: false, trouble: null, simulated: false, generated: false, state: "loading",
  view: "map", layer: "los", line: null, selected: null, // { kind, id }
  at: null, // the time that is looked at, ms; null: now
  past: null, // what was then: { vehicles, situations, lines }; null: now, or not come yet
  speed: 0, // of playing, times real time; 0: it stands
  map: null,
};

const listeners = new Map();

export function on(names, act) {
  for (const name of names.split(" ")) listeners.set(name, [...(listeners.get(name) ?? []), act]);
}

export function tell(name, detail) {
  for (const act of listeners.get(name) ?? []) act(detail);
}

// Changes what is looked at; whoever shows it hears of it once.
export function look(changes) {
  Object.assign(store, changes);
  for (const name of Object.keys(changes)) tell(name, changes[name]);
  tell("look");
}

// What is looked at: of now, or of then.
const NOTHING = new Map();
export const situationsShown = () => (store.at === null ? store.situations : store.past?.situations ?? NOTHING);
export const linesShown = () => (store.at === null ? store.lines : store.past?.lines ?? NOTHING);
export const vehiclesShown = () => (store.at === null ? [...store.vehicles.values()].map((v) => v.record) : store.past?.vehicles ?? []);
export const shownMs = () => store.at ?? store.logMs;

export const base = () => `/api/v1/cities/${encodeURIComponent(store.city.name)}`;
export const nowMs = () => Date.now() + store.clockOffsetMs;
export const isDead = (feed) => ["dead", "stale"].includes(store.health.get(feed)?.state);

export async function getJson(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw Object.assign(new Error(`${path}: ${answer.status}`), { status: answer.status });
  return answer.json();
}

function advance(ms) {
  if (ms > store.logMs) store.logMs = ms;
}

// One number for window and revision: 150,000 pairs would be slow to make.
export function order(windowStartMs, revision) {
  return windowStartMs * 1000 + Math.min(revision, 999);
}

export function takeState(id, at, los, origin, confidence, closed) {
  const held = store.segments.get(id);
  if (held && held.order > at) return false;
  store.segments.set(id, { order: at, los, origin, confidence, closed });
  return true;
}

function takeSegment(s) {
  if (takeState(s.segment_id, order(Date.parse(s.window_start), s.revision), s.los ?? "unknown", s.origin, s.confidence, s.closed === true)) tell("segment", s);
}

function takeVehicle(v) {
  const ms = Date.parse(v.event_time);
  advance(Date.parse(v.ingest_time));
  const held = store.vehicles.get(v.vehicle_id);
  if ((held && held.ms > ms) || ms < store.logMs - VEHICLE_MEMORY_MS) return;
  store.vehicles.set(v.vehicle_id, { ms, record: v });
  tell("vehicle", { ms, record: v });
}

function takeHealth(h) {
  advance(Date.parse(h.event_time));
  const held = store.health.get(h.feed);
  if (held && held.event_time > h.event_time) return;
  store.health.set(h.feed, h);
  tell("health");
}

function takeSituation(s) {
  store.situations.set(s.situation_id, s);
  tell("situation", s);
}

export const lineKey = (l) => `${l.route_id}:${l.direction_id ?? 0}`;

function takeLine(l) {
  store.lines.set(lineKey(l), l);
  tell("line");
}

function takeArea(product) {
  return (a) => {
    if (a.area_kind !== "city") return;
    const held = store.area[product];
    if (held && (held.window_start > a.window_start || (held.window_start === a.window_start && held.revision > a.revision))) return;
    store.area[product] = a;
    tell("area");
  };
}

export const take = {
  "segment-state": takeSegment, "vehicle-position": takeVehicle, "feed-health": takeHealth, situation: takeSituation, "line-fluency": takeLine,
  "area-state": takeArea("area-state"), "emission-area": takeArea("emission-area"),
};

// A situation is shown while its source has not said that it is over and its time has come and not passed.
export function isOn(s, ms = shownMs()) {
  return !s.ended && !(s.valid_to && Date.parse(s.valid_to) < ms) && !(s.valid_from && Date.parse(s.valid_from) > ms);
}

export function forget() {
  for (const [id, v] of store.vehicles) if (v.ms < store.logMs - VEHICLE_MEMORY_MS) store.vehicles.delete(id);
}

// What no worker has told for long no longer holds: nothing is known of those streets.
export function age() {
  const oldest = (store.logMs - HOLDS_MS) * 1000;
  for (const s of store.segments.values()) if (s.order < oldest && s.origin !== "none") Object.assign(s, { los: "unknown", origin: "none", confidence: 0, closed: false });
}
