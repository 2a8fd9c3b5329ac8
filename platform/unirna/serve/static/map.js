// The map of a collection: what its points stand for, colours, the record of one, a selection, the place of a sequence.

import { here, pathOf } from "./address.js";
import { $, Problem, breakable, call, counted, csvText, element, fetchBytes, labelOrder, labelValue, save, show, showProblem } from "./common.js";
import { Plot } from "./plot.js";
import { resolve } from "./query.js";
import { recordLink } from "./record.js";

const LIGHT = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#882255", "#7a7a00"];
const DARK = ["#4aa3e8", "#f08045", "#22c596", "#e6a3c8", "#f5b942", "#9bd8fa", "#d8648f", "#cfcf55"];
const SCALE = { light: ["#440154", "#3b528b", "#21918c", "#5ec962", "#c2cf1c"], dark: ["#6a5acd", "#3f8fd0", "#21b39b", "#7ad151", "#fde725"] };
const [NONE, OTHER, FIRST] = [0, 1, 2];
const LISTED = 12; // values of the legend that are shown at first
const SHOWN = 10; // records of a selection that are listed at first
const AT_ONCE = 500; // records of one request
const PLAIN = ["rna_type", "family_name", "family"]; // what a map is coloured by at first, if it is there
const dark = matchMedia("(prefers-color-scheme: dark)");

let plot = null;
let shown = null; // { collection, header, places, codes }
let asked = 0; // so that a slow answer does not come after a later one
let lit = null; // the code whose points stand out
let selected = new Set();
let chosen = -1;
let query = null; // the answer of a place
let records = new Map();
let soon = 0;
const count = (number) => number.toLocaleString("en");
const path = (name, rest = "") => `/v1/collections/${encodeURIComponent(name)}/map${rest}`;

// ---- opening

export function prepareMap(names, otherwise) {
  const asked = new URLSearchParams(location.search).get("collection");
  $("map-collection").replaceChildren(...names.map((name) => new Option(name, name)));
  if (here() !== "/map" || !names.length) return;
  if (asked) $("map-collection").value = asked;
  else go(otherwise ?? names[0], "replaceState");
}

function go(collection, how = "pushState") {
  history[how]({ inside: true }, "", `${pathOf("/map")}?${new URLSearchParams({ collection })}`);
  dispatchEvent(new PopStateEvent("popstate"));
}

export async function showMap(collection, letters = "") {
  // Shown again, after a record was looked at, it is as it was left.
  if (!collection) return; // which one, the list of them will say
  if ($("map-collection").value !== collection) $("map-collection").value = collection;
  $("map-title").textContent = `Map of ${collection}`;
  plot ??= new Plot($("map-canvas"), $("map-over"), { hovered, picked, enclosed, moved: () => {
    $("map-tip").hidden = true;
    addressSoon();
  } });
  if (letters) $("map-sequence").value = letters;
  if (shown?.collection !== collection) await load(collection, new URLSearchParams(location.search).get("label"));
  else address();
  if (letters && shown?.collection === collection) await place();
}

async function load(collection, label) {
  const turn = ++asked;
  const same = shown?.collection === collection;
  if (!plot.works) return say("Your browser draws no WebGL here, which the map wants. Switch it on, or try another browser.", true);
  if (!same) {
    for (const id of ["map-body", "map-none", "map-late", "map-colours", "map-record", "map-placed"]) $(id).hidden = true;
    shown = null;
    $("map-about").textContent = "";
  }
  say(same ? "Colouring …" : "Reading the map …");
  try {
    let found = decode(await fetchBytes(path(collection, label ? `?${new URLSearchParams({ label })}` : "")));
    if (!label && turn === asked) {
      label = first(found.header.columns);
      if (label) found = decode(await fetchBytes(path(collection, `?${new URLSearchParams({ label })}`)));
    }
    if (turn !== asked) return;
    say("");
    put(collection, found, same);
  } catch (problem) {
    if (turn !== asked) return;
    if (problem.errors?.[0]?.field === "map") return missing(collection, problem);
    showProblem($("map-message"), problem);
  }
}

function decode(bytes) {
  const end = new Uint8Array(bytes).indexOf(10) + 1;
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(bytes, 0, end)));
  const { points, label } = header;
  const places = new Float32Array(bytes, end, 2 * points);
  const after = end + 8 * points;
  const codes = !label ? null : label.kind === "values" ? new Float32Array(bytes, after, points) : new Uint16Array(bytes, after, points);
  return { header, places, codes };
}

function first(columns) {
  const classes = Object.keys(columns).filter((name) => columns[name] === "classes");
  return PLAIN.find((name) => classes.includes(name)) ?? labelOrder(classes)[0] ?? Object.keys(columns)[0] ?? null;
}

function missing(collection, problem) {
  shown = null;
  say("");
  $("map-body").hidden = true;
  $("map-none").hidden = false;
  const why = problem.errors[0].message.split(". Make one")[0];
  $("map-why").textContent = `${why.charAt(0).toUpperCase()}${why.slice(1)}.`;
  $("map-command").textContent = `unirna collections map ${collection} --store STORE`;
}

function put(collection, found, same) {
  const before = same ? shown.header.map : null;
  shown = { collection, ...found };
  lit = null;
  $("map-none").hidden = true;
  $("map-body").hidden = $("map-colours").hidden = false;
  plot.setPoints(found.places, found.header.bounds);
  if (found.header.map !== before) {
    [selected, chosen, query, records] = [new Set(), -1, null, new Map()];
    plot.resize();
    plot.fit();
    $("map-record").hidden = $("map-placed").hidden = true;
    tellSelection();
  }
  describe();
  legend();
  colour();
  mark();
  if (!same) lookAt(new URLSearchParams(location.hash.slice(1)));
  address();
}

function describe() {
  const { header } = shown;
  const there = header.points - header.gone;
  const sample = header.rows > header.points ? `, a random sample of ${count(header.rows)}` : "";
  const how = header.method === "umap" ? "UMAP of their vectors" : "the two directions in which their vectors differ most (PCA)";
  $("map-about").textContent = `${counted(there, "sequence")}${sample}, by ${how}: what lies together is similar; distances between groups say little.`;
  const late = [];
  if (header.added) late.push(`${counted(header.added, "sequence was", "sequences were")} added since the map was made and ${header.added === 1 ? "is" : "are"} not on it`);
  if (!header.current && !header.added && !header.gone) late.push("some of its sequences were replaced since the map was made");
  if (header.gone) late.push(`${counted(header.gone, "sequence")} of the map ${header.gone === 1 ? "is" : "are"} no longer in the collection`);
  $("map-late").hidden = !late.length;
  $("map-late").textContent = `${late.join("; ")}. Make it again with: unirna collections map ${shown.collection} --store STORE`;
  const names = [...labelOrder(Object.keys(header.columns).filter((name) => name !== "length")), ...("length" in header.columns ? ["length"] : [])];
  $("map-label").replaceChildren(...names.map((name) => new Option(name.replaceAll("_", " "), name)));
  $("map-label").value = header.label?.column ?? "";
  $("map-canvas").dataset.points = String(there);
  const coloured = header.label ? `, coloured by ${header.label.column.replaceAll("_", " ")}` : "";
  $("map-canvas").setAttribute("aria-label", `Map of ${counted(there, "sequence")} of ${shown.collection}${coloured}. Arrow keys move it, plus and minus zoom, 0 shows all, Enter opens the record in its middle.`);
}

function address() {
  clearTimeout(soon);
  if (here() !== "/map" || !shown) return;
  const { header, collection } = shown;
  const label = header.label?.column;
  const { seen } = plot;
  const behind = {
    ...(seen ? { view: [seen.x, seen.y, seen.span].map((number) => number.toPrecision(5)).join(",") } : {}),
    ...(chosen >= 0 ? { point: chosen } : {}),
  };
  const hash = Object.keys(behind).length ? `#${new URLSearchParams({ map: header.map, ...behind })}` : "";
  history.replaceState(history.state, "", `${pathOf("/map")}?${new URLSearchParams({ collection, ...(label ? { label } : {}) })}${hash}`);
}

/** Once it stands still: browsers take no hundred addresses a second. */
function addressSoon() {
  clearTimeout(soon);
  soon = setTimeout(address, 300);
}

/** What an address says of the view: the part that is seen, and the point that is chosen, of the same map. */
function lookAt(behind) {
  if (behind.get("map") !== String(shown.header.map)) return;
  const [x, y, span] = (behind.get("view") ?? "").split(",").map(Number);
  if (Number.isFinite(x) && Number.isFinite(y) && span > 0) plot.see({ x, y, span });
  const point = Number(behind.get("point") ?? -1);
  if (Number.isInteger(point) && point >= 0 && point < shown.header.points) picked(point);
}

function say(text, error = false) {
  show($("map-message"), text, error);
}

// ---- colours

const palette = () => (dark.matches ? DARK : LIGHT);
const ramp = () => SCALE[dark.matches ? "dark" : "light"];
const grey = () => (dark.matches ? "#6f8286" : "#98a6a8");
const standing = () => (dark.matches ? "#ffffff" : "#101a1c"); // what stands out and has no colour of its own
const bytesOf = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
const faded = (rgb) => rgb.map((value, i) => Math.round(dark.matches ? 0.3 * value + 0.7 * [24, 36, 39][i] : 0.2 * value + 204)); // no matter how many lie upon one another
const colourOf = (code) => (code >= FIRST && code < FIRST + palette().length ? palette()[code - FIRST] : grey());

function onRamp(share) {
  const stops = ramp().map(bytesOf);
  const at = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
  const low = Math.min(Math.floor(at), stops.length - 2);
  return stops[low].map((value, i) => Math.round(value + (at - low) * (stops[low + 1][i] - value)));
}

function colour() {
  const { header, places, codes } = shown;
  const { points, label } = header;
  const strength = points > 50_000 ? 170 : points > 5_000 ? 205 : 230;
  const colours = new Uint8Array(4 * points);
  const back = [], front = [];
  const table = new Map();
  const ofCode = (code) => {
    if (!table.has(code)) table.set(code, bytesOf(code === lit && colourOf(code) === grey() ? standing() : colourOf(code)));
    return table.get(code);
  };
  const span = label?.kind === "values" ? label.high - label.low || 1 : 1;
  for (let i = 0; i < points; i++) {
    if (Number.isNaN(places[2 * i])) continue;
    let rgb, alpha = strength, before = false;
    if (!label) rgb = bytesOf(palette()[0]);
    else if (label.kind === "values") {
      before = Number.isNaN(codes[i]);
      rgb = before ? bytesOf(grey()) : onRamp((codes[i] - label.low) / span);
      if (before) alpha = 90;
    } else {
      rgb = ofCode(codes[i]);
      before = codes[i] < FIRST || codes[i] >= FIRST + palette().length;
      if (codes[i] === NONE) alpha = 90;
    }
    if ((lit !== null && codes[i] !== lit) || (selected.size && !selected.has(i))) {
      rgb = faded(rgb);
      before = true;
    } else if (lit !== null || selected.size) {
      alpha = 255;
      before = false;
    }
    colours[4 * i] = rgb[0];
    colours[4 * i + 1] = rgb[1];
    colours[4 * i + 2] = rgb[2];
    colours[4 * i + 3] = alpha;
    (before ? back : front).push(i);
  }
  plot.setColours(colours, back, front);
}

function legend() {
  const { label } = shown.header;
  const place = $("map-legend");
  $("map-legend-title").textContent = label ? label.column.replaceAll("_", " ") : "Labels";
  if (!label) return place.replaceChildren(element("p", { className: "hint", text: "The collection has no labels to colour by." }));
  if (label.kind === "values") return place.replaceChildren(...scaleOf(label));
  const entries = label.values.map(({ name, count: number }, i) => [FIRST + i, name || "(empty)", number]);
  if (label.other) entries.push([OTHER, `${count(label.distinct - label.values.length)} others`, label.other]);
  if (label.none) entries.push([NONE, "none", label.none]);
  const list = element("ul", { className: "legend" }, ...entries.map(legendEntry));
  const rest = [...list.children].slice(LISTED);
  for (const item of rest) item.hidden = true;
  const more = element("button", { text: `Show all ${count(label.distinct)}`, className: "quiet", attributes: { type: "button" } });
  more.addEventListener("click", () => {
    for (const item of rest) item.hidden = false;
    more.remove();
  });
  const greys = label.distinct > palette().length ? `The ${palette().length} most frequent have a colour. ` : "";
  place.replaceChildren(element("p", { className: "hint", text: `${greys}Choose one to make it stand out.` }), list, ...(rest.length ? [more] : []));
}

function legendEntry([code, name, number]) {
  const swatch = element("span", { className: "swatch", attributes: { "aria-hidden": "true" } });
  swatch.style.background = colourOf(code);
  const button = element("button", { attributes: { type: "button", "aria-pressed": "false" } },
    swatch, element("span", { text: name, className: "name" }), element("span", { text: count(number), className: "share" }));
  button.addEventListener("click", () => {
    lit = lit === code ? null : code;
    for (const other of $("map-legend").querySelectorAll("[aria-pressed]")) other.setAttribute("aria-pressed", "false");
    button.setAttribute("aria-pressed", String(lit === code));
    swatch.style.background = lit === code && colourOf(code) === grey() ? standing() : colourOf(code);
    colour();
  });
  return element("li", {}, button);
}

function scaleOf(label) {
  const number = (value) => (value === null ? "–" : Number(value.toPrecision(4)).toLocaleString("en"));
  const strip = element("div", { className: "ramp", attributes: { "aria-hidden": "true" } });
  strip.style.background = `linear-gradient(to right, ${ramp().join(", ")})`;
  const beyond = label.min < label.low || label.max > label.high ? `The values go from ${number(label.min)} to ${number(label.max)}; the scale leaves out the 2 % at either end. ` : "";
  const none = label.none ? `${count(label.none)} have none.` : "";
  return [strip, element("div", { className: "under" }, element("span", { text: number(label.low) }), element("span", { text: number(label.high) })), element("p", { className: "hint", text: beyond + none })];
}

function labelOf(point) {
  const { header, codes } = shown;
  if (!header.label) return "";
  if (header.label.kind === "values") return Number.isNaN(codes[point]) ? "" : Number(codes[point].toPrecision(6)).toLocaleString("en");
  return codes[point] >= FIRST ? header.label.values[codes[point] - FIRST].name : "";
}

function mark() {
  const { places } = shown;
  const at = (point) => ({ x: places[2 * point], y: places[2 * point + 1] });
  const marks = [];
  const inSight = query?.map === shown.header.map ? query : null;
  for (const { point } of inSight?.neighbours ?? []) marks.push({ ...at(point), kind: "dot" });
  if (chosen >= 0) marks.push({ ...at(chosen), kind: "dot" });
  if (inSight) marks.push({ x: inSight.x, y: inSight.y, kind: "ring" });
  plot.setMarks(marks);
  $("map-canvas").dataset.marks = String(marks.length);
}

// ---- one point

async function read(points) {
  const held = records; // another map may be shown when the answer comes
  const wanted = points.filter((point) => !held.has(point));
  if (wanted.length) {
    const answer = await call(path(shown.collection, "/records"), { points: wanted, map: shown.header.map });
    for (const record of answer.records) held.set(record.point, record);
  }
  return points.map((point) => held.get(point)).filter((record) => record);
}

let waiting = 0;
let under = -1;

function hovered(point, x, y) {
  const tip = $("map-tip");
  $("map-canvas").classList.toggle("over", point >= 0);
  if (point < 0) {
    [under, tip.hidden] = [-1, true];
    return;
  }
  const fill = (id) => tip.replaceChildren(element("strong", { text: id }), ...(labelOf(point) ? [element("span", { text: `${shown.header.label.column.replaceAll("_", " ")}: ${labelOf(point)}` })] : []));
  if (point !== under) {
    under = point;
    fill(records.get(point)?.id ?? "…");
    clearTimeout(waiting);
    if (!records.has(point)) {
      waiting = setTimeout(async () => {
        try {
          const [record] = await read([point]);
          if (under === point && record) fill(record.id);
        } catch {
          // what is wrong is said when it is clicked
        }
      }, 80);
    }
  }
  tip.hidden = false;
  const left = x + 14 + tip.offsetWidth > plot.width ? x - 14 - tip.offsetWidth : x + 14;
  tip.style.left = `${Math.max(left, 4)}px`;
  tip.style.top = `${Math.min(Math.max(y + 14, 4), plot.height - tip.offsetHeight - 4)}px`;
}

async function picked(point) {
  chosen = point;
  mark();
  address();
  $("map-record").hidden = point < 0;
  if (point < 0) return;
  $("map-record").replaceChildren(element("p", { className: "hint", text: "Reading the record …" }));
  const narrow = $("map-record").getBoundingClientRect().left < plot.canvas.getBoundingClientRect().right;
  try {
    const [record] = await read([point]);
    if (chosen !== point) return;
    if (!record) return show($("map-record"), "This sequence is no longer in the collection.");
    const labels = labelOrder(Object.keys(record.labels)).map((name) => [name.replaceAll("_", " "), labelValue(record.labels[name])]);
    const letters = record.sequence.length > 120 ? `${record.sequence.slice(0, 120)}…` : record.sequence;
    const close = element("button", { text: "Close", className: "quiet", attributes: { type: "button" } });
    close.addEventListener("click", () => picked(-1));
    $("map-record").replaceChildren(
      element("div", { className: "beside" }, element("h2", {}, ...breakable(record.id)), close),
      element("dl", {}, ...[["length", `${count(record.length)} nt`], ...labels].flatMap(([name, value]) => [element("dt", { text: name }), element("dd", {}, value)])),
      element("pre", { text: letters }),
      element("p", {}, recordLink(shown.collection, record.id, "Open the record")),
    );
    if (narrow) $("map-record").scrollIntoView({ block: "nearest" });
  } catch (problem) {
    show($("map-record"), problem.message, true);
  }
}

// ---- a selection

function lasso(on) {
  plot.lassoing = on;
  $("map-lasso").setAttribute("aria-pressed", String(on));
  $("map-canvas").classList.toggle("lasso", on);
}

function enclosed(points) {
  selected = new Set(points);
  lasso(false);
  tellSelection();
  colour();
  if (!points.length) $("map-selected").textContent = "Nothing lies within that line.";
}

function tellSelection() {
  $("map-selected").textContent = selected.size ? `${counted(selected.size, "sequence")} selected` : "Draw a line around points to select them.";
  $("map-with").hidden = !selected.size;
  $("map-first").replaceChildren();
  $("map-first").hidden = true;
  $("map-canvas").dataset.selected = String(selected.size);
}

async function listFirst() {
  try {
    const found = await read([...selected].slice(0, SHOWN));
    const items = found.map((record) => element("li", {}, recordLink(shown.collection, record.id), element("span", { text: labelOf(record.point), className: "hint" })));
    const rest = selected.size - found.length;
    $("map-first").replaceChildren(...items, ...(rest > 0 ? [element("li", { text: `and ${count(rest)} more: export them`, className: "hint more" })] : []));
    $("map-first").hidden = false;
  } catch (problem) {
    say(problem.message, true);
  }
}

async function exportAs(kind) {
  const points = [...selected];
  const { collection, header, places } = shown;
  const found = [];
  const buttons = [...$("map-with").querySelectorAll("button")];
  for (const button of buttons) button.disabled = true;
  try {
    for (let at = 0; at < points.length; at += AT_ONCE) {
      if (points.length > AT_ONCE) say(`Reading ${count(at)} of ${count(points.length)} records …`);
      found.push(...(await call(path(collection, "/records"), { points: points.slice(at, at + AT_ONCE), map: header.map })).records);
    }
    say("");
    if (kind === "fasta") return save(found.map(({ id, sequence }) => `>${id}\n${sequence}\n`).join(""), `${collection}-selection.fasta`, "text/plain");
    const labels = labelOrder(new Set(found.flatMap((record) => Object.keys(record.labels))));
    const row = (record) => [record.id, record.length, ...labels.map((name) => record.labels[name]), places[2 * record.point], places[2 * record.point + 1], record.sequence];
    save(csvText([["id", "length", ...labels, "map_x", "map_y", "sequence"], ...found.map(row)]), `${collection}-selection.csv`, "text/csv");
  } catch (problem) {
    say(problem.message, true);
  } finally {
    for (const button of buttons) button.disabled = false;
  }
}

// ---- a sequence's place

async function place() {
  $("map-sequence").removeAttribute("aria-invalid");
  $("map-mark").disabled = true;
  say("Finding its place …");
  try {
    const asked = shown;
    const { collection } = asked;
    const { sequence, name } = await resolve($("map-sequence").value, collection, { field: "sequence" });
    const found = await call(path(collection, "/place"), { sequence });
    if (shown !== asked) return; // another map is looked at by now
    if (found.map !== shown.header.map) throw new Problem(409, "The map was rebuilt meanwhile. Load this page again.", []);
    query = found;
    say("");
    mark();
    plot.show(found.x, found.y);
    const items = found.neighbours.map(({ id, similarity, point }) =>
      element("li", {}, recordLink(collection, id), element("span", { text: `${similarity.toFixed(3)}${labelOf(point) ? ` · ${labelOf(point)}` : ""}`, className: "hint" })));
    $("map-placed-title").textContent = `${name || "The sequence"} lies at the ring. Its nearest on the map, with their similarity:`;
    $("map-near").replaceChildren(...items);
    $("map-placed").hidden = false;
  } catch (problem) {
    showProblem($("map-message"), problem);
    if (problem.errors?.[0]?.field === "sequence") {
      $("map-sequence").setAttribute("aria-invalid", "true");
      $("map-sequence").focus();
    }
  } finally {
    $("map-mark").disabled = false;
  }
}

// ---- controls

$("map-collection").addEventListener("change", () => go($("map-collection").value));
$("map-label").addEventListener("change", () => load(shown.collection, $("map-label").value));
$("map-in").addEventListener("click", () => plot.zoom(1.6));
$("map-out").addEventListener("click", () => plot.zoom(1 / 1.6));
$("map-all").addEventListener("click", () => plot.fit());
$("map-lasso").addEventListener("click", () => lasso(!plot.lassoing));
$("map-clear").addEventListener("click", () => {
  selected = new Set();
  tellSelection();
  colour();
});
$("map-list").addEventListener("click", listFirst);
$("map-csv").addEventListener("click", () => exportAs("csv"));
$("map-fasta").addEventListener("click", () => exportAs("fasta"));
$("map-place").addEventListener("submit", (event) => {
  event.preventDefault();
  place();
});
$("map-canvas").addEventListener("keydown", (event) => {
  if (event.key === "Escape") lasso(false);
});
dark.addEventListener("change", () => {
  if (!shown) return;
  lit = null;
  legend();
  colour();
});
