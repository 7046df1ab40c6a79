// Charts as SVG: axes, bands, lines, bars. Sizes are those of the drawing; CSS stretches it.
import { svg } from "/assets/dom.js";
import { figure, hourMinute } from "/assets/format.js";

const LEFT = 46, RIGHT = 8, TOP = 8, BOTTOM = 20;

export function ticks(low, high, count) {
  const raw = (high - low) / count || 1, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((k) => k * power).find((s) => s >= raw);
  const out = [];
  for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + step * 1e-6; v += step) out.push(Math.abs(v) < step * 1e-6 ? 0 : v);
  return out;
}

const HOURS = [1, 2, 5, 10, 15, 30, 60, 120, 180, 240, 360, 720].map((m) => m * 60000);

// Round local times: whole steps from a local midnight, also on a day whose clocks change. `aheadMs` of a time: how far local time is ahead of UTC.
export function timeTicks(first, last, count, aheadMs) {
  const step = HOURS.find((s) => (last - first) / s <= count) ?? 86400000, stride = Math.min(step, 3600000), out = [];
  for (let at = Math.ceil(first / stride) * stride; at <= last; at += stride) if ((at + aheadMs(at)) % step === 0) out.push(at);
  return out;
}

export class Chart {
  constructor({ width, height, first, last, low, high, label, left = LEFT, down = false }) {
    Object.assign(this, { width, height, first, last, low, high, left, down });
    this.node = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label, class: "chart" });
  }

  x = (at) => this.left + ((at - this.first) / (this.last - this.first || 1)) * (this.width - this.left - RIGHT);

  y = (value) => {
    const k = (value - this.low) / (this.high - this.low || 1), room = this.height - TOP - BOTTOM;
    return this.down ? TOP + k * room : TOP + (1 - k) * room;
  };

  add(...parts) {
    this.node.append(...parts);
    return this;
  }

  axes(aheadMs, { count = 4, format = figure, unit = "" } = {}) {
    for (const v of ticks(this.low, this.high, count)) {
      const y = this.y(v);
      this.add(svg("line", { x1: this.left, x2: this.width - RIGHT, y1: y, y2: y, class: "grid" }), svg("text", { x: this.left - 4, y: y + 4, "text-anchor": "end" }, format(v)));
    }
    if (unit) this.add(svg("text", { x: this.left + 2, y: TOP + 4, class: "unit" }, unit));
    return this.times(aheadMs);
  }

  times(aheadMs) {
    const room = Math.max(2, Math.floor((this.width - this.left) / 64));
    for (const at of timeTicks(this.first, this.last, room, aheadMs)) {
      const x = this.x(at);
      this.add(svg("line", { x1: x, x2: x, y1: TOP, y2: this.height - BOTTOM, class: "grid" }));
      if (x > this.left + 6 && x < this.width - 16) this.add(svg("text", { x, y: this.height - 6, "text-anchor": "middle" }, hourMinute(at)));
    }
    return this;
  }

  // Points [at, value, …]; a gap longer than `gapMs` or a value that is not known breaks the line.
  pieces(points, gapMs) {
    const out = [];
    let piece = [], before = null;
    for (const p of points) {
      if (p[1] === null || p[1] === undefined) { before = null; continue; }
      if (before === null || p[0] - before > gapMs) out.push(piece = []);
      piece.push(p);
      before = p[0];
    }
    return out;
  }

  line(points, gapMs, attributes) {
    for (const piece of this.pieces(points, gapMs)) {
      const d = piece.map((p, n) => `${n ? "L" : "M"}${this.x(p[0]).toFixed(1)} ${this.y(p[1]).toFixed(1)}`).join("");
      this.add(svg("path", { fill: "none", ...attributes, d: piece.length === 1 ? `${d}h1.5` : d }));
    }
    return this;
  }

  // Points [at, low, high].
  band(points, gapMs, attributes) {
    for (const piece of this.pieces(points, gapMs)) {
      const up = piece.map((p) => `${this.x(p[0]).toFixed(1)} ${this.y(p[2]).toFixed(1)}`), back = [...piece].reverse().map((p) => `${this.x(p[0]).toFixed(1)} ${this.y(p[1]).toFixed(1)}`);
      this.add(svg("path", { ...attributes, d: `M${[...up, ...back].join("L")}Z` }));
    }
    return this;
  }

  mark(at, attributes = { class: "now" }) {
    if (at >= this.first && at <= this.last) this.add(svg("line", { x1: this.x(at), x2: this.x(at), y1: TOP, y2: this.height - BOTTOM, ...attributes }));
    return this;
  }
}
