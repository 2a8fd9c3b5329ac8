"""Runs the command of a job that a service submitted, and keeps what became of it in the job's own folder.

    python -m unirna.job.submitted FOLDER ATTEMPT [ADDRESS]

`command.json` there is the command as a list of words; no shell sees it. What it says goes to `log.txt`, its summary to
`summary.json`, and `started-ATTEMPT.json` and `ended-ATTEMPT.json` say when, so that the folder tells all of it when the
cluster is gone. ADDRESS is that of the cluster: Ray 2.60 tells a job the newest one of the machine, which may be another.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PROGRESS_SECONDS = 2
"""Between lines of progress: someone may be watching."""
ALIVE_SECONDS = 5
"""Between signs of life, the time of the file `alive-ATTEMPT`."""


def main(folder: Path, attempt: int, address: str = "") -> int:
    """Run it; gives its exit code."""
    for number in (signal.SIGTERM, signal.SIGINT):  # the command gets them too; what it says of them is kept
        signal.signal(number, lambda *_: None)
    log = folder / "log.txt"
    note(folder / f"started-{attempt}.json", {"log_from": log.stat().st_size if log.exists() else 0})
    code = 75
    wanted = (folder / f"submitted-{attempt}.json").exists()  # else the service thinks that the cluster did not take it
    overtaken = (folder / f"submitted-{attempt + 1}.json").exists()  # it was taken for lost, and resumed elsewhere
    if wanted and not overtaken and not (folder / f"cancelled-{attempt}.json").exists():
        env = {name: value for name, value in os.environ.items() if name not in ("UNIRNA_API_KEY", "UNIRNA_KEYS_FILE")}
        env |= {"RAY_ADDRESS": address} if address else {}
        env["UNIRNA_PROGRESS_SECONDS"] = str(PROGRESS_SECONDS)
        command = json.loads((folder / "command.json").read_text(encoding="utf-8"))
        with log.open("ab") as stderr, (folder / "summary.json").open("wb") as stdout:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, env=env)
            while True:
                (folder / f"alive-{attempt}").touch()
                try:
                    code = process.wait(ALIVE_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    continue
    note(folder / f"ended-{attempt}.json", {"code": code})
    return code if code >= 0 else 128 - code


def note(path: Path, facts: dict[str, Any]) -> None:
    """Write facts and the time, beside their place and renamed."""
    beside = path.with_name(f".{path.name}.tmp")
    beside.write_text(json.dumps({"at": datetime.now(UTC).isoformat(timespec="seconds"), **facts}), encoding="utf-8")
    beside.replace(path)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]))
