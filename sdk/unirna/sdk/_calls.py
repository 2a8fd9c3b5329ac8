"""What each call asks of a service and makes of the answers; once, for clients that wait and those that do not.

A call is a generator: it yields requests that may run beside one another, is sent their answers in the same order, and
returns the result. `Client` and `AsyncClient` drive it.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from importlib.util import find_spec
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote, urlencode

from unirna.sdk._answers import (
    collection_infos,
    made,
    map_result,
    model_infos,
    prediction_result,
    search_result,
    search_results,
    structures,
    variant_result,
)
from unirna.sdk._exceptions import InvalidRequestError, UniRNAError
from unirna.sdk._models import CollectionInfo, ModelInfo, Record, Structure
from unirna.sdk._results import MapResult, PredictionResult, SampleResult, SearchResult, SearchResults, VariantResult

if TYPE_CHECKING:  # numpy takes longer to import than all of this package, and a search by sequence needs none of it
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

CHUNK_SEQUENCES: Final = 64
CHUNK_NUCLEOTIDES: Final = 200_000
FOLD_COST: Final = 1_000**3
"""Cubes of the lengths of the sequences that are folded by one request."""
ARROW: Final = "application/vnd.apache.arrow.stream"
Result = TypeVar("Result")
Prior = float | Mapping[str, float]
"""A share for all labels, or a share for each class or label that is named."""


@dataclass(frozen=True)
class Request:
    """A request to a service.

    Attributes:
        method, path, body: as they are sent, the body as JSON.
        first: index of the body's first sequence among the caller's. count: sequences in the body.
        read: makes of the answer what the call is sent. headers: further ones.
    """

    method: str
    path: str
    body: Mapping[str, Any] | None = None
    first: int = 0
    count: int = 0
    read: Callable[[Any], Any] = lambda answer: answer
    headers: Mapping[str, str] = field(default_factory=dict)


Steps = Generator[list[Request], list[Any], Result]


def search(
    similar_to: str | None,
    k: int,
    offset: int,
    where: str | None,
    collection: str | None,
    vector: Sequence[float] | Vectors | None,
    id: str | None,
    hybrid: bool,
    verify: bool | None,
) -> Steps[SearchResult]:
    numbers = as_vector(vector)
    asked = {"similar_to": similar_to, "vector": None if numbers is None else numbers.tolist(), "id": id}
    body = _search_body(asked, k, offset, where, collection, hybrid, verify)
    (answer,) = yield [Request("POST", "/v1/search", body)]
    return search_result(answer, hybrid=hybrid or bool(verify))


def search_many(
    sequences: Sequence[str] | Mapping[str, str],
    k: int,
    offset: int,
    where: str | None,
    collection: str | None,
    hybrid: bool,
    verify: bool | None,
) -> Steps[SearchResults]:
    named = isinstance(sequences, Mapping)
    texts = list(sequences.values()) if isinstance(sequences, Mapping) else as_list(sequences)
    if not texts:
        raise InvalidRequestError.of("queries", "expected at least one sequence, got none")
    names = [str(name) for name in sequences] if named else [str(i) for i in range(len(texts))]
    answers = yield [
        Request(
            "POST",
            "/v1/search",
            _search_body({"queries": chunk}, k, offset, where, collection, hybrid, verify),
            first,
            len(chunk),
        )
        for first, chunk in _chunks(texts, whole=False)  # also in process, where progress is shown too
    ]
    return search_results(answers, names, hybrid=hybrid or bool(verify))


def _search_body(
    asked: dict[str, Any],
    k: int,
    offset: int,
    where: str | None,
    collection: str | None,
    hybrid: bool,
    verify: bool | None,
) -> dict[str, Any]:
    """The body of a search; what is not given is left to the service."""
    body = asked | {
        "k": as_count(k),
        "offset": as_count(offset) or None,
        "where": where,
        "collection": collection,
        "hybrid": hybrid or None,
        "verify": verify,
    }
    return {name: value for name, value in body.items() if value is not None}


def embed(sequences: Sequence[str], whole: bool) -> Steps[Vectors]:
    encoding = "arrow" if find_spec("pyarrow") else "base64"
    parts = yield [
        Request("POST", "/v1/embed", {"sequences": chunk, "encoding": encoding}, first, len(chunk), _vectors)
        for first, chunk in _chunks(as_list(sequences), whole)
    ]
    import numpy as np

    return np.concatenate(parts)


def _vectors(answer: Any) -> Vectors:
    import numpy as np

    if isinstance(answer, bytes):
        import pyarrow.ipc

        rows = pyarrow.ipc.open_stream(io.BytesIO(answer)).read_all()["vector"].combine_chunks()
        flat: Vectors = np.asarray(rows.flatten(), np.float32)
        return flat.reshape(len(rows), rows.type.list_size)
    if isinstance(answer["vectors"], str):
        raw = np.frombuffer(base64.b64decode(answer["vectors"]), "<f4")
        return raw.reshape(-1, answer["dimension"]).astype(np.float32)
    return np.asarray(answer["vectors"], np.float32)


def predict(
    task: str, sequences: Sequence[str], top: int | None, prior: Prior | None, whole: bool
) -> Steps[PredictionResult]:
    body: dict[str, Any] = {}
    shown = as_count(top)
    if not isinstance(shown, int) or isinstance(shown, bool) or shown <= 0:
        shown = 0
    if top is not None:  # data frames have all labels, whatever is shown
        body["top"] = 0 if shown else as_count(top)
    if prior is not None:
        body["prior"] = (
            {name: as_share(share) for name, share in prior.items()} if isinstance(prior, Mapping) else as_share(prior)
        )
    parts = yield [
        Request(
            "POST",
            f"/v1/predict/{quote(task, safe='')}",
            {"sequences": chunk, **body},
            first,
            len(chunk),
        )
        for first, chunk in _chunks(as_list(sequences), whole)
    ]
    answers = [answer for part in parts for answer in part["predictions"]]
    return prediction_result(answers, task, parts[0], shown)


Constraints = str | Sequence[str | None] | None


def fold(
    sequences: str | Sequence[str], constraint: Constraints, whole: bool, *, contacts: bool, pseudoknots: bool, plot: bool
) -> Steps[list[Structure]]:
    listed = as_list([sequences] if isinstance(sequences, str) else sequences)
    constraints = _constraints(constraint, len(listed), single=isinstance(sequences, str))
    asked: dict[str, Any] = {"drawing": True}
    if contacts:
        asked["contacts"] = True
    if plot:
        asked["plot"] = True
    if not pseudoknots:  # the service's default stays unsaid, so that services of before can be asked
        asked["pseudoknots"] = False
    found: list[Structure] = []
    for first, chunk in _chunks(listed, whole, _fold_cost, FOLD_COST):
        found += yield from _fold_chunk(first, chunk, constraints and constraints[first : first + len(chunk)], asked)
    return found


def _constraints(given: Constraints, count: int, *, single: bool) -> list[str | None] | None:
    if given is None:
        return None
    if single and isinstance(given, str):
        return [given]
    if single or isinstance(given, str) or len(given) != count:
        wanted = "a text, as there is one sequence" if single else f"a list of {count}, one for each sequence"
        got = "a text" if isinstance(given, str) else f"{len(given)}"
        raise InvalidRequestError.of("constraint", f"expected {wanted}; got {got}")
    return list(given)


def _fold_chunk(
    first: int, chunk: list[str], constraints: list[str | None] | None, asked: Mapping[str, Any]
) -> Steps[list[Structure]]:
    """Structures of sequences; in halves where the service finds them too many for one request."""

    body = {"sequences": chunk, **asked}
    if constraints is not None:
        body["constraints"] = constraints
    try:
        (answer,) = yield [Request("POST", "/v1/fold", body, first, len(chunk))]
    except UniRNAError as error:
        if error.status != 413 or len(chunk) == 1:
            raise
        half = len(chunk) // 2
        one = yield from _fold_chunk(first, chunk[:half], constraints and constraints[:half], asked)
        return one + (yield from _fold_chunk(first + half, chunk[half:], constraints and constraints[half:], asked))
    return structures(answer["structures"])


def score_variants(sequence: str, variants: Sequence[str] | None, method: str) -> Steps[VariantResult]:
    body: dict[str, Any] = {"sequence": sequence, "method": method, "drawing": variants is None}
    if variants is not None:
        body["variants"] = as_list(variants)
    (answer,) = yield [Request("POST", "/v1/score-variants", body)]
    return variant_result(answer)


def map(collection: str | None, label: str | None) -> Steps[MapResult]:
    if collection is None:
        collection = yield from _default_collection()
    query = urlencode({"ids": "true"} | ({} if label is None else {"label": label}))
    (answer,) = yield [Request("GET", f"/v1/collections/{quote(collection, safe='')}/map?{query}")]
    return map_result(answer)


def models() -> Steps[list[ModelInfo]]:
    (answer,) = yield [Request("GET", "/v1/models")]
    return model_infos(answer)


def model_card(name: str) -> Steps[str]:
    return (yield from _model_file(name, "card"))


def model_plot(name: str) -> Steps[str]:
    return (yield from _model_file(name, "plot"))


def _model_file(name: str, what: str) -> Steps[str]:
    (answer,) = yield [Request("GET", f"/v1/models/{quote(name, safe='')}/{what}")]
    text: str = answer.decode()
    return text


def sample(count: int, seed: int, collection: str | None) -> Steps[SampleResult]:
    name = (yield from _default_collection()) if collection is None else collection
    query = urlencode({"count": as_count(count), "seed": as_count(seed)})
    (answer,) = yield [Request("GET", f"/v1/collections/{quote(name, safe='')}/sample?{query}")]
    return SampleResult([made(Record, entry) for entry in answer["records"]], name)


def _default_collection() -> Steps[str]:
    (listed,) = yield [Request("GET", "/v1/collections")]
    if (name := listed["default"]) is None:
        raise InvalidRequestError.of("collection", "there is no default: name one of those that collections() lists")
    return str(name)


def collections() -> Steps[list[CollectionInfo]]:
    (answer,) = yield [Request("GET", "/v1/collections")]
    return collection_infos(answer)


def moved(error: UniRNAError, first: int) -> UniRNAError:
    """The error of a request whose first sequence was the caller's number `first`, in the caller's numbers."""
    if not first:
        return error
    errors = [(_moved(field, first), message) for field, message in error.errors]
    detail = f"{errors[0][0]}: {errors[0][1]}" if errors else error.detail
    return type(error)(detail, status=error.status, errors=errors, request_id=error.request_id)


def _moved(field: str, first: int) -> str:
    """`sequences[3]` of a request whose first sequence was the caller's number `first`."""
    name, bracket, rest = field.partition("[")
    number = rest.rstrip("]")
    return f"{name}[{int(number) + first}]" if bracket and number.isdigit() else field


def _fold_cost(length: int) -> int:
    return int(max(length, 500) ** 3)  # below, other things than the sum over structures take the time


def _chunks(
    sequences: list[str], whole: bool, cost_of: Callable[[int], int] = int, most: int = CHUNK_NUCLEOTIDES
) -> Iterator[tuple[int, list[str]]]:
    """Requests of a size that any service takes, or one: the index of the first sequence, and the sequences."""
    first = size = 0
    for i, sequence in enumerate(sequences):
        cost = cost_of(len(sequence)) if isinstance(sequence, str) else 0
        if not whole and i > first and (i - first == CHUNK_SEQUENCES or size + cost > most):
            yield first, sequences[first:i]
            first, size = i, 0
        size += cost
    yield first, sequences[first:]


def as_vector(vector: Any) -> Vectors | None:
    """A query vector as float32 [H].

    Raises:
        InvalidRequestError: not a list of finite numbers.
    """
    if vector is None:
        return None
    import numpy as np

    try:
        array = np.asarray(vector, np.float32)
    except (TypeError, ValueError) as error:
        raise InvalidRequestError.of("vector", f"expected numbers ({error})") from error
    if array.ndim != 1 or not np.isfinite(array).all():
        raise InvalidRequestError.of("vector", f"expected one list of finite numbers, got shape {list(array.shape)}")
    return array


def as_count(number: Any) -> Any:
    """A numpy integer as a plain one; anything else as it is, for the service to judge."""
    if isinstance(number, bool):
        return number
    return int(number) if isinstance(number, Integral) else number


def as_share(number: Any) -> Any:
    """A numpy number as a plain one; anything else as it is, for the service to judge."""
    if isinstance(number, bool):
        return number
    return float(number) if isinstance(number, Real) else number


def as_list(sequences: Any) -> list[str]:
    """Sequences as a list.

    Raises:
        TypeError: one string, which would be read as a list of single characters; a mapping, whose keys would be read; a
            set, which has no order; or what is no collection at all.
    """
    if isinstance(sequences, (str, bytes)):
        raise TypeError("expected a list of sequences, got one string. Write [sequence]")
    if isinstance(sequences, Mapping):
        raise TypeError("expected a list of sequences, got a mapping. Write list(sequences.values())")
    if isinstance(sequences, Set):
        raise TypeError("expected a list of sequences, got a set, which has no order. Write sorted(sequences)")
    if not isinstance(sequences, Iterable):
        raise TypeError(f"expected a list of sequences, got {type(sequences).__name__}")
    return list(sequences)
