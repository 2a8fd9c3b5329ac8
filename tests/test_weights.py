"""The shipped model: found by name, sound, and a language model of RNA."""

from pathlib import Path

import numpy as np
import pytest

from unirna import model
from unirna.model import Model
from unirna.sequence import read, shuffle_dinucleotides


@pytest.fixture(scope="module")
def mini() -> Model:
    return model.load("unirna-mini", device="cpu")


@pytest.fixture(scope="module")
def letters(rfam_sample: Path) -> list[str]:
    found = [record.sequence or "" for record in read(str(rfam_sample))]
    return [s for s in found if len(s) <= 90][::200]


def test_the_card_names_the_weights(mini: Model) -> None:
    card = (model.SHIPPED / "unirna-mini" / "card.md").read_text()
    assert f"`{mini.fingerprint}`" in card
    size = sum(path.stat().st_size for path in (model.SHIPPED / "unirna-mini").iterdir())
    assert size < 10e6


def test_a_vector_is_the_same_in_any_company(mini: Model, letters: list[str]) -> None:
    chance = np.random.default_rng(0)
    short = ["".join(chance.choice(list("ACGU"), size)) for size in chance.integers(1, 30, 40)]
    together = mini.embed(letters + short)
    alone = np.concatenate([mini.embed([s]) for s in letters + short])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_spelling_changes_no_pseudo_perplexity(mini: Model, letters: list[str]) -> None:
    for s in letters[:4]:
        wanted = mini.pseudo_perplexity(s)
        assert mini.pseudo_perplexity(s.replace("U", "T")) == mini.pseudo_perplexity(s.lower()) == wanted
        assert mini.pseudo_perplexity(s, batch_tokens=200) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.slow
def test_a_shuffle_that_keeps_dinucleotides_is_more_surprising(mini: Model, rfam_sample: Path) -> None:
    rows = [(r.labels["family_name"], r.sequence or "") for r in read(str(rfam_sample))]
    trna = [s for family, s in rows if family == "tRNA"][:5]
    others = [s for family, s in rows if family != "tRNA" and len(s) <= 100][::400]
    chance = np.random.default_rng(0)
    gaps = []
    for s in trna + others:
        mixed = shuffle_dinucleotides(s, chance)
        gaps.append(np.log(mini.pseudo_perplexity(mixed) / mini.pseudo_perplexity(s)))
    assert np.mean(gaps[: len(trna)]) > 0.03  # nats a nucleotide; the card has the figure for families that it has not met
    rest = np.array(gaps[len(trna) :])
    assert rest.mean() > 2 * rest.std() / len(rest) ** 0.5


def test_relatives_are_nearer_than_shuffles(mini: Model, rfam_sample: Path) -> None:
    rows = [(r.labels["family"], r.sequence or "") for r in read(str(rfam_sample))]
    families = list(dict.fromkeys(family for family, _ in rows))
    pairs = [[s for family, s in rows if family == name][:2] for name in families]
    chance = np.random.default_rng(0)
    first = mini.embed([a for a, _ in pairs])
    second = mini.embed([b for _, b in pairs])
    mixed = mini.embed([shuffle_dinucleotides(a, chance) for a, _ in pairs])
    near, far = (cosine(first, other) for other in (second, mixed))
    assert np.mean(near > far) > 0.9


def cosine(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return np.asarray((one * other).sum(1) / norms)
