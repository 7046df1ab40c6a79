// What a panel says of a segment or a vehicle, row by row: only what its record holds.
import { decimal, t } from "/assets/text.js";

const kmh = (value) => `${decimal(value, value < 10 ? 1 : 0)} km/h`;

export function segmentRows(p, { make, clockTime, span }) {
  const rows = [];
  const add = (name, value) => { if (value !== undefined && value !== null) rows.push([t(name), value]); };
  const known = p.los && p.los !== "unknown";
  add("level", make("span", known ? p.los : "–", { class: `badge ${known ? p.los : "none"}` }));
  if (p.speed_kmh !== undefined) {
    const band = p.speed_p20_kmh !== undefined && p.speed_p80_kmh !== undefined ? ` (${Math.round(p.speed_p20_kmh)}–${Math.round(p.speed_p80_kmh)})` : "";
    add("speed", kmh(p.speed_kmh) + band + (p.speed_ratio !== undefined ? ` · ${Math.round(p.speed_ratio * 100)} % ${t("ratio")}` : ""));
  }
  if (p.free_flow_kmh !== undefined) add("free_flow", kmh(p.free_flow_kmh));
  if (p.speed_limit_kmh !== undefined) add("limit", kmh(p.speed_limit_kmh));
  if (p.closed) add("status", t("closed"));
  add("origin", t(p.origin === "none" ? "no_origin" : p.origin));
  if (p.confidence !== undefined) add("confidence", `${Math.round(p.confidence * 100)} %`);
  if (p.window_start) add("window", `${clockTime(Date.parse(p.window_start))} – ${clockTime(Date.parse(p.window_end))}`);
  if (p.status) add("status", `${t(p.status)}, ${t("revision", { n: p.revision })}`);
  add("count", p.vehicle_count);
  if (p.data_age_s !== undefined) add("data_age", span(p.data_age_s));
  if (p.flow_vph !== undefined) add("flow", `${Math.round(p.flow_vph)} /h`);
  if (p.delay_s !== undefined) add("delay", `${decimal(p.delay_s)} s`);
  if (p.source_mix) add("sources", Object.entries(p.source_mix).map(([name, share]) => `${name} ${Math.round(share * 100)} %`).join(", "));
  add("represents", t(p.represents));
  add("length", `${Math.round(p.length_m)} m`);
  return rows;
}

export function vehicleRows(v, { clockTime }) {
  const rows = [];
  const add = (name, value) => { if (value !== undefined && value !== null) rows.push([t(name), value]); };
  add("route", v.route_id);
  add("headsign", v.headsign);
  add("mode", v.mode);
  if (v.delay_s !== undefined) add("delay", `${v.delay_s > 0 ? "+" : ""}${Math.trunc(v.delay_s / 60)} min ${Math.abs(v.delay_s % 60)} s`);
  if (v.speed_mps !== undefined) add("speed", kmh(v.speed_mps * 3.6));
  add("stop", v.stop_id);
  if (v.at_stop) add("status", t("at_stop"));
  if (v.off_route) add("status", t("off_route"));
  if (v.occupancy_pct !== undefined) add("occupancy", `${Math.round(v.occupancy_pct)} %`);
  add("fix", clockTime(Date.parse(v.event_time)));
  add("position", t(v.position_method ?? "unknown"));
  add("segment", v.segment_id);
  add("from_feed", v.feed);
  return rows;
}
