"""The scripts of `jobs/` as subcommands, in a checkout and in an installed package alike."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Final

from unirna.sdk._output import say

SCRIPTS: Final = {"serve": "serve.py", "screen": "screen.py"}


def find_scripts() -> Path:
    """The folder of the jobs' scripts.

    Raises:
        FileNotFoundError: it is neither in this package nor beside it.
    """
    here = Path(__file__).resolve()
    for folder in (here.parents[1] / "jobs", here.parents[3] / "jobs"):
        if (folder / "embed.py").is_file():
            return folder
    raise FileNotFoundError("the job scripts were not found: reinstall the package, or work in a checkout of it")


def run_script(name: str, arguments: Sequence[str]) -> int:
    """Run a job's script in this process; gives its exit code.

    Raises:
        ImportError: what it needs is not installed.
    """
    spec = spec_from_file_location(f"unirna_{name}", find_scripts() / SCRIPTS[name])
    assert spec is not None and spec.loader is not None
    script = module_from_spec(spec)
    sys.modules[spec.name] = script  # where its dataclasses look for their types
    before = sys.argv
    sys.argv = [f"unirna {name}", *arguments]
    try:
        spec.loader.exec_module(script)
        return int(script.main())
    except ModuleNotFoundError as error:
        say(f'error: unirna {name} needs more than the SDK ({error}): pip install "unirna[platform]"')
        return 1
    except SystemExit as end:
        if isinstance(end.code, str):
            say(end.code)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.argv = before
