// The search page and the view of one record. Plain modules, no build step; text is only ever set as text.

const $ = (id) => document.getElementById(id);
const FIRST_LABELS = ["family", "family_name", "rna_type"];
const TABLE_LABELS = 4;
const OWN = ["id", "sequence", "length", "sha", "vector"];
let collections = new Map();
let predictors = new Map();

function element(tag, { text, className, attributes = {} } = {}, ...children) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// ---- talking to the service

class Problem extends Error {
  constructor(status, detail, errors) {
    super(detail);
    this.status = status;
    this.errors = errors;
  }
}

async function call(path, body) {
  const headers = {};
  const key = sessionStorage.getItem("unirna-key");
  if (key) headers.authorization = `Bearer ${key}`;
  if (body) headers["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body) });
  } catch {
    throw new Problem(0, "The service does not answer. Is it still running?", []);
  }
  let content = null;
  try {
    content = await response.json();
  } catch {
    // not JSON: said below
  }
  if (response.ok && content) return content;
  if (response.status === 401) {
    $("key-form").hidden = false;
    $("key").focus();
  }
  throw new Problem(response.status, content?.detail ?? `The service answered ${response.status}.`, content?.errors ?? []);
}

function show(place, text, error = false) {
  place.replaceChildren(...(text ? [element("p", { text, className: error ? "message error" : "message" })] : []));
}

const FIELDS = { similar_to: "sequence", "sequences[0]": "sequence", k: "k", where: "where", collection: "collection" };

function showProblem(place, problem) {
  const first = problem.errors?.[0];
  const input = first && $(FIELDS[first.field]);
  const text = first ? first.message : problem.message;
  show(place, text.charAt(0).toUpperCase() + text.slice(1), true);
  if (input) {
    input.setAttribute("aria-invalid", "true");
    input.focus();
  }
}

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

function labelOrder(names) {
  const place = (name) => (FIRST_LABELS.includes(name) ? FIRST_LABELS.indexOf(name) : FIRST_LABELS.length);
  return [...names].sort((a, b) => place(a) - place(b));
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
    const [listed, models] = await Promise.all([call("/v1/collections"), call("/v1/models")]);
    collections = new Map(listed.collections.map((entry) => [entry.name, entry]));
    $("collection").replaceChildren(
      ...listed.collections.map((entry) => new Option(`${entry.name} (${entry.num_rows.toLocaleString("en")})`, entry.name)),
    );
    if (listed.default) $("collection").value = listed.default;
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

function showHits(answer, letters) {
  const { hits } = answer;
  const labels = labelOrder(new Set(hits.flatMap((hit) => Object.keys(hit.labels)))).slice(0, TABLE_LABELS);
  const lowest = Math.min(...hits.map((hit) => hit.similarity));
  const query = letters.toUpperCase().replaceAll("T", "U");
  const heading = (text, number) => element("th", { text, className: number ? "number" : "", attributes: { scope: "col" } });
  const aligned = hits.some((hit) => hit.alignment);
  $("headings").replaceChildren(
    heading("#", true), heading("id"), ...labels.map((name) => heading(name.replaceAll("_", " "))), heading("length", true), heading("similarity"),
    ...(aligned ? [heading("identity", true), heading("coverage", true)] : []),
  );
  $("hits").replaceChildren(...hits.flatMap((hit) => {
    const row = hitRow(hit, answer.collection, labels, lowest, query);
    if (!aligned) return [row];
    return hit.alignment?.cigar ? [row, alignmentRow(hit, query, row)] : [(row.append(...identityCells(hit)), row)];
  }));
  $("results").hidden = false;
  $("results-title").textContent = hits.length === 1 ? "1 hit" : `${hits.length} hits in ${answer.collection}`;
  $("results-note").textContent = hits.length
    ? "Similarity is the cosine of the two vectors; 1 is the same direction. Bars run from the lowest hit shown to 1." +
      (aligned ? " Hits stand in the order of their alignments; coverage is the share of the query that one spans." : "")
    : "No sequence passes the filter.";
  $("results").querySelector(".scroll").hidden = !hits.length;
}

function hitRow(hit, collection, labels, lowest, query) {
  const cell = (label, className, ...children) => element("td", { className, attributes: { "data-label": label } }, ...children);
  const id = element("span", {}, recordLink(collection, hit.id));
  if (hit.sequence === query) id.append(element("span", { text: "same sequence", className: "same" }));
  const share = hit.similarity >= 1 || lowest >= 1 ? 1 : (hit.similarity - lowest) / (1 - lowest);
  return element(
    "tr", {},
    cell("rank", "number", String(hit.rank)),
    cell("id", "id", id),
    ...labels.map((name) => cell(name.replaceAll("_", " "), "", labelValue(hit.labels[name]))),
    cell("length", "number", `${hit.length} nt`),
    cell("similarity", "similarity", element("span", {}, hit.similarity.toFixed(4), bar(0.06 + 0.94 * share))),
  );
}

function identityCells(hit, ...children) {
  const percent = (share) => (share === null || share === undefined ? "" : `${(100 * share).toFixed(0)} %`);
  return [["identity", hit.alignment?.identity], ["coverage", hit.alignment?.query_coverage]].map(([label, share], i) =>
    element("td", { className: "number", attributes: { "data-label": label } }, percent(share), ...(i ? [] : children)));
}

function alignmentRow(hit, query, row) {
  const letters = element("pre", { text: alignmentText(hit.alignment, query, hit.sequence), attributes: { tabindex: "0", "aria-label": `Alignment with ${hit.id}` } });
  const details = element("tr", { className: "alignment" }, element("td", { attributes: { colspan: row.cells.length + 2 } }, letters));
  details.hidden = true;
  const button = element("button", { text: "show", className: "quiet", attributes: { type: "button", "aria-expanded": "false", "aria-label": `Show the alignment with ${hit.id}` } });
  button.addEventListener("click", () => {
    details.hidden = !details.hidden;
    button.textContent = details.hidden ? "show" : "hide";
    button.setAttribute("aria-expanded", String(!details.hidden));
  });
  row.append(...identityCells(hit, button));
  return details;
}

function alignmentText({ cigar, query_start, target_start }, query, target) {
  let above = "", between = "", below = "", i = query_start, j = target_start;
  for (const [, count, step] of cigar.matchAll(/(\d+)([=XID])/g)) {
    const size = Number(count);
    above += step === "D" ? "-".repeat(size) : query.slice(i, i + size);
    below += step === "I" ? "-".repeat(size) : target.slice(j, j + size);
    between += (step === "=" ? "|" : " ").repeat(size);
    if (step !== "D") i += size;
    if (step !== "I") j += size;
  }
  const width = innerWidth < 700 ? 24 : 70;
  const digits = String(Math.max(i, j)).length;
  const blocks = [];
  let q = query_start, t = target_start;
  for (let at = 0; at < above.length; at += width) {
    const [one, other] = [above.slice(at, at + width), below.slice(at, at + width)];
    const line = (name, start, text, end) => `${name} ${String(start + 1).padStart(digits)} ${text} ${end}`;
    const [q2, t2] = [q + one.replaceAll("-", "").length, t + other.replaceAll("-", "").length];
    blocks.push([line("query", q, one, q2), `${" ".repeat(digits + 7)}${between.slice(at, at + width)}`, line("hit  ", t, other, t2)].join("\n"));
    [q, t] = [q2, t2];
  }
  return blocks.join("\n\n");
}

function bar(share) {
  const filled = element("span");
  filled.style.width = `${(100 * share).toFixed(1)}%`;
  return element("span", { className: "bar", attributes: { "aria-hidden": "true" } }, filled);
}

function labelValue(value) {
  if (value === null || value === undefined) return "";
  const text = typeof value === "object" ? JSON.stringify(value) : String(value);
  if (!/^RF\d{5}$/.test(text)) return text;
  const attributes = { href: `https://rfam.org/family/${text}`, target: "_blank", rel: "noopener noreferrer", title: "Open in Rfam" };
  return element("a", { text, attributes });
}

// ---- prediction

async function predict() {
  const letters = pasted();
  const task = $("task").value;
  const answer = await call(`/v1/predict/${encodeURIComponent(task)}`, { sequences: [letters], top: 5 });
  const found = answer.predictions[0];
  $("prediction-title").textContent = `Predicted ${task.replaceAll("_", " ")}`;
  $("value").hidden = Boolean(found.probabilities && !found.labels);
  if (found.values) $("value").replaceChildren(profileOf(found, letters));
  else if (found.labels) $("value").textContent = found.labels.join(", ") || "None of its labels is more probable than not.";
  else $("value").textContent = found.probabilities ? "" : valueText(found);
  $("classes").replaceChildren(
    ...Object.entries(found.probabilities ?? {}).map(([name, share]) =>
      element("li", {}, element("span", { text: name }), bar(share), element("span", { text: `${(100 * share).toFixed(1)} %`, className: "share" }))),
  );
  const [shortest, longest] = predictors.get(task).lengths;
  const usual = shortest === longest ? `${shortest}` : `${shortest} to ${longest}`;
  const within = letters.length >= shortest && letters.length <= longest;
  const doubts = [];
  if (!within) doubts.push(`This predictor was made from sequences of ${usual} nucleotides; yours has ${letters.length}, so take it for a guess.`);
  if (found.known != null && found.known < 0.05) {
    doubts.push(`It may be none of these: of RNA that does belong to them, ${found.known < 0.01 ? "less than 1" : Math.round(100 * found.known)} % gets an answer as unsure.`);
  }
  $("beyond").hidden = !doubts.length;
  $("beyond").textContent = doubts.join(" ");
  $("prediction").hidden = false;
}

function valueText({ value, low, high, unit }) {
  const shown = (number) => Number(number.toPrecision(4)).toString();
  const interval = low === null ? "" : `; nine of ten such RNAs lie between ${shown(low)} and ${shown(high)}`;
  return `${shown(value)}${unit ? ` ${unit}` : ""}${interval}`;
}

function profileOf({ values, unit, half_width }, letters) {
  const shown = (number) => Number(number.toPrecision(3)).toString();
  const low = Math.min(0, ...values);
  const high = Math.max(...values, low + 1e-9);
  const bars = values.map((value, place) => {
    const filled = element("span");
    filled.style.height = `${((100 * (value - low)) / (high - low)).toFixed(1)}%`;
    return element("span", { attributes: { title: `${letters[place] ?? ""}${place + 1}: ${shown(value)}` } }, filled);
  });
  const most = values.indexOf(Math.max(...values));
  const sure = half_width === null ? "" : `; nine of ten lie within ${shown(half_width)} of it`;
  const text = `${values.length} nucleotides, ${shown(Math.min(...values))} to ${shown(Math.max(...values))}${unit ? ` ${unit}` : ""}, highest at ${most + 1}${sure}`;
  const attributes = { role: "img", tabindex: "0", "aria-label": `Value of each nucleotide: ${text}` };
  return element("div", {}, element("div", { className: "profile", attributes }, ...bars), element("p", { text, className: "share" }));
}

// ---- structure

async function foldInto(place, letters, name) {
  const answer = await call("/v1/fold", { sequences: [letters], drawing: true });
  const { sequence, structure, certainty, svg } = answer.structures[0];
  const drawing = new DOMParser().parseFromString(svg, "image/svg+xml").documentElement;
  const sure = certainty.reduce((sum, share) => sum + share, 0) / certainty.length;
  const pairs = [...structure].filter((mark) => mark !== ".").length / 2;
  const picture = element("div", { className: "drawing", attributes: { tabindex: "0", role: "region", "aria-label": "Drawing" } });
  picture.append(document.importNode(drawing, true));
  place.replaceChildren(
    element("p", { className: "hint", text: `${pairs} base pairs. Blue where the model is sure of a nucleotide, yellow where it is not; on average ${(100 * sure).toFixed(0)} %.${structure.includes("[") ? " Dashed: helices that cross others (pseudoknots)." : ""}` }),
    picture,
    element("pre", { text: inBlocks(sequence, structure), attributes: { tabindex: "0", "aria-label": "Sequence and structure" } }),
    element("p", { className: "actions" },
      saveLink("Save the drawing (SVG)", `${name}.svg`, svg, "image/svg+xml"),
      saveLink("Save the structure", `${name}.dbn`, `>${name}\n${sequence}\n${structure}\n`, "text/plain")),
  );
}

function inBlocks(sequence, structure) {
  const width = innerWidth < 700 ? 30 : 80;
  const blocks = [];
  for (let at = 0; at < sequence.length; at += width) blocks.push(`${sequence.slice(at, at + width)}\n${structure.slice(at, at + width)}`);
  return blocks.join("\n\n");
}

function saveLink(text, name, content, type) {
  const link = element("a", { text, attributes: { href: "#", download: name.replaceAll(/[^\w.-]/g, "_") } });
  link.addEventListener("click", () => {
    const url = URL.createObjectURL(new Blob([content], { type }));
    link.href = url;
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  });
  return link;
}

async function fold() {
  $("structure").hidden = true;
  const letters = pasted();
  await foldInto($("fold-here"), letters, parse($("sequence").value).name || "sequence");
  $("structure").hidden = false;
}

// ---- one record

function recordPath(collection, id) {
  return `/record?${new URLSearchParams({ collection, id })}`;
}

function recordLink(collection, id) {
  const link = element("a", { attributes: { href: recordPath(collection, id) } }, ...breakable(id));
  link.addEventListener("click", (event) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
    event.preventDefault();
    history.pushState({ inside: true }, "", link.href);
    route();
    scrollTo(0, 0);
  });
  return link;
}

function breakable(id) {
  // An id may break after a slash rather than at its hyphens.
  return id.split(/(?<=\/)/).flatMap((part, i) => [...(i ? [element("wbr")] : []), element("span", { text: part, className: "part" })]);
}

async function showRecord(collection, id) {
  $("record-id").textContent = id;
  $("record").hidden = true;
  show($("record-message"), "");
  try {
    const record = await call(`/v1/collections/${encodeURIComponent(collection)}/record?${new URLSearchParams({ id })}`);
    const rows = [["collection", collection], ["length", `${record.length} nucleotides`]];
    for (const name of labelOrder(Object.keys(record.labels))) rows.push([name.replaceAll("_", " "), labelValue(record.labels[name])]);
    $("labels").replaceChildren(...rows.flatMap(([name, value]) => [element("dt", { text: name }), element("dd", {}, value)]));
    $("letters").textContent = inTens(record.sequence);
    $("record").hidden = false;
    $("record-structure").hidden = true;
    $("record-fold").disabled = false;
    $("record-fold").onclick = async () => {
      $("record-fold").disabled = true;
      show($("record-message"), "Folding …");
      try {
        await foldInto($("record-fold-here"), record.sequence, record.id);
        $("record-structure").hidden = false;
        show($("record-message"), "");
      } catch (problem) {
        showProblem($("record-message"), problem);
        $("record-fold").disabled = false;
      }
    };
    $("similar").onclick = () => {
      $("sequence").value = `>${record.id}\n${record.sequence}`;
      if (collections.has(collection)) $("collection").value = collection;
      describeSequence();
      history.pushState({}, "", "/");
      route();
      work("Searching …", search);
    };
    $("copy").onclick = async () => {
      try {
        await navigator.clipboard.writeText(`>${record.id}\n${record.sequence}\n`);
        $("copied").textContent = "Copied";
      } catch {
        $("copied").textContent = "The browser does not allow it here; select the letters below";
      }
    };
    $("copied").textContent = "";
  } catch (problem) {
    showProblem($("record-message"), problem);
  }
}

function inTens(sequence) {
  const width = innerWidth < 700 ? 20 : 60;
  const digits = String(sequence.length).length;
  const lines = [];
  for (let at = 0; at < sequence.length; at += width) {
    const tens = sequence.slice(at, at + width).match(/.{1,10}/g).join(" ");
    lines.push(`${String(at + 1).padStart(digits)}  ${tens}`);
  }
  return lines.join("\n");
}

// ---- which view

function route() {
  const query = new URLSearchParams(location.search);
  const record = location.pathname === "/record";
  $("record-view").hidden = !record;
  $("search-view").hidden = record;
  document.title = record ? `${query.get("id")} · UniRNA` : "UniRNA";
  if (record) showRecord(query.get("collection") ?? "", query.get("id") ?? "");
}

$("search-form").addEventListener("submit", (event) => {
  event.preventDefault();
  work("Searching …", search);
});
$("example").addEventListener("click", () => work("Loading an example …", loadExample));
$("fold").addEventListener("click", () => work("Folding …", fold));
$("predict").addEventListener("click", () => work("Predicting …", predict));
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
