"""The input of a job is looked at before it is sent; and every surface has all settings of a job."""

from __future__ import annotations

import re
import warnings
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest
import tyro
from pydantic import TypeAdapter

from unirna import sdk
from unirna.base.job_settings import (
    NOT_OVER_HTTP,
    EmbedConfig,
    FinetuneSettings,
    ScreenConfig,
    setting_texts,
    shared_settings,
)
from unirna.sdk import _cli, _job_calls, _jobs_cli
from unirna.serve.api.job_schemas import (
    EmbedJob,
    EmbedParameters,
    FinetuneJob,
    FinetuneParameters,
    JobInput,
    JobRequest,
    ScreenParameters,
)
from unirna.serve.errors import RequestError
from unirna.serve.jobs.commands import JobEnvironment
from unirna.serve.jobs.commands import command as command_of
from unirna.serve.jobs.inputs import look_at, neutral


def submitted(path: Path, **parameters: Any) -> dict[str, Any]:
    """What the SDK would send."""
    steps = _job_calls.embed(path, "mine", None, "", parameters)
    (request,) = next(steps)
    assert request.body is not None
    return dict(request.body["input"])


def written(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder / name


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("a.fa", "hello world\n", "a.fa is not FASTA: expected a line that starts with '>', got 'hello world'"),
        ("a.txt", "id,sequence\na,ACGU\n", "not FASTA.*A table ends in .csv or .tsv"),
        (
            "a.fa",
            ">a\nACGX\n>b\nAC-GU\n",
            r"none of its first 2 records can be used. record 1 \(a\): protein letter 'X' at pos",
        ),
        ("a.fa", "\n", "holds no sequence"),
        ("a.fq", "@a\nACGU\n+\nII\n", "cut short"),
        ("a.csv", "name,seq\na,ACGU\n", r"has no column 'sequence'. It has: name, seq. .*--sequence-column"),
        ("a.csv", "id;sequence\na;ACGU\n", "separated by semicolons"),
        ("a.tsv", "id\tsequence\na\tMKLV\n", r"the record cannot be used. line 2 \(a\): protein letter 'L' at position 3"),
        ("a.csv", "id,sequence\n", "holds no record"),
    ],
)
def test_an_input_that_a_job_could_not_read_is_not_sent(tmp_path: Path, name: str, text: str, why: str) -> None:
    with pytest.raises(sdk.InvalidRequestError, match=why):
        submitted(written(tmp_path, name, text))


def test_sound_inputs_are_sent_as_they_are(tmp_path: Path) -> None:
    for name, kind, text in (
        ("a.fa", "fasta", ">a\nACGU\n"),
        ("a.fastq", "fastq", "@a\nACGU\n+\nIIII\n"),
        ("a.tsv", "tsv", "id\tsequence\na\tACGU\n"),
        ("a.csv", "csv", "id,sequence\na,ACGU\n"),
    ):
        assert submitted(written(tmp_path, name, text)) == {kind: text}
    path = written(tmp_path, "b.csv", "name,utr\na,ACGU\n")
    assert submitted(path, id_column="name", sequence_column="utr") == {"csv": "name,utr\na,ACGU\n"}
    pq = pytest.importorskip("pyarrow.parquet")
    pa = pytest.importorskip("pyarrow")
    pq.write_table(pa.table({"id": ["a"], "sequence": ["ACGU"]}), tmp_path / "a.parquet")
    assert submitted(tmp_path / "a.parquet") == {"csv": '"id","sequence"\n"a","ACGU"\n'}


def test_what_will_be_rejected_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, "a.fa", ">a\nACGU\n>b\nAC-GU\n>c\nACGX\n")
    with pytest.warns(sdk.RejectedRecordWarning, match=r"reject record 2 \(b\): gap '-' at position 3 \(and 1 more\)"):
        submitted(path)
    with warnings.catch_warnings(record=True) as said:
        submitted(written(tmp_path, "b.fa", ">a\nACGU\n"))
    assert said == []


def test_the_command_names_its_own_flag_without_a_service(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, "table.csv", "name,seq\na,ACGU\n")
    command = ["jobs", "submit-screen", str(path), "--similar-to", str(path), "--url", "http://127.0.0.1:9"]
    assert _cli.main(command) == 2
    assert "has no column 'sequence'. It has: name, seq. Name the right one" in (said := capsys.readouterr().err)
    assert "--sequence-column" in said
    with pytest.raises(SystemExit):
        _cli.main(["jobs", "submit-screen", "--help"])
    assert "--sequence-column" in capsys.readouterr().out


SURFACES = [
    (EmbedConfig, _jobs_cli.SubmitEmbed, EmbedParameters),
    (ScreenConfig, _jobs_cli.SubmitScreen, ScreenParameters),
    (FinetuneSettings, _jobs_cli.SubmitFinetune, FinetuneParameters),
]


def plain(default: Any) -> Any:
    return list(default) if isinstance(default, tuple) else default


@pytest.mark.parametrize(("settings", "command", "schema"), SURFACES)
def test_script_request_and_submission_have_the_same_settings(settings: Any, command: Any, schema: Any) -> None:
    script = {one.name: one for one in fields(settings)}
    assert set(script) - set(schema.model_fields) <= set(NOT_OVER_HTTP)
    flags = {one.name: one for one in fields(command)}
    for name, setting in schema.model_fields.items():
        assert setting.description == setting_texts(settings)[name] != ""
        if name not in ("collection", "task"):  # a request must name what it makes
            assert plain(script[name].default) == setting.default == plain(flags[name].default), name
        else:
            assert setting.is_required() and flags[name].default is MISSING
    assert not set(schema.model_fields) & set(NOT_OVER_HTTP)


def test_every_setting_that_is_kept_from_http_exists() -> None:
    known = {one.name for settings, _, _ in SURFACES for one in fields(settings)}
    assert set(NOT_OVER_HTTP) <= known and all(NOT_OVER_HTTP.values())


@pytest.mark.parametrize(("settings", "command", "schema"), SURFACES)
def test_every_setting_reaches_the_script(settings: Any, command: Any, schema: Any, tmp_path: Path) -> None:
    changed: dict[str, Any] = {}
    for name, (kind, default, _) in shared_settings(settings).items():
        text = str(kind)
        changed[name] = (
            [f"{name}=x", "b c"]
            if "tuple" in text
            else re.findall("'(.*?)'", text)[-1]
            if "Literal" in text
            else (not default)
            if "bool" in text
            else 0.3
            if "float" in text
            else 7
            if "int" in text
            else f"-{name} x"
            if name not in ("collection", "task")
            else name
        )
    kind = schema.__name__.removesuffix("Parameters").lower()
    request = {"kind": kind, "parameters": changed, "input": {"csv": "id,sequence"}}
    job = TypeAdapter(JobRequest).validate_python(request)
    place = JobEnvironment("python", tmp_path, "store", "registry", "model")
    config = tyro.cli(settings, args=command_of(job, place, [tmp_path / "in.csv"], tmp_path)[2:])
    assert {name: plain(getattr(config, name)) for name in changed} == changed
    assert (config.model, config.workers) == ("model", 1)


def test_a_table_in_another_encoding_is_sent_as_utf8(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("id,sequence,wo\na,ACGU,Köln\n".encode("latin-1"))
    (request,) = next(_job_calls.embed(path, "mine", None, "", {"encoding": "latin-1", "level": "sequence"}))
    assert request.body is not None and "Köln" in request.body["input"]["csv"]
    assert request.body["parameters"] == {"collection": "mine", "level": "sequence"}
    (request,) = next(_job_calls.embed(None, "mine", "on_the_server.csv", "", {"encoding": "latin-1"}))
    assert request.body is not None and request.body["parameters"]["encoding"] == "latin-1"


def test_the_service_reads_files_in_their_encoding_and_texts_as_utf8(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("id,sequence,wo\na,ACGU,Köln\n".encode("latin-1"))
    job = EmbedJob(
        kind="embed", parameters=EmbedParameters(collection="c", encoding="latin-1"), input=JobInput(file="a.csv")
    )
    look_at(job, "input", "file", path)
    with pytest.raises(RequestError, match="UTF-8"):
        look_at(job, "input", "csv", "id,sequence\na,ACGU\n")
    job = EmbedJob(
        kind="embed", parameters=EmbedParameters(collection="c", column_type=["wo=word"]), input=JobInput(file="a")
    )
    with pytest.raises(RequestError, match="column_type wo=word: expected NAME=TYPE"):
        look_at(job, "input", "file", path)


def embed_job(**given: str) -> EmbedJob:
    return EmbedJob(kind="embed", parameters=EmbedParameters(collection="c"), input=JobInput(**given))


def test_the_service_looks_at_files_too(tmp_path: Path) -> None:
    good = written(tmp_path, "good.csv", "id,sequence\na,ACGU\n")
    look_at(embed_job(file="good.csv"), "input", "file", good)
    bad = written(tmp_path, "bad.csv", "name,sequence\na,ACGU\n")
    with pytest.raises(RequestError, match=r"bad.csv has no column 'id'.*id_column") as caught:
        look_at(embed_job(file="bad.csv"), "input", "file", bad)
    assert caught.value.errors[0].field == "parameters.id_column" and str(tmp_path) not in str(caught.value)


def test_messages_name_fields_and_no_flags_of_scripts() -> None:
    assert neutral("Name the right one with --sequence-column") == "Name the right one with sequence_column"


def finetune_job(**parameters: Any) -> FinetuneJob:
    return FinetuneJob.model_validate(
        {"kind": "finetune", "parameters": {"task": "t", **parameters}, "input": {"file": "t.csv"}}
    )


@pytest.mark.parametrize(
    "parameters",
    [{"label_column": "kind"}, {"target_column": "number", "split_column": "split"}, {"label_columns": ["a b", ":c"]}],
)
def test_columns_of_a_table_to_learn_from_are_found(tmp_path: Path, parameters: dict[str, Any]) -> None:
    path = written(tmp_path, "t.csv", "id,sequence,kind,number,split,a b,:c\nx,ACGU,k,1,train,true,false\n")
    look_at(finetune_job(**parameters), "input", "file", path)
    with pytest.raises(RequestError) as refused:
        look_at(finetune_job(label_column="sort"), "input", "file", path)
    assert "t.csv has no column 'sort' (label_column). It has: sequence, id, kind, number, split, a b, :c" in str(
        refused.value
    )
