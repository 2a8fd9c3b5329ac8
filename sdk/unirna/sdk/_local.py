"""Requests answered by the service's own engine, in this process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import parse_qsl, unquote

from unirna.sdk._calls import Request
from unirna.sdk._exceptions import ForkedProcessError, InvalidRequestError, NotFoundError, from_problem
from unirna.sdk._process import process_key

if TYPE_CHECKING:
    from unirna.serve.engine.engine import Engine


class LocalTransport:
    """Answers requests from the store at a path or URI; a call makes one, however much it asks for.

    Pickled, it is its arguments; another process opens the store at the first request.

    Args:
        store, model, registry, collection: as `connect` takes them.
        opened: whether to open the store at once, so that its problems show immediately.
    """

    whole = True

    def __init__(
        self, store: str, model: str | None, registry: str | None, collection: str | None, *, opened: bool = True
    ) -> None:
        self.store = store
        self._asked = (store, model, registry, collection)
        self._process = process_key()
        self._lock = threading.Lock()
        self._engine = _open(*self._asked) if opened else None

    def __repr__(self) -> str:
        return repr(self.store)

    def __reduce__(self) -> tuple[Any, tuple[str | None, ...]]:
        return _unopened, self._asked

    def engine(self) -> Engine:
        """What answers.

        Raises:
            ForkedProcessError: it was opened in a process from which this one was forked.
        """
        if self._process != process_key():
            raise ForkedProcessError(_forked(self.store))
        with self._lock:
            if self._engine is None:
                self._engine = _open(*self._asked)
            return self._engine

    def close(self) -> None:
        """Nothing is held open."""

    def service(self) -> NoReturn:
        """There is none.

        Raises:
            InvalidRequestError: always; it says what to do instead.
        """
        raise InvalidRequestError(
            f"jobs need a service, connect('http://…'). Beside a store, run one by hand: jobs/embed.py, jobs/screen.py or "
            f"jobs/finetune.py, such as: python jobs/embed.py FILE --collection NAME --store {self.store}"
        )

    def answers(self, requests: Sequence[Request], done: Any) -> list[Any]:
        """Answers in the order of the requests.

        Raises:
            UniRNAError: as the service would answer.
        """
        from unirna.serve.errors import RequestError

        found = []
        for request in requests:
            try:
                found.append(request.read(self._answer(request.path, dict(request.body or {}))))
            except RequestError as error:
                raise from_problem(error.problem()) from error
            done(request.count)
        return found

    def _answer(self, path: str, body: dict[str, Any]) -> Any:
        engine = self.engine()
        path, _, query = path.removeprefix("/v1/").partition("?")
        match path.split("/"):
            case ["search"]:
                return asdict(engine.search(**body))
            case ["embed"]:
                return {"vectors": engine.embed(body["sequences"])}
            case ["predict", task]:
                return engine.predict(unquote(task), **body)
            case ["fold"]:
                return {"structures": engine.fold(**body, bounded=False)}
            case ["score-variants"]:
                return engine.score_variants(**body)
            case ["models"]:
                return engine.describe_models()
            case ["models", name, "card"]:
                return engine.model_card(unquote(name)).encode()
            case ["models", name, "plot"]:
                return engine.model_plot(unquote(name)).encode()
            case ["collections"]:
                return {"default": engine.catalogue.default(), "collections": engine.catalogue.describe_all()}
            case ["collections", name, "sample"]:
                asked = dict(parse_qsl(query, keep_blank_values=True))
                count, seed = (int(asked[word]) if asked[word].isdigit() else asked[word] for word in ("count", "seed"))
                return {"records": engine.catalogue.sample(unquote(name), count, seed)}  # type: ignore[arg-type]
            case ["collections", name, "map"]:
                return engine.maps.answer(
                    unquote(name), dict(parse_qsl(query, keep_blank_values=True)).get("label"), ids=True
                )
        raise AssertionError(path)


class AsyncLocalTransport:
    """`LocalTransport` in a thread, which leaves the event loop free."""

    whole = True

    def __init__(self, local: LocalTransport) -> None:
        self._local = local

    def __repr__(self) -> str:
        return repr(self._local)

    async def close(self) -> None:
        """Nothing is held open."""

    def service(self) -> NoReturn:
        """As `LocalTransport.service`."""
        self._local.service()

    async def answers(self, requests: Sequence[Request], done: Any) -> list[Any]:
        """As `LocalTransport.answers`."""
        return await asyncio.to_thread(self._local.answers, requests, done)


def _unopened(store: str, model: str | None, registry: str | None, collection: str | None) -> LocalTransport:
    """A transport from a pickle. It opens nothing yet: an error while unpickling would leave a pool waiting."""
    return LocalTransport(store, model, registry, collection, opened=False)


def _forked(store: str) -> str:
    return (
        f"the store {store!r} was used before this process was forked, and its threads are not in this process. Start "
        "processes with multiprocessing.get_context('spawn'), connect in each process and not before the fork, or use a "
        "service: connect('http://…') works in forked processes"
    )


def _open(store: str, model: str | None, registry: str | None, collection: str | None) -> Engine:
    if "://" not in store and not Path(store).is_dir():
        raise NotFoundError(f"no store at {store!r}: not a folder. An address of a service starts with http://")
    try:
        from unirna.serve.engine.engine import Engine
        from unirna.vectorstore import ForkedError
    except ImportError as error:
        raise ImportError(
            f'searching a store in this process needs more than the SDK ({error}): pip install "unirna[platform]"; '
            "or connect to a service, connect('http://…')"
        ) from error
    try:
        # A model that is named is the one to use; else each collection's own is.
        return Engine.open(store, model, registry, default_collection=collection, other_models=int(model is None))
    except ForkedError as error:
        raise ForkedProcessError(_forked(store)) from error
    except ValueError as error:  # all of what can be wrong with a store, a model or a registry
        raise InvalidRequestError(str(error)) from error
