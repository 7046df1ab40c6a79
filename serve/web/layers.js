// How the map is drawn: MapLibre layers, by what feature-state says of a segment.
export const UNSURE_BELOW = 0.4;
export const GRADES = ["A", "B", "C", "D", "E", "F"];
export const CO2_STEPS = [3, 10, 30, 100, 300]; // kg an hour and kilometre: from a quiet street to a motorway
export const TILES = { source: "network", "source-layer": "segments" }; // as serve/tiles.py, which leaves small streets out when seen from afar
export const SHAPE_ZOOM = 12.5; // vehicles are dots below it
const ROUND_ZOOM = 14; // round ends and bends are half of all points, and not seen on thin lines
const DASH_ZOOM = 12.5; // dashes below it would be a blur
const ORIGIN = ["coalesce", ["feature-state", "origin"], "none"];
const MEASURED = ["in", ORIGIN, ["literal", ["measured", "blended"]]];
const INFERRED = ["in", ORIGIN, ["literal", ["inferred", "historical"]]];
const CLOSED = ["boolean", ["feature-state", "closed"], false];
const CONFIDENCE = ["coalesce", ["feature-state", "confidence"], 0];
const LOS = ["coalesce", ["feature-state", "los"], "unknown"];
const CO2 = ["coalesce", ["feature-state", "co2"], -1];
const MAJOR = ["motorway", "trunk", "primary", "motorway_link", "trunk_link"];
const MIDDLE = ["secondary", "tertiary", "primary_link", "secondary_link", "transit_line", "tram"];

export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

export const co2Class = (value) => CO2_STEPS.filter((step) => value >= step).length;

function byClass(major, middle, minor) {
  return ["match", ["get", "road_class"], MAJOR, major, MIDDLE, middle, minor];
}

// Measured streets are wide, inferred ones half of that, those without data a hair: at once by class and by state.
function width(factor) {
  const at = (a, b, c) => ["*", byClass(a, b, c), factor];
  return ["interpolate", ["exponential", 1.4], ["zoom"], 10, at(1.6, 1.3, 0.9), 13, at(3, 2.4, 1.8), 16, at(6, 5.2, 4.2), 19, at(14, 13, 12)];
}

const FLUENCY_WIDTH = ["case", ["any", MEASURED, CLOSED], 1, INFERRED, 0.5, 0.33];
const CO2_WIDTH = ["case", ["<", CO2, 0], 0.3, ["+", 0.4, ["*", 0.22, CO2]]];

// Traffic drives on the right: each direction is drawn on its own side once there is room.
const OFFSET = ["interpolate", ["exponential", 1.6], ["zoom"], 12.5, 0, 14, 2, 16, 4, 19, 12];

// What a layer of figures changes of the streets.
export function streets(layer) {
  if (layer === "co2") {
    return {
      flow: { "line-color": ["match", CO2, ...[0, 1, 2, 3, 4, 5].flatMap((n) => [n, colour(`co2-${n}`)]), colour("none")], "line-width": width(CO2_WIDTH), "line-opacity": 0.95 },
      inferred: { "line-opacity": 0 }, jam: { "line-opacity": 0 },
    };
  }
  const los = ["match", LOS, ...GRADES.flatMap((g) => [g, colour(g)]), colour("none")];
  const painted = ["case", CLOSED, colour("closed"), ["==", ORIGIN, "none"], colour("none"), ["all", MEASURED, ["<", CONFIDENCE, UNSURE_BELOW]], colour("unsure"), los];
  const sure = ["case", CLOSED, 1, MEASURED, ["interpolate", ["linear"], CONFIDENCE, UNSURE_BELOW, 0.6, 0.85, 1], INFERRED];
  return {
    flow: { "line-color": painted, "line-width": width(FLUENCY_WIDTH), "line-opacity": ["step", ["zoom"], [...sure, 0.5, 0.8], DASH_ZOOM, [...sure, 0, 0.8]] },
    inferred: { "line-color": los, "line-width": width(FLUENCY_WIDTH), "line-opacity": ["case", ["all", INFERRED, ["!", CLOSED]], ["interpolate", ["linear"], CONFIDENCE, 0, 0.35, 0.8, 0.85], 0] },
    jam: { "line-color": ["case", CLOSED, colour("paper"), colour("tick")], "line-width": width(["case", CLOSED, 0.45, 1]),
      "line-opacity": ["case", ["any", CLOSED, ["all", MEASURED, [">=", CONFIDENCE, UNSURE_BELOW], ["in", LOS, ["literal", ["E", "F"]]]]], 0.95, 0] },
  };
}

export function layers(background, layer) {
  const lines = { type: "line", ...TILES };
  const { flow, inferred, jam } = streets(layer);
  const faint = ["case", ["get", "silent"], 0.35, 1];
  return [
    { id: "ground", type: "background", paint: { "background-color": colour("ground") } },
    ...(background ? [{ id: "background", type: "raster", source: "background", paint: { "raster-opacity": 0.55, "raster-saturation": -0.7 } }] : []),
    { id: "selected", type: "line", source: "selected", layout: { "line-cap": "round", "line-join": "round" }, paint: { "line-color": colour("accent"), "line-opacity": 0.45,
      "line-offset": OFFSET, "line-width": ["interpolate", ["linear"], ["zoom"], 10, 8, 16, 16, 19, 30] } },
    { ...lines, id: "flow", layout: { "line-cap": ["step", ["zoom"], "butt", ROUND_ZOOM, "round"], "line-join": ["step", ["zoom"], "bevel", ROUND_ZOOM, "round"] }, paint: { ...flow, "line-offset": OFFSET } },
    { ...lines, id: "inferred", minzoom: DASH_ZOOM, layout: { "line-cap": "butt", "line-join": "bevel" }, paint: { ...inferred, "line-offset": OFFSET, "line-dasharray": [2.5, 1.6] } },
    { ...lines, id: "jam", minzoom: DASH_ZOOM, layout: { "line-cap": "butt", "line-join": "bevel" }, paint: { ...jam, "line-offset": OFFSET, "line-dasharray": [0.35, 1.5] } },
    { id: "names", type: "symbol", ...TILES, minzoom: 14.2, filter: ["all", ["has", "name"], [">", ["get", "length_m"], 70]],
      layout: { "icon-image": ["concat", "name|", ["get", "name"]], "symbol-placement": "line-center", "icon-rotation-alignment": "map", "icon-keep-upright": true,
        "icon-padding": 24, "symbol-sort-key": ["-", 0, ["get", "length_m"]] } },
    { id: "vehicle-arrow", type: "symbol", source: "vehicles", minzoom: SHAPE_ZOOM, filter: ["has", "heading"],
      layout: { "icon-image": "arrow", "icon-rotate": ["get", "heading"], "icon-rotation-alignment": "map", "icon-allow-overlap": true, "icon-ignore-placement": true,
        "icon-size": ["interpolate", ["linear"], ["zoom"], 12.5, 0.6, 16, 1.1] },
      paint: { "icon-opacity": faint } },
    { id: "vehicles", type: "circle", source: "vehicles", paint: {
      "circle-radius": ["interpolate", ["linear"], ["zoom"], 10, 2.6, SHAPE_ZOOM, 5, 16, 8.5],
      "circle-color": ["match", ["get", "delay"], ...["early", "on_time", "late", "very_late"].flatMap((d) => [d, colour(`v-${d}`)]), colour("v-unknown")],
      "circle-stroke-color": ["case", ["get", "selected"], colour("accent"), colour("v-edge")],
      "circle-stroke-width": ["case", ["get", "selected"], 4, 1.6],
      "circle-opacity": ["step", ["zoom"], faint, SHAPE_ZOOM, 0], "circle-stroke-opacity": ["step", ["zoom"], faint, SHAPE_ZOOM, ["case", ["get", "selected"], 1, 0]] } },
    { id: "vehicle-shape", type: "symbol", source: "vehicles", minzoom: SHAPE_ZOOM,
      layout: { "icon-image": ["concat", "vehicle|", ["get", "mode"], "|", ["get", "delay"]], "icon-allow-overlap": true, "icon-ignore-placement": true,
        "icon-size": ["interpolate", ["linear"], ["zoom"], SHAPE_ZOOM, 0.62, 16, 1] },
      paint: { "icon-opacity": faint } },
    { id: "situations", type: "symbol", source: "situations",
      layout: { "icon-image": ["concat", "situation|", ["get", "kind"], "|", ["get", "rank"]], "icon-allow-overlap": true, "icon-ignore-placement": true,
        "symbol-sort-key": ["get", "rank"], "icon-size": ["interpolate", ["linear"], ["zoom"], 9, 0.7, 14, 1] },
      paint: { "icon-opacity": faint } },
    { id: "vehicle-label", type: "symbol", source: "vehicles", minzoom: 14.3, filter: ["has", "label"],
      layout: { "icon-image": ["concat", "label|", ["get", "label"]], "icon-anchor": "left", "icon-offset": [11, 0], "icon-padding": 1 }, paint: { "icon-opacity": faint } },
  ];
}
