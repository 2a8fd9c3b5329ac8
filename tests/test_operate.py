"""What docs/operate.md tells an operator to do, done."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from unirna import sdk, vectorstore
from unirna.serve.settings import Settings

PAGE = Path(__file__).resolve().parent.parent / "docs" / "operate.md"


def test_a_store_is_backed_up_and_restored(library: Any, tmp_path: Path) -> None:
    snippets = re.findall(r"```bash\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(snippets) == 2
    store, backup, registry = (tmp_path / name for name in ("store", "backup", "registry"))
    for name in ("rfam", "other"):
        vectorstore.copy(library.store, name, str(store))
    shutil.copytree(library.registry, registry)
    backup.mkdir()
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": programs, "STORE": str(store), "BACKUP": str(backup), "REGISTRY": str(registry)}

    def run(script: str) -> None:
        done = subprocess.run(["bash", "-euc", script], env=env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr

    def hits() -> list[tuple[str, float]]:
        with sdk.connect(store, model=library.model, registry=registry, collection="rfam") as client:
            return [(hit.id, hit.similarity) for hit in client.search(library.heldout[0]["sequence"], k=20)]

    before = hits()
    run(snippets[0])
    assert vectorstore.list_collections(str(backup / "store")) == ["other", "rfam"]
    assert sorted(p.name for p in (backup / "predictors").iterdir()) == sorted(p.name for p in registry.iterdir())
    vectorstore.delete(str(store), "rfam", f"id = '{before[0][0]}'")  # a mishap
    assert hits() != before
    run(snippets[1])
    assert hits() == before


def test_the_unit_sets_what_there_is() -> None:
    text = PAGE.read_text()
    given = dict(re.findall(r"UNIRNA_([A-Z_]+)=(\S+)", re.search(r"```ini\n(.*?)```", text, re.DOTALL)[1]))  # type: ignore[index]
    settings = Settings.from_environment({f"UNIRNA_{name}": value for name, value in given.items()})
    assert set(map(str.lower, given)) <= set(vars(settings)) and settings.log_requests is True
    settings.check()
