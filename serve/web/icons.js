// Images of the map, drawn by the page: a font or sprite server would be one more thing that must be reached.
import { colour } from "/assets/layers.js";

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

// A way of moving has a shape: buses are round, trams square, trains and metros lozenges, ferries triangles, anything else six-sided.
const SIDES = { bus: 0, ubus: 0, tram: 4, train: -4, metro: -4, ferry: 3 };

function outline(g, mode, x, y, r) {
  const sides = SIDES[mode] ?? 6;
  g.beginPath();
  if (sides === 0) g.arc(x, y, r, 0, 2 * Math.PI);
  else {
    const n = Math.abs(sides), turn = sides === 4 ? Math.PI / 4 : -Math.PI / 2;
    for (let k = 0; k < n; k += 1) g.lineTo(x + r * 1.15 * Math.cos(turn + (2 * Math.PI * k) / n), y + r * 1.15 * Math.sin(turn + (2 * Math.PI * k) / n));
    g.closePath();
  }
}

export function vehicle(mode, delay) {
  return canvas(24, 24, (g) => {
    outline(g, mode, 12, 12, 7.6);
    g.fillStyle = colour(`v-${delay}`);
    g.fill();
    g.lineWidth = 1.8;
    g.strokeStyle = colour("v-edge");
    g.stroke();
    // beside the colour a figure: a dash when early, a dot when late, a cross when very late
    g.fillStyle = g.strokeStyle = colour(`v-ink-${delay}`);
    g.lineWidth = 2;
    g.beginPath();
    if (delay === "early") { g.moveTo(8.5, 12); g.lineTo(15.5, 12); }
    if (delay === "very_late") { g.moveTo(9, 9); g.lineTo(15, 15); g.moveTo(15, 9); g.lineTo(9, 15); }
    g.stroke();
    if (delay === "late") { g.arc(12, 12, 2.4, 0, 2 * Math.PI); g.fill(); }
  });
}

const SIGNS = { incident: "!", roadwork: "🏗", closure: "–", weather: "*", transit_alert: "i", weight_restriction: "t", exempted_transport: "t", event: "•", information: "i", unknown: "?" };

// Rank 2: serious, 1: so so, 0: for information. Serious ones are triangles, as on the road.
export function situation(kind, rank) {
  return canvas(30, 28, (g) => {
    g.beginPath();
    if (kind === "closure") g.arc(15, 14, 11, 0, 2 * Math.PI);
    else if (rank > 0 || kind === "roadwork") { g.moveTo(15, 2); g.lineTo(28, 25); g.lineTo(2, 25); g.closePath(); }
    else g.roundRect(5, 4, 20, 20, 4);
    g.fillStyle = kind === "closure" ? colour("closure") : colour(`s-${rank}`);
    g.fill();
    g.lineJoin = "round";
    g.lineWidth = 2;
    g.strokeStyle = colour("v-edge");
    g.stroke();
    g.fillStyle = g.strokeStyle = kind === "closure" ? "#ffffff" : colour("s-ink");
    if (kind === "closure") return g.fillRect(8.5, 11.8, 13, 4.4);
    if (kind === "roadwork") { // a heap and a spade
      g.beginPath();
      g.moveTo(14, 22); g.quadraticCurveTo(18, 14.5, 22, 22);
      g.fill();
      g.lineWidth = 1.8;
      g.beginPath();
      g.moveTo(13, 10); g.lineTo(10, 21);
      g.stroke();
      return undefined;
    }
    g.font = `800 ${rank > 0 ? 15 : 14}px system-ui, 'DejaVu Sans', sans-serif`;
    g.textAlign = "center";
    g.textBaseline = "middle";
    return g.fillText(SIGNS[kind] ?? "?", 15, rank > 0 ? 17 : 14.5);
  });
}

// The image of a name that a layer asks for; null when it is none of ours.
export function draw(id) {
  const [what, ...rest] = id.split("|");
  if (what === "arrow") return arrow();
  if (what === "label" || what === "name") return text(rest.join("|"), what === "label");
  if (what === "vehicle") return vehicle(...rest);
  return what === "situation" ? situation(rest[0], Number(rest[1])) : null;
}

// The same image for a legend, as a canvas.
export function picture(image) {
  const c = document.createElement("canvas");
  c.width = image.width;
  c.height = image.height;
  c.className = "icon";
  c.setAttribute("aria-hidden", "true");
  c.getContext("2d").putImageData(image, 0, 0);
  return c;
}
