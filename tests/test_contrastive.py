"""The contrastive objective, and the whitening that makes vectors of its states."""

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from unirna import model
from unirna.corpus import BuildConfig, Corpus, build_corpus
from unirna.model import CheckpointError, Whitening, fit_whitening, pack_tokens, pooled_layers, tokenise
from unirna.model.attention import Segments
from unirna.train import TrainConfig, train
from unirna.train.contrastive import PairSource, batch_vectors, mutated, supervised_info_nce
from unirna.train.metrics import read_metrics


@pytest.fixture(scope="session")
def families(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of 20 families of 12, each a seed with a fifth of its letters changed, and 30 sequences of no family."""
    random = np.random.default_rng(0)
    letters = np.array(list("ACGU"))
    rows = []
    for family in range(20):
        seed = random.integers(4, size=80)
        for member in range(12):
            copy = np.where(random.random(80) < 0.2, random.integers(4, size=80), seed)
            rows.append({"id": f"f{family}.{member}", "sequence": "".join(letters[copy]), "family": f"F{family}"})
    rows += [{"id": f"x{i}", "sequence": "".join(random.choice(letters, 80)), "family": None} for i in range(30)]
    folder = tmp_path_factory.mktemp("families")
    pd.DataFrame(rows).to_parquet(folder / "families.parquet")
    config = BuildConfig(
        (str(folder / "families.parquet"),), str(folder / "corpus"), valid_share=0.05, group_column="family"
    )
    build_corpus(config)
    return folder / "corpus"


def source(corpus: Path, seed: int = 0) -> PairSource:
    return PairSource(Corpus(corpus), seed=seed, budget=2000, context=1024)


def test_pairs_are_a_function_of_seed_and_step(families: Path) -> None:
    one, other = source(families).batch(3, 1), source(families).batch(3, 1)
    for a, b in zip(one.arrays, other.arrays, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(source(families).batch(4, 1).labels, one.labels)
    assert not np.array_equal(source(families, seed=1).batch(3, 1).labels, one.labels)


def test_every_sequence_of_a_batch_has_a_partner_of_its_group(families: Path) -> None:
    groups, strangers = Corpus(families).groups, 0
    for step in range(20):
        batch = source(families).batch(step, 0)
        assert len(batch.tokens) <= 2000
        assert len(batch.labels) == len(batch.lengths)
        labels, counts = np.unique(batch.labels, return_counts=True)
        assert (counts % 2 == 0).all()
        assert labels.max() < len(groups)
        strangers += int((labels < 0).sum())
    assert strangers


def test_partners_come_from_other_clusters(families: Path) -> None:
    pairs = source(families)
    corpus = pairs.corpus
    random = np.random.default_rng(0)
    for index in range(len(corpus)):
        partner = pairs._partner(index, random)
        assert corpus.group_of(partner) == corpus.group_of(index)
        assert partner == index or corpus.cluster_of(partner) != corpus.cluster_of(index)
        assert (partner == index) or corpus.group_of(index) >= 0


def test_mutation_changes_about_the_share_that_it_should() -> None:
    random = np.random.default_rng(0)
    tokens = tokenise("ACGU" * 2500)
    np.testing.assert_array_equal(mutated(tokens, 0.0, random), tokens)
    changed = mutated(tokens, 0.2, random)
    assert abs(len(changed) - len(tokens)) < 150  # as many insertions as deletions
    assert set(np.unique(changed)) <= {5, 7, 8, 9}
    letters = mutated(np.full(100_000, 5, np.uint8), 0.2, random)
    assert (letters != 5).mean() == pytest.approx(0.2 * 0.9 * 0.75, abs=0.01)  # a quarter change nothing
    assert len(mutated(tokenise("A"), 1.0, random)) >= 1


def test_the_loss_is_that_of_the_definition() -> None:
    vectors = torch.nn.functional.normalize(torch.randn(7, 5, generator=torch.Generator().manual_seed(0)), dim=1)
    labels = torch.tensor([0, 1, 0, 1, 0, 2, -3])
    loss, accuracy = supervised_info_nce(vectors, labels, temperature=0.2)
    wanted, hits = [], 0
    for i in range(7):
        others = [j for j in range(7) if j != i]
        scores = {j: float(vectors[i] @ vectors[j]) / 0.2 for j in others}
        total = math.log(sum(math.exp(s) for s in scores.values()))
        same = [j for j in others if labels[j] == labels[i]]
        if same:
            wanted.append(-sum(scores[j] - total for j in same) / len(same))
            hits += max(scores, key=lambda j: scores[j]) in same
    assert float(loss) == pytest.approx(sum(wanted) / len(wanted), rel=1e-5)
    assert float(accuracy) == pytest.approx(hits / len(wanted))
    alone, none = supervised_info_nce(vectors[:2], torch.tensor([0, 1]))
    assert (float(alone), float(none)) == (0.0, 0.0)


def test_batch_vectors_leave_special_tokens_out() -> None:
    packed = pack_tokens([tokenise(s) for s in ("ACGU", "GGGGGG", "UUU")])
    segments = Segments(torch.from_numpy(packed.boundaries), torch.device("cpu"))
    hidden = torch.randn(len(packed.tokens), 8, generator=torch.Generator().manual_seed(0))
    got = batch_vectors(hidden, segments)
    ends = packed.boundaries
    means = torch.stack([hidden[a + 1 : b - 1].mean(0) for a, b in pairwise(ends)])
    wanted = torch.nn.functional.normalize((means - means.mean(0)) / (means.std(0) + 1e-4), dim=1)
    torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("objective", [pytest.param("contrastive", marks=pytest.mark.slow), "both"])
def test_training_brings_families_together(families: Path, tmp_path: Path, objective: str) -> None:
    config = TrainConfig(
        objective=objective,
        steps=24,
        batch_tokens=4096,
        micro_tokens=4096,
        learning_rate=1e-3,
        log_every=1,
        valid_every=24,
        valid_tokens=2048,
        whitening_sequences=0,
    )
    train(config, families, tmp_path)
    records = read_metrics(tmp_path)
    first, last = records[0], records[-1]
    assert np.mean([r["contrastive_loss"] for r in records[-4:]]) < first["contrastive_loss"] - 0.3
    early, late = (np.mean([r["pair_accuracy"] for r in part]) for part in (records[:4], records[-4:]))
    assert late > early + 0.1
    assert last["loss"] == pytest.approx(
        last["contrastive_loss"] + (last["masked_loss"] if objective == "both" else 0), abs=1e-4
    )


# ---- whitening over several layers, and by groups


def test_pooled_layers_end_with_the_last_and_are_bounded() -> None:
    for name, size in model.SIZES.items():
        layers = pooled_layers(size)
        assert layers[-1] == size.num_layers, name
        assert list(layers) == sorted(set(layers))
        assert len(layers) * size.hidden_size <= 2048
    assert pooled_layers(model.SIZES["mini"]) == (1, 2, 3, 4, 5, 6)


def test_vectors_of_several_layers(nano_model_path: Path, tmp_path: Path) -> None:
    nano = model.load(nano_model_path, device="cpu")
    random = torch.Generator().manual_seed(0)
    layers = (1, 3)
    mean, matrix = torch.randn(256, generator=random), torch.randn(256, 40, generator=random) / 16
    m = model.Model(model.load_checkpoint(nano.save(tmp_path / "plain")), "m", "cpu")
    m.encoder.whitening = Whitening(mean, matrix, layers)
    sequences = ["ACGUGGCA" * 5, "GGCC", "AUAUAUGC" * 190]  # the last is beyond the context: windows
    vectors = m.embed(sequences)
    assert vectors.shape == (3, m.dimension) == (3, 40)
    for sequence, vector in zip(sequences, vectors, strict=True):
        rows = m.nucleotides(sequence)
        assert rows.shape == (len(sequence), 40)
        np.testing.assert_allclose(rows.mean(0), vector, atol=2e-5)
    # the definition, step by step, for one sequence
    packed = pack_tokens([tokenise(sequences[0])])
    seen: list[torch.Tensor] = []
    hooks = [m.encoder.layers[i - 1].register_forward_hook(lambda _, __, out: seen.append(out)) for i in layers]
    with torch.inference_mode():
        m.encoder(torch.from_numpy(packed.tokens).int(), Segments(torch.from_numpy(packed.boundaries), m.device))
    for hook in hooks:
        hook.remove()
    states = torch.cat(seen, dim=1)[1:-1].mean(0)
    np.testing.assert_allclose(((states - mean) @ matrix).numpy(), vectors[0], atol=1e-5)

    again = model.load(m.save(tmp_path / "saved"))
    np.testing.assert_allclose(again.embed(sequences), vectors, atol=1e-6)
    assert again.fingerprint == m.fingerprint != nano.fingerprint
    m.encoder.whitening = Whitening(mean, matrix, (5, 6))
    with pytest.raises(CheckpointError, match=r"for layers \[5, 6\] of 4"):
        model.load(m.save(tmp_path / "wrong"))


def test_whitening_by_groups_beats_whitening_of_everything() -> None:
    # Groups differ in five weak directions; members differ strongly in all others.
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 8)
    signal = random.normal(size=(60, 5))[groups]
    vectors = np.concatenate([signal + 0.3 * random.normal(size=(480, 5)), 5 * random.normal(size=(480, 15))], axis=1)
    vectors = (vectors @ np.linalg.qr(random.normal(size=(20, 20)))[0]).astype(np.float32)
    train_rows, test_rows = groups < 40, groups >= 40

    def recall(whitening: Whitening | None) -> float:
        assert whitening is not None
        x = whitening(torch.from_numpy(vectors[test_rows])).numpy()
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        scores = x @ x.T
        np.fill_diagonal(scores, -2)
        return float((groups[test_rows][scores.argmax(1)] == groups[test_rows]).mean())

    by_groups = fit_whitening(vectors[train_rows], 5, groups[train_rows])
    assert by_groups is not None
    assert by_groups.matrix.shape == (20, 5)
    assert recall(by_groups) > 0.8 > recall(fit_whitening(vectors[train_rows], 5)) + 0.3


def test_a_run_ends_with_a_whitening_of_all_layers(families: Path, tmp_path: Path) -> None:
    config = TrainConfig(steps=1, batch_tokens=2048, micro_tokens=2048, valid_tokens=2048, vector_size=96)
    train(config, families, tmp_path)
    encoder = model.load_checkpoint(tmp_path / "model")
    # 257 training sequences are too few for the 512 states of four layers, enough for the last state.
    assert encoder.whitening is not None
    assert (encoder.whitening.layers, tuple(encoder.whitening.matrix.shape)) == ((), (128, 96))
