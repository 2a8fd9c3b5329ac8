"""The HTTP application around an engine. Knows FastAPI, not Ray."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final
from weakref import WeakKeyDictionary, ref

import numpy as np
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request
from fastapi import Path as PathField
from fastapi.responses import FileResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles

from unirna import vectorstore
from unirna.base import PastedError, parse_text
from unirna.job import package_version
from unirna.model import Model
from unirna.serve.api import job_routes, schemas
from unirna.serve.api.application import Application
from unirna.serve.api.middleware import Guard
from unirna.serve.api.problems import answer_errors
from unirna.serve.engine.batcher import Batcher, ConcurrencyLimiter, Embed, SerialExecutor, Vectors
from unirna.serve.engine.engine import Engine
from unirna.serve.engine.folding import Asked
from unirna.serve.engine.limits import Limits
from unirna.serve.engine.predictors import about, answers_of, check_options
from unirna.serve.engine.values import ARROW, arrow_stream
from unirna.serve.errors import RequestError, bad_field
from unirna.serve.jobs.jobs import Jobs
from unirna.serve.keys import Keyring, Rates
from unirna.serve.metrics import CONTENT_TYPE, Metrics
from unirna.serve.settings import Settings
from unirna.tasks.predictor import nucleotides_at_once
from unirna.tasks.table.pairs import distinct
from unirna.vectorstore import ChangedError

LONG_WAITING: Final = 16
"""Requests for structures or variants that may wait for the one before; further ones are asked to come back."""
SEARCHES: Final = 4
"""Searches of one replica at once, behind the embedding of their queries."""
PARSED_RECORDS: Final = 500
"""Sequences of a text that are given back."""
SEARCHES_OF_MANY: Final = 2
"""Searches of several queries at once, beside those of one query, which do not wait for them."""
PROFILE_NUCLEOTIDES: Final = 200_000
PROFILES_AT_ONCE: Final = 2
"""Most nucleotides of one request for values of nucleotides."""
NOTHING: Final[Vectors] = np.zeros((0, 0), np.float32)
STATIC: Final = Path(__file__).parent.parent / "static"
PROBLEM: Final[dict[str, Any]] = {"model": schemas.Problem}
PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    status: PROBLEM | {"description": text}
    for status, text in {
        400: "The body is not JSON",
        401: "No key, or a wrong one",
        403: "A key whose scope does not allow this",
        404: "No such collection, map, predictor or sequence",
        409: "The collection was made with another model, or is the default one",
        413: "The body has too many bytes, or the sequences too many nucleotides",
        422: "A field is not valid; `errors` names it",
        429: "Too busy; Retry-After says when to come back",
    }.items()
}

api = APIRouter(prefix="/v1", responses=PROBLEMS)
pages = APIRouter(include_in_schema=False)
health = APIRouter(tags=["health"])


def _engine(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine


def _batcher(request: Request) -> Batcher:
    batcher: Batcher = request.app.state.batcher
    return batcher


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


EngineOf = Annotated[Engine, Depends(_engine)]
BatcherOf = Annotated[Batcher, Depends(_batcher)]
SettingsOf = Annotated[Settings, Depends(_settings)]


def open_engine(settings: Settings) -> Engine:
    """The engine that these settings describe; errors as `Engine.open`."""
    return Engine.open(
        settings.store,
        settings.model or None,
        settings.registry or None,
        default_collection=settings.collection or None,
        limits=Limits(
            max_sequence_length=settings.max_sequence_length,
            max_k=settings.max_k,
            max_fold_length=settings.max_fold_length,
            max_variant_nucleotides=settings.max_variant_nucleotides,
        ),
        other_models=settings.other_models,
    )


def create_app(
    engine: Engine,
    settings: Settings,
    key_digest: str | None = None,
    jobs: Jobs | None = None,
    embed: Embed | None = None,
    behind_serve: bool = False,
) -> FastAPI:
    """The application.

    Args:
        engine: what answers.
        settings: limits.
        key_digest: SHA-256 of the key that callers must send, None for none.
        jobs: what runs the jobs that are submitted, None for a service that takes none.
        embed: embeds with the service's model, where that is done in other processes.
        behind_serve: whether Ray Serve stands in front, which names requests too.
    """
    app = Application(
        title="UniRNA",
        version=package_version(),
        summary="Search, embed, classify and fold RNA sequences.",
        docs_url=None,  # FastAPI's own page loads its scripts from another site
        redoc_url=None,
        servers=[{"url": settings.root_path}] if settings.root_path else None,
    )
    app.state.engine, app.state.settings, app.state.jobs = engine, settings, jobs
    metrics = app.state.metrics = Metrics()
    metrics.model.labels(engine.model.name, engine.model.fingerprint, package_version()).set(1)
    app.state.batcher = _batcher_of(engine.model, settings, metrics, embed)
    app.state.own_batchers = WeakKeyDictionary()
    app.state.long_requests = SerialExecutor(waiting=LONG_WAITING)
    app.state.profile_limiter = ConcurrencyLimiter(PROFILES_AT_ONCE, LONG_WAITING)
    app.state.searching = ThreadPoolExecutor(
        SEARCHES, thread_name_prefix="search"
    )  # each has threads of its own for products
    app.state.searching_many = ThreadPoolExecutor(SEARCHES_OF_MANY, thread_name_prefix="searches")
    app.include_router(api)
    app.include_router(job_routes.router, responses=PROBLEMS)
    app.include_router(health)
    app.include_router(pages)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    answer_errors(app)
    app.add_middleware(
        Guard,
        keys=Keyring(key_digest, settings.keys_file),
        max_body_bytes=settings.max_body_bytes,
        rates=Rates(settings.max_requests_per_minute),
        metrics=metrics,
        log_requests=settings.log_requests,
        behind_serve=behind_serve,
        root_path=settings.root_path,
    )
    return app


# ---- search, embed, predict --------------------------------------------------------------------------------------------


@api.post(
    "/search",
    response_model=schemas.SearchResponse | schemas.SearchManyResponse,
    summary="The most similar sequences of a collection",
)
async def search(body: schemas.SearchRequest, request: Request, engine: EngineOf, settings: SettingsOf) -> Any:
    """Give a sequence, several, a vector or the id of a stored sequence; hits come back best first. The answer to several
    has `results`, one for each."""
    if len(body.queries or ()) > settings.max_sequences:
        raise _too_many(len(body.queries or ()), settings, "queries")
    many: ThreadPoolExecutor = request.app.state.searching_many
    searching: ThreadPoolExecutor = many if body.queries is not None else request.app.state.searching

    async def find() -> Any:
        plan = await asyncio.to_thread(engine.search.plan, **body.model_dump())
        vectors = await _batcher_for(request, plan.encoder).embed(plan.to_embed) if plan.to_embed else None
        return await asyncio.get_running_loop().run_in_executor(searching, engine.search.run, plan, vectors)

    return await _again_if_changed(find)


@api.post("/parse", response_model=schemas.ParseResponse, summary="The sequences of a text")
def parse(body: schemas.ParseRequest) -> Any:
    """Read text as people paste it, as the page and the command line do; the other operations need plain sequences."""
    try:
        found = parse_text(body.text, id_column=body.id_column, sequence_column=body.sequence_column)
    except PastedError as error:
        raise bad_field("text", str(error)) from error
    problems = sum(bool(record.problem) for record in found.records)
    first = {
        "records": [asdict(one) for one in found.records[:PARSED_RECORDS]],
        "count": len(found.records),
        "problems": problems,
    }
    return {field.name: getattr(found, field.name) for field in fields(found)} | first


@api.post(
    "/embed",
    response_model=schemas.EmbedResponse,
    responses={200: {"content": {ARROW: {"schema": {"type": "string", "format": "binary"}}}}},
    summary="Vectors of sequences",
)
async def embed(body: schemas.EmbedRequest, engine: EngineOf, batcher: BatcherOf, settings: SettingsOf) -> Any:
    """One vector for each sequence: the mean of its nucleotides' hidden states, the same alone or in any batch."""
    vectors = await batcher.embed(_checked(body.sequences, engine, settings))
    model = engine.model
    answer: dict[str, Any] = {"model": model.name, "fingerprint": model.fingerprint, "dimension": model.dimension}
    if body.encoding == "arrow":
        stream = await asyncio.to_thread(arrow_stream, vectors, {name: str(value) for name, value in answer.items()})
        return Response(stream, media_type=ARROW)
    if body.encoding == "base64":
        return answer | {"vectors": base64.b64encode(vectors.astype("<f4").tobytes()).decode()}
    return answer | {"vectors": vectors.tolist()}


@api.post("/predict/{task:path}", response_model=schemas.PredictResponse, summary="Predictions for sequences")
async def predict(
    task: Annotated[str, PathField(description="Name of a predictor.", examples=["rna_type"])],
    body: schemas.PredictRequest,
    request: Request,
    engine: EngineOf,
    batcher: BatcherOf,
    settings: SettingsOf,
) -> Any:
    """The most probable class, or the value, of each sequence, by one of the predictors that /v1/models lists. A sequence
    that the predictor does not take has `applicable: false` and the reason."""
    predictor = await asyncio.to_thread(engine.predictors.get, task)
    sequences = _checked(body.sequences, engine, settings, pairs=predictor.pairs)
    check_options(predictor, body.top, body.prior)
    if predictor.level == "nucleotide" and (size := sum(map(len, sequences))) > PROFILE_NUCLEOTIDES:
        message = f"{size:,} nucleotides; a request for values of nucleotides takes at most {PROFILE_NUCLEOTIDES:,}"
        raise bad_field("sequences", f"{message}. Split it into several requests", 413)
    answer = {"task": task, **about(predictor, body.prior)}
    checks = predictor.check(sequences)
    chosen = [text for text, check in zip(sequences, checks, strict=True) if check.applicable]
    if chosen and not engine.predictors.share_encoder(predictor):
        batcher = _batcher_for(request, await asyncio.to_thread(lambda: predictor.encoder))
    if predictor.level == "nucleotide":
        answers: list[dict[str, Any]] = []
        limiter: ConcurrencyLimiter = request.app.state.profile_limiter  # each holds the rows of its nucleotides
        async with limiter:
            for part in nucleotides_at_once(sequences):
                taken = [check.applicable for check in predictor.check(part)]
                of_those = [text for text, take in zip(part, taken, strict=True) if take]
                found = iter(await batcher.nucleotides(of_those) if of_those else ())
                rows = [next(found) if take else NOTHING for take in taken]
                answers += answers_of(await asyncio.to_thread(predictor.predict_rows, rows, part))
        return {**answer, "predictions": answers}
    vectors = None
    if chosen and predictor.pairs:
        letters, first, second = distinct(chosen)
        of_each = await batcher.embed(letters)
        vectors = of_each[second] - of_each[first]
    elif chosen:
        vectors = await batcher.embed(chosen)
    rows_of_all = predictor.spread(vectors, checks)
    predictions = await asyncio.to_thread(predictor.predict_vectors, rows_of_all, sequences, prior=body.prior)
    return {**answer, "predictions": answers_of(predictions, body.top)}


@api.post("/fold", response_model=schemas.FoldResponse, summary="Secondary structures of sequences")
async def fold(body: schemas.FoldRequest, request: Request, engine: EngineOf, settings: SettingsOf) -> Any:
    """Base pairs of each sequence with their probabilities, pseudoknots included; the same alone or in any request."""
    sequences = _checked(body.sequences, engine, settings)
    engine.folding.check(sequences)
    executor: SerialExecutor = request.app.state.long_requests
    asked = Asked(**body.model_dump(exclude={"sequences"}))
    await asyncio.to_thread(engine.folding.check_constraints, sequences, asked)
    folded = partial(engine.folding.fold, sequences, asked)
    return {"structures": await executor.run(folded)}


@api.post("/score-variants", response_model=schemas.VariantsResponse, summary="Scores of variants of a sequence")
async def score_variants(body: schemas.VariantsRequest, request: Request, engine: EngineOf) -> Any:
    """How much more or less likely the language model finds substitutions: those listed, or all single ones."""
    letters = engine.limits.check_sequence(body.sequence, "sequence")
    await asyncio.to_thread(engine.variants.check, letters, body.variants, body.method)
    executor: SerialExecutor = request.app.state.long_requests
    return await executor.run(partial(engine.variants.score, letters, body.variants, body.method, drawing=body.drawing))


async def _again_if_changed(act: Callable[[], Awaitable[Any]]) -> Any:
    """Repeat once if the collection was switched to another model meanwhile."""
    try:
        return await act()
    except ChangedError:
        return await act()


def _batcher_for(request: Request, encoder: Model) -> Batcher:
    """The queue of an encoder. Those of others than the service's go when the engine lets go of the encoder."""
    if encoder is request.app.state.engine.model:
        return _batcher(request)
    batchers: WeakKeyDictionary[Model, Batcher] = request.app.state.own_batchers
    if encoder not in batchers:
        batchers[encoder] = _batcher_of(encoder, request.app.state.settings, request.app.state.metrics)
    return batchers[encoder]


def _batcher_of(model: Model, settings: Settings, metrics: Metrics, elsewhere: Embed | None = None) -> Batcher:
    budget = model.batch_tokens
    encoder = ref(model)  # who waits holds the model; its queue must not, or it would never go

    def embed(sequences: list[str], nucleotides: list[bool]) -> Sequence[Vectors]:
        size = sum(map(len, sequences))
        metrics.batch(len(sequences), size, size / budget)
        if elsewhere is not None:
            return elsewhere(sequences, nucleotides)
        held = encoder()
        assert held is not None
        return held.embed_each(sequences, nucleotides)

    return Batcher(embed, budget=budget, max_waiting=settings.max_waiting_nucleotides)


def _checked(sequences: list[str], engine: Engine, settings: Settings, *, pairs: bool = False) -> list[str]:
    if len(sequences) > settings.max_sequences:
        raise _too_many(len(sequences), settings, "sequences")
    return (engine.limits.check_pairs if pairs else engine.limits.check_sequences)(sequences)


def _too_many(count: int, settings: Settings, field: str) -> RequestError:
    return bad_field(field, f"{count:,} sequences; a request takes at most {settings.max_sequences:,} (max_sequences)")


# ---- what there is -----------------------------------------------------------------------------------------------------


@api.get("/models", response_model=schemas.ModelsResponse, summary="The encoder and the predictors")
def models(engine: EngineOf) -> Any:
    """The encoder, and the predictors with their measured quality."""
    return engine.describe_models()


@api.get(
    "/models/{name}/card",
    response_class=Response,
    responses={200: {"description": "Markdown", "content": {"text/markdown": {}}}},
    summary="The card of a predictor",
)
def model_card(name: str, engine: EngineOf) -> Response:
    """The card of a predictor as Markdown: training data, verdict and metrics."""
    return Response(engine.model_card(name), media_type="text/markdown; charset=utf-8")


@api.get(
    "/models/{name}/plot",
    response_class=Response,
    responses={200: {"description": "SVG", "content": {"image/svg+xml": {}}}},
    summary="Predicted against true values",
)
def model_plot(name: str, engine: EngineOf) -> Response:
    """Predicted against true values of test rows, as SVG. 404 for predictors of classes or labels."""
    return Response(engine.model_plot(name), media_type="image/svg+xml")


@api.get("/collections", response_model=schemas.CollectionsResponse, summary="The collections of the store")
def collections(engine: EngineOf) -> Any:
    """Every collection with its size, its columns and the model that made it."""
    return {"default": engine.catalogue.default(), "collections": engine.catalogue.describe_all()}


@api.get("/collections/{name}", response_model=schemas.CollectionResponse, summary="One collection")
def collection(name: str, engine: EngineOf) -> Any:
    """A collection, and a few of its sequences to try."""
    return engine.catalogue.describe(engine.catalogue.open(name)) | {"examples": engine.catalogue.examples(name)}


@api.get("/collections/{name}/sample", response_model=schemas.SampleResponse, summary="Some of its sequences")
def sample(
    name: str,
    engine: EngineOf,
    count: Annotated[int, Query(description="Number of sequences, at most 1,000.", json_schema_extra={"minimum": 0})] = 10,
    seed: Annotated[int, Query(description="Random seed of the choice.", json_schema_extra={"minimum": 0})] = 0,
) -> Any:
    """Stored sequences chosen at random, each once; the same for the same seed as long as nothing is changed."""
    return {"records": engine.catalogue.sample(name, count, seed)}


@api.get(
    "/collections/{name}/export",
    response_class=StreamingResponse,
    responses={200: {"description": schemas.EXPORT, "content": {ARROW: {}}}},
    summary="All rows of a collection",
)
def export(
    name: str,
    engine: EngineOf,
    where: Annotated[str | None, Query(description="SQL condition on the collection's columns.")] = None,
) -> StreamingResponse:
    """Ids, sequences, labels and vectors, as they stand in one version; sent while they are read."""
    return StreamingResponse(engine.catalogue.export(name, where), media_type=ARROW)


@api.delete("/collections/{name}", status_code=204, summary="Remove a collection for good")
def drop(
    name: str, engine: EngineOf, confirm: Annotated[str, Query(description="The name of the collection again, to confirm.")]
) -> Response:
    """Remove a collection with its rejects and the vectors of its nucleotides; the default one only when it is the last.
    Needs a key with the scope admin."""
    engine.catalogue.drop(name, confirm)
    return Response(status_code=204)


@api.put("/collections/{name}/default", status_code=204, summary="Make a collection the default")
def set_default(name: str, engine: EngineOf) -> Response:
    """Search this collection where a request names none. Needs a key with the scope admin."""
    engine.catalogue.set_default(name)
    return Response(status_code=204)


@api.get("/collections/{name}/record", response_model=schemas.Record, summary="One stored sequence")
def record(name: str, engine: EngineOf, id: Annotated[str, Query(description="As it stands in the collection.")]) -> Any:
    """A stored sequence with all its labels. The id is a query parameter, since ids may contain slashes."""
    return engine.catalogue.record(name, id)


@api.get(
    "/collections/{name}/map",
    response_class=Response,
    responses={200: {"description": schemas.MAP, "content": {"application/octet-stream": {}}}},
    summary="The map of a collection",
)
def collection_map(
    name: str,
    engine: EngineOf,
    label: Annotated[str | None, Query(description="Column to colour by.")] = None,
    ids: Annotated[bool, Query(description="Also return the ids, after the numbers.")] = False,
) -> Response:
    """Places of up to 200,000 rows on a plane, and their labels. 404 where no map was made."""
    return Response(engine.maps.answer(name, label, ids=ids), media_type="application/octet-stream")


@api.post(
    "/collections/{name}/map/records", response_model=schemas.MapRecordsResponse, summary="Records of points on the map"
)
def map_records(name: str, body: schemas.MapRecordsRequest, engine: EngineOf) -> Any:
    """Stored sequences by their place in the map's answer; those that are gone are left out."""
    return engine.maps.records(name, body.points, body.map)


@api.post("/collections/{name}/map/place", response_model=schemas.MapPlaceResponse, summary="A sequence's place on the map")
async def map_place(name: str, body: schemas.MapPlaceRequest, request: Request, engine: EngineOf) -> Any:
    """The weighted mean of the places of its ten nearest neighbours on the map, and which they are."""

    async def place() -> Any:
        collection, letters, encoder = await asyncio.to_thread(engine.plan_place, name, body.sequence)
        vector = (await _batcher_for(request, encoder).embed([letters]))[0]
        return await asyncio.to_thread(engine.maps.place, collection, vector)

    return await _again_if_changed(place)


@health.get("/healthz", response_model=schemas.Status, summary="The process is alive")
async def healthz() -> Any:
    """Answers as long as the process does."""
    return {"status": "ok"}


@health.get("/readyz", response_model=schemas.Status, responses={503: PROBLEM}, summary="Requests can be answered")
def readyz(engine: EngineOf) -> Any:
    """Answers when the model is loaded and the store can be listed and holds a collection."""
    try:
        there = vectorstore.list_collections(engine.store)
    except OSError as error:
        raise HTTPException(503, "the store cannot be listed") from error
    if not there:
        raise HTTPException(503, "the store holds no collection")
    return {"status": "ok"}


@health.get("/metrics", response_class=Response, summary="Counters for Prometheus")
def metrics(request: Request, engine: EngineOf) -> Response:
    """Requests, latencies, what waits, how full batches are, nucleotides, and the versions of model and collections."""
    counted: Metrics = request.app.state.metrics
    own = [batcher.waiting for batcher in list(request.app.state.own_batchers.values())]
    there = engine.catalogue.describe_all()
    with counted.one_at_a_time:
        counted.waiting.set(request.app.state.batcher.waiting + sum(own))
        counted.rows.clear()
        counted.version.clear()
        for found in there:
            counted.rows.labels(found["name"]).set(found["num_rows"])
            counted.version.labels(found["name"]).set(found["version"])
        return Response(counted.text(), media_type=CONTENT_TYPE)


# ---- pages -------------------------------------------------------------------------------------------------------------


@pages.api_route("/", methods=["GET", "HEAD"])
@pages.api_route("/record", methods=["GET", "HEAD"])
@pages.api_route("/map", methods=["GET", "HEAD"])
def index() -> FileResponse:
    """The web page; its script reads the address."""
    return FileResponse(STATIC / "index.html")


@pages.api_route("/jobs", methods=["GET", "HEAD"])
def jobs_page() -> FileResponse:
    """The page of jobs."""
    return FileResponse(STATIC / "jobs.html")


@pages.api_route("/docs", methods=["GET", "HEAD"])
def docs() -> FileResponse:
    """The reference, made from /openapi.json by a script of our own."""
    return FileResponse(STATIC / "docs.html")
