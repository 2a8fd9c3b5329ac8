"""Examples in help, documents and error messages: commands parse, and labels are those of shipped predictors."""

from __future__ import annotations

import ast
import re
import shlex
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
import tyro

from unirna.screen.criteria import ScreenError, parse_label_criterion
from unirna.tasks import list_predictors, load_predictor

ROOT = Path(__file__).resolve().parent.parent
JOBS = sorted((ROOT / "jobs").glob("*.py"))
TEXTS = [
    *JOBS,
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "README.md",
    *(path for root in ("platform", "sdk", "vectorstore") for path in sorted((ROOT / root).rglob("*.py"))),
]
SHIPPED = {name: load_predictor(folder) for name, folder in list_predictors(None).items()}
LABEL = re.compile(rf"(?<![\w.])({'|'.join(SHIPPED)})=([^\d\s'\"`\\,)]+)")
"""A shipped predictor and a label, as a screen's --predict takes them."""


def commands(text: str) -> list[list[str]]:
    """Arguments of the lines `python jobs/NAME.py …` and `unirna screen …`, script first; those with "…" or CAPITALS are
    forms."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        match = re.match(r"\s*(?:\.venv/bin/)?(?:python jobs/(\w+)\.py|unirna (screen)) (.*)", line)
        if match is None:
            continue
        words = shlex.split(match[3].split(" | ")[0], comments=True)
        if not any("…" in word or re.fullmatch(r"[A-Z_]{3,}", word) for word in words):
            found.append([f"{match[1] or match[2]}.py", *words])
    return found


def label_examples() -> list[tuple[str, str]]:
    found = set()
    for path in TEXTS:
        for match in LABEL.finditer(path.read_text(encoding="utf-8")):
            if match[2] not in ("…", "LABEL", "label"):
                found.add((path.relative_to(ROOT).as_posix(), match[0]))
    return sorted(found)


def settings(script: str) -> Any:
    """The settings' class of a script of jobs/: the one that it hands to tyro."""
    spec = spec_from_file_location(f"example_{script.removesuffix('.py')}", ROOT / "jobs" / script)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    (name,) = re.findall(r"tyro\.cli\((\w+)", (ROOT / "jobs" / script).read_text(encoding="utf-8"))
    return getattr(module, name)


def examples() -> dict[str, list[tuple[str, list[str]]]]:
    """Script -> where a command stands, and its arguments."""
    found: dict[str, list[tuple[str, list[str]]]] = {}
    for path in TEXTS:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".py":
            text = ast.get_docstring(ast.parse(text), clean=False) or ""
        for script, *words in commands(text):
            found.setdefault(script, []).append((path.relative_to(ROOT).as_posix(), words))
    return found


EXAMPLES = examples()


def test_examples_are_found() -> None:
    assert len(label_examples()) >= 2 and ("jobs/screen.py", "rna_type=tRNA") in label_examples()
    assert {"screen.py", "finetune.py", "embed.py", "evaluate.py"} <= set(EXAMPLES)
    assert commands("    unirna screen library.fasta --predict a=b | head") == [
        ["screen.py", "library.fasta", "--predict", "a=b"]
    ]


@pytest.mark.parametrize(("path", "example"), label_examples())
def test_labels_of_examples_exist(path: str, example: str, tmp_path: Path) -> None:
    name = example.partition("=")[0]
    if SHIPPED[name].level == "sequence":
        assert parse_label_criterion(example, str(tmp_path)).name == example


@pytest.mark.parametrize("script", sorted(EXAMPLES))
def test_commands_of_examples_parse(script: str) -> None:
    config = settings(script)
    for path, words in EXAMPLES[script]:
        try:
            tyro.cli(config, args=words, console_outputs=False)
        except SystemExit as end:
            pytest.fail(f"{path}: {script} {shlex.join(words)} does not parse ({end})")


def test_the_example_of_an_error_works(tmp_path: Path) -> None:
    with pytest.raises(ScreenError, match="expected task=label") as raised:
        parse_label_criterion("tRNA", str(tmp_path))
    examples = [match[0] for match in LABEL.finditer(str(raised.value))]
    assert examples and all(parse_label_criterion(example, str(tmp_path)) for example in examples)
    with pytest.raises(ScreenError, match="did you mean rna_type=tRNA"):
        parse_label_criterion("rna_type=Gene;tRNA", str(tmp_path))
