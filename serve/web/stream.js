// Picture and stream: the picture of now at each (re)connection, then what changes. An older record never replaces a newer one.
import { base, getJson, nowMs, order, store, take, takeState, tell } from "/assets/store.js";

const AGAIN_MS = 2000;
// first letters, as in the picture
export const LOS = { A: "A", B: "B", C: "C", D: "D", E: "E", F: "F", u: "unknown" };
export const ORIGIN = { m: "measured", b: "blended", i: "inferred", h: "historical", n: "none" };

let stream = null, loading = false;

// The version is for the caches on the way: with it, a tile may be kept.
export function tiles(version) {
  return `${base()}/tiles/{z}/{x}/{y}.mvt?version=${encodeURIComponent(version)}`;
}

export function columns(s, act) {
  const closed = new Set(s.closed);
  s.segment_id.forEach((id, n) => act(id, s.window_starts_ms[s.window[n]], s.revision?.[n] ?? 999, LOS[s.los[n]], ORIGIN[s.origin[n]], s.confidence_pct[n] / 100, closed.has(n)));
}

function takeStatus(status) {
  store.trouble = status.ready ? null : status.detail;
  store.simulated = status.simulated;
  store.clockOffsetMs = Date.parse(status.server_time) - Date.now();
  if (status.log_time) store.logMs = Math.max(store.logMs, Date.parse(status.log_time));
  if (status.ready && store.network !== null && status.network !== store.network) load();
}

// The picture as it is now, then the stream from the place in the log where the picture stands: nothing between them is missed, and nothing is waited for twice.
export async function load() {
  if (loading) return;
  loading = true;
  try {
    const picture = await getJson(`${base()}/picture`);
    if (picture.network !== store.network) {
      const first = store.network === null;
      store.segments.clear();
      store.network = picture.network;
      if (first && !store.city.bbox) {
        store.city.bbox = (await getJson("/api/v1/cities")).cities.find((c) => c.name === store.city.name)?.bbox;
        if (!store.city.bbox) store.network = null; // there is no network yet
      }
      tell("network", first);
    }
    columns(picture.states, (id, start, revision, ...state) => takeState(id, order(start, revision), ...state));
    tell("segments");
    if (picture.log_time) {
      store.logMs = Math.max(store.logMs, Date.parse(picture.log_time));
      store.dataAt = Math.max(store.dataAt, store.logMs); // by the server's clock
    }
    store.products = picture.products;
    picture.vehicles.forEach(take["vehicle-position"]);
    picture.health.forEach(take["feed-health"]);
    store.situations.clear();
    for (const [product, records] of Object.entries(picture.records)) records.forEach(take[product]);
    Object.assign(store, { simulated: picture.simulated, generated: picture.generated === true });
    tell("loaded");
    if (!stream) listen(`${base()}/stream?product=${picture.products.join(",")}&last_event_id=${encodeURIComponent(picture.mark)}`);
  } catch (error) {
    console.warn(error);
    store.lost = true;
    setTimeout(load, AGAIN_MS);
  } finally {
    loading = false;
    tell("status");
  }
}

// The browser would come back with the last id it has, and be told all that it missed; a page wants the picture of now instead.
function comeBack(from) {
  from.close();
  if (stream !== from) return;
  stream = null;
  store.lost = true;
  tell("status");
  setTimeout(load, AGAIN_MS);
}

export const streaming = () => stream !== null;

function listen(url) {
  const opened = stream = new EventSource(url);
  store.aliveAt = Date.now();
  const alive = (then) => (event) => {
    store.aliveAt = Date.now();
    store.lost = false;
    then(JSON.parse(event.data));
  };
  for (const [name, apply] of Object.entries(take)) {
    opened.addEventListener(name, alive((record) => {
      store.dataAt = nowMs();
      if (record.simulated) store.simulated = true;
      apply(record);
    }));
  }
  for (const name of ["hello", "heartbeat"]) opened.addEventListener(name, alive(takeStatus));
  opened.addEventListener("ready", alive((status) => { takeStatus(status); load(); }));
  for (const name of ["gap", "overflow"]) opened.addEventListener(name, () => comeBack(opened));
  opened.onerror = () => comeBack(opened);
}
