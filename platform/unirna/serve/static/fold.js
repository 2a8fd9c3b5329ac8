// A predicted structure.

import { call, element, saveLink } from "./common.js";

export async function foldInto(place, letters, name) {
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
