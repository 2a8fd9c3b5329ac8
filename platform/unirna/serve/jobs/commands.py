"""From what was asked to a job's command: a list of words, which no shell sees, and the files that it reads."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from unirna.base.job_settings import flags
from unirna.serve.api.job_schemas import (
    EmbedJob,
    FinetuneJob,
    JobInput,
    ScreenJob,
)
from unirna.serve.errors import bad_field
from unirna.vectorstore import StoreError, check_name

TASK: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class JobEnvironment:
    """Where a job's command works.

    Attributes:
        python: the interpreter. scripts: the folder of jobs/*.py.
        store, registry, model: of the service; the registry may be empty. layer: of the model.
        workers: processes with the model.
    """

    python: str
    scripts: Path
    store: str
    registry: str
    model: str
    layer: int = -1
    workers: int = 1


def check_job(request: EmbedJob | ScreenJob | FinetuneJob, registry: str, tasks: list[str]) -> None:
    """See that a job can be made of what was asked, as far as its command goes.

    Args:
        request: what was asked. registry: of the service, may be empty. tasks: its predictors.

    Raises:
        RequestError: a field that is not valid.
    """
    if isinstance(request, EmbedJob):
        try:
            check_name(request.parameters.collection)
        except StoreError as error:
            raise bad_field("parameters.collection", str(error)) from error
        if len(request.parameters.collection) > 100:
            raise bad_field("parameters.collection", "expected at most 100 characters")
    elif isinstance(request, ScreenJob):
        if not request.parameters.predict and request.references is None:
            raise bad_field("references", "give the criteria for hits: references, parameters.predict, or both")
        for i, text in enumerate(request.parameters.predict):
            task, _, label = text.partition("=")
            if task not in tasks or not label:
                raise bad_field(
                    f"parameters.predict[{i}]",
                    f"expected task=label, the task one of {', '.join(tasks) or 'none'}; got {text!r}",
                )
    else:
        chosen = request.parameters
        if not registry:
            raise bad_field("kind", "this service has no registry for predictors (--registry)")
        if not TASK.fullmatch(chosen.task):
            message = "expected a name of letters, digits, '_', '-' and '.', a letter or digit first, at most 64"
            raise bad_field("parameters.task", message)
        if [bool(chosen.label_column), bool(chosen.label_columns), bool(chosen.target_column)].count(True) != 1:
            raise bad_field("parameters.label_column", "expected one of label_column, label_columns and target_column")


def command(
    request: EmbedJob | ScreenJob | FinetuneJob, place: JobEnvironment, inputs: list[Path], folder: Path
) -> list[str]:
    """The command of a job that was checked.

    Args:
        request: what was asked. place: where it works. folder: the job's own.
        inputs: its input, and the references of a screen.
    """
    script = f"{request.kind}.py"
    words = [place.python, str(place.scripts / script), *flags(request.parameters.model_dump())]
    registry = place.registry or str(folder / "registry")  # without one a screen has the predictors of the package
    theirs: dict[str, Any] = {"model": place.model, "workers": place.workers}
    if isinstance(request, FinetuneJob):
        return [*words, *flags({**theirs, "registry": place.registry, "data": inputs})]
    if isinstance(request, EmbedJob):
        theirs |= {"store": place.store, "layer": place.layer}
    else:
        theirs |= {"out": folder / "results", "registry": registry, "similar_to": inputs[1:]}
    return [*words, *flags(theirs), "--", str(inputs[0])]


def find_input(given: JobInput, inputs_folder: str, field: str) -> tuple[str, str | Path]:
    """The one input that was given: its kind (fasta, fastq, csv, tsv or file), and its text or path.

    Raises:
        RequestError: none or several; a text that is empty; a file that is not in the folder of inputs.
    """
    there = {name: value for name, value in given.model_dump().items() if value is not None}
    if len(there) != 1:
        raise bad_field(
            field, f"expected one of fasta, fastq, csv, tsv and file, got {' and '.join(there) or 'none of them'}"
        )
    ((kind, value),) = there.items()
    if kind == "file":
        return kind, find_file(value, inputs_folder, f"{field}.file")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise bad_field(f"{field}.{kind}", "a lone surrogate is not valid text") from error
    if not value.strip():
        raise bad_field(f"{field}.{kind}", "it is empty")
    return kind, value


def find_file(name: str, inputs_folder: str, field: str) -> Path:
    """A file of the folder of inputs, by its path within it; links are followed, but not out of it.

    Raises:
        RequestError: no folder of inputs (422), a name that leads out of it (422), no such file (404).
    """
    if not inputs_folder:
        raise bad_field(field, "this service has no folder of inputs (--inputs-folder): send the text as fasta or csv")
    parts = name.split("/")
    wanted = "expected the path of a file within the folder of inputs, such as plate1/reads.fasta"
    if not name.isprintable() or set(name) & set("\\*?[]:") or any(part in ("", ".", "..") for part in parts):
        raise bad_field(field, f"{wanted}; got {name[:200]!r}")
    root = Path(inputs_folder).resolve()
    try:
        path = (root / name).resolve(strict=True)
    except (OSError, RuntimeError, ValueError):
        path = None
    if path is None or not path.is_relative_to(root) or not path.is_file():  # one answer: what stands outside is not told
        raise bad_field(field, f"no file {name!r} in the folder of inputs", 404)
    return path
