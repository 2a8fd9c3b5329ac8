// The table of hits, with their alignments.

import { $, SIGNIFICANT, bar, chanceText, counted, csvText, element, labelOrder, labelValue, percent, saveLink } from "./common.js";
import { recordLink } from "./record.js";

const TABLE_LABELS = 4;

/** Show hits; `more` asks for the next ones, and is null where there are none. */
export function showHits({ hits, collection, verdict, notes = [] }, letters, more) {
  const aligned = hits.some((hit) => hit.alignment);
  const labels = labelOrder(new Set(hits.flatMap((hit) => Object.keys(hit.labels)))).slice(0, aligned ? 2 : TABLE_LABELS);
  const known = hits.length > 0 && hits.every((hit) => typeof hit.p === "number"); // how often chance does as well
  const better = hits.filter((hit) => hit.p <= SIGNIFICANT).length;
  const lowest = Math.min(...hits.map((hit) => hit.similarity));
  const query = letters.toUpperCase().replaceAll("T", "U");
  const heading = (text, number) => element("th", { text, className: number ? "number" : "", attributes: { scope: "col" } });
  $("headings").replaceChildren(
    heading("#", true), heading("id"), ...labels.map((name) => heading(name.replaceAll("_", " "))), heading("length", true), heading("similarity"), ...(known ? [heading("p", true)] : []),
    ...(aligned ? [heading("identity", true), heading("coverage", true)] : []),
  );
  $("hits").replaceChildren(...hits.flatMap((hit) => {
    const row = hitRow(hit, collection, labels, lowest, query, known);
    if (!aligned) return [row];
    return hit.alignment?.cigar ? [row, alignmentRow(hit, query, row)] : [(row.append(...identityCells(hit)), row)];
  }));
  $("results").hidden = false;
  const chance = known && !better ? ": no hit better than chance" : "";
  $("results-title").textContent = `${counted(hits.length, "hit")} in ${collection}${chance}`;
  $("results-note").textContent = hits.length
    ? (known && (better || !verdict) ? `${better} of ${hits.length} better than chance: p, how often the best hit of a random sequence of this length is as good, is at most ${SIGNIFICANT}. ` : verdict ? `${verdict} ` : "") +
      "Similarity is the cosine of the two vectors; 1 is the same direction. Bars run from the lowest hit shown to 1." +
      (aligned ? " The best stand in the order of their alignments; coverage is the share of the query that one spans." : "")
    : notes.map((note) => `${note.charAt(0).toUpperCase()}${note.slice(1)}`).join(" ") || "No sequence passes the filter.";
  $("results").querySelector(".scroll").hidden = !hits.length;
  $("more").hidden = !more;
  $("more").onclick = more;
  $("save-hits").replaceChildren(...(hits.length ? [
    saveLink("Save as CSV", `${collection}-hits.csv`, csvOf(hits), "text/csv"),
    saveLink("Save as FASTA", `${collection}-hits.fasta`, hits.map((hit) => `>${hit.id}\n${hit.sequence}\n`).join(""), "text/plain"),
  ] : []));
}

/** Hits as CSV. */
export function csvOf(hits) {
  const aligned = ["identity", "query_coverage", "target_coverage", "cigar"].filter(() => hits.some((hit) => hit.alignment));
  const labels = labelOrder(new Set(hits.flatMap((hit) => Object.keys(hit.labels))));
  const rows = hits.map((hit) => [
    hit.rank, hit.id, hit.similarity, hit.p, ...aligned.map((name) => hit.alignment?.[name]), hit.length, hit.sequence, ...labels.map((name) => hit.labels[name]),
  ]);
  return csvText([["rank", "id", "similarity", "p", ...aligned, "length", "sequence", ...labels], ...rows]);
}

function hitRow(hit, collection, labels, lowest, query, known) {
  const cell = (label, className, ...children) => element("td", { className, attributes: { "data-label": label } }, ...children);
  const id = element("span", {}, recordLink(collection, hit.id));
  if (hit.sequence === query) id.append(element("span", { text: "same sequence", className: "same" }));
  const share = hit.similarity >= 1 || lowest >= 1 ? 1 : (hit.similarity - lowest) / (1 - lowest);
  return element(
    "tr", { className: known && hit.p > SIGNIFICANT ? "chance" : "" },
    cell("rank", "number", String(hit.rank)),
    cell("id", "id", id),
    ...labels.map((name) => cell(name.replaceAll("_", " "), "", labelValue(hit.labels[name]))),
    cell("length", "number", `${hit.length} nt`),
    cell("similarity", "similarity", element("span", {}, hit.similarity.toFixed(4), bar(0.06 + 0.94 * share))),
    ...(known ? [cell("p", "number", chanceText(hit.p))] : []),
  );
}

function identityCells(hit, ...children) {
  const shown = (share) => (share === null || share === undefined ? "" : percent(share));
  return [["identity", hit.alignment?.identity], ["coverage", hit.alignment?.query_coverage]].map(([label, share], i) =>
    element("td", { className: "number", attributes: { "data-label": label } }, element("span", {}, shown(share), ...(i ? [] : children))));
}

function alignmentRow(hit, query, row) {
  const letters = element("pre", { text: alignmentText(hit.alignment, query, hit.sequence), attributes: { tabindex: "0", "aria-label": `Alignment with ${hit.id}` } });
  const details = element("tr", { className: "alignment" }, element("td", { attributes: { colspan: row.cells.length + 2 } }, letters));
  details.hidden = true;
  const button = element("button", { text: "show", className: "quiet", attributes: { type: "button", "aria-expanded": "false", "aria-label": `show the alignment with ${hit.id}` } });
  button.addEventListener("click", () => {
    details.hidden = !details.hidden;
    button.textContent = details.hidden ? "show" : "hide";
    button.setAttribute("aria-expanded", String(!details.hidden));
    button.setAttribute("aria-label", `${button.textContent} the alignment with ${hit.id}`);
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
