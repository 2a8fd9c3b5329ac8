"""Make `platform/unirna/fold/turner2004.json` from the Turner 2004 parameters in ViennaRNA's file format.

    pip install ViennaRNA
    python -c "import RNA; RNA.params_save('turner2004.par')"
    python recipes/turner2004.py --parameters turner2004.par

Energies at 37 °C alone, in 0.01 kcal/mol, with pairs and nucleotides in the order of `unirna.fold.energies`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from numpy.typing import NDArray

DEFAULT = {"DEF": -50, "INF": 0}
"""What the file writes for a default and for an impossible loop; the latter is never looked up."""
NUCLEOTIDES = [1, 2, 3, 4, 0]
"""A, C, G, U, other: the file has N first."""
NAMES = {
    "mismatch_hairpin": "mismatch_hairpin",
    "mismatch_internal": "mismatch_interior",
    "mismatch_internal_1n": "mismatch_1xn",
    "mismatch_internal_23": "mismatch_2x3",
    "mismatch_multi": "mismatch_multi",
    "mismatch_exterior": "mismatch_exterior",
    "dangle5": "dangle5",
    "dangle3": "dangle3",
    "int11": "interior_1x1",
    "int21": "interior_1x2",
}
"""Tables by kind of pair, then nucleotides."""


@dataclass(frozen=True)
class Config:
    """Convert the parameters."""

    parameters: Path
    """The file that ViennaRNA's `params_save` writes."""
    out: Path = Path("platform/unirna/fold/turner2004.json")
    """Where the tables are written."""


def main(config: Config) -> None:
    """Read, reorder, write one table a line."""
    tables = convert(config.parameters.read_text(encoding="utf-8"))
    lines = [f"{json.dumps(name)}: {json.dumps(value, separators=(',', ':'))}" for name, value in tables.items()]
    config.out.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def convert(text: str) -> dict[str, Any]:
    """The tables of a parameter file."""
    sections = dict(re.findall(r"^# (\w+)\n(.*?)(?=^# |\Z)", text, re.M | re.S))
    found: dict[str, Any] = {"stack": _numbers(sections["stack"]).reshape(7, 7)[:6, :6].tolist()}
    for section, name in (("hairpin", "hairpin"), ("bulge", "bulge"), ("internal", "interior")):
        found[name] = _numbers(sections[section]).tolist()
    for section, name in NAMES.items():
        pairs = 2 if section.startswith("int") else 1
        values = _numbers(sections[section])
        depth = round(np.log(len(values) / 7**pairs) / np.log(5))
        table = values.reshape((7,) * pairs + (5,) * depth)[(slice(6),) * pairs]
        for axis in range(pairs, table.ndim):
            table = table.take(NUCLEOTIDES, axis=axis)
        found[name] = table.tolist()
    table = _numbers(sections["int22"]).reshape((6, 6, 4, 4, 4, 4))
    for axis in range(2, 6):  # an unknown nucleotide is the least favourable one
        table = np.concatenate([table, table.max(axis=axis, keepdims=True)], axis=axis)
    found["interior_2x2"] = table.tolist()
    special = "".join(sections[name] for name in ("Hexaloops", "Tetraloops", "Triloops"))
    found["special_hairpins"] = {loop: int(value) for loop, value in re.findall(r"([ACGU]+)\s+(-?\d+)", special)}
    _, _, found["multiloop"], _, found["multiloop_branch"], _ = _numbers(sections["ML_params"]).tolist()
    found["asymmetry"], _, found["most_asymmetry"] = _numbers(sections["NINIO"]).tolist()
    _, _, found["terminal_au"], _, *_ = _numbers(sections["Misc"]).tolist()
    found["logarithmic"] = float(sections["Misc"].split("*/")[-1].split()[4])
    return found


def _numbers(section: str) -> NDArray[np.int64]:
    words = re.sub(r"/\*.*?\*/", " ", section, flags=re.S).split()
    return np.array([DEFAULT[word] if word in DEFAULT else int(float(word)) for word in words])


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
