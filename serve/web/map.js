// The drawn map: streets from our own network coloured by feature-state, vehicles that glide from fix to fix. Knows no words and no network address.
/* global maplibregl */

export const UNSURE_BELOW = 0.4;
const GLIDE_MS = 2000; // longest glide between two fixes
const JUMP_DEG = 0.01; // farther than this a vehicle is put there at once
const FRAME_MS = 66;
const SILENT_MS = 30000; // paler when silent for longer
const GRADES = ["A", "B", "C", "D", "E", "F"];
const SHOW_EVERY_MS = 400; // changes of segments are drawn together
const LOOK_MS = 60; // tiles that come together are looked into together
const DASH_ZOOM = 12.5; // dashes below it would be a blur
const ORIGIN = ["coalesce", ["feature-state", "origin"], "none"];
const MEASURED = ["in", ORIGIN, ["literal", ["measured", "blended"]]];
const INFERRED = ["in", ORIGIN, ["literal", ["inferred", "historical"]]];
const CLOSED = ["boolean", ["feature-state", "closed"], false];
const CONFIDENCE = ["coalesce", ["feature-state", "confidence"], 0];
const LOS = ["coalesce", ["feature-state", "los"], "unknown"];
const MAJOR = ["motorway", "trunk", "primary", "motorway_link", "trunk_link"];
const MIDDLE = ["secondary", "tertiary", "primary_link", "secondary_link", "transit_line", "tram"];
const TILES = { source: "network", "source-layer": "segments" }; // as serve/tiles.py, which leaves small streets out when seen from afar
const TILES_MAX_ZOOM = 14;

export function delayClass(delay) {
  if (delay === undefined) return "unknown";
  if (delay < -60) return "early";
  if (delay < 180) return "on_time";
  return delay < 600 ? "late" : "very_late";
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function byClass(major, middle, minor) {
  return ["match", ["get", "road_class"], MAJOR, major, MIDDLE, middle, minor];
}

// Measured streets are wide, inferred ones half of that, those without data a hair: at once by class and by state.
function width() {
  const at = (a, b, c) => ["*", byClass(a, b, c), ["case", ["any", MEASURED, CLOSED], 1, INFERRED, 0.5, 0.33]];
  return ["interpolate", ["exponential", 1.4], ["zoom"], 10, at(1.6, 1.3, 0.9), 13, at(3, 2.4, 1.8), 16, at(6, 5.2, 4.2), 19, at(14, 13, 12)];
}

// Traffic drives on the right: each direction is drawn on its own side once there is room.
const OFFSET = ["interpolate", ["exponential", 1.6], ["zoom"], 12.5, 0, 14, 2, 16, 4, 19, 12];

function layers() {
  const los = ["match", LOS, ...GRADES.flatMap((g) => [g, colour(g)]), colour("none")];
  const painted = ["case", CLOSED, colour("closed"), ["==", ORIGIN, "none"], colour("none"), ["all", MEASURED, ["<", CONFIDENCE, UNSURE_BELOW]], colour("unsure"), los];
  const sure = ["case", CLOSED, 1, MEASURED, ["interpolate", ["linear"], CONFIDENCE, UNSURE_BELOW, 0.68, 0.8, 1], INFERRED];
  const network = { type: "line", ...TILES };
  return [
    { id: "ground", type: "background", paint: { "background-color": colour("ground") } },
    { id: "selected", type: "line", source: "selected", layout: { "line-cap": "round", "line-join": "round" }, paint: { "line-color": colour("accent"), "line-opacity": 0.45,
      "line-offset": OFFSET, "line-width": ["interpolate", ["linear"], ["zoom"], 10, 8, 16, 16, 19, 30] } },
    { ...network, id: "flow", layout: { "line-cap": "round", "line-join": "round" }, paint: { "line-color": painted, "line-width": width(), "line-offset": OFFSET,
      "line-opacity": ["step", ["zoom"], [...sure, 0.55, 0.9], DASH_ZOOM, [...sure, 0, 0.9]] } },
    { ...network, id: "inferred", minzoom: DASH_ZOOM, layout: { "line-cap": "butt", "line-join": "round" }, paint: { "line-color": los, "line-width": width(), "line-offset": OFFSET,
      "line-dasharray": [2.5, 1.6], "line-opacity": ["case", ["all", INFERRED, ["!", CLOSED]], 0.65, 0] } },
    { id: "names", type: "symbol", ...TILES, minzoom: 14.2, filter: ["all", ["has", "name"], [">", ["get", "length_m"], 70]],
      layout: { "icon-image": ["concat", "name|", ["get", "name"]], "symbol-placement": "line-center", "icon-rotation-alignment": "map", "icon-keep-upright": true,
        "icon-padding": 24, "symbol-sort-key": ["-", 0, ["get", "length_m"]] } },
    { id: "vehicle-arrow", type: "symbol", source: "vehicles", minzoom: 12.5, filter: ["has", "heading"],
      layout: { "icon-image": "arrow", "icon-rotate": ["get", "heading"], "icon-rotation-alignment": "map", "icon-allow-overlap": true, "icon-ignore-placement": true,
        "icon-size": ["interpolate", ["linear"], ["zoom"], 12.5, 0.6, 16, 1.1] },
      paint: { "icon-opacity": ["case", ["get", "silent"], 0.4, 1] } },
    { id: "vehicles", type: "circle", source: "vehicles", paint: {
      "circle-radius": ["interpolate", ["linear"], ["zoom"], 10, 2.6, 13, 5, 16, 8.5],
      "circle-color": ["match", ["get", "delay"], "early", colour("v-early"), "on_time", colour("v-on_time"), "late", colour("v-late"), "very_late", colour("v-very_late"), colour("v-unknown")],
      "circle-stroke-color": ["case", ["get", "selected"], colour("accent"), colour("v-edge")],
      "circle-stroke-width": ["case", ["get", "selected"], 4, 1.6],
      "circle-opacity": ["case", ["get", "silent"], 0.4, 1], "circle-stroke-opacity": ["case", ["get", "silent"], 0.4, 1] } },
    { id: "vehicle-label", type: "symbol", source: "vehicles", minzoom: 14.3, filter: ["has", "label"],
      layout: { "icon-image": ["concat", "label|", ["get", "label"]], "icon-anchor": "left", "icon-offset": [11, 0], "icon-padding": 1 } },
  ];
}

function canvas(w, h, draw) {
  const c = document.createElement("canvas");
  c.width = w * 2;
  c.height = h * 2;
  const g = c.getContext("2d");
  g.scale(2, 2);
  draw(g);
  return g.getImageData(0, 0, w * 2, h * 2);
}

function arrow() {
  return canvas(30, 30, (g) => {
    g.beginPath();
    g.moveTo(15, 0.5);
    g.lineTo(20.5, 9);
    g.lineTo(9.5, 9);
    g.closePath();
    g.fillStyle = colour("v-edge");
    g.fill();
  });
}

// Text is drawn by the page: a font server would be one more thing that must be reached.
function text(words, plate) {
  const font = `600 ${plate ? 11 : 11.5}px system-ui, 'DejaVu Sans', sans-serif`;
  const probe = document.createElement("canvas").getContext("2d");
  probe.font = font;
  const w = Math.ceil(probe.measureText(words).width) + 8;
  return canvas(w, 16, (g) => {
    g.font = font;
    g.textBaseline = "middle";
    if (plate) {
      g.globalAlpha = 0.88;
      g.fillStyle = colour("paper");
      g.beginPath();
      g.roundRect(0, 0, w, 16, 3);
      g.fill();
      g.globalAlpha = 1;
    } else {
      g.lineWidth = 3;
      g.lineJoin = "round";
      g.strokeStyle = colour("ground");
      g.strokeText(words, 4, 8.5);
    }
    g.fillStyle = colour(plate ? "ink" : "quiet");
    g.fillText(words, 4, 8.5);
  });
}

const absolute = (path) => `${location.origin}${path}`;

export class CityMap {
  constructor(container, { background, bounds, tiles, label: words, onSegment, onVehicle, onNothing }) {
    this.states = new Map(); // segment_id -> latest state
    this.inTiles = new Set(); // segments of the tiles that were loaded: only theirs are told to the map, which looks at each of them again for every new tile
    this.pending = new Set();
    this.vehicles = new Map();
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    const sources = {
      network: { type: "vector", tiles: [absolute(tiles)], promoteId: "segment_id", maxzoom: TILES_MAX_ZOOM },
      selected: { type: "geojson", data: { type: "FeatureCollection", features: [] }, tolerance: 0.3, maxzoom: 15 },
      vehicles: { type: "geojson", data: { type: "FeatureCollection", features: [] }, maxzoom: 14 },
    };
    this.background = background;
    if (background) sources.background = { type: "raster", tiles: [background.tiles], tileSize: 256 };
    this.map = new maplibregl.Map({
      container, style: { version: 8, sources, layers: this.#layers() }, attributionControl: false, dragRotate: false, pitchWithRotate: false,
      bounds: bounds || [[24.5, 60.1], [25.3, 60.4]], fitBoundsOptions: { padding: 30 }, maxZoom: 19, fadeDuration: 0,
    });
    this.map.touchZoomRotate.disableRotation();
    this.map.getCanvas().setAttribute("aria-label", words);
    this.map.addControl(new maplibregl.NavigationControl({ showCompass: false }), "bottom-right");
    this.map.addControl(new maplibregl.ScaleControl(), "bottom-left");
    this.map.on("styleimagemissing", ({ id }) => {
      if (this.map.hasImage(id)) return;
      if (id === "arrow") this.map.addImage(id, arrow(), { pixelRatio: 2 });
      else if (/^(label|name)\|/.test(id)) this.map.addImage(id, text(id.slice(id.indexOf("|") + 1), id.startsWith("label")), { pixelRatio: 2 });
    });
    this.map.on("sourcedata", (e) => { if (e.sourceId === TILES.source && e.tile) this.#lookIntoTiles(); });
    this.map.on("click", ({ point }) => {
      const near = (layer, r) => this.map.queryRenderedFeatures([[point.x - r, point.y - r], [point.x + r, point.y + r]], { layers: layer });
      const vehicle = near(["vehicles"], 6)[0];
      if (vehicle) return onVehicle(vehicle.properties.id);
      const segment = near(["flow"], 6)[0];
      return segment ? onSegment(segment.properties.segment_id) : onNothing();
    });
    for (const layer of ["vehicles", "flow"]) {
      this.map.on("mouseenter", layer, () => { this.map.getCanvas().style.cursor = "pointer"; });
      this.map.on("mouseleave", layer, () => { this.map.getCanvas().style.cursor = ""; });
    }
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#recolour());
    this.#animate();
  }

  #layers() {
    const all = layers();
    if (this.background) all.splice(1, 0, { id: "background", type: "raster", source: "background", paint: { "raster-opacity": 0.55, "raster-saturation": -0.7 } });
    return all;
  }

  #recolour() {
    for (const id of this.map.listImages()) this.map.removeImage(id);
    for (const { id, paint } of this.#layers()) for (const [name, value] of Object.entries(paint ?? {})) this.map.setPaintProperty(id, name, value);
  }

  // Another version of the network: nothing that is known of the old one's segments holds.
  setNetwork(tiles) {
    for (const known of [this.states, this.inTiles, this.pending]) known.clear();
    this.map.removeFeatureState({ source: TILES.source, sourceLayer: TILES["source-layer"] });
    this.map.getSource("network").setTiles([absolute(tiles)]);
  }

  fit(bounds, more = {}) {
    this.map.fitBounds(bounds, { padding: 30, maxZoom: 17, animate: false, ...more });
  }

  setSegment(id, los, origin, confidence, closed) {
    const held = this.states.get(id), rounded = Math.round(confidence * 20) / 20;
    if (held ? held.los === los && held.origin === origin && held.confidence === rounded && held.closed === closed : origin === "none" && !closed) return;
    this.states.set(id, { los, origin, confidence: rounded, closed });
    if (!this.inTiles.has(id)) return;
    this.pending.add(id);
    this.#flushSoon();
  }

  // Changes of many segments are drawn together.
  #flushSoon() {
    this.flush ??= setTimeout(() => {
      this.flush = null;
      for (const id of this.pending) this.#tell(id);
      this.pending.clear();
    }, SHOW_EVERY_MS);
  }

  #tell(id) {
    const state = this.states.get(id);
    if (state) this.map.setFeatureState({ source: TILES.source, sourceLayer: TILES["source-layer"], id }, state);
  }

  // After tiles have come: the states of their segments.
  #lookIntoTiles() {
    this.look ??= setTimeout(() => {
      this.look = null;
      if (!this.map.getSource(TILES.source)) return;
      for (const { id } of this.map.querySourceFeatures(TILES.source, { sourceLayer: TILES["source-layer"] })) {
        if (this.inTiles.has(id)) continue;
        this.inTiles.add(id);
        this.#tell(id);
      }
    }, LOOK_MS);
  }

  selectSegment(feature) {
    this.map.getSource("selected").setData({ type: "FeatureCollection", features: feature ? [feature] : [] });
  }

  // A fix: the vehicle glides there from where it is drawn now, in the time that lay between the two fixes.
  moveVehicle(v, eventMs) {
    const known = this.vehicles.get(v.vehicle_id);
    if (v.lat_deg === undefined || v.lon_deg === undefined) {
      this.vehicles.delete(v.vehicle_id); // it says that it does not know where it is: nor do we
      return;
    }
    const to = [v.lon_deg, v.lat_deg], now = performance.now();
    const from = known ? this.#at(known, now) : to;
    const far = Math.abs(from[0] - to[0]) > JUMP_DEG || Math.abs(from[1] - to[1]) > JUMP_DEG;
    const glide = !known || far || this.still.matches ? 0 : Math.min(GLIDE_MS, Math.max(0, eventMs - known.eventMs));
    const properties = { id: v.vehicle_id, delay: delayClass(v.delay_s), silent: false, selected: known?.properties.selected ?? false };
    if (v.heading_deg !== undefined) properties.heading = v.heading_deg;
    if (v.route_id) properties.label = v.route_id;
    this.vehicles.set(v.vehicle_id, { from, to, began: now, glide, eventMs, properties });
    this.dirty = true;
  }

  #at(v, now) {
    const k = v.glide ? Math.min(1, (now - v.began) / v.glide) : 1;
    return [v.from[0] + (v.to[0] - v.from[0]) * k, v.from[1] + (v.to[1] - v.from[1]) * k];
  }

  // Log time tells who has been silent for too long.
  forget(logMs, afterMs) {
    for (const [id, v] of this.vehicles) {
      if (v.eventMs < logMs - afterMs) this.vehicles.delete(id);
      else v.properties.silent = v.eventMs < logMs - SILENT_MS;
    }
    this.dirty = true;
  }

  selectVehicle(id) {
    for (const [key, v] of this.vehicles) v.properties.selected = key === id;
    this.dirty = true;
  }

  flyTo(id) {
    const v = this.vehicles.get(id);
    if (v) this.map.jumpTo({ center: v.to, zoom: Math.max(15, this.map.getZoom()) });
  }

  #animate() {
    let last = 0;
    const frame = (now) => {
      requestAnimationFrame(frame);
      if (now - last < FRAME_MS || document.hidden) return;
      const moving = this.dirty || [...this.vehicles.values()].some((v) => now - v.began < v.glide + 2 * FRAME_MS);
      const source = this.map.getSource("vehicles");
      if (!moving || !source) return;
      last = now;
      this.dirty = false;
      const features = [...this.vehicles.values()].map((v) => ({ type: "Feature", properties: v.properties, geometry: { type: "Point", coordinates: this.#at(v, now) } }));
      source.setData({ type: "FeatureCollection", features });
    };
    requestAnimationFrame(frame);
  }
}
