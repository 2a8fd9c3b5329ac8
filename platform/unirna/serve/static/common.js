// What all panels share: elements, talking to the service, messages. Text is only ever set as text.

import { pathOf } from "./address.js";

export const $ = (id) => document.getElementById(id);
const FIRST_LABELS = ["family", "family_name", "rna_type"];
export const OWN = ["id", "sequence", "length", "sha", "vector"];

export function element(tag, { text, className, attributes = {} } = {}, ...children) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// ---- numbers in sentences

/** A count with its noun: "1 sequence", "1,200 sequences". */
export function counted(number, noun, plural = `${noun}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? noun : plural}`;
}

/** A share in percent that says 100 or 0 only where that is exact. */
export function percent(share, digits = 0) {
  for (let places = digits; places < 5; places++) {
    const text = (100 * share).toFixed(places);
    if (![0, 100].includes(Number(text)) || share === 0 || share === 1) return `${text} %`;
  }
  return share > 0.5 ? "> 99.9999 %" : "< 0.0001 %";
}

export const SIGNIFICANT = 0.05;

/** The p of a hit, in words where it is not small; below 1e-15 it is extrapolated too far to be told apart. */
export function chanceText(p) {
  if (p > SIGNIFICANT) return `${p.toFixed(p < 0.1 ? 3 : 2)} (chance)`;
  if (p < 1e-15) return "< 1e-15";
  return p < 0.001 ? p.toExponential(0) : p.toFixed(3);
}

// ---- talking to the service

export class Problem extends Error {
  constructor(status, detail, errors) {
    super(detail);
    this.status = status;
    this.errors = errors;
  }
}

function withKey(headers) {
  const key = sessionStorage.getItem("unirna-key");
  return key ? { ...headers, authorization: `Bearer ${key}` } : headers;
}

async function answered(path, body, further = {}) {
  const headers = withKey(body ? { "content-type": "application/json", ...further } : further);
  try {
    return await fetch(pathOf(path), { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body) });
  } catch {
    throw new Problem(0, "The service does not answer. Is it still running?", []);
  }
}

export async function fetchBytes(path) {
  const response = await answered(path);
  return response.ok ? response.arrayBuffer() : contentOf(response);
}

/** Show nothing but the form that asks for a key, and why it does. */
function lock() {
  if (sessionStorage.getItem("unirna-key")) $("key-why").hidden = false; // of several answers the first one says so
  sessionStorage.removeItem("unirna-key");
  document.body.classList.add("locked");
  $("key-form").hidden = false;
  $("key").value = "";
  $("key").focus();
}

/** Show the page again: the service has answered. */
export function unlock() {
  document.body.classList.remove("locked");
  $("key-form").hidden = $("key-why").hidden = true;
}

export async function call(path, body, further = {}) {
  return contentOf(await answered(path, body, further));
}

async function contentOf(response) {
  let content = null;
  try {
    content = await response.json();
  } catch {
    // not JSON: said below
  }
  if (response.ok && content) return content;
  if (response.status === 401) {
    lock();
    throw new Problem(401, "", []);
  }
  throw new Problem(response.status, content?.detail ?? `The service answered ${response.status}.`, content?.errors ?? []);
}

export function show(place, text, error = false) {
  place.replaceChildren(...(text ? [element("p", { text, className: error ? "message error" : "message" })] : []));
}

const FIELDS = {
  similar_to: "sequence", "sequences[0]": "sequence", k: "k", where: "where", collection: "collection", shortest: "shortest",
  longest: "longest", "label-value": "label-value", "parameters.collection": "collection", "input.fasta": "fasta", name: "name",
  column: "column", file: "sequence", prior: "prior", "parameters.sequence_column": "sequence-column", "parameters.id_column": "id-column",
  "input.csv": "fasta", "input.tsv": "fasta", "input.fastq": "fasta", input: "fasta",
};

export function showProblem(place, problem) {
  const first = problem.errors?.[0];
  const input = first && $(FIELDS[first.field]);
  const text = first ? first.message : problem.message;
  show(place, text.charAt(0).toUpperCase() + text.slice(1), true);
  if (input) {
    input.setAttribute("aria-invalid", "true");
    input.focus({ preventScroll: true });
  }
  if (text) reveal(place);
}

/** Scroll to what has just come, where it is out of sight. */
export function reveal(node) {
  const { top, bottom } = node.getBoundingClientRect();
  if (top < 0 || Math.min(bottom, top + 120) > innerHeight) node.scrollIntoView({ block: bottom - top > innerHeight / 2 ? "start" : "center" });
}

export function labelOrder(names) {
  const place = (name) => (FIRST_LABELS.includes(name) ? FIRST_LABELS.indexOf(name) : FIRST_LABELS.length);
  return [...names].sort((a, b) => place(a) - place(b));
}

export function bar(share) {
  const filled = element("span");
  filled.style.width = `${(100 * share).toFixed(1)}%`;
  return element("span", { className: "bar", attributes: { "aria-hidden": "true" } }, filled);
}

export function labelValue(value) {
  if (value === null || value === undefined) return "";
  const text = typeof value === "object" ? JSON.stringify(value) : String(value);
  if (!/^RF\d{5}$/.test(text)) return text;
  const attributes = { href: `https://rfam.org/family/${text}`, target: "_blank", rel: "noopener noreferrer", title: "Open in Rfam" };
  return element("a", { text, attributes });
}

export function save(content, name, type) {
  const link = element("a", { attributes: { href: URL.createObjectURL(new Blob([content], { type })), download: name.replaceAll(/[^\w.-]/g, "_") } });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** Buttons that save a predictor's card, and the plot of one that predicts values. */
export function modelFiles(name, hasPlot, failed) {
  const kinds = [["card", "md", "text/markdown"], ...(hasPlot ? [["plot", "svg", "image/svg+xml"]] : [])];
  return kinds.map(([what, ending, type]) => {
    const button = element("button", { text: what === "card" ? "Card" : "Plot", className: "quiet", attributes: { type: "button" } });
    button.addEventListener("click", async () => {
      try {
        save(await fetchBytes(`/v1/models/${encodeURIComponent(name)}/${what}`), `${name}_${what}.${ending}`, type);
      } catch (problem) {
        failed(problem);
      }
    });
    return button;
  });
}

/** Rows as CSV; a cell that a spreadsheet would take for a formula gets an apostrophe in front. */
export function csvText(rows) {
  const cell = (value) => {
    if (typeof value === "number") return String(value);
    const text = value === null || value === undefined ? "" : typeof value === "object" ? JSON.stringify(value) : String(value);
    const safe = /^[=+@\t\r-]/.test(text) ? `'${text}` : text;
    return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  return rows.map((row) => `${row.map(cell).join(",")}\n`).join("");
}

export function saveLink(text, name, content, type) {
  const link = element("a", { text, attributes: { href: "#", download: name.replaceAll(/[^\w.-]/g, "_") } });
  link.addEventListener("click", () => {
    const url = URL.createObjectURL(new Blob([content], { type }));
    link.href = url;
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  });
  return link;
}
export function breakable(id) {
  // An id may break after a slash rather than at its hyphens.
  return id.split(/(?<=\/)/).flatMap((part, i) => [...(i ? [element("wbr")] : []), element("span", { text: part, className: "part" })]);
}
