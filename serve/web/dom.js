// Making elements, in HTML and SVG.
export const $ = (id) => document.getElementById(id);

function fill(node, content, attributes) {
  for (const [key, value] of Object.entries(attributes)) if (value !== undefined && value !== null) node.setAttribute(key, value);
  node.append(...[content].flat(9).filter((part) => part !== null && part !== undefined));
  return node;
}

export const make = (tag, content = [], attributes = {}) => fill(document.createElement(tag), content, attributes);
export const svg = (tag, attributes = {}, content = []) => fill(document.createElementNS("http://www.w3.org/2000/svg", tag), content, attributes);

export function button(content, act, attributes = {}) {
  const node = make("button", content, { type: "button", ...attributes });
  node.onclick = act;
  return node;
}

// Replaces what a list holds, but leaves the focus on the item that had it.
export function refill(node, items) {
  const key = node.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  node.replaceChildren(...items);
  if (key !== undefined) [...node.querySelectorAll("[data-key]")].find((e) => e.dataset.key === key)?.focus({ preventScroll: true });
}

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
