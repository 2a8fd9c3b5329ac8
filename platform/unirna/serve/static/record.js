// The view of one record.

import { $, breakable, call, element, labelOrder, labelValue, show, showProblem } from "./common.js";
import { foldInto } from "./fold.js";

function recordPath(collection, id) {
  return `/record?${new URLSearchParams({ collection, id })}`;
}

export function recordLink(collection, id, text) {
  const link = element("a", { attributes: { href: recordPath(collection, id) } }, ...(text ? [text] : breakable(id)));
  link.addEventListener("click", (event) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
    event.preventDefault();
    history.pushState({ inside: true }, "", link.href);
    dispatchEvent(new PopStateEvent("popstate"));
    scrollTo(0, 0);
  });
  return link;
}

export async function showRecord(collection, id, findSimilar) {
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
    $("similar").onclick = () => findSimilar(record, collection);
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
