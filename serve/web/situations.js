// Situations: where they are, how serious, in whose words.
import { base, getJson, isDead, isOn, on, situationsShown, store } from "/assets/store.js";
import { language, t } from "/assets/text.js";

const RANKS = { highest: 4, high: 3, medium: 2, low: 1, none: 0, unknown: 1 };
const places = new Map(); // situation_id -> [lon, lat], once a segment had to be asked for

export const severity = (s) => RANKS[s.severity ?? "unknown"] ?? 1;

export function inWords(texts) {
  return texts ? texts[language] ?? texts.und ?? texts.en ?? Object.values(texts)[0] : undefined;
}

export function titleOf(s) {
  return inWords(s.title) ?? inWords(s.text)?.slice(0, 90) ?? [t(`k_${s.kind}`), ...(s.routes ?? []).slice(0, 4)].join(" ");
}

// The middle of what it covers; a line's middle lies on it.
function middle(geometry) {
  let c = geometry.coordinates;
  if (!c?.length) return null;
  while (Array.isArray(c[0])) c = Array.isArray(c[0][0]) ? c[0] : c[Math.floor(c.length / 2)];
  return c.length >= 2 ? [c[0], c[1]] : null;
}

export function placeOf(s) {
  return (s.geometry?.coordinates ? middle(s.geometry) : null) ?? places.get(s.situation_id) ?? null;
}

async function find(s) {
  const id = s.segment_ids?.[0];
  if (!id || placeOf(s) || places.has(s.situation_id)) return;
  places.set(s.situation_id, null);
  const feature = await getJson(`${base()}/segments/${encodeURIComponent(id)}`).catch(() => null);
  if (!feature) return;
  places.set(s.situation_id, middle(feature.geometry));
  draw();
}

export const current = () => [...situationsShown().values()].filter((s) => isOn(s));

export function draw() {
  const list = current();
  list.forEach(find);
  store.map?.setSituations(list.filter(placeOf).map((s) => {
    const rank = severity(s) >= 3 ? 2 : severity(s) >= 1 && s.kind !== "information" && s.kind !== "transit_alert" ? 1 : 0;
    return { id: s.situation_id, kind: s.kind, rank, silent: store.at === null && isDead(s.feed), at: placeOf(s) };
  }));
}

export function start() {
  on("loaded situation feed mapready", () => { if (store.at === null) draw(); });
  on("past", draw);
}
