"""Stages of numbered units: each unit is done here or on a Ray cluster, and its result recorded once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from unirna.base.failures import raise_told, tell
from unirna.runs.storage import Folder

Spread = Callable[[Callable[[int], None], Sequence[int]], Iterable[int]]
"""Calls a function for each number, in any order; gives each number once its call has ended."""
READERS: Final = 16
"""Results that are read at once: each is a small file, in object storage a request."""


def inline(function: Callable[[int], None], numbers: Sequence[int]) -> Iterator[int]:
    """Call a function for each number, in this process, in order."""
    for number in numbers:
        function(number)
        yield number


def on_ray(function: Callable[[int], None], numbers: Sequence[int]) -> Iterator[int]:
    """Call a function for each number in Ray Data tasks of one core each; no result comes back.

    One number alone is done in this process: a worker would take longer to start than a unit takes.

    Raises:
        JobError, ValueError, OSError: as the function raised them (`tell`).
    """
    if len(numbers) == 1:
        yield from inline(function, numbers)
        return
    import ray.data

    def one(row: dict[str, Any]) -> dict[str, Any]:
        try:
            function(row["item"])
        except Exception as error:
            return {"number": row["item"], "failure": tell(error)}
        return {"number": row["item"], "failure": ""}

    data = ray.data.from_items(list(numbers), override_num_blocks=len(numbers))
    for batch in data.map(one, num_cpus=1).iter_batches(batch_size=1, prefetch_batches=0):
        raise_told(str(batch["failure"][0]))
        yield int(batch["number"][0])


def run_stage(
    folder: Folder,
    name: str,
    count: int,
    unit: Callable[[int], Mapping[str, Any]],
    *,
    spread: Spread = inline,
    report: Callable[[Sequence[int]], None] | None = None,
) -> list[dict[str, Any]]:
    """Do the units of a stage that are not done yet.

    The result of a unit is `<name>/<number>.json`, written when the unit is done, by the process that did it. A unit
    that was killed on the way is done again, so it must write the same files again.

    Args:
        folder: of the run. name: of the stage, a folder in it. count: of its units.
        unit: does a unit; gives what is to be recorded of it.
        spread: runs units, as `inline` or `on_ray`.
        report: told the numbers of the units that are done: first those of an earlier run, then each. Not called where
            nothing is left to do.

    Returns:
        The results of all units, in order.
    """
    known = {int(number) for number in folder.names(name, "json")} & set(range(count))
    todo = [number for number in range(count) if number not in known]

    def do(number: int) -> None:
        folder.write_json(f"{name}/{number:06d}.json", unit(number))

    if todo:
        report = report or (lambda numbers: None)
        report(sorted(known))
        for number in spread(do, todo):
            report([number])
    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(lambda number: folder.read_json(f"{name}/{number:06d}.json"), range(count)))
