"""What jobs ask of a service and make of the answers; once, for clients that wait and those that do not (`_calls`)."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from unirna.sdk._calls import Request, Steps
from unirna.sdk._exceptions import InvalidRequestError
from unirna.sdk._files import read_text

Records = str | os.PathLike[str] | Mapping[str, str] | Iterable[tuple[str, str]]
"""Sequences: the path of a FASTA or CSV file, or pairs of id and letters."""
Facts = dict[str, Any]
"""What `JobFacts` holds."""


def embed(
    records: Records | None, collection: str, file: str | None, name: str, parameters: Mapping[str, Any]
) -> Steps[Facts]:
    return _submit("embed", name, {"collection": collection, **parameters}, {"input": _input(records, file)})


def screen(
    library: Records | None,
    similar_to: Records | None,
    predict: Sequence[str],
    top: int,
    file: str | None,
    name: str,
    parameters: Mapping[str, Any],
) -> Steps[Facts]:
    given: dict[str, Any] = {"input": _input(library, file)}
    if similar_to is not None:
        given["references"] = _input(similar_to, None)
    return _submit("screen", name, {"predict": list(predict), "top": top, **parameters}, given)


def finetune(table: Records | None, task: str, file: str | None, name: str, parameters: Mapping[str, Any]) -> Steps[Facts]:
    return _submit("finetune", name, {"task": task, **parameters}, {"input": _input(table, file)})


def listed(limit: int) -> Steps[list[Facts]]:
    (answer,) = yield [Request("GET", f"/v1/jobs?limit={int(limit)}")]
    return [_facts(entry) for entry in answer["jobs"]]


def one(id: str, change: str = "") -> Steps[Facts]:
    """A job, after a change of its state if one is named: cancel or resume."""
    (answer,) = yield [Request("POST", f"{_path(id)}/{change}", {}) if change else Request("GET", _path(id))]
    return _facts(answer)


def log(id: str, lines: int) -> Steps[list[str]]:
    (answer,) = yield [Request("GET", f"{_path(id)}/log?lines={int(lines)}")]
    return [str(line) for line in answer["lines"]]


def results(id: str) -> Steps[list[dict[str, Any]]]:
    (answer,) = yield [Request("GET", f"{_path(id)}/results")]
    return [{"name": entry["name"], "bytes": entry["bytes"]} for entry in answer["files"]]


def download(id: str, name: str, to: str | os.PathLike[str]) -> tuple[str, Path]:
    """The path of a request for a file that a job made, and the file to write."""
    target = Path(to)
    if target.is_dir():
        if Path(name).name != name:
            raise InvalidRequestError.of("name", f"wanted the name of a file, got {name!r}")
        target = target / name
    return f"{_path(id)}/results/{quote(name, safe='')}", target


def _submit(kind: str, name: str, parameters: Mapping[str, Any], given: Mapping[str, Any]) -> Steps[Facts]:
    body = {"kind": kind, "name": name, "parameters": parameters, **given}
    (answer,) = yield [Request("POST", "/v1/jobs", body, headers={"idempotency-key": uuid.uuid4().hex})]
    return _facts(answer)


def _facts(entry: Mapping[str, Any]) -> Facts:
    known = ("id", "kind", "name", "by", "state", "message", "submitted", "started", "ended", "summary", "parameters")
    progress = entry["progress"]
    return {key: entry[key] for key in known} | {"progress": progress["text"], "share": progress["share"]}


def _path(id: str) -> str:
    return f"/v1/jobs/{quote(id, safe='')}"


def _input(records: Records | None, file: str | None) -> dict[str, str]:
    """The input of a job as the service wants it."""
    if (records is None) == (file is None):
        raise InvalidRequestError("wanted the sequences, or file=… for one of the service's folder of inputs: one of them")
    if file is not None:
        return {"file": file}
    if isinstance(records, (str, os.PathLike)):
        path = Path(records)
        kind = Path(path.stem if path.suffix == ".gz" else path.name).suffix
        if kind in (".parquet", ".tsv", ".fastq", ".fq"):
            raise InvalidRequestError(f"{path}: wanted a FASTA or CSV file; others go into the service's folder of inputs")
        return {"csv" if kind == ".csv" else "fasta": _text(path)}
    pairs = records.items() if isinstance(records, Mapping) else records
    return {"fasta": "".join(f">{name}\n{letters}\n" for name, letters in pairs or ())}


def _text(path: Path) -> str:
    try:
        return read_text(path)
    except OSError as error:
        shown = f"{str(path)[:100]!r} cannot be read ({type(error).__name__})"
        raise InvalidRequestError(f"{shown}: wanted the path of a FASTA or CSV file, or pairs of id and letters") from error
