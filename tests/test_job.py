"""What a job tells its user and the shell."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from unirna.job import JobError, run_job


def test_a_summary_is_one_line_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_job(lambda: {"read": 3}) == 0
    assert json.loads(capsys.readouterr().out) == {"read": 3}


def test_what_is_printed_on_the_way_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    def job() -> dict[str, int]:
        print("(raylet) Task submit failed.")  # as Ray does
        return {"read": 3}

    assert run_job(job) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == {"read": 3} and said.err == "(raylet) Task submit failed.\n"


def test_what_the_user_can_fix_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file")

    def fail(error: Exception) -> Any:
        raise error

    for job in (
        lambda: taken.mkdir(parents=True, exist_ok=True),
        lambda: (taken / "within").mkdir(parents=True),
        lambda: tmp_path.write_text("a folder"),
        lambda: fail(JobError(f"{taken} is no library")),
        lambda: fail(ValueError(str(taken))),
        lambda: (taken.with_name("taken, but absent")).read_text(),
    ):
        assert run_job(job) == 2  # type: ignore[arg-type]
        text = capsys.readouterr().err
        assert text.startswith("error: ") and text.count("\n") == 1 and str(tmp_path) in text


def test_a_disk_or_store_that_fails_is_named_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def full() -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/store/c.lance")

    assert run_job(full) == 74
    text = capsys.readouterr().err
    assert "No space left on device: '/store/c.lance'" in text and text.count("\n") == 1
    assert "run the same command again: it goes on" in text


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_a_place_that_cannot_be_written_to_is_named_with_the_way_out(
    number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> Any:
        raise OSError(number, os.strerror(number), "/store/c.lance")

    assert run_job(refuse) == 2
    said = f"error: /store/c.lance: {os.strerror(number)}. Give another path, or change its mode\n"
    assert capsys.readouterr().err == said


def test_what_nobody_expected_comes_with_its_trace(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_job(lambda: {}["absent"]) == 1
    assert "Traceback" in capsys.readouterr().err
