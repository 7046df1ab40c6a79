// Finding a street, a route or a vehicle by name.
/* global maplibregl */
import { $, button, make } from "/assets/dom.js";
import { base, getJson, look, store, vehiclesShown } from "/assets/store.js";
import { t } from "/assets/text.js";

async function search(text) {
  const wanted = text.trim().toLowerCase(), found = [];
  const offer = (label, act) => found.push(make("li", button(label, () => { act(); $("found").replaceChildren(); })));
  if (wanted.length > 1) {
    const { features } = await getJson(`${base()}/segments?limit=500&name=${encodeURIComponent(wanted)}`).catch(() => ({ features: [] }));
    if ($("query").value.trim().toLowerCase() !== wanted) return; // typed on meanwhile
    const streets = new Map();
    for (const f of features) streets.set(f.properties.name, [...(streets.get(f.properties.name) ?? []), f]);
    for (const [name, parts] of [...streets].slice(0, 8)) {
      offer(name, () => {
        const box = new maplibregl.LngLatBounds();
        for (const f of parts) for (const c of f.geometry.coordinates) box.extend(c);
        look({ view: "map" });
        store.map.fit(box, { maxZoom: 16 });
        look({ selected: { kind: "segment", id: parts.reduce((a, f) => (f.properties.length_m > a.properties.length_m ? f : a)).id } });
      });
    }
    const routes = new Set();
    for (const v of vehiclesShown()) {
      if (found.length > 11) break;
      const id = v.vehicle_id, key = `${v.route_id}:${v.direction_id ?? 0}`;
      if (v.route_id?.toLowerCase() === wanted && !routes.has(key)) {
        routes.add(key);
        offer(`${t("route")} ${v.route_id} → ${v.headsign ?? t("direction", { n: v.direction_id ?? 0 })}`, () => look({ view: "lines", line: key }));
      } else if (id.toLowerCase().includes(wanted)) {
        offer(`${t("vehicle")} ${id}${v.route_id ? ` · ${v.route_id}` : ""}`, () => { look({ view: "map" }); if (v.lon_deg !== undefined) store.map.goTo([v.lon_deg, v.lat_deg]); look({ selected: { kind: "vehicle", id } }); });
      }
    }
    if (!found.length) found.push(make("li", t("nothing"), { class: "nothing" }));
  }
  $("found").replaceChildren(...found);
}

export function start() {
  $("query").placeholder = t("search");
  $("query").oninput = (e) => search(e.target.value);
  $("search").onsubmit = async (e) => { e.preventDefault(); await search($("query").value); $("found").querySelector("button")?.click(); };
}
