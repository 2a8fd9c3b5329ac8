"""What predictors do not take is refused alike over HTTP, in the SDK, on the command line and in screens."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient

from unirna import model, sdk, vectorstore
from unirna.screen import ScreenError
from unirna.screen.block import Reader, Scorer, piece_row
from unirna.screen.criteria import Criteria, parse_label_criterion, parse_priors, with_priors
from unirna.screen.state import ScreenState
from unirna.sdk import _cli
from unirna.sdk._answers import prediction_result
from unirna.sdk._records import answer_each
from unirna.sequence import plan_pieces
from unirna.serve.api.app import create_app
from unirna.serve.engine.engine import Engine
from unirna.serve.settings import Settings
from unirna.tasks import (
    DataConfig,
    EvaluateConfig,
    FinetuneConfig,
    InputRequirements,
    Motif,
    TaskError,
    evaluate,
    finetune,
    list_predictors,
    load_predictor,
)

WINDOW = "GCUUCGGAUCCUAGCUUC" + "GGACU" + "UCGGAUCGGCUUAGCUGG"
TISSUES = 8
CASES = {
    "site": WINDOW,
    "dna": WINDOW.replace("U", "T").lower(),
    "centre_c": WINDOW[:20] + "C" + WINDOW[21:],
    "centre_n": WINDOW[:20] + "N" + WINDOW[21:],
    "not_ac": WINDOW[:21] + "G" + WINDOW[22:],
    "short": WINDOW[:40],
    "long": WINDOW + "A",
}
REASONS: dict[str, str | None] = {
    "site": None,
    "dna": None,
    "centre_c": "position 21 is C, expected A (the adenosine in question)",
    "centre_n": "position 21 is N, expected A (the adenosine in question)",
    "not_ac": "position 22 is G, expected C",
    "short": "expected exactly 41 nt (41 nt of a transcript with the adenosine in question in the middle), got 40 nt",
    "long": "got 42 nt",
}
SIRNA = "CUAAUAUGUUAAUUGAUUUAU"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, nano_model_path: Path) -> str:
    """A store with one small collection."""
    folder = str(tmp_path_factory.mktemp("applicability") / "store")
    encoder = model.load(nano_model_path)
    letters = [WINDOW, SIRNA]
    made = vectorstore.Provenance(encoder.name, encoder.fingerprint)
    schema = vectorstore.collection_schema(encoder.dimension, pa.schema([]), made)
    columns = {
        "id": pa.array(["a", "b"]),
        "sequence": pa.array(letters),
        "length": pa.array([len(text) for text in letters], pa.int32()),
        "sha": pa.array(["a", "b"]),
        "vector": vectorstore.vector_array(encoder.embed(letters)),
    }
    rows = pa.Table.from_arrays([columns[field.name].cast(field.type) for field in schema], schema=schema)
    vectorstore.append_rows(folder, "few", rows, key="test")
    return folder


@pytest.fixture(scope="module")
def engine(store: str, nano_model_path: Path) -> Engine:
    return Engine.open(store, str(nano_model_path))


@pytest.fixture(scope="module")
def http(engine: Engine, store: str) -> Iterator[TestClient]:
    with TestClient(create_app(engine, Settings(store)), base_url="http://localhost") as client:
        yield client


@pytest.fixture(scope="module")
def client(store: str, nano_model_path: Path) -> Iterator[sdk.Client]:
    with sdk.connect(store, model=str(nano_model_path)) as client:
        yield client


Ask = Callable[..., sdk.PredictionResult]


@pytest.fixture(params=["process", "http", "sdk"])
def ask(request: pytest.FixtureRequest, engine: Engine, http: TestClient, client: sdk.Client) -> Ask:
    """Predictions by each of the ways that give the same."""

    def of_process(task: str, sequences: list[str], **options: Any) -> sdk.PredictionResult:
        answer = engine.predict(task, sequences, **options)
        return prediction_result(answer["predictions"], task, answer)

    def of_http(task: str, sequences: list[str], **options: Any) -> sdk.PredictionResult:
        response = http.post(f"/v1/predict/{task}", json={"sequences": sequences, **options})
        assert response.status_code == 200, response.text
        return prediction_result(response.json()["predictions"], task, response.json())

    return {"process": of_process, "http": of_http, "sdk": client.predict}[request.param]


def test_a_list_is_answered_where_the_predictor_applies(ask: Ask) -> None:
    found = ask("m6a", list(CASES.values()))
    for name, one in zip(CASES, found, strict=True):
        assert isinstance(one, sdk.LabelSet)
        assert one.applicable == (REASONS[name] is None), name
        assert one.reason is None if one.applicable else REASONS[name] in str(one.reason), name  # type: ignore[operator]
        assert len(one.probabilities) == (TISSUES if one.applicable else 0), name
        assert one.motifs == {"DRACH": name in ("site", "dna", "short")}, name
        assert one.applicable or one.labels == ()
    assert dict(found[0].probabilities) == pytest.approx(dict(found[1].probabilities), abs=1e-5)  # type: ignore[union-attr]
    assert found.base_rates is not None and 0.48 < min(found.base_rates.values()) < 0.51
    frame = found.to_pandas()
    assert list(found.base_rates) == [name for name in frame.columns if name in found.base_rates]
    assert frame["Human Brain"].isna().tolist() == [not one.applicable for one in found]
    assert frame["applicable"].tolist() == [one.applicable for one in found]
    assert frame["DRACH"].tolist() == [one.motifs["DRACH"] for one in found]
    assert "probabilities hold where 49% to 50% are true, as in training" in repr(found)
    assert "not applicable" in repr(found) and "expected exactly 41 nt" in found._repr_html_()


def test_values_and_classes_are_refused_alike(ask: Ask) -> None:
    one, other = ask("sirna", [SIRNA, SIRNA + "A"])
    assert isinstance(one, sdk.Estimate) and one.applicable and one.value is not None and one.low is not None
    assert isinstance(other, sdk.Estimate) and other.value is other.low is other.high is None
    assert "the guide strand of an siRNA" in str(other.reason)
    (load,) = ask("ribosome_load", [WINDOW])
    assert isinstance(load, sdk.Estimate) and "expected exactly 50 nt (the last 50 nt of a 5'UTR" in str(load.reason)
    (kind,) = ask("ncrna_class", [WINDOW])
    assert isinstance(kind, sdk.Prediction) and kind.applicable and kind.label and len(kind.probabilities) == 13
    assert ask("ncrna_class", [WINDOW[:20]])[0].in_training_length_range is False
    assert len(ask("ncrna_class", [WINDOW]).to_pandas().filter(like="rRNA").columns) == 2


def test_all_labels_stand_in_data_frames_whatever_is_shown(client: sdk.Client) -> None:
    found = client.predict("m6a", [WINDOW, WINDOW[:20] + "ACG" + WINDOW[23:]], top=2)
    assert [len(one.probabilities) for one in found if isinstance(one, sdk.LabelSet)] == [2, 2]
    assert found.base_rates is not None and not found.to_pandas()[list(found.base_rates)].isna().any().any()
    assert [len(row["probabilities"]) for row in found.to_dicts()] == [TISSUES, TISSUES]


def test_a_stated_prevalence_scales_the_odds(ask: Ask) -> None:
    found = ask("m6a", [WINDOW])
    stated, of_one = ask("m6a", [WINDOW], prior=0.05), ask("m6a", [WINDOW], prior={"Human Brain": 0.05})
    assert set((stated.thresholds or {}).values()) == {0.5} and stated.prior == 0.05
    assert of_one.thresholds == {**(found.thresholds or {}), "Human Brain": 0.5}
    for label, base in (found.base_rates or {}).items():
        before, after = (one[0].probabilities[label] for one in (found, stated))  # type: ignore[union-attr]
        odds = before / (1 - before) * (0.05 / 0.95) / (base / (1 - base))
        assert after == pytest.approx(odds / (1 + odds), rel=1e-3)
        same = of_one[0].probabilities[label]  # type: ignore[union-attr]
        assert same == pytest.approx(after if label == "Human Brain" else before, rel=1e-3)


@pytest.mark.parametrize(
    ("task", "prior", "message"),
    [
        ("m6a", 1.0, "between 0 and 1"),
        ("m6a", {"brain": 0.1}, "no class or label 'brain'"),
        ("ncrna_class", 0.1, "Name the class, as in 5S_rRNA=0.05"),
        ("sirna", 0.1, "predicts values"),
    ],
)
def test_a_prior_that_is_none_is_refused(http: TestClient, client: sdk.Client, task: str, prior: Any, message: str) -> None:
    answer = http.post(f"/v1/predict/{task}", json={"sequences": [WINDOW], "prior": prior})
    assert answer.status_code == 422 and answer.json()["errors"][0]["field"] == "prior"
    assert message in answer.json()["errors"][0]["message"]
    with pytest.raises(sdk.InvalidRequestError, match=message) as caught:
        client.predict(task, [WINDOW], prior=prior)
    assert caught.value.field == "prior"


def test_profiles_and_pairs_are_refused_alike(store: str, nano_model_path: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    letters = ["".join(random.choice(list("ACGU"), 20 + i % 5)) for i in range(60)]
    table = [{"sequence": text, "value": [float(one == "A") for one in text], "wild": text[::-1]} for text in letters]
    for row in table:
        row["gain"] = float(str(row["sequence"]).count("G"))
    pq.write_table(pa.Table.from_pylist(table), tmp_path / "t.parquet")
    settings: dict[str, Any] = {"model": str(nano_model_path), "registry": str(tmp_path), "cnn": False, "blend": False}
    takes = InputRequirements("a test", 10, None, (Motif("A", "start"),))
    each = DataConfig((str(tmp_path / "t.parquet"),), "value", numeric=True, level="nucleotide")
    with pytest.raises(TaskError, match="rows do not meet the declared requirements"):
        finetune(FinetuneConfig("each", data=each, requirements=takes, **settings))
    takes = replace(takes, required=())
    finetune(FinetuneConfig("each", data=each, requirements=takes, **settings))
    pairs = DataConfig((str(tmp_path / "t.parquet"),), "gain", numeric=True, reference_column="wild")
    finetune(FinetuneConfig("pair", data=pairs, requirements=takes, **settings))
    engine = Engine.open(store, str(nano_model_path), tmp_path)
    with TestClient(create_app(engine, Settings(store)), base_url="http://localhost") as http:

        def both(task: str, sequences: list[str]) -> Any:
            answer = http.post(f"/v1/predict/{task}", json={"sequences": sequences})
            assert answer.status_code == 200, answer.text
            found, same = answer.json()["predictions"], engine.predict(task, sequences)["predictions"]
            assert [one["applicable"] for one in found] == [one["applicable"] for one in same]
            return prediction_result(found, task)

        profiles = both("each", ["ACGUA", WINDOW, "ACGU", SIRNA])
        assert [len(one.values) for one in profiles] == [0, 41, 0, 21] and profiles[1].in_training_length_range is False
        assert "expected at least 10 nt (a test), got 5 nt" in profiles[0].reason and "not applicable" in repr(profiles)
        assert profiles.to_pandas()["values"].map(len).tolist() == [0, 41, 0, 21]
        assert [one.applicable for one in both("each", ["ACGU"])] == [False]
        refused, given, other = both("pair", [f"{SIRNA}&ACGU", f"{SIRNA}&{SIRNA}", f"ACGU&{SIRNA}"])
        assert refused.value is None and "sequence 2 of the pair: expected at least 10 nt" in refused.reason
        assert given.applicable and given.value is not None and "sequence 1 of the pair" in other.reason
        assert [one.value for one in both("pair", ["A&C"])] == [None]


def test_models_say_what_they_take(http: TestClient, client: sdk.Client) -> None:
    told = {entry["name"]: entry for entry in http.get("/v1/models").json()["predictors"]}
    assert told["m6a"]["requirements"]["min_length"] == told["m6a"]["requirements"]["max_length"] == 41
    assert told["m6a"]["requirements"]["required"][0]["pattern"] == "A"
    assert told["m6a"]["requirements"]["reported"]["DRACH"]["offset"] == -2
    for info in client.models()[1:]:
        assert info.requirements == told[info.name]["requirements"] and info.requirements["text"]
        assert info.base_rates == told[info.name]["base_rates"] and info.thresholds == told[info.name]["thresholds"]


def test_an_evaluation_leaves_out_what_the_predictor_does_not_take(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    lengths = [21] * 40 + [22] * 3
    lines = [f"s{i},{''.join(random.choice(list('ACGU'), n))},{random.random():.3f}" for i, n in enumerate(lengths)]
    (tmp_path / "t.csv").write_text("\n".join(["id,sequence,label", *lines]) + "\n")
    config = EvaluateConfig("sirna", (str(tmp_path / "t.csv"),), str(tmp_path), split="all", out=str(tmp_path))
    found = evaluate(config)
    assert (found["n"], found["not_applicable"]) == (40, 3)
    assert {score["n"] for score in found["scores"]} == {40}
    (tmp_path / "t.csv").write_text("\n".join(["id,sequence,label", *lines[40:]]) + "\n")
    with pytest.raises(TaskError, match=r"sirna does not apply to 3 of 3 rows \(s40: expected exactly 21 nt"):
        evaluate(config)


# ---- the command line ----------------------------------------------------------------------------------------------


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    path = tmp_path / "few.fa"
    records = {**CASES, "foreign": "ACGZU", "protein": "MKLV"}
    path.write_text("".join(f">{name} more words\n{text}\n" for name, text in records.items()))
    return path


def test_the_command_names_what_it_leaves_out_and_answers_the_others(
    store: str, nano_model_path: Path, fasta: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = ["--store", store, "--model", str(nano_model_path)]
    assert _cli.main(["predict", "m6a", str(fasta), "--json", *source]) == 2  # some records are no RNA
    out, err = capsys.readouterr()
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["id"] for row in rows] == list(CASES)
    assert [row["applicable"] for row in rows] == [reason is None for reason in REASONS.values()]
    assert [row["p(Human Brain)"] is None for row in rows] == [reason is not None for reason in REASONS.values()]
    assert [row["DRACH"] for row in rows] == [name in ("site", "dna", "short") for name in CASES]
    assert "foreign: " in err and "protein: " in err and "sequences[" not in err
    assert "m6a does not apply to 5 of 7:\n  centre_c: position 21 is C" in err
    assert "prevalence of the training data (Human Brain 49 %" in err.replace("49%", "49 %")
    assert _cli.main(["predict", "m6a", WINDOW, "--prior", "Human Brain=0.05", "--json", *source]) == 0
    stated = json.loads(capsys.readouterr().out)
    assert stated["p(Human Brain)"] < rows[0]["p(Human Brain)"]
    assert stated["p(Mouse brain)"] == pytest.approx(rows[0]["p(Mouse brain)"], abs=1e-5)
    for wrong in ("much", "Human Brain=2", "brain=0.1"):
        assert _cli.main(["predict", "m6a", WINDOW, "--prior", wrong, *source]) == 2
        assert "prior" in capsys.readouterr().err


def test_embed_leaves_out_what_the_service_refuses(
    store: str, nano_model_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "long.fa"
    path.write_text(f">one\nGGGGAAAACCCC\n>giant\n{'ACGU' * 5001}\n>two\nGGGGAAAACCCC\n")
    source = ["--store", store, "--model", str(nano_model_path)]
    assert _cli.main(["embed", str(path), "--out", str(tmp_path / "v.npz"), *source]) == 2
    with np.load(tmp_path / "v.npz") as saved:
        assert saved["ids"].tolist() == ["one", "two"] and len(saved["vectors"]) == 2
    assert "left out: giant: 20,004 nucleotides" in capsys.readouterr().err


def test_records_are_left_out_one_by_one(capsys: pytest.CaptureFixture[str]) -> None:
    """Where a service names no more than two of them at once."""

    def call(sequences: list[str]) -> list[int]:
        bad = [(f"sequences[{i}]", "it is bad") for i, text in enumerate(sequences) if text == "bad"]
        if bad:
            raise sdk.InvalidRequestError("bad", errors=bad[:2])
        if "other" in sequences:
            raise sdk.InvalidRequestError.of("top", "wrong")
        return [len(text) for text in sequences]

    records = [(f"r{i}", "bad" if i % 7 == 0 or i in (64, 65, 66) else "A" * i) for i in range(200)]
    found = answer_each(records, call)
    good = [(name, len(text)) for name, text in records if text != "bad"]
    assert [name for name, _ in found.records] == [name for name, _ in good]
    assert [length for part in found.parts for length in part] == [length for _, length in good]
    assert [name for name, _ in found.refused] == [name for name, text in records if text == "bad"]
    assert capsys.readouterr().err.splitlines()[:2] == ["left out: r0: it is bad", "left out: r7: it is bad"]
    assert answer_each([("a", "bad"), ("b", "bad")], call).parts == []
    for given in ([("a", "bad")], [("a", "bad"), ("b", "other")]):  # the only one; what is no record
        with pytest.raises(sdk.InvalidRequestError):
            answer_each(given, call)


# ---- screens -------------------------------------------------------------------------------------------------------


def test_a_screen_ranks_what_the_predictor_applies_to(fasta: Path, tmp_path: Path) -> None:
    criterion = parse_label_criterion("m6a=Human Brain", str(tmp_path))
    criteria = Criteria(labels=(criterion,), encoders={criterion.fingerprint: criterion.folder})
    scorer, state = Scorer(criteria, 10), ScreenState(tmp_path / "work", {}, 10)
    for number, piece in enumerate(plan_pieces([str(fasta)])):
        row = piece_row(number, piece)
        for block in Reader("id", "sequence", {}, {}).blocks(pa.Table.from_pylist([row])):
            for scored in scorer(block).to_pylist():
                state.add(scored)
    assert state.top is not None and sorted(state.top["id"].to_pylist()) == ["dna", "site"]
    assert state.counts["read"] == 9 and state.counts["screened"] == 2 and state.counts["rejected"] == 2
    assert state.not_applicable == {
        "m6a does not apply: expected A (the adenosine in question)": 2,
        "m6a does not apply: expected C (every training sequence, site or not, has AC in the middle)": 1,
        f"m6a does not apply: {str(REASONS['short']).partition(', got')[0]}": 2,
    }
    state.save()
    again = ScreenState(tmp_path / "work", {}, 10)
    assert again.restore() and again.not_applicable == state.not_applicable
    rejects = {row["id"]: row["reason"] for part in state.rejects() for row in part.to_pylist()}
    assert (
        rejects["foreign"] == "protein letter"
        and rejects["centre_c"] == "m6a does not apply: position 21 is C, expected A (the adenosine in question)"
    )
    assert len(rejects) == 7  # each is named once
    found = load_predictor(list_predictors(None)["m6a"]).predict([WINDOW], prior={"Human Brain": 0.05})
    (stated,) = with_priors([criterion], parse_priors(["m6a=0.05"]))
    predictor = {criterion.folder: load_predictor(criterion.folder)}
    vectors = {criterion.fingerprint: predictor[criterion.folder].encoder.embed([WINDOW])}
    score = Criteria(labels=(stated,)).score(vectors, [WINDOW], predictor)["score"]
    assert float(score[0]) == pytest.approx(float(found.probabilities[0, 0]), abs=1e-5)  # type: ignore[union-attr, arg-type]
    for text, message in (("m6a", "expected task=label=share"), ("m6a=x", "expected"), ("sirna=0.1", "no such criterion")):
        with pytest.raises(ScreenError, match=message):
            with_priors([criterion], parse_priors([text]))
    with pytest.raises(ScreenError, match="between 0 and 1"):
        with_priors([criterion], parse_priors(["m6a=1.5"]))
