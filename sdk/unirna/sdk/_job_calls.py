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
from unirna.sdk._files import read_bytes, read_text, shown
from unirna.sdk._job_inputs import KINDS, look_at

Records = str | os.PathLike[str] | Mapping[str, str] | Iterable[tuple[str, str]]
"""Sequences: the path of a FASTA, FASTQ, CSV or TSV file, or pairs of identifier and sequence."""
Facts = dict[str, Any]
"""What `JobFacts` holds."""


def embed(
    records: Records | None, collection: str, file: str | None, name: str, parameters: Mapping[str, Any]
) -> Steps[Facts]:
    given = {"input": _input(records, file, parameters)}
    return _submit("embed", name, {"collection": collection, **parameters}, given)


def screen(
    library: Records | None,
    similar_to: Records | None,
    predict: Sequence[str],
    top: int,
    file: str | None,
    name: str,
    parameters: Mapping[str, Any],
) -> Steps[Facts]:
    given: dict[str, Any] = {"input": _input(library, file, parameters)}
    if similar_to is not None:
        given["references"] = _input(similar_to, None, parameters)
    return _submit("screen", name, {"predict": list(predict), "top": top, **parameters}, given)


def finetune(table: Records | None, task: str, file: str | None, name: str, parameters: Mapping[str, Any]) -> Steps[Facts]:
    given = {"input": _input(table, file, parameters, labelled=True)}
    return _submit("finetune", name, {"task": task, **parameters}, given)


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
            raise InvalidRequestError.of("name", f"expected the name of a file, got {name!r}")
        target = target / name
    return f"{_path(id)}/results/{quote(name, safe='')}", target


def _submit(kind: str, name: str, parameters: Mapping[str, Any], given: Mapping[str, Any]) -> Steps[Facts]:
    if all("file" not in one for one in given.values()):  # its text was decoded here, and is sent as UTF-8
        parameters = {key: value for key, value in parameters.items() if key != "encoding"}
    body = {"kind": kind, "name": name, "parameters": parameters, **given}
    (answer,) = yield [Request("POST", "/v1/jobs", body, headers={"idempotency-key": uuid.uuid4().hex})]
    return _facts(answer)


def _facts(entry: Mapping[str, Any]) -> Facts:
    known = ("id", "kind", "name", "by", "state", "message", "submitted", "started", "ended", "summary", "parameters")
    progress = entry["progress"]
    return {key: entry[key] for key in known} | {"progress": progress["text"], "share": progress["share"]}


def _path(id: str) -> str:
    return f"/v1/jobs/{quote(id, safe='')}"


def _input(
    records: Records | None, file: str | None, parameters: Mapping[str, Any], *, labelled: bool = False
) -> dict[str, str]:
    """The input of a job as the service takes it; a text is looked at first.

    Raises:
        InvalidRequestError: neither or both are given; or a text that the job could not read (`look_at`).
    """
    if (records is None) == (file is None):
        raise InvalidRequestError("expected the sequences, or file=… of the service's folder of inputs: one of them")
    if file is not None:
        return {"file": file}
    if isinstance(records, (str, os.PathLike)):
        kind, text, called = _text(records, str(parameters.get("encoding") or ""))
    else:
        pairs = records.items() if isinstance(records, Mapping) else records
        kind, text, called = "fasta", "".join(f">{name}\n{sequence}\n" for name, sequence in pairs or ()), "the sequences"
    look_at(text, kind, called, parameters, labelled=labelled)
    return {kind: text}


def _text(given: str | os.PathLike[str], encoding: str) -> tuple[str, str, str]:
    """Format, text and name of a file, or of standard input ("-")."""
    path = Path(given)
    kind = KINDS.get(Path(path.stem if path.suffix in (".gz", ".zst") else path.name).suffix.lower(), "")
    if kind == "parquet":
        return "csv", _csv_of(path), str(path)
    try:
        text = read_text(path, encoding)
    except OSError as error:
        said = f"{str(path)[:100]!r} cannot be read ({type(error).__name__})"
        formats = "a FASTA, FASTQ, CSV or TSV file, or pairs of identifier and sequence"
        raise InvalidRequestError(f"{said}: expected the path of {formats}") from error
    return kind or ("fastq" if text.lstrip().startswith("@") else "fasta"), text, shown(path)


def _csv_of(path: Path) -> str:
    try:
        import io

        import pyarrow.csv
        import pyarrow.parquet
    except ImportError as error:
        raise InvalidRequestError(
            f"{path}: Parquet needs pyarrow (pip install pyarrow); or put it into the service's folder of inputs"
        ) from error
    try:
        table = pyarrow.parquet.read_table(io.BytesIO(read_bytes(path)))
        into = io.BytesIO()
        pyarrow.csv.write_csv(table, into)
    except (OSError, pyarrow.ArrowException) as error:
        raise InvalidRequestError(f"{path} cannot be sent as a table of text: {error}") from error
    return into.getvalue().decode()
