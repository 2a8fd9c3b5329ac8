"""The house's rules: where things stand and who may import whom."""

import ast
import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
SOURCE_ROOTS = ("platform", "vectorstore", "sdk")

# Each room may import itself, `base` and these. `sdk` reaches further only inside functions, when it is given a local path.
ALLOWED = {
    "base": set(),
    "sequence": set(),
    "job": set(),
    "runs": set(),
    "model": {"sequence"},
    "corpus": {"sequence", "model", "job", "runs"},
    "train": {"sequence", "model", "corpus", "job", "runs"},
    "tasks": {"sequence", "model", "train", "job", "runs", "vectorstore"},
    "fold": {"sequence", "model"},
    "embed": {"sequence", "model", "vectorstore", "job", "runs"},
    "screen": {"sequence", "model", "tasks", "embed", "vectorstore", "job", "runs"},
    "serve": {"sequence", "model", "tasks", "fold", "embed", "vectorstore", "job", "runs"},
    "vectorstore": set(),
    "sdk": set(),
}


def modules() -> list[Path]:
    return [path for root in SOURCE_ROOTS for path in sorted((ROOT / root / "unirna").rglob("*.py"))]


def rooms_imported(path: Path, *, top_level: bool) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level else list(ast.walk(tree))
    found = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module] if node.module != "unirna" else [f"unirna.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("unirna.")}
    return found


def test_no_init_makes_a_source_root_a_package() -> None:
    # platform/__init__.py would shadow the standard library's `platform` and stop torch and Ray.
    for root in SOURCE_ROOTS:
        assert not (ROOT / root / "__init__.py").exists()
        assert not (ROOT / root / "unirna" / "__init__.py").exists()


def test_every_room_is_known_and_typed() -> None:
    rooms = {path.parent for root in SOURCE_ROOTS for path in (ROOT / root / "unirna").glob("*/__init__.py")}
    assert {room.name for room in rooms} == set(ALLOWED)
    assert all((room / "py.typed").exists() for room in rooms)


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    room = path.relative_to(ROOT).parts[2]
    imported = rooms_imported(path, top_level=room == "sdk") - {room, "base"}
    assert imported <= ALLOWED[room], f"{room} may not import {imported - ALLOWED[room]}"


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("unirna.base", ["numpy", "httpx2", "tyro", "torch", "ray", "lancedb", "pyarrow"]),
        ("unirna.sdk", ["torch", "ray", "lancedb", "lance", "pyarrow", "pandas"]),
        ("unirna.vectorstore", ["torch", "ray"]),
        ("unirna.model", ["ray", "lancedb", "lance"]),
        ("unirna.train", ["ray", "lancedb", "lance"]),
        ("unirna.serve.engine.engine", ["ray"]),
    ],
)
def test_imports_stay_light(module: str, forbidden: list[str]) -> None:
    code = f"import sys, json, {module}; print(json.dumps([m for m in {forbidden!r} if m in sys.modules]))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert json.loads(answer.stdout.splitlines()[-1]) == []


def test_the_sdk_brings_under_ten_megabytes() -> None:
    """What ``pip install unirna`` brings beside numpy, with what Python compiles of it."""

    def needed(name: str, known: set[str]) -> set[str]:
        for one in map(Requirement, metadata.requires(name) or []):
            found = canonicalize_name(one.name)
            if found not in known | {"numpy"} and (one.marker is None or one.marker.evaluate({"extra": ""})):
                known.add(found)
                needed(found, known)
        return known

    brought = [file for name in needed("unirna", set()) for file in metadata.files(name) or []]
    assert sum(Path(str(file.locate())).stat().st_size for file in brought if file.locate().exists()) < 10e6


CYCLES = [{"unirna.sdk._client", "unirna.sdk._jobs"}, {"unirna.sdk._async_client", "unirna.sdk._async_jobs"},
          {f"unirna.tasks.finetuning.{name}" for name in ("detection", "finetune", "training")}]  # fmt: skip
"""Modules that still import each other, for their types alone."""


def imports_of(path: Path, known: set[str]) -> set[str]:
    """The modules that a file imports anywhere, in functions and for types too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name in known else node.module for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & known


def cycles(graph: dict[str, set[str]]) -> list[set[str]]:
    """The groups of modules that reach each other."""
    reached = {name: set(targets) for name, targets in graph.items()}
    for through in graph:
        for targets in reached.values():
            if through in targets:
                targets |= reached[through]
    groups = {
        name: frozenset(other for other in graph if other in reached[name] and name in reached[other]) for name in graph
    }
    return [set(group) for group in set(groups.values()) if group]


def test_no_modules_import_each_other() -> None:
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [{"a", "b", "c"}]
    named = {}
    for path in modules():
        parts = path.relative_to(ROOT).with_suffix("").parts[1:]
        named[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    found = cycles({name: imports_of(path, set(named)) - {name} for name, path in named.items()})
    assert [group for group in found if group not in CYCLES] == []


def opens_text_without_encoding(node: ast.Call) -> bool:
    """Whether a call reads or writes a text file in the encoding of the locale."""
    name = getattr(node.func, "attr", getattr(node.func, "id", ""))
    if any(keyword.arg == "encoding" for keyword in node.keywords):
        return False
    if name in ("read_text", "write_text"):
        return len(node.args) <= (name == "write_text")
    if name in ("run", "Popen", "check_output"):
        return any(keyword.arg in ("text", "universal_newlines") for keyword in node.keywords)
    if name != "open":
        return False
    of_path = isinstance(node.func, ast.Attribute)
    modes = [*node.args[0 if of_path else 1 :][:1], *(k.value for k in node.keywords if k.arg == "mode")]
    mode = getattr(modes[0], "value", "b") if modes else "r" if of_path and not node.args and not node.keywords else "b"
    return isinstance(mode, str) and set(mode) <= set("rwaxt+")


def test_text_files_are_utf8_in_every_locale() -> None:
    files = [*modules(), *sorted((ROOT / "jobs").rglob("*.py")), *sorted((ROOT / "recipes").glob("*.py"))]
    assert opens_text_without_encoding(ast.parse("Path('x').open('w')", mode="eval").body)
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and opens_text_without_encoding(node):
                pytest.fail(f'{path.relative_to(ROOT)}:{node.lineno}: say encoding="utf-8"')


def test_nothing_unpickles() -> None:
    for path in [*modules(), *sorted((ROOT / "jobs").rglob("*.py"))]:
        text = path.read_text()
        assert "import pickle" not in text, path
        for line in text.splitlines():
            if "torch.load(" in line:
                assert "weights_only=True" in line, f"{path}: {line.strip()}"


def test_public_names_are_listed() -> None:
    for room in ALLOWED:
        init = next(ROOT.glob(f"*/unirna/{room}/__init__.py"))
        tree = ast.parse(init.read_text())
        for node in tree.body:
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
                names = ast.literal_eval(node.value)
                assert len(names) == len(set(names)), room
                break
        else:
            pytest.fail(f"{room} has no __all__")


def test_the_reference_is_made_from_the_docstrings(tmp_path: Path) -> None:
    from unirna import sdk

    command = [sys.executable, "-m", "pdoc", "-d", "google", "-o", str(tmp_path), "unirna.sdk"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "Warn" not in done.stderr, done.stderr
    page = (tmp_path / "unirna" / "sdk.html").read_text()
    assert [name for name in sdk.__all__ if f'id="{name}"' not in page] == []


# ---- Markdown ------------------------------------------------------------------------------------------------------

MARKDOWN = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
MARKDOWN_COLUMNS = 100
LINK = re.compile(r"(?<=\])\(([^()\s]+)\)")
ONLY_A_LINK = re.compile(r"[\s>*-]*(\[[^\]]*\]\(\S+\)|https?://\S+|<\S+>)[.,;:]?")


def prose(text: str) -> list[tuple[int, str]]:
    """The lines of a Markdown text that are in no fenced code block, with their numbers."""
    found, fence = [], ""
    for number, line in enumerate(text.splitlines(), 1):
        mark = re.match(r"\s*(```+|~~~+)", line)
        if mark and (not fence or mark[1].startswith(fence)):
            fence = "" if fence else mark[1]
        elif not fence:
            found.append((number, line))
    return found


def too_long(text: str) -> list[int]:
    """Numbers of the lines of prose over the limit. A table, and a line that is one link, cannot be wrapped."""
    return [
        number
        for number, line in prose(text)
        if len(line) > MARKDOWN_COLUMNS and not line.lstrip().startswith("|") and not ONLY_A_LINK.fullmatch(line)
    ]


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives the headings of a text."""
    found: set[str] = set()
    for _, line in prose(text):
        if heading := re.match(r"#{1,6}\s+(.*?)\s*#*$", line):
            plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1])
            slug = name = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
            count = 0
            while name in found:
                count += 1
                name = f"{slug}-{count}"
            found.add(name)
    return found


def dead_links(path: Path) -> list[str]:
    """The relative links of a Markdown file that lead to no file, or to no heading of it."""
    found = []
    for number, line in prose(path.read_text(encoding="utf-8")):
        for target in LINK.findall(re.sub(r"`[^`]*`", "", line)):
            if re.match(r"[a-z][a-z+.-]*:", target):
                continue
            name, _, anchor = target.partition("#")
            file = path.parent / name if name else path
            if not file.exists() or (anchor and anchor not in anchors(file.read_text(encoding="utf-8"))):
                found.append(f"line {number}: {target}")
    return found


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda p: str(p.relative_to(ROOT)))
def test_markdown_is_wrapped_and_its_links_lead_somewhere(path: Path) -> None:
    assert too_long(path.read_text(encoding="utf-8")) == [], f"lines over {MARKDOWN_COLUMNS} columns"
    assert dead_links(path) == []


def test_a_long_line_and_a_dead_link_are_found(tmp_path: Path) -> None:
    words = "word " * 30
    link = f"[{'text ' * 25}](https://example.org)"
    text = f"# A title: `code`\n{words}\n| {words} |\n```\n{words}\n```\n- {link}\n{link} and more\n"
    assert too_long(text) == [2, 8]
    (tmp_path / "there.md").write_text("# One\n## Two\n### Two\n```\n# Code\n```\n", encoding="utf-8")
    good = "[a](there.md) [b](there.md#two) [c](there.md#two-1) [d](#a-title-code) [e](https://example.org/x) `[f](no.md)`"
    bad = "[a](absent.md) [b](there.md#three) [c](#title) [d](there.md#code)"
    page = tmp_path / "page.md"
    page.write_text(f"# A title: `code`\n{good}\n{bad}\n", encoding="utf-8")
    assert dead_links(page) == [
        f"line 3: {target}" for target in ("absent.md", "there.md#three", "#title", "there.md#code")
    ]
