"""The client that waits for its answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar, overload

from unirna.sdk import _calls
from unirna.sdk._calls import Request, Steps
from unirna.sdk._exceptions import UniRNAError
from unirna.sdk._jobs import Jobs, Service
from unirna.sdk._models import CollectionInfo, ModelInfo, Structure
from unirna.sdk._progress import Progress
from unirna.sdk._results import (
    FoldResult,
    MapResult,
    PredictionResult,
    SampleResult,
    SearchResult,
    SearchResults,
    VariantResult,
)

if TYPE_CHECKING:
    from unirna.sdk._calls import Prior, Vectors

Result = TypeVar("Result")


class Transport(Protocol):
    """What answers the requests of a call."""

    whole: bool
    """Whether a call makes one request, however much it asks for."""

    def answers(self, requests: Sequence[Request], done: Any) -> list[Any]:
        """Answers in the order of the requests."""

    def service(self) -> Service:
        """What jobs need."""

    def close(self) -> None:
        """Let go of connections."""


class Client:
    """Searches, embeds, predicts, folds; made by `connect`. The same over HTTP and in process. May be used as a context."""

    def __init__(self, transport: Transport, collection: str | None = None, progress: bool | None = None) -> None:
        self._transport, self._collection, self._progress = transport, collection, progress

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._transport!r})"

    def search(
        self,
        similar_to: str | None = None,
        *,
        k: int = 10,
        offset: int = 0,
        where: str | None = None,
        collection: str | None = None,
        vector: Sequence[float] | Vectors | None = None,
        id: str | None = None,
        hybrid: bool = False,
        verify: bool | None = None,
    ) -> SearchResult:
        """The k stored sequences most similar to a sequence.

        Args:
            similar_to: RNA or DNA, upper or lower case; or instead
            vector: the vector [H] of one, from `embed`; or
            id: the id of a stored sequence, which will be its own first hit.
            k: number of hits. offset: hits to skip first.
            where: SQL condition on the collection's columns, such as "length < 200 AND rna_type = 'Gene;tRNA'".
            collection: which; by default the service's.
            hybrid: search by shared 8-mers as well as by the vector, without alignment; each hit says what found it.
            verify: search so, rank the best by their alignment, and give identity, coverage and CIGAR. None does it for
                sequences of up to 2,000 nucleotides where the collection's k-mers fit in memory and `hybrid` is not
                asked for; False searches by the vector alone. The result's `aligned` says what was done.

        Raises:
            InvalidRequestError: an argument that is not valid; `field` names it.
            NotFoundError: an unknown collection or id.
            ModelMismatchError: a collection of another model.
            UniRNAError: any other failure.
        """
        where_to = collection or self._collection
        return self._run(_calls.search(similar_to, k, offset, where, where_to, vector, id, hybrid, verify))

    def search_many(
        self,
        sequences: Sequence[str] | Mapping[str, str],
        *,
        k: int = 10,
        offset: int = 0,
        where: str | None = None,
        collection: str | None = None,
        hybrid: bool = False,
        verify: bool | None = None,
    ) -> SearchResults:
        """The k stored sequences most similar to each of several sequences; any number of them.

        They are sent in requests of up to 64, which is much faster than one `search` for each.

        Args:
            sequences: RNA or DNA, either case; or name -> sequence.
            k: hits of each.
            offset: hits of each to pass over first.
            where, collection, hybrid, verify: as for `search`.

        Returns:
            One `SearchResult` for each sequence, in their order. A sequence that is not RNA or DNA, or too long, has no
            hits and an `error`; the others are searched.

        Raises:
            InvalidRequestError: an argument that is not valid, or no sequence at all.
            NotFoundError: an unknown collection.
            ModelMismatchError: a collection of another model.
            UniRNAError: any other failure.
        """
        where_to = collection or self._collection
        return self._run(_calls.search_many(sequences, k, offset, where, where_to, hybrid, verify))

    def embed(self, sequences: Sequence[str]) -> Vectors:
        """One vector per sequence: float32 [N, H], in their order; any number of sequences.

        Raises:
            InvalidRequestError: sequences that are not RNA or DNA, or too long; `errors` names them by index.
            UniRNAError: any other failure.
        """
        return self._run(_calls.embed(sequences, self._transport.whole))

    def predict(
        self, task: str, sequences: Sequence[str], *, top: int | None = None, prior: Prior | None = None
    ) -> PredictionResult:
        """The most probable class of each sequence, its labels, or its value.

        A sequence that is not what the predictor takes has `applicable` False, the reason, and no answer.

        Args:
            task: name of a predictor; `models` lists them.
            sequences: RNA or DNA, either case; any number.
            top: how many classes or labels to give probabilities of, 0 for all; by default all of up to 20 classes, else 5,
                and all labels. Data frames always have all labels.
            prior: prevalence that the probabilities are to hold for, instead of that of the training data (`base_rates`): a
                share for all labels, or a share for each class or label that is named, as {"tRNA": 0.01}.

        Raises:
            NotFoundError: an unknown task.
            InvalidRequestError: sequences, `top` or `prior` that are not valid.
            UniRNAError: any other failure.
        """
        return self._run(_calls.predict(task, sequences, top, prior, self._transport.whole))

    @overload
    def fold(  # type: ignore[overload-overlap]
        self,
        sequences: str,
        *,
        contacts: bool = False,
        pseudoknots: bool = True,
        constraint: str | None = None,
        plot: bool = False,
    ) -> Structure: ...
    @overload
    def fold(
        self,
        sequences: Sequence[str],
        *,
        contacts: bool = False,
        pseudoknots: bool = True,
        constraint: Sequence[str | None] | None = None,
        plot: bool = False,
    ) -> FoldResult: ...
    def fold(
        self,
        sequences: str | Sequence[str],
        *,
        contacts: bool = False,
        pseudoknots: bool = True,
        constraint: str | Sequence[str | None] | None = None,
        plot: bool = False,
    ) -> Structure | FoldResult:
        """The secondary structure of a sequence, or of each of several.

        Args:
            sequences: RNA or DNA, either case.
            contacts: also say which nucleotides are close in space.
            pseudoknots: add helices that cross the nested structure.
            constraint: what the structure has to satisfy, one character per nucleotide as in ViennaRNA: `.` free, `x`
                unpaired, `|` paired, `<` paired with a later nucleotide, `>` with an earlier one, `(` and `)` paired with
                each other. For a list of sequences a list of them, None for none.
            plot: also give a plot of the pair probabilities.

        Returns:
            Of one text its `Structure`, of a list a `FoldResult` in its order.

        Raises:
            InvalidRequestError: sequences that are not RNA or DNA, or too long, or constraints that are not valid or that
                no structure satisfies; `errors` names them by index.
            UniRNAError: any other failure.
        """
        whole = self._transport.whole
        steps = _calls.fold(sequences, constraint, whole, contacts=contacts, pseudoknots=pseudoknots, plot=plot)
        found = self._run(steps)
        return found[0] if isinstance(sequences, str) else FoldResult(found)

    def score_variants(
        self, sequence: str, variants: Sequence[str] | None = None, *, method: str = "masked"
    ) -> VariantResult:
        """How much more or less likely the language model finds variants of a sequence.

        Args:
            sequence: RNA or DNA, upper or lower case.
            variants: such as "A10G" (places from 1), or "G3C+C70G" for several substitutions at once; None for all single
                ones, with a heat map.
            method: "masked" hides the sites of a variant; "pseudo-likelihood" compares whole sequences, which takes longer.

        Raises:
            InvalidRequestError: a sequence or variants that are not valid, or too much work; `errors` names them by index.
            UniRNAError: any other failure.
        """
        return self._run(_calls.score_variants(sequence, variants, method))

    def map(self, collection: str | None = None, *, label: str | None = None) -> MapResult:
        """Places of a collection's rows on a plane, if a map was made of it (`unirna collections map`).

        Args:
            collection: which; by default the service's.
            label: a column whose values are to come along.

        Raises:
            NotFoundError: no such collection, or it has no map.
            InvalidRequestError: a label that is no column; no collection named where there is no default.
            UniRNAError: any other failure.
        """
        return self._run(_calls.map(collection or self._collection, label))

    def models(self) -> list[ModelInfo]:
        """The encoder, then the predictors."""
        return self._run(_calls.models())

    def model_card(self, name: str) -> str:
        """The card of a predictor: what it is, its verdict and what was measured, as Markdown.

        Args:
            name: of the predictor; `models` lists them.

        Raises:
            NotFoundError: no predictor of that name.
        """
        return self._run(_calls.model_card(name))

    def model_plot(self, name: str) -> str:
        """Predicted against true values of the test rows of a predictor of values, as SVG.

        Args:
            name: of the predictor; `models` lists them.

        Raises:
            NotFoundError: no predictor of that name, or one of classes or labels.
        """
        return self._run(_calls.model_plot(name))

    def sample(self, count: int = 10, *, seed: int = 0, collection: str | None = None) -> SampleResult:
        """Stored sequences chosen at random, each once, in the collection's order.

        Args:
            count: how many, at most 1,000; all if there are fewer.
            seed: of the choice; the same gives the same as long as the collection is not changed.
            collection: which; by default the service's.

        Raises:
            NotFoundError: an unknown collection. InvalidRequestError: a count that is none.
            UniRNAError: any other failure.
        """
        return self._run(_calls.sample(count, seed, collection or self._collection))

    def collections(self) -> list[CollectionInfo]:
        """The collections that can be searched, by name."""
        return self._run(_calls.collections())

    @property
    def jobs(self) -> Jobs:
        """The jobs of a service: `jobs.embed`, `jobs.screen`, `jobs.finetune`, `jobs.list`, `jobs.get`.

        Raises:
            InvalidRequestError: a client of a store, which has none.
        """
        self._transport.service()
        return Jobs(lambda: self)

    def close(self) -> None:
        """Let go of connections."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _run(self, steps: Steps[Result]) -> Result:
        try:
            requests = next(steps)
            while True:
                try:
                    with Progress(sum(request.count for request in requests), self._progress) as progress:
                        answers = self._transport.answers(requests, progress.add)
                except UniRNAError as error:
                    requests = steps.throw(error)
                else:
                    requests = steps.send(answers)
        except StopIteration as end:
            result: Result = end.value
            return result
