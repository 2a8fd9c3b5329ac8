// A predicted structure: its drawing, the plot of pair probabilities, files, and other ways to fold it.

import { call, counted, element, percent, saveLink, show } from "./common.js";
import { zoomBox } from "./zoom.js";

const OPEN = "([{<ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const CLOSE = ")]}>abcdefghijklmnopqrstuvwxyz";

/** Fold a sequence, and show its structure; `again` hears of another way in which it was folded since. */
export async function foldInto(place, letters, name, { pseudoknots = true, constraint = "" } = {}, again = () => {}) {
  const body = { sequences: [letters], drawing: true, plot: true, pseudoknots };
  if (constraint.trim()) body.constraints = [constraint.trim()];
  const answer = await call("/v1/fold", body);
  const { sequence, structure, certainty, free_energy: energy, svg, plot } = answer.structures[0];
  const sure = certainty.reduce((sum, share) => sum + share, 0) / certainty.length;
  const pairs = [...structure].filter((mark) => mark !== ".").length / 2;
  const crossing = structure.includes("[");
  const probabilities = element("details", {}, element("summary", { text: "Plot of the pair probabilities" }),
    element("p", { className: "hint", text: "Above the diagonal the area of a square (its opacity in long sequences) is the probability of the pair; below it stand the pairs of the structure." }));
  probabilities.addEventListener("toggle", () => {
    if (probabilities.open && !probabilities.querySelector("svg")) probabilities.append(zoomBox(plot, "Plot of the pair probabilities"));
  });
  place.replaceChildren(
    element("p", { className: "hint", text: `${counted(pairs, "base pair")}, free energy ${energy.toFixed(1)} kcal/mol (Turner 2004${crossing ? ", without the crossing helices" : ""}). Blue where the model is sure of a nucleotide, yellow where it is not; on average ${percent(sure)}.${crossing ? " Dashed: helices that cross others (pseudoknots)." : ""}` }),
    zoomBox(svg, "Drawing"),
    element("p", { className: "hint", text: "Drag to move; zoom with the buttons, Ctrl and the wheel, or two fingers. Point at a nucleotide for its pair and probability." }),
    element("pre", { text: inBlocks(sequence, structure), attributes: { tabindex: "0", "aria-label": "Sequence and structure" } }),
    element("p", { className: "actions" },
      saveLink("Drawing (SVG)", `${name}.svg`, svg, "image/svg+xml"),
      saveLink("Probabilities (SVG)", `${name}_probabilities.svg`, plot, "image/svg+xml"),
      saveLink("Dot-bracket", `${name}.dbn`, `>${name}\n${sequence}\n${structure}\n`, "text/plain"),
      saveLink("CT", `${name}.ct`, ct(sequence, structure, name, energy), "text/plain"),
      saveLink("BPSEQ", `${name}.bpseq`, bpseq(sequence, structure, name), "text/plain")),
    probabilities,
    otherWays(place, letters, name, { pseudoknots, constraint }, again),
  );
}

/** A form to fold the same sequence in another way. */
function otherWays(place, letters, name, now, again) {
  const knots = element("input", { className: "fold-pseudoknots", attributes: { type: "checkbox" } });
  knots.checked = now.pseudoknots;
  const constraint = element("input", { className: "fold-constraint", attributes: { type: "text", spellcheck: "false", autocapitalize: "off", autocomplete: "off", placeholder: `((..x..|..)) – ${letters.length} characters` } });
  constraint.value = now.constraint;
  const button = element("button", { text: "Fold again", attributes: { type: "submit" } });
  const message = element("div", { attributes: { role: "status", "aria-live": "polite" } });
  const form = element("form", { className: "fold-options" },
    element("label", { className: "check" }, knots, element("span", { text: "Pseudoknots" })),
    element("label", { className: "field" }, element("span", { text: "Constraint" }), constraint),
    element("p", { className: "hint", text: "One character per nucleotide: . free, x unpaired, | paired, < paired with a later nucleotide, > with an earlier one, ( and ) paired with each other." }),
    button, message);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    show(message, "Folding …");
    try {
      const way = { pseudoknots: knots.checked, constraint: constraint.value.trim() };
      await foldInto(place, letters, name, way, again);
      again(way);
      place.querySelector(".fold-options button").focus({ preventScroll: true });
    } catch (problem) {
      show(message, problem.errors?.[0]?.message ?? problem.message, true);
      constraint.toggleAttribute("aria-invalid", problem.errors?.[0]?.field.startsWith("constraints") ?? false);
    } finally {
      button.disabled = false;
    }
  });
  const box = element("details", {}, element("summary", { text: "Other ways to fold it" }), form);
  box.open = !now.pseudoknots || Boolean(now.constraint);
  return box;
}

function partners(structure) {
  const found = new Array(structure.length).fill(0);
  const open = new Map();
  [...structure].forEach((mark, place) => {
    if (OPEN.includes(mark)) open.set(mark, [...(open.get(mark) ?? []), place]);
    else if (CLOSE.includes(mark)) {
      const other = open.get(OPEN[CLOSE.indexOf(mark)]).pop();
      [found[place], found[other]] = [other + 1, place + 1];
    }
  });
  return found;
}

function ct(sequence, structure, name, energy) {
  const paired = partners(structure);
  const rows = [...sequence].map((base, i) => `${i + 1} ${base} ${i} ${i + 1 < sequence.length ? i + 2 : 0} ${paired[i]} ${i + 1}\n`);
  return `${sequence.length} ENERGY = ${energy.toFixed(2)} ${name}\n${rows.join("")}`;
}

function bpseq(sequence, structure, name) {
  const paired = partners(structure);
  return `# ${name}\n${[...sequence].map((base, i) => `${i + 1} ${base} ${paired[i]}\n`).join("")}`;
}

function inBlocks(sequence, structure) {
  const width = innerWidth < 700 ? 30 : 80;
  const blocks = [];
  for (let at = 0; at < sequence.length; at += width) blocks.push(`${sequence.slice(at, at + width)}\n${structure.slice(at, at + width)}`);
  return blocks.join("\n\n");
}
