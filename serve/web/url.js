// The address of the page is a share link: city, place, layer, view, what is selected, and the time that is looked at.
import { store } from "/assets/store.js";

const query = new URLSearchParams(location.search);

function numbers(text, count) {
  const values = (text ?? "").split(",").map(Number);
  return values.length === count && values.every(Number.isFinite) ? values : null;
}

export const asked = {
  city: query.get("city"),
  place: numbers(query.get("at"), 3), // lon, lat, zoom
  layer: query.get("layer") === "co2" ? "co2" : "los",
  view: ["lines", "compare"].includes(query.get("view")) ? query.get("view") : "map",
  line: /^.{1,100}:[01]$/.test(query.get("line") ?? "") ? query.get("line") : null,
  segment: query.get("segment"),
  time: Number.isFinite(Date.parse(query.get("time") ?? "")) ? Date.parse(query.get("time")) : null,
};

export function write() {
  const next = new URLSearchParams(location.search);
  const put = (name, value) => (value === null || value === undefined ? next.delete(name) : next.set(name, value));
  put("city", store.city?.name);
  put("at", store.map?.at().join(","));
  put("layer", store.layer === "los" ? null : store.layer);
  put("view", store.view === "map" ? null : store.view);
  put("line", store.view === "lines" ? store.line : null);
  put("segment", store.selected?.kind === "segment" ? store.selected.id : null);
  put("time", store.at === null ? null : new Date(store.at).toISOString().slice(0, 19) + "Z");
  history.replaceState(null, "", `?${next}`);
}

// Another city or language: the page begins anew.
export function goTo(changes) {
  const next = new URLSearchParams(location.search);
  for (const [key, value] of Object.entries(changes)) if (value === null) next.delete(key); else next.set(key, value);
  location.search = next.toString();
}
