"""What predictors take: lengths, required nucleotides, reported motifs; and probabilities for a stated prevalence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unirna.tasks import (
    Applicability,
    DataConfig,
    FinetuneConfig,
    InputRequirements,
    LabelSets,
    Motif,
    Predictions,
    Predictor,
    TaskError,
    find_definition,
    finetune,
    list_predictors,
    load_predictor,
)
from unirna.tasks.predictor import base_rates_of
from unirna.tasks.prior import prior_of, rescale

WINDOW = "GCUUCGGAUCCUAGCUUC" + "GGACU" + "UCGGAUCGGCUUAGCUGG"
"""41 nt with GGACU in the middle."""


def centred(middle: str) -> str:
    """The window with other nucleotides from its middle on."""
    return WINDOW[:20] + middle + WINDOW[20 + len(middle) :]


def test_motifs_are_read_and_stand_where_they_should() -> None:
    assert WINDOW[18:23] == "GGACU" and len(WINDOW) == 41
    for text in ("A@centre", "DRACH@centre-2", "AUG@end-2", "GG@start", "GG@start+3"):
        assert str(Motif.parse(text)) == text
    assert Motif.parse("dratch@centre-2") == Motif("DRAUCH", offset=-2)
    assert Motif.parse("AUG@end-2").mismatch("CCCAUG") is None and Motif.parse("AUG@end-2").mismatch("CCCAUC") == 5
    assert Motif.parse("GG@start").mismatch("GGC") is None and Motif.parse("GG@start+1").mismatch("GGC") == 2
    assert Motif.parse("A@centre").mismatch("CCAC") is None  # of 2n nucleotides the one at n + 1
    assert Motif.parse("C@start+5").mismatch("CC") == 5 and Motif.parse("C@centre-2").mismatch("CC") == -1
    # an ambiguity code has a motif where all that it stands for has it
    assert Motif.parse("R@start").mismatch("R") is None and Motif.parse("R@start").mismatch("D") == 0
    assert Motif.parse("A@start").mismatch("N") == 0 and Motif.parse("N@start").mismatch("N") is None
    for wrong in ("A", "A@middle", "X@centre", "A@centre*2", "@start", ""):
        with pytest.raises(TaskError, match="motif"):
            Motif.parse(wrong)


def test_requirements_refuse_with_the_reason() -> None:
    takes = InputRequirements("a hairpin", 10, 20, (Motif("G", "start", why="the cap"),), {"tail": Motif("AA", "end", -1)})
    assert InputRequirements.from_json(json.loads(json.dumps(takes.to_json()))) == takes
    assert takes.describe() == "a hairpin; 10 to 20 nt; G at the first nucleotide (the cap)"
    assert takes.check("G" * 8 + "AA") == Applicability(motifs={"tail": True})
    assert takes.check("G" * 9) == Applicability(
        "expected 10 to 20 nt (a hairpin), got 9 nt", "length", motifs={"tail": False}
    )
    assert takes.check("G" * 21).kind == "length"
    assert takes.check("C" * 10).reason == "position 1 is C, expected G (the cap)"
    assert takes.check("C" * 10).kind == "nucleotides" and not takes.check("C" * 10).applicable
    # both sequences of a pair
    assert takes.check("G" * 10 + "&" + "G" * 12).applicable
    assert takes.check("G" * 10 + "&" + "G" * 2).reason.startswith("sequence 2 of the pair: expected 10 to 20 nt")
    assert takes.check("C" * 10 + "&" + "G" * 10).reason.startswith("sequence 1 of the pair: position 1 is C")
    for one, words in (
        ((5, None), "at least 5 nt"),
        ((None, 5), "at most 5 nt"),
        ((5, 5), "exactly 5 nt"),
        ((None, None), ""),
    ):
        assert InputRequirements("", *one).lengths() == words
    for wrong in ((0, None), (5, 4), (None, 0)):
        with pytest.raises(TaskError, match="lengths"):
            InputRequirements("", *wrong)
    with pytest.raises(TaskError, match="requirements"):
        InputRequirements.from_json({"required": [{"pattern": "A", "where": 3}]})


def test_shipped_predictors_declare_what_they_take() -> None:
    found = {name: load_predictor(folder) for name, folder in list_predictors(None).items()}
    assert set(found) >= {"m6a", "ncrna_class", "ribosome_load", "rna_type", "sirna"}
    for name, predictor in found.items():
        assert predictor.info["requirements"] == find_definition(name).requires.to_json(), name
        assert predictor.requirements.what and predictor.requirements.what in predictor.card, name
        if predictor.numeric:
            assert predictor.base_rates is None
        else:
            assert predictor.info["base_rates"] == base_rates_of(predictor.info), name
            assert list(predictor.base_rates or {}) == predictor.labels
    exact = {name: predictor.requirements.exact_length for name, predictor in found.items()}
    assert (exact["m6a"], exact["sirna"], exact["ribosome_load"], exact["rna_type"]) == (41, 21, 50, None)
    rates = found["m6a"].base_rates
    assert rates is not None and all(0.48 < rate < 0.51 for rate in rates.values())


@pytest.fixture(scope="module")
def m6a() -> Predictor:
    return load_predictor(list_predictors(None)["m6a"])


@pytest.mark.parametrize(
    ("sequence", "reason"),
    [
        (centred("C"), "position 21 is C, expected A"),
        (centred("N"), "position 21 is N, expected A"),
        (centred("AU"), "position 22 is U, expected C"),
        (WINDOW[1:], "expected exactly 41 nt"),
        (WINDOW * 3, "got 123 nt"),
        ("A", "got 1 nt"),
    ],
)
def test_m6a_refuses_what_it_was_not_made_for(m6a: Predictor, sequence: str, reason: str) -> None:
    (check,) = m6a.check([sequence])
    assert not check.applicable and reason in check.reason


def test_m6a_answers_for_sites_and_leaves_the_others_empty(m6a: Predictor) -> None:
    sequences = [WINDOW, centred("C"), WINDOW.replace("U", "t").lower(), centred("ACG"), WINDOW[:-1]]
    found = m6a.predict(sequences)
    assert isinstance(found, LabelSets)
    assert [check.applicable for check in found.checks] == [True, False, True, True, False]
    assert [check.motifs["DRACH"] for check in found.checks] == [True, False, True, False, True]
    assert np.isnan(found.probabilities[[1, 4]]).all() and np.isfinite(found.probabilities[[0, 2, 3]]).all()
    assert found.labels[1] == found.labels[4] == []
    np.testing.assert_allclose(found.probabilities[0], found.probabilities[2], atol=1e-5)
    alone = m6a.predict([WINDOW])
    assert isinstance(alone, LabelSets)
    np.testing.assert_allclose(alone.probabilities[0], found.probabilities[0], atol=1e-5)
    none = m6a.predict([centred("C")])
    assert isinstance(none, LabelSets) and np.isnan(none.probabilities).all() and none.labels == [[]]
    # vectors of sequences that it does not apply to are not read
    vectors = m6a.spread(m6a.vectors([WINDOW]), m6a.check([centred("G"), WINDOW]))
    vectors[0] = np.nan
    given = m6a.predict_vectors(vectors, [centred("G"), WINDOW])
    np.testing.assert_allclose(given.probabilities[1], found.probabilities[0], atol=1e-5)  # type: ignore[union-attr]
    # a stated prevalence: odds times prior odds over base odds
    stated = m6a.predict([WINDOW], prior={"Human Brain": 0.05})
    assert isinstance(stated, LabelSets)
    base, p = (m6a.base_rates or {})["Human Brain"], float(alone.probabilities[0, 0])
    odds = p / (1 - p) * (0.05 / 0.95) / (base / (1 - base))
    assert stated.probabilities[0, 0] == pytest.approx(odds / (1 + odds), rel=1e-4)
    assert stated.probabilities[0, 1] == pytest.approx(alone.probabilities[0, 1], rel=1e-4)


def test_predictors_of_values_take_no_prior() -> None:
    sirna = load_predictor(list_predictors(None)["sirna"])
    with pytest.raises(TaskError, match="predicts values, not probabilities"):
        sirna.predict(["CUAAUAUGUUAAUUGAUUUAU"], prior=0.1)


PRIORS: dict[str, tuple[Any, list[str], bool, Any]] = {
    "one for all labels": (0.1, ["a", "b"], True, [0.1, 0.1]),
    "one of the labels": ({"b": 0.1}, ["a", "b"], True, [0.4, 0.1]),
    "the class that is true": (0.1, ["no", "yes"], False, [0.9, 0.1]),
    "one of two classes": ({"no": 0.1}, ["no", "yes"], False, [0.1, 0.9]),
    "the others share what is left as in training": ({"a": 0.5}, ["a", "b", "c"], False, [0.5, 0.375, 0.125]),
    "all": ({"a": 0.5, "b": 0.25, "c": 0.25}, ["a", "b", "c"], False, [0.5, 0.25, 0.25]),
}


@pytest.mark.parametrize("case", PRIORS)
def test_a_prior_is_read(case: str) -> None:
    prior, classes, several, expected = PRIORS[case]
    base = dict(zip(classes, [0.4, 0.45, 0.15] if len(classes) == 3 else [0.4, 0.6], strict=True))
    found = prior_of(prior, classes, base, several=several)
    np.testing.assert_allclose(found, expected)
    shares = np.array([list(base.values())])
    np.testing.assert_allclose(rescale(shares, shares[0], found, several=several)[0], expected)  # the base rate becomes it


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        (0.0, "between 0 and 1"),
        (1, "between 0 and 1"),
        (float("nan"), "between 0 and 1"),
        (True, "between 0 and 1"),
        ("a", "between 0 and 1"),
        ({"d": 0.1}, "no class or label 'd'. There are: a, b"),
        ({"a": -1}, "prior of a: expected a share"),
        ({}, "at least one"),
    ],
)
def test_a_prior_that_is_none_is_refused(prior: Any, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        prior_of(prior, ["a", "b"], {"a": 0.5, "b": 0.5}, several=True)


def test_a_prior_of_classes_must_say_of_which() -> None:
    base = {"a": 0.5, "b": 0.25, "c": 0.25}
    for prior, classes, message in (
        (0.1, ["a", "b"], "Name the class, as in a=0.05"),
        (0.1, ["a", "b", "c"], "Name the class"),
        ({"a": 0.6, "b": 0.5}, ["a", "b", "c"], "leaves nothing"),
        ({"a": 0.6, "b": 0.3, "c": 0.3}, ["a", "b", "c"], "sum to 1.2"),
    ):
        with pytest.raises(TaskError, match=message):
            prior_of(prior, classes, {name: base[name] for name in classes}, several=False)
    with pytest.raises(TaskError, match="base rate of the training data is not known"):
        prior_of(0.1, ["a", "b"], None, several=True)


def test_a_prior_is_exact_for_two_normal_classes() -> None:
    """Of two normal distributions the probability at another prevalence is known in closed form."""
    x = np.linspace(-3, 3, 13)

    def of_one(share: float) -> Any:
        one, other = share * np.exp(-((x - 1) ** 2) / 2), (1 - share) * np.exp(-((x + 1) ** 2) / 2)
        return one / (one + other)

    base, prior = np.array([0.3, 0.7]), np.array([0.05, 0.95])
    given = np.column_stack([of_one(0.3), 1 - of_one(0.3)])
    np.testing.assert_allclose(rescale(given, base, prior, several=False)[:, 0], of_one(0.05))
    np.testing.assert_allclose(rescale(given[:, :1], base[:1], prior[:1], several=True)[:, 0], of_one(0.05))


def test_a_trained_predictor_takes_what_is_declared_or_the_one_length_of_its_data(
    tmp_path: Path, nano_model_path: Path
) -> None:
    random = np.random.default_rng(0)
    rows = [f"s{i},{''.join(random.choice(list('ACGU'), 19))}G,{'yes' if i % 4 == 0 else 'no'}" for i in range(60)]
    (tmp_path / "t.csv").write_text("\n".join(["id,sequence,kind", *rows]) + "\n")
    settings: dict[str, Any] = {"model": str(nano_model_path), "registry": str(tmp_path), "cnn": False, "blend": False}
    data = DataConfig((str(tmp_path / "t.csv"),), "kind")
    finetune(FinetuneConfig("inferred", data=data, **settings))
    inferred = load_predictor(tmp_path / "inferred")
    assert inferred.requirements.exact_length == 20 and "Length: exactly 20 nt" in inferred.card
    assert inferred.base_rates == pytest.approx({"no": 0.75, "yes": 0.25}, abs=0.03)
    assert f"no {(inferred.base_rates or {})['no']:.3f}, yes " in inferred.card
    found = inferred.predict(["ACGU" * 5, "ACGU" * 6], prior=0.01)
    assert isinstance(found, Predictions) and found.labels == ["no", None] and found.probabilities[0, 1] < 0.25

    takes = InputRequirements("ends with G", 4, 40, (Motif.parse("G@end"),), {"cap": Motif.parse("A@start")})
    finetune(FinetuneConfig("declared", data=data, requirements=takes, **settings))
    declared = load_predictor(tmp_path / "declared")
    assert declared.requirements == takes and "- Reported as cap: `A@start`." in declared.card
    found = declared.predict(["ACGG", "ACGU", "ACG"])
    assert isinstance(found, Predictions) and [one is None for one in found.labels] == [False, True, True]
    assert [check.in_training_length_range for check in found.checks] == [False, False, False]
    with pytest.raises(TaskError, match="requirements was"):  # the same name, other requirements
        finetune(FinetuneConfig("declared", data=data, **settings))
    wrong = InputRequirements(required=(Motif.parse("A@start"),))
    with pytest.raises(TaskError, match=r"\d+ of 60 rows do not meet .* the first is s\d+: position 1 is \w, expected A"):
        finetune(FinetuneConfig("wrong", data=data, requirements=wrong, **settings))
    with pytest.raises(TaskError, match="a threshold is for several labels"):
        finetune(FinetuneConfig("wrong", data=data, threshold=0.7, **settings))
    # a predictor of an earlier version says nothing: its one length is required all the same
    info = json.loads((tmp_path / "inferred" / "predictor.json").read_text())
    del info["requirements"], info["base_rates"]
    (tmp_path / "inferred" / "predictor.json").write_text(json.dumps(info))
    earlier = load_predictor(tmp_path / "inferred")
    assert earlier.requirements.exact_length == 20 and earlier.base_rates == inferred.base_rates
