// Vehicles on the map: each glides from where it is drawn to its next fix, in the time that lay between the two.
const GLIDE_MS = 2000; // longest glide between two fixes
const JUMP_DEG = 0.01; // farther than this a vehicle is put there at once
const FRAME_MS = 66;
const SILENT_MS = 30000; // paler when silent for longer
const MODES = ["bus", "ubus", "tram", "train", "metro", "ferry"];

export function delayClass(delay) {
  if (delay === undefined || delay === null) return "unknown";
  if (delay < -60) return "early";
  if (delay < 180) return "on_time";
  return delay < 600 ? "late" : "very_late";
}

function minutes(delay) {
  return delay === undefined || delay === null || (delay > -60 && delay < 60) ? "" : ` ${delay < 0 ? "−" : "+"}${Math.floor(Math.abs(delay) / 60)}`;
}

export class Fleet {
  constructor(sourceOf, isDead) {
    this.vehicles = new Map();
    this.sourceOf = sourceOf;
    this.isDead = isDead;
    this.selected = null;
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    let last = 0;
    const frame = (now) => {
      requestAnimationFrame(frame);
      if (now - last < FRAME_MS || document.hidden || !(this.dirty || now < this.moving) || !this.sourceOf()) return;
      last = now;
      this.dirty = false;
      this.sourceOf().setData({ type: "FeatureCollection", features: [...this.vehicles.values()].map((v) => ({ type: "Feature", properties: v.properties, geometry: { type: "Point", coordinates: this.#at(v, now) } })) });
    };
    this.moving = 0;
    requestAnimationFrame(frame);
  }

  move(v, eventMs, longestMs = GLIDE_MS) {
    const known = this.vehicles.get(v.vehicle_id);
    if (v.lat_deg === undefined || v.lon_deg === undefined) {
      this.vehicles.delete(v.vehicle_id); // it says that it does not know where it is: nor do we
      return;
    }
    const to = [v.lon_deg, v.lat_deg], now = performance.now();
    const from = known ? this.#at(known, now) : to;
    const far = Math.abs(from[0] - to[0]) > JUMP_DEG || Math.abs(from[1] - to[1]) > JUMP_DEG;
    const glide = !known || far || this.still.matches ? 0 : Math.min(longestMs, Math.max(0, eventMs - known.eventMs));
    const properties = { id: v.vehicle_id, mode: MODES.includes(v.mode) ? v.mode : "other", delay: delayClass(v.delay_s), silent: this.isDead(v.feed), selected: v.vehicle_id === this.selected };
    if (v.heading_deg !== undefined) properties.heading = v.heading_deg;
    if (v.route_id) properties.label = v.route_id + minutes(v.delay_s);
    this.vehicles.set(v.vehicle_id, { from, to, began: now, glide, eventMs, feed: v.feed, properties });
    this.moving = Math.max(this.moving, now + glide + 2 * FRAME_MS);
    this.dirty = true;
  }

  #at(v, now) {
    const k = v.glide ? Math.min(1, (now - v.began) / v.glide) : 1;
    return [v.from[0] + (v.to[0] - v.from[0]) * k, v.from[1] + (v.to[1] - v.from[1]) * k];
  }

  // Log time tells who has been silent for too long; those of a feed that is dead are pale too.
  forget(logMs, afterMs) {
    for (const [id, v] of this.vehicles) {
      if (v.eventMs < logMs - afterMs) this.vehicles.delete(id);
      else v.properties.silent = v.eventMs < logMs - SILENT_MS || this.isDead(v.feed);
    }
    this.dirty = true;
  }

  // Vehicles of another time: those that are not among them are gone.
  replace(list, longestMs) {
    const there = new Set(list.map((v) => v.vehicle_id));
    for (const id of this.vehicles.keys()) if (!there.has(id)) this.vehicles.delete(id);
    for (const v of list) this.move(v, v.event_ms, longestMs);
    this.dirty = true;
  }

  select(id) {
    this.selected = id;
    for (const [key, v] of this.vehicles) v.properties.selected = key === id;
    this.dirty = true;
  }
}
