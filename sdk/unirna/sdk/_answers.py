"""From answers, as the service and the engine both give them, to what clients give back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar

from unirna.sdk._models import (
    Alignment,
    CollectionInfo,
    Estimate,
    Hit,
    LabelSet,
    ModelInfo,
    Prediction,
    Profile,
    Structure,
    VariantScore,
)
from unirna.sdk._results import MapResult, PredictionResult, SearchResult, SearchResults, VariantResult

Kind = TypeVar("Kind")


def made(kind: type[Kind], answer: Mapping[str, Any]) -> Kind:
    """An object of what a service says; what later services say besides is passed over."""
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in answer.items() if name in known})


def search_result(answer: Mapping[str, Any], *, hybrid: bool = False) -> SearchResult:
    """The answer of a search, as the service and the engine give it."""
    return _hits(answer, answer["collection"], answer["model"], hybrid)


def search_results(answers: Sequence[Mapping[str, Any]], names: Sequence[str], *, hybrid: bool = False) -> SearchResults:
    """The answers of searches of several queries, as the service and the engine give them."""
    collection, model = answers[0]["collection"], answers[0]["model"]
    found = [_hits(result, collection, model, hybrid) for answer in answers for result in answer["results"]]
    return SearchResults(found, names, collection, model)


def _hits(answer: Mapping[str, Any], collection: str, model: str, hybrid: bool) -> SearchResult:
    hits = []
    for entry in answer["hits"]:
        alignment = entry.get("alignment")
        hits.append(made(Hit, {**entry, "alignment": None if alignment is None else made(Alignment, alignment)}))
    aligned = bool(answer.get("aligned", False))
    error = answer.get("error")
    return SearchResult(
        hits,
        collection,
        model,
        hybrid=hybrid or aligned,
        aligned=aligned,
        better_than_chance=answer.get("better_than_chance"),
        verdict=answer.get("verdict", ""),
        notes=answer.get("notes", ()),
        error=None if error is None else error["message"],
    )


def prediction_result(
    answers: Sequence[Mapping[str, Any]], task: str, about: Mapping[str, Any] | None = None, top: int = 0
) -> PredictionResult:
    """Predictions as the service and the engine give them.

    Args:
        answers: of the sequences.
        task: the predictor's name.
        about: what the service says of all of them: base_rates, thresholds and prior.
        top: how many classes or labels are shown, 0 for all that the answers have.
    """
    known = {name: (about or {}).get(name) for name in ("base_rates", "thresholds", "prior")}
    return PredictionResult([_prediction(answer, top) for answer in answers], task, **known)


def _prediction(answer: Mapping[str, Any], top: int) -> Prediction | LabelSet | Estimate | Profile:
    if "probabilities" in answer:
        shares = answer["probabilities"]
        answer = {**answer, "probabilities": dict(list(shares.items())[: top or None]), "all_probabilities": shares}
    if "labels" in answer:
        return made(LabelSet, {**answer, "labels": tuple(answer["labels"])})
    if "values" in answer:
        return made(Profile, {**answer, "values": tuple(answer["values"])})
    return made(Estimate, answer) if "value" in answer else made(Prediction, answer)


def structures(answers: Sequence[Mapping[str, Any]]) -> list[Structure]:
    """Structures as the service and the engine give them."""
    return [
        Structure(
            entry["sequence"],
            entry["structure"],
            tuple((i, j, p) for i, j, p in entry["pairs"]),
            tuple(entry["certainty"]),
            entry["svg"] or "",
            tuple((i, j, p) for i, j, p in entry.get("contacts") or ()),
            entry.get("free_energy"),
            entry.get("plot") or "",
        )
        for entry in answers
    ]


def variant_result(answer: Mapping[str, Any]) -> VariantResult:
    """Scores of variants as the service and the engine give them."""
    scores = [made(VariantScore, entry) for entry in answer["variants"]]
    return VariantResult(scores, answer["sequence"], answer["model"], answer["method"], answer["svg"] or "")


def map_result(answer: bytes) -> MapResult:
    """A map as the service and the engine give it, with its ids; points whose rows are gone are left out."""
    import numpy as np

    at = answer.index(b"\n") + 1
    header = json.loads(answer[:at])
    count, label = header["points"], header["label"]
    places = np.frombuffer(answer, "<f4", 2 * count, at).reshape(-1, 2).astype(np.float32)
    at += places.nbytes
    values: list[Any] | None = None
    if label is not None and label["kind"] == "classes":
        names = [None, "other", *(value["name"] for value in label["values"])]
        values = [names[code] for code in np.frombuffer(answer, "<u2", count, at).tolist()]
        at += 2 * count
    elif label is not None:
        numbers = np.frombuffer(answer, "<f4", count, at).tolist()
        values = [None if number != number else number for number in numbers]
        at += 4 * count
    ids = json.loads(answer[at:])
    there = np.flatnonzero(~np.isnan(places[:, 0])).tolist()
    return MapResult(
        ids=tuple(ids[i] for i in there),
        places=places[there],
        values=None if values is None else tuple(values[i] for i in there),
        collection=header["collection"],
        label=None if label is None else label["column"],
        method=header["method"],
        rows=header["rows"],
        added=header["added"],
    )


def collection_infos(answer: Mapping[str, Any]) -> list[CollectionInfo]:
    """The list of collections, as the service and the engine give it."""
    return [
        made(CollectionInfo, {**entry, "default": entry["name"] == answer["default"]}) for entry in answer["collections"]
    ]


def _of_later_services(predictor: Mapping[str, Any]) -> tuple[str, tuple[int, int] | None]:
    """Defaults for what services of 0.1.0 do not send about a predictor: its unit and lengths."""
    lengths = predictor.get("lengths")
    return str(predictor.get("unit", "")), None if lengths is None else (int(lengths[0]), int(lengths[1]))


def model_infos(answer: Mapping[str, Any]) -> list[ModelInfo]:
    """The models, as the service and the engine give them: the encoder first."""
    encoder = answer["encoder"]
    predictors = [
        ModelInfo(
            p["name"],
            p["task"],
            p["fingerprint"],
            None,
            tuple(p["labels"]),
            p["metrics"],
            *_of_later_services(p),
            requirements=p.get("requirements") or {},
            base_rates=p.get("base_rates"),
            thresholds=p.get("thresholds"),
            primary_metric=p.get("primary_metric") or {},
            verdict=p.get("verdict") or {},
        )
        for p in answer["predictors"]
    ]
    return [ModelInfo(encoder["name"], "encoder", encoder["fingerprint"], encoder["dimension"]), *predictors]
