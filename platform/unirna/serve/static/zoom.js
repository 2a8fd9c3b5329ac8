// A box in which an SVG picture is zoomed and moved: buttons, Ctrl + wheel, two fingers, dragging, keys.

import { element } from "./common.js";

const CLOSEST = 90; // units of the picture across the box, at the strongest zoom
const STEP = 1.4;
const KEYS = { ArrowLeft: [-0.15, 0], ArrowRight: [0.15, 0], ArrowUp: [0, -0.15], ArrowDown: [0, 0.15] };

/** A box with the picture; what has a <title> shows it at once under the pointer. */
export function zoomBox(text, label) {
  const svg = document.importNode(new DOMParser().parseFromString(text, "image/svg+xml").documentElement, true);
  const [width, height] = ["width", "height"].map((name) => Number(svg.getAttribute(name)));
  for (const title of svg.querySelectorAll("* > * > title")) {
    title.parentNode.dataset.tip = title.textContent;
    title.remove();
  }
  svg.removeAttribute("width");
  svg.removeAttribute("height");
  const tip = element("div", { className: "tip" });
  tip.hidden = true;
  const layer = element("div", { className: "drawing-layer" }, svg);
  const canvas = element("div", { className: "drawing-canvas", attributes: { tabindex: "0", role: "region", "aria-label": `${label}. Plus and minus zoom, arrows move, 0 shows all` } }, layer);
  const tools = element("div", { className: "map-tools" },
    button("+", "Zoom in", () => zoom(1 / STEP)),
    button("−", "Zoom out", () => zoom(STEP)),
    button("All", "Show all", () => fit()));
  const box = element("div", { className: "drawing" }, canvas, tools, tip);
  box.style.height = `min(34rem, ${Math.max(Math.ceil(height) + 8, 150)}px)`;

  let view = { x: 0, y: 0, scale: 1 }; // left, top, and pixels of a unit
  let whole = true;
  const size = () => [canvas.clientWidth || width, canvas.clientHeight || height];
  const most = () => Math.max(2, size()[0] / CLOSEST);
  const least = () => Math.min(1, size()[0] / width, size()[1] / height);

  function draw() {
    const [w, h] = size();
    svg.setAttribute("viewBox", `${view.x} ${view.y} ${w / view.scale} ${h / view.scale}`);
  }
  function fit() {
    const [w, h] = size();
    const scale = least();
    view = { x: (width - w / scale) / 2, y: (height - h / scale) / 2, scale };
    whole = true;
    draw();
  }
  /** The place (in pixels of the box) stays where it is. */
  function zoom(factor, place = size().map((side) => side / 2)) {
    const scale = Math.min(Math.max(view.scale / factor, least() * 0.8), most());
    const move = 1 / view.scale - 1 / scale;
    view = { x: view.x + place[0] * move, y: view.y + place[1] * move, scale };
    whole = false;
    draw();
  }
  function move(dx, dy) {
    view.x -= dx / view.scale;
    view.y -= dy / view.scale;
    whole = false;
    draw();
  }
  // Shift the picture as a whole during a drag: redrawing thousands of nucleotides for each step takes too long.
  let shifted = { x: 0, y: 0 };
  function shift(dx, dy) {
    shifted = { x: shifted.x + dx, y: shifted.y + dy };
    layer.style.transform = `translate(${shifted.x}px, ${shifted.y}px)`;
  }
  function settle() {
    if (!shifted.x && !shifted.y) return;
    const { x, y } = shifted;
    shifted = { x: 0, y: 0 };
    layer.style.transform = "";
    move(x, y);
  }
  // Steps of a zoom that come within a frame are drawn once.
  let steps = null;
  function zoomSoon(factor, place) {
    if (!steps) requestAnimationFrame(() => {
      const { factor: all, place: last } = steps;
      steps = null;
      zoom(all, last);
    });
    steps = { factor: (steps?.factor ?? 1) * factor, place };
  }
  const at = (event) => {
    const { left, top } = canvas.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  };

  const fingers = new Map();
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    settle();
    fingers.set(event.pointerId, at(event));
  });
  canvas.addEventListener("pointermove", (event) => {
    const place = at(event);
    const before = fingers.get(event.pointerId);
    if (!before) return point(event, place);
    tip.hidden = true;
    const other = [...fingers].find(([id]) => id !== event.pointerId)?.[1];
    fingers.set(event.pointerId, place);
    if (!other) return shift(place[0] - before[0], place[1] - before[1]);
    const apart = (one) => Math.max(Math.hypot(one[0] - other[0], one[1] - other[1]), 1);
    return zoomSoon(apart(before) / apart(place), [(place[0] + other[0]) / 2, (place[1] + other[1]) / 2]);
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => {
    fingers.delete(event.pointerId);
    settle();
  });
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
  canvas.addEventListener("dblclick", (event) => zoom(1 / STEP / STEP, at(event)));
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return; // the page scrolls
    event.preventDefault();
    zoomSoon(Math.exp(event.deltaY * 0.002), at(event));
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const step = KEYS[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (step) move(-step[0] * size()[0], -step[1] * size()[1]);
    else if (event.key === "+" || event.key === "=") zoom(1 / STEP);
    else if (event.key === "-") zoom(STEP);
    else if (event.key === "0") fit();
    else return;
    event.preventDefault();
  });

  function point(event, [x, y]) {
    const text = event.target.closest?.("[data-tip]")?.dataset.tip;
    tip.hidden = !text;
    if (!text) return;
    tip.textContent = text;
    const [w] = size();
    tip.style.left = `${Math.min(x + 14, Math.max(w - tip.offsetWidth - 4, 0))}px`;
    tip.style.top = `${y + 14}px`;
  }

  fit();
  new ResizeObserver(() => (whole ? fit() : draw())).observe(canvas);
  return box;
}

function button(text, label, act) {
  const made = element("button", { text, attributes: { type: "button", "aria-label": label, title: label } });
  made.addEventListener("click", act);
  return made;
}
