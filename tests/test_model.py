"""The encoder: released format, and a vector that depends on its own sequence alone."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from unirna import model
from unirna.model import CheckpointError, Model, plan_windows
from unirna.model.checkpoint import OF_TOKENS
from unirna.model.tokens import VOCABULARY
from unirna.sequence import SequenceError, read

SEQUENCES = st.lists(st.text("ACGUN", min_size=1, max_size=60), min_size=1, max_size=8)


@pytest.fixture(scope="module")
def nano() -> Model:
    """Random weights large enough that attention and positions matter."""
    random = model.initialise("nano", seed=1, device="cpu")
    with torch.no_grad():
        for parameter in random.encoder.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
    return random


# ---- the released format


def test_golden_outputs(shared: Path) -> None:
    golden = shared / "specs" / "golden"
    expected = np.load(golden / "expected.npz")
    released = model.load(golden, device="cpu")
    cases = len(json.loads((golden / "sequences.json").read_text()))
    ids = [expected[f"ids_{i}"].astype(np.uint8) for i in range(cases)]
    boundaries = np.cumsum([0, *map(len, ids)])
    hidden, logits = (f(np.concatenate(ids), boundaries) for f in (released.encode_tokens, released.logits))  # packed
    for i, (start, end) in enumerate(pairwise(boundaries)):
        np.testing.assert_allclose(hidden[start:end], expected[f"hidden_{i}"], atol=1e-5)
        np.testing.assert_allclose(logits[start:end], expected[f"logits_{i}"], atol=1e-5)
        alone = released.encode_tokens(ids[i], [0, len(ids[i])])
        np.testing.assert_allclose(alone, expected[f"hidden_{i}"], atol=1e-5)
    masked = expected["masked_ids"].astype(np.uint8)
    np.testing.assert_allclose(released.logits(masked, [0, len(masked)]), expected["masked_logits"], atol=1e-5)


def test_tokens_are_the_released_vocabulary(shared: Path) -> None:
    golden = shared / "specs" / "golden"
    expected = np.load(golden / "expected.npz")
    for i, letters in enumerate(json.loads((golden / "sequences.json").read_text())):
        theirs = expected[f"ids_{i}"]
        ours = model.pack([letters]).tokens
        np.testing.assert_array_equal(ours, np.where(theirs == 6, 9, theirs))  # but for T, which we read as U


def test_sizes_are_those_of_the_paper() -> None:
    millions = {name: round(config.num_parameters / 1e6, 1) for name, config in model.SIZES.items()}
    assert {n: millions[n] for n in ("L8", "L12", "L16", "L24")} == {"L8": 21.0, "L12": 70.9, "L16": 168.0, "L24": 393.6}
    for name in ("nano", "mini", "L8"):
        encoder = model.initialise(name).encoder
        counted = sum(p.numel() for n, p in encoder.named_parameters() if not n.startswith("lm_head"))
        assert counted == model.SIZES[name].num_parameters


def test_a_saved_model_is_the_same_model(nano: Model, tmp_path: Path) -> None:
    loaded = model.load(nano.save(tmp_path / "m"), device="cpu")
    assert loaded.fingerprint == nano.fingerprint
    assert loaded.config == nano.config
    np.testing.assert_array_equal(loaded.embed(["ACGUN"]), nano.embed(["ACGUN"]))
    assert model.load((tmp_path / "m").as_uri(), device="cpu").fingerprint == nano.fingerprint


def test_a_vocabulary_of_another_order_is_followed(nano: Model, tmp_path: Path) -> None:
    folder = nano.save(tmp_path / "m")
    order = [9, 3, 1, 0, 2, 4, 8, 7, 6, 5]
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY[i] for i in order) + "\n", encoding="utf-8")
    tensors = load_file(folder / "model.safetensors")
    for name in OF_TOKENS:
        tensors[name] = tensors[name][order].contiguous()
    save_file(tensors, folder / "model.safetensors")
    loaded = model.load(folder, device="cpu")
    assert loaded.fingerprint == nano.fingerprint
    tokens = model.pack(["ACGUN"])
    np.testing.assert_array_equal(
        loaded.logits(tokens.tokens, tokens.boundaries), nano.logits(tokens.tokens, tokens.boundaries)
    )
    for others in (VOCABULARY[:-1], (*VOCABULARY, "I"), (*VOCABULARY[:-1], "X")):
        (folder / "vocab.txt").write_text("\n".join(others), encoding="utf-8")
        with pytest.raises(CheckpointError, match=r"vocab\.txt has the tokens .* expected <pad>"):
            model.load(folder, device="cpu")


def test_fingerprint_follows_the_encoder_alone(nano: Model, tmp_path: Path) -> None:
    other = model.load(nano.save(tmp_path / "m"), device="cpu")
    assert other.encoder.lm_head is not None
    with torch.no_grad():
        other.encoder.lm_head.decoder.bias.add_(1)
    assert other.fingerprint == nano.fingerprint
    changed = model.load(nano.save(tmp_path / "m"), device="cpu")
    with torch.no_grad():
        changed.encoder.final_norm.bias[3] += 1e-3
    assert changed.fingerprint != nano.fingerprint


def test_saving_in_half_precision(nano: Model, tmp_path: Path) -> None:
    plain = nano.embed([chr(c) * 9 + "ACGU" * i for c in b"ACGU" for i in range(1, 60)])
    white = model.load(nano.save(tmp_path / "whole"), device="cpu")
    white.encoder.whitening = model.fit_whitening(plain)
    model.save_checkpoint(white.encoder, tmp_path / "half", half=True)
    whole, half = (sum(p.stat().st_size for p in (tmp_path / n).glob("*.safetensors")) for n in ("whole", "half"))
    assert half < 0.6 * whole
    loaded = model.load(tmp_path / "half", device="cpu")
    for name, wanted in white.encoder.state_dict().items():
        assert torch.equal(loaded.encoder.state_dict()[name], wanted.half().float()), name
    assert loaded.fingerprint != white.fingerprint
    with torch.no_grad():
        white.encoder.layers[0].fc1.weight[0, 0] = 1e5
    with pytest.raises(CheckpointError, match=r"float16 cannot hold .*intermediate"):
        model.save_checkpoint(white.encoder, tmp_path / "large", half=True)


def test_pseudo_perplexity_is_that_of_its_definition(nano: Model) -> None:
    letters = "ACGUNGGAUC"
    logs = []
    for place, letter in enumerate(letters):
        if letter != "N":
            packed = model.pack([letters])
            tokens = packed.tokens.copy()
            tokens[place + 1] = model.MASK
            logits = torch.from_numpy(nano.logits(tokens, packed.boundaries))[place + 1, model.NUCLEOTIDES.tolist()]
            logs.append(float(logits.log_softmax(-1)["ACGU".index(letter)]))
    assert nano.pseudo_perplexity(letters) == pytest.approx(np.exp(-np.mean(logs)), rel=1e-4)
    assert nano.pseudo_perplexity("acgtnggatc", batch_tokens=30) == pytest.approx(np.exp(-np.mean(logs)), rel=1e-4)
    windowed = model.initialise(replace(model.SIZES["nano"], max_positions=42), device="cpu")
    windowed.encoder.load_state_dict(nano.encoder.state_dict())
    assert len(windowed.windows(100)) > 1
    letters = "".join(np.random.default_rng(0).choice(list("ACGU"), 100))
    assert 1 < windowed.pseudo_perplexity(letters) == windowed.pseudo_perplexity(letters.replace("U", "T").lower())
    with pytest.raises(SequenceError, match="without A, C, G or U"):
        nano.pseudo_perplexity("NNN")


@pytest.mark.parametrize("length", [1, 40, 41, 99, 100])
def test_the_middle_is_the_row_of_the_middle_nucleotide(nano: Model, length: int) -> None:
    windowed = model.initialise(replace(model.SIZES["nano"], max_positions=62), device="cpu")
    windowed.encoder.load_state_dict(nano.encoder.state_dict())
    letters = "".join(np.random.default_rng(0).choice(list("ACGU"), length))
    for loaded in (nano, windowed):
        rows = loaded.nucleotides(letters)
        middle = rows[[(length - 1) // 2, length // 2]].mean(axis=0)
        found = loaded.pooled("centre").embed(["GGG", letters])[1]
        np.testing.assert_allclose(found, middle, atol=2e-6)
        assert loaded.pooled("mean") is loaded and loaded.pooled("centre").fingerprint != loaded.fingerprint


@pytest.mark.parametrize("name", ["unirna-mini", "nano", "a layer", "the middle"])
def test_a_shared_model_is_the_model_on_the_very_arrays(nano: Model, nano_model_path: Path, name: str) -> None:
    kinds = {"nano": nano, "a layer": model.load(nano_model_path, layer=2), "the middle": nano.pooled("centre")}
    loaded = kinds.get(name) or model.load(name, device="cpu")
    made = model.SharedModel.of(loaded)
    shared = replace(made, arrays={key: array.copy() for key, array in made.arrays.items()})
    for array in shared.arrays.values():
        array.flags.writeable = False  # as Ray's object store gives them
    again = shared.load("cpu")
    assert again.fingerprint == loaded.fingerprint and again.name == loaded.name
    assert (again.embed(["GGGAAACCC", "ACGU" * 40]) == loaded.embed(["GGGAAACCC", "ACGU" * 40])).all()
    for key, tensor in again.encoder.state_dict().items():
        assert np.shares_memory(tensor.numpy(), shared.arrays[key]), key


def test_pytorch_bin_half_precision_and_no_head(nano: Model, tmp_path: Path) -> None:
    from unirna.model.checkpoint import to_released

    nano.save(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    tensors = {n: t.half() for n, t in to_released(nano.encoder).items() if not n.startswith("lm_head.")}
    tensors["pooler.dense.weight"] = torch.zeros(4, 4)
    tensors["encoder.layer.0.attention.self.rotary_embeddings.inv_freq"] = torch.zeros(16)
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    loaded = model.load(tmp_path, device="cpu")
    np.testing.assert_allclose(loaded.embed(["ACGU"]), nano.embed(["ACGU"]), atol=0.05)
    with pytest.raises(CheckpointError, match="no language-model head"):
        loaded.logits([3, 5, 1], [0, 3])


def test_a_pickled_object_is_refused(nano: Model, tmp_path: Path) -> None:
    nano.save(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save({"embeddings": Path("x")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="damaged, cut short or no plain tensors"):
        model.load(tmp_path)


def test_bad_checkpoints_are_explained(nano: Model, tmp_path: Path) -> None:
    def broken(name: str, **changes: object) -> Path:
        folder = nano.save(tmp_path / name)
        config = json.loads((folder / "config.json").read_text()) | changes
        (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
        return folder

    with pytest.raises(CheckpointError, match="among the shipped names"):
        model.load("no-such-model")
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        model.load(tmp_path)
    with pytest.raises(CheckpointError, match="lacks hidden_size"):
        model.load(broken("a", hidden_size=None))
    with pytest.raises(CheckpointError, match=r"intermediate\.dense\.weight has shape \(384, 128\), .* \(999, 128\)"):
        model.load(broken("b", intermediate_size=999))
    with pytest.raises(CheckpointError, match=r"tensors missing: encoder\.layer\.4"):
        model.load(broken("c", num_hidden_layers=5))
    with pytest.raises(CheckpointError, match="position_embedding_type is 'absolute'"):
        model.load(broken("d", position_embedding_type="absolute"))
    cut = broken("e")
    (cut / "model.safetensors").write_bytes((cut / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="damaged"):
        model.load(cut)
    with pytest.raises(ValueError, match="Sizes: nano"):
        model.initialise("huge")


# ---- one sequence, one vector


@settings(max_examples=25, deadline=None)
@given(SEQUENCES, st.randoms(use_true_random=False), st.integers(16, 300))
def test_a_vector_is_the_same_in_any_company(nano: Model, sequences: list[str], chance, budget: int) -> None:
    alone = np.concatenate([nano.embed([s]) for s in sequences])
    order = list(range(len(sequences)))
    chance.shuffle(order)
    together = nano.embed([sequences[i] for i in order], batch_tokens=budget)
    np.testing.assert_allclose(together, alone[order], atol=1e-5)
    spelled = [s.lower().replace("u", "t") for s in sequences]
    np.testing.assert_allclose(nano.embed(spelled), alone, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.text("ACGUN", min_size=1, max_size=80))
def test_a_vector_is_the_mean_over_the_nucleotides(nano: Model, sequence: str) -> None:
    rows = nano.nucleotides(sequence)
    assert rows.shape == (len(sequence), nano.dimension)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows.mean(0), nano.embed([sequence])[0], atol=1e-5)
    packed = model.pack([sequence])
    np.testing.assert_allclose(nano.encode_tokens(packed.tokens, packed.boundaries)[1:-1], rows, atol=1e-5)


def test_nucleotides_of_many_sequences_are_those_of_each(nano: Model) -> None:
    sequences = ["ACGU", "G" * 40, "ACGUN" * 300, "A", "GGGAAACCC" * 5]  # one of them in windows
    many = nano.nucleotides_tokens([model.tokenise(s) for s in sequences], batch_tokens=300)
    for sequence, rows in zip(sequences, many, strict=True):
        assert rows.shape == (len(sequence), nano.dimension)
        np.testing.assert_allclose(rows, nano.nucleotides(sequence), atol=1e-5)
    assert nano.nucleotides_tokens([]) == []


def test_vectors_and_rows_come_from_the_same_passes(nano: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    sequences = ["ACGU", "G" * 40, "ACGUN" * 300, "A", "GGGAAACCC" * 5, "ACGUU" * 280]  # two of them in windows
    wanted = [False, True, True, True, False, False]
    passes: list[int] = []
    run = nano.encoder.states
    monkeypatch.setattr(nano.encoder, "states", lambda ids, *rest: passes.append(len(ids)) or run(ids, *rest))
    found = nano.embed_each(sequences, wanted, batch_tokens=20_000)
    assert len(passes) == 1
    for sequence, each, values in zip(sequences, wanted, found, strict=True):
        alone = nano.nucleotides(sequence) if each else nano.embed([sequence])[0]
        assert values.shape == alone.shape
        np.testing.assert_allclose(values, alone, atol=1e-5)


@pytest.mark.parametrize(("layer", "number"), [(1, 1), (-2, 3), (4, 4)])
def test_states_of_another_layer(nano_model_path: Path, layer: int, number: int) -> None:
    chosen = model.load(nano_model_path, device="cpu", layer=layer)
    assert chosen.config.num_layers == 4
    packed = model.pack(["GGGAAACCC"])
    states = []
    hook = chosen.encoder.layers[number - 1].register_forward_hook(lambda *call: states.append(call[2]))
    rows = chosen.nucleotides("GGGAAACCC")
    hook.remove()
    np.testing.assert_allclose(rows, states[0].numpy()[1:10], atol=1e-5)
    np.testing.assert_allclose(chosen.embed(["GGGAAACCC"])[0], rows.mean(0), atol=1e-5)
    assert chosen.fingerprint != model.load(nano_model_path).fingerprint and len(packed.tokens) == 11


@pytest.mark.parametrize("count", [1, 2, 8, 300])
def test_too_few_distinct_vectors_give_no_whitening(count: int) -> None:
    drawn = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
    assert model.fit_whitening(drawn[np.arange(count) % 8]) is None
    enough = model.fit_whitening(np.concatenate([drawn, drawn[:1] + 1]))
    assert enough is not None and enough.matrix.isfinite().all()
    with pytest.raises(ValueError, match="NaN"):
        model.fit_whitening(np.full((20, 8), np.nan, np.float32))


def test_whitening_is_part_of_the_vector_and_survives_saving(nano: Model, rfam_sample: Path, tmp_path: Path) -> None:
    letters = [record.sequence or "" for record in read(str(rfam_sample))][::10]
    plain = nano.embed(letters)
    white = model.load(nano.save(tmp_path / "plain"), device="cpu")
    white.encoder.whitening = model.fit_whitening(plain)
    loaded = model.load(white.save(tmp_path / "white"), device="cpu")
    vectors = loaded.embed(letters)
    np.testing.assert_array_equal(vectors, white.embed(letters))
    np.testing.assert_allclose(vectors.mean(0), 0, atol=1e-4)
    variance, before = (np.linalg.eigvalsh(np.cov(v, rowvar=False)) for v in (vectors, plain))
    raised = before > 100 * model.whitening.FLOOR * before.max()
    np.testing.assert_allclose(variance[-raised.sum() :], 1 / nano.dimension, rtol=0.02)
    assert variance.max() < 1.001 / nano.dimension
    assert loaded.fingerprint == white.fingerprint != nano.fingerprint
    # Still one vector per sequence, the mean over its rows.
    long = "".join(letters)[:1500]
    np.testing.assert_allclose(
        loaded.nucleotides(long).mean(0, dtype=float), loaded.embed([letters[0], long])[1], atol=1e-5
    )
    np.testing.assert_allclose(np.concatenate([loaded.embed([s]) for s in letters[:20]]), vectors[:20], atol=1e-5)
    packed = model.pack([letters[0]])  # hidden states stay those of the released format
    np.testing.assert_array_equal(*(m.encode_tokens(packed.tokens, packed.boundaries) for m in (loaded, nano)))
    (tmp_path / "white" / "whitening.safetensors").write_bytes(b"cut")
    with pytest.raises(CheckpointError, match=r"whitening\.safetensors is damaged"):
        model.load(tmp_path / "white")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"num_attention_heads": 0}, "num_attention_heads is 0"),
        ({"hidden_size": -128}, "hidden_size is -128"),
        ({"num_hidden_layers": True}, "num_hidden_layers is True"),
        ({"intermediate_size": "many"}, "intermediate_size is 'many'"),
        ({"max_position_embeddings": 2}, "max_positions is 2"),
        ({"layer_norm_eps": 0.0}, "layer_norm_eps is 0"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu'"),
        (None, "expected an object"),
    ],
)
def test_a_configuration_that_makes_no_encoder_is_refused(
    nano: Model, tmp_path: Path, changes: dict[str, object] | None, says: str
) -> None:
    folder = nano.save(tmp_path / "model")
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text("[]" if changes is None else json.dumps(json.loads(text) | changes))
    with pytest.raises(CheckpointError, match=says):
        model.load(folder)


@pytest.mark.parametrize("uri", ["file:///nonexistent/model", "http://localhost/model", "nothing://at/all"])
def test_a_uri_without_a_checkpoint_is_named(uri: str) -> None:
    with pytest.raises(CheckpointError, match=uri):
        model.load(uri)


def test_different_sequences_differ(nano: Model) -> None:
    vectors = nano.embed(["ACGUACGU", "ACGUACGA", "UGCAUGCA"])
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3  # one letter
    assert np.abs(vectors[0] - vectors[2]).max() > 1e-3  # the same letters in another order


def test_ambiguity_codes_are_n_to_the_model(nano: Model) -> None:
    np.testing.assert_array_equal(nano.embed(["ACRYGU"]), nano.embed(["ACNNGU"]))


def test_no_sequences_and_bad_sequences(nano: Model) -> None:
    assert nano.embed([]).shape == (0, nano.dimension)
    with pytest.raises(SequenceError, match="sequence 1: gap at position 3"):
        nano.embed(["ACGU", "AC-GU"])
    with pytest.raises(TypeError, match="got one string"):
        nano.embed("ACGU")
    with pytest.raises(ValueError, match="boundaries"):
        nano.encode_tokens([3, 5, 1], [0, 2])


# ---- longer than the context


@given(st.integers(1, 5000), st.integers(8, 400), st.floats(0, 0.9))
def test_windows_cover_everything_with_weight_one(length: int, context: int, share: float) -> None:
    overlap = int(share * context)
    windows = plan_windows(length, context, overlap)
    total = np.zeros(length)
    for window in windows:
        assert 0 < window.end - window.start <= context
        total[window.start : window.end] += window.weights
    np.testing.assert_allclose(total, 1, atol=1e-5)
    for left, right in pairwise(windows):
        assert left.end - right.start >= min(overlap, 1)


def test_long_sequences_are_windowed_and_close_to_short_ones(nano: Model) -> None:
    chance = np.random.default_rng(0)
    letters = "".join(chance.choice(list("ACGU"), 3000))
    limit = nano.context
    below, above = nano.embed([letters[:limit], letters[: limit + 1]])
    unrelated = nano.embed(["".join(chance.choice(list("ACGU"), limit))])[0]
    assert np.linalg.norm(above - below) < 0.5 * np.linalg.norm(unrelated - below)
    rows = nano.nucleotides(letters)
    assert rows.shape == (3000, nano.dimension)
    np.testing.assert_allclose(rows.mean(0), nano.embed([letters, "ACGU"])[0], atol=1e-5)


# ---- gradients


def test_gradients_stay_inside_a_sequence(nano: Model) -> None:
    from unirna.model.attention import Segments

    packed = model.pack(["ACGUAC", "GGGAAACC"])
    encoder = nano.encoder
    embedded = encoder.embedding(torch.from_numpy(packed.tokens).int()).detach().requires_grad_()
    hook = encoder.embedding.register_forward_hook(lambda *_: embedded)
    encoder(torch.from_numpy(packed.tokens).int(), Segments(packed.boundaries, torch.device("cpu")))[
        :8
    ].square().sum().backward()
    hook.remove()
    assert embedded.grad is not None
    assert embedded.grad[:8].abs().min() > 0
    assert embedded.grad[8:].abs().max() == 0


def test_others_may_read_what_is_saved(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    usual = (tmp_path / "usual").stat().st_mode
    model.initialise("nano", seed=0).save(tmp_path / "m")
    assert {path.stat().st_mode for path in (tmp_path / "m").iterdir()} == {usual}
