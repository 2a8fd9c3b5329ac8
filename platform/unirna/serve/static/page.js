// The search page: its form, and which view is shown. Plain modules, no build step.

import { $, OWN, Problem, call, element, labelOrder, show, showProblem } from "./common.js";
import { foldInto } from "./fold.js";
import { showHits } from "./hits.js";
import { predict } from "./predict.js";
import { showRecord } from "./record.js";

let collections = new Map();
let predictors = new Map();

// ---- the form

function parse(text) {
  const lines = text.split(/\r?\n/).map((line) => line.trim()).filter((line) => line);
  if (!lines.some((line) => line.startsWith(">"))) return { name: "", letters: lines.join(""), count: lines.length ? 1 : 0 };
  const records = [];
  for (const line of lines) {
    if (line.startsWith(">")) records.push({ name: line.slice(1).trim().split(/\s+/)[0], letters: "" });
    else if (records.length) records.at(-1).letters += line;
    else records.push({ name: "", letters: line });
  }
  return { ...records[0], count: records.length };
}

function describeSequence() {
  const { letters, count, name } = parse($("sequence").value);
  const parts = [];
  if (letters) parts.push(`${letters.length.toLocaleString("en")} nucleotides${name ? ` of ${name}` : ""}`);
  if (count > 1) parts.push(`the first of ${count} sequences is used`);
  $("prediction").hidden = $("structure").hidden = true; // they were made for another sequence
  $("sequence-note").textContent = parts.join("; ") || "Either case; T is read as U.";
}

function describeCollection() {
  const chosen = collections.get($("collection").value);
  if (!chosen) return;
  const columns = ["id", "length", ...labelOrder(Object.keys(chosen.columns).filter((name) => !OWN.includes(name)))];
  $("where-note").textContent = `A filter is an SQL condition on ${columns.join(", ")}. Text stands in single quotes.`;
  $("about").textContent = `${chosen.num_rows.toLocaleString("en")} sequences in ${chosen.name}.`;
  if (!chosen.searchable) show($("message"), `${chosen.name} was made with another model (${chosen.model}) and cannot be searched here.`, true);
}

async function start() {
  try {
    const [listed, models, service] = await Promise.all([call("/v1/collections"), call("/v1/models"), call("/v1/service")]);
    $("to-jobs").hidden = !service.jobs;
    collections = new Map(listed.collections.map((entry) => [entry.name, entry]));
    $("collection").replaceChildren(
      ...listed.collections.map((entry) => new Option(`${entry.name} (${entry.num_rows.toLocaleString("en")})`, entry.name)),
    );
    const wanted = new URLSearchParams(location.search).get("collection"); // as a job's card links to it
    if (listed.default) $("collection").value = listed.default;
    if (collections.has(wanted)) $("collection").value = wanted;
    predictors = new Map(models.predictors.map((p) => [p.name, p]));
    $("task").replaceChildren(...models.predictors.map((p) => new Option(p.name, p.name)));
    $("predict-box").hidden = models.predictors.length === 0;
    $("key-form").hidden = true;
    show($("message"), "");
    describeCollection();
    if (!listed.collections.length) show($("message"), "The store holds no collection yet.", true);
  } catch (problem) {
    showProblem($("message"), problem);
  }
}

function busy(on) {
  for (const button of document.querySelectorAll("#search-form button")) button.disabled = on;
  for (const input of document.querySelectorAll("#search-form [aria-invalid]")) input.removeAttribute("aria-invalid");
}

async function work(what, task) {
  busy(true);
  show($("message"), what);
  try {
    await task();
    show($("message"), "");
    busy(false);
  } catch (problem) {
    busy(false);
    showProblem($("message"), problem);
  }
}

function pasted() {
  const { letters } = parse($("sequence").value);
  if (!letters) throw new Problem(422, "", [{ field: "similar_to", message: "Paste a sequence first, or load the example." }]);
  return letters;
}

async function loadExample() {
  const { examples } = await call(`/v1/collections/${encodeURIComponent($("collection").value)}`);
  if (!examples.length) throw new Problem(404, "The collection is empty.", []);
  const now = parse($("sequence").value).name;
  const next = examples[(examples.findIndex((e) => e.id === now) + 1) % examples.length];
  $("sequence").value = `>${next.id}\n${next.sequence}`;
  describeSequence();
}

// ---- hits

async function search() {
  $("results").hidden = true;
  const letters = pasted();
  const k = $("k").value.trim();
  const body = { similar_to: letters, k: /^-?\d+$/.test(k) ? Number(k) : k, collection: $("collection").value };
  if ($("where").value.trim()) body.where = $("where").value;
  if ($("verify").checked) body.verify = true;
  if (typeof body.k === "string") throw new Problem(422, "", [{ field: "k", message: "Hits: a whole number is wanted." }]);
  showHits(await call("/v1/search", body), letters);
}

function findSimilar(record, collection) {
  $("sequence").value = `>${record.id}\n${record.sequence}`;
  if (collections.has(collection)) $("collection").value = collection;
  describeSequence();
  history.pushState({}, "", "/");
  route();
  work("Searching …", search);
}

async function fold() {
  $("structure").hidden = true;
  const letters = pasted();
  await foldInto($("fold-here"), letters, parse($("sequence").value).name || "sequence");
  $("structure").hidden = false;
}

// ---- which view

function route() {
  const query = new URLSearchParams(location.search);
  const record = location.pathname === "/record";
  $("record-view").hidden = !record;
  $("search-view").hidden = record;
  document.title = record ? `${query.get("id")} · UniRNA` : "UniRNA";
  if (record) showRecord(query.get("collection") ?? "", query.get("id") ?? "", findSimilar);
}

$("search-form").addEventListener("submit", (event) => {
  event.preventDefault();
  work("Searching …", search);
});
$("example").addEventListener("click", () => work("Loading an example …", loadExample));
$("fold").addEventListener("click", () => work("Folding …", fold));
$("predict").addEventListener("click", () => work("Predicting …", () => predict(pasted(), $("task").value, predictors.get($("task").value).lengths)));
$("sequence").addEventListener("input", describeSequence);
$("collection").addEventListener("change", () => {
  show($("message"), "");
  describeCollection();
});
for (const link of [$("home"), $("back")]) {
  link.addEventListener("click", (event) => {
    event.preventDefault();
    if (link === $("back") && history.state?.inside) return history.back();
    history.pushState({}, "", "/");
    route();
  });
}
$("key-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  sessionStorage.setItem("unirna-key", $("key").value);
  await start();
  route();
});
addEventListener("popstate", route);
route();
start().then(describeSequence);
