// The drawn map: streets from our own network coloured by feature-state, vehicles, situations. Knows no words and no network address.
/* global maplibregl */
import { Fleet } from "/assets/fleet.js";
import { draw } from "/assets/icons.js";
import { TILES, co2Class, layers, streets } from "/assets/layers.js";

const SHOW_EVERY_MS = 400; // changes of segments are drawn together
const LOOK_MS = 60; // tiles that come together are looked into together
const TILES_MAX_ZOOM = 14;
const SLOW_MS = 40; // frames that take longer than this while the map moves are drawn with fewer pixels
const REST_MS = 200; // and with all of them when it has rested for so long
const TARGET = { source: TILES.source, sourceLayer: TILES["source-layer"] };
const EMPTY = { type: "FeatureCollection", features: [] };
const absolute = (path) => `${location.origin}${path}`;

export class CityMap {
  constructor(container, { background, bounds, at, layer, tiles, label, segments, isDead, onSelect, onHover, onMove }) {
    this.segments = segments; // segment_id -> state: those of now, or of a time that is looked at
    this.co2 = new Map();
    this.layer = layer;
    this.told = new Map(); // what the map was told of each segment of the tiles that were loaded: only of them, for it looks at each again for every new tile
    this.pending = new Set();
    this.background = background;
    const sources = {
      network: { type: "vector", tiles: [absolute(tiles)], promoteId: "segment_id", maxzoom: TILES_MAX_ZOOM },
      selected: { type: "geojson", data: EMPTY, tolerance: 0.3, maxzoom: 15 },
      vehicles: { type: "geojson", data: EMPTY, maxzoom: 14 },
      situations: { type: "geojson", data: EMPTY, maxzoom: 14 },
    };
    if (background) sources.background = { type: "raster", tiles: [background.tiles], tileSize: 256 };
    const place = at ? { center: [at[0], at[1]], zoom: at[2] } : { bounds: bounds || [[24.5, 60.1], [25.3, 60.4]], fitBoundsOptions: { padding: 30 } };
    this.map = new maplibregl.Map({
      container, style: { version: 8, sources, layers: layers(background, layer) }, attributionControl: false, dragRotate: false, pitchWithRotate: false, maxZoom: 19, fadeDuration: 0, ...place,
    });
    this.map.touchZoomRotate.disableRotation();
    this.map.getCanvas().setAttribute("aria-label", label);
    this.map.addControl(new maplibregl.NavigationControl({ showCompass: false }), "bottom-right");
    this.map.addControl(new maplibregl.ScaleControl(), "bottom-left");
    this.fleet = new Fleet(() => this.map.getSource("vehicles"), isDead);
    this.#drawCoarselyWhenSlow();
    this.map.on("styleimagemissing", ({ id }) => {
      const image = this.map.hasImage(id) ? null : draw(id);
      if (image) this.map.addImage(id, image, { pixelRatio: 2 });
    });
    this.map.on("sourcedata", (e) => { if (e.sourceId === TILES.source && e.tile) this.#lookIntoTiles(); });
    this.map.on("moveend", () => onMove(this.at()));
    this.map.on("click", ({ point }) => onSelect(...this.#under(point, 6)));
    this.map.on("mousemove", ({ point }) => {
      const [kind, id, feature] = this.#under(point, 3);
      this.map.getCanvas().style.cursor = kind ? "pointer" : "";
      onHover(kind === "segment" ? { ...feature.properties, state: this.segments.get(id), co2: this.co2.get(id) } : null, point);
    });
    this.map.on("mouseout", () => onHover(null));
    this.map.getCanvas().addEventListener("keydown", (e) => {
      if (e.key !== "Enter") return;
      const { clientWidth, clientHeight } = this.map.getCanvas(); // what is under the cross in the middle
      onSelect(...this.#under({ x: clientWidth / 2, y: clientHeight / 2 }, 14));
    });
  }

  // Without a graphics card most of a frame's time goes by the pixel: while the map moves it gets a quarter of them, as soon as frames are seen to be slow.
  #drawCoarselyWhenSlow() {
    let moved = 0, drawn = 0, mean = 0, whole = null;
    const coarse = () => {
      whole = this.map.getPixelRatio();
      this.map.setPixelRatio(whole / 2);
      const rest = setInterval(() => {
        if (performance.now() - moved < REST_MS) return;
        clearInterval(rest);
        this.map.setPixelRatio(whole);
        whole = null;
        moved = 0; // what the change of size said of moving is not so
      }, REST_MS / 4);
    };
    this.map.on("move", () => { moved = performance.now(); });
    this.map.on("render", () => {
      const now = performance.now(), gap = now - drawn;
      drawn = now;
      if (now - moved > SLOW_MS || gap > 1000) return;
      mean += 0.25 * (Math.min(gap, 250) - mean);
      if (whole === null && mean > SLOW_MS) coarse();
    });
  }

  // What is drawn at a place: kind, id and feature; the smallest first.
  #under(point, r) {
    const near = (name) => this.map.getLayer(name) ? this.map.queryRenderedFeatures([[point.x - r, point.y - r], [point.x + r, point.y + r]], { layers: [name] })[0] : undefined;
    const vehicle = near("vehicles"), situation = vehicle ? undefined : near("situations");
    if (vehicle) return ["vehicle", vehicle.properties.id, vehicle];
    if (situation) return ["situation", situation.properties.id, situation];
    const segment = near("flow");
    return segment ? ["segment", segment.properties.segment_id, segment] : [null, null, null];
  }

  at() {
    const { lng, lat } = this.map.getCenter();
    return [Number(lng.toFixed(5)), Number(lat.toFixed(5)), Number(this.map.getZoom().toFixed(2))];
  }

  recolour() {
    for (const id of this.map.listImages()) this.map.removeImage(id);
    for (const { id, paint } of layers(this.background, this.layer)) for (const [name, value] of Object.entries(paint ?? {})) this.map.setPaintProperty(id, name, value);
  }

  setLayer(layer) {
    this.layer = layer;
    for (const [id, paint] of Object.entries(streets(layer))) for (const [name, value] of Object.entries(paint)) this.map.setPaintProperty(id, name, value);
  }

  // Another version of the network: nothing that is known of the old one's segments holds.
  setNetwork(tiles) {
    this.told.clear();
    this.pending.clear();
    this.map.removeFeatureState(TARGET);
    this.map.getSource("network").setTiles([absolute(tiles)]);
  }

  fit(bounds, more = {}) {
    this.map.fitBounds(bounds, { padding: 30, maxZoom: 17, animate: false, ...more });
  }

  goTo(center, zoom = 15) {
    this.map.jumpTo({ center, zoom: Math.max(zoom, this.map.getZoom()) });
  }

  // States of another time, or of now again.
  show(segments) {
    this.segments = segments;
    this.changed();
  }

  setCo2(co2) {
    this.co2 = co2;
    this.changed();
  }

  // A segment has changed; without an id any may have.
  changed(id) {
    if (id === undefined) for (const each of this.told.keys()) this.pending.add(each);
    else if (this.told.has(id)) this.pending.add(id);
    else return;
    this.flush ??= setTimeout(() => {
      this.flush = null;
      for (const each of this.pending) this.#tell(each);
      this.pending.clear();
    }, SHOW_EVERY_MS);
  }

  #tell(id) {
    const s = this.segments.get(id), co2 = this.co2.get(id), told = this.told.get(id);
    const confidence = s ? Math.round(s.confidence * 20) / 20 : 0;
    const key = `${s?.los ?? ""}|${s?.origin ?? "none"}|${confidence}|${s?.closed ?? false}|${co2 ? co2Class(co2[0]) : -1}`;
    if (told === key || (told === "" && !s && !co2)) return;
    this.told.set(id, key);
    this.map.setFeatureState({ ...TARGET, id }, { los: s?.los ?? "unknown", origin: s?.origin ?? "none", confidence, closed: s?.closed ?? false, co2: co2 ? co2Class(co2[0]) : -1 });
  }

  // After tiles have come: the states of their segments.
  #lookIntoTiles() {
    this.look ??= setTimeout(() => {
      this.look = null;
      if (!this.map.getSource(TILES.source)) return;
      for (const { id } of this.map.querySourceFeatures(TILES.source, { sourceLayer: TARGET.sourceLayer })) {
        if (this.told.has(id)) continue;
        this.told.set(id, "");
        this.#tell(id);
      }
    }, LOOK_MS);
  }

  selectSegment(feature) {
    this.map.getSource("selected").setData({ type: "FeatureCollection", features: feature ? [feature] : [] });
  }

  setSituations(list) {
    this.map.getSource("situations")?.setData({ type: "FeatureCollection", features: list.map(({ id, kind, rank, silent, at }) => ({ type: "Feature", properties: { id, kind, rank, silent }, geometry: { type: "Point", coordinates: at } })) });
  }
}
