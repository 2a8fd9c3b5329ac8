"""What can go wrong with a store, each with the names that its user needs."""

from __future__ import annotations

from collections.abc import Sequence


class StoreError(ValueError):
    """A collection that does not exist, was not made by unirna, or whose columns do not fit; the message says what to
    do."""


class ChangedError(StoreError):
    """Somebody else changed a collection while rows were prepared for it: compare with what it holds now, and try again."""


class ForkedError(StoreError):
    """A store used in a process that was forked after the store was used: it would hang. The message says the way out."""


class FilterError(StoreError):
    """A filter that the store cannot read.

    Attributes:
        where: the filter. problem: what the store says of it. columns: the columns that exist.
    """

    def __init__(self, where: str, problem: str, columns: Sequence[str]) -> None:
        self.where, self.problem, self.columns = where, problem, list(columns)
        shown = where if len(where) <= 200 else f"{where[:200]}…"
        super().__init__(
            f"filter {shown!r}: {problem}. Expected an SQL condition on the columns {', '.join(columns)}, "
            'such as "length < 200"; text stands in single quotes, a name with a space or a sign in double quotes'
        )

    def __reduce__(self) -> tuple[type[FilterError], tuple[str, str, list[str]]]:  # survives the way between processes
        return FilterError, (self.where, self.problem, self.columns)


class ModelMismatchError(StoreError):
    """Vectors of one model held against a collection of another.

    Attributes:
        collection: its name. recorded: model and fingerprint that made it. given: those of the other model.
    """

    def __init__(self, collection: str, recorded: tuple[str, str], given: tuple[str, str]) -> None:
        self.collection, self.recorded, self.given = collection, recorded, given
        super().__init__(
            f"collection {collection!r} was made with model {recorded[0]} ({recorded[1]}), got {given[0]} ({given[1]}). "
            "Vectors of two models cannot be compared: use the first model, embed into another collection, or embed this "
            "whole collection again with the second (jobs/embed.py --switch-model)"
        )

    def __reduce__(self) -> tuple[type[ModelMismatchError], tuple[str, tuple[str, str], tuple[str, str]]]:
        return ModelMismatchError, (self.collection, self.recorded, self.given)
