"""Secondary structures: the recursions against an enumeration of all structures."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from unirna.fold import Energies, Fold, FoldError, StructurePredictor, draw, fold_all, load_structure_predictor, plot
from unirna.fold.count import count_structure
from unirna.fold.decode import Crossing, CrossingModel, crossing_candidates, crossing_helices, most_accurate
from unirna.fold.drawing import tooltips
from unirna.fold.energies import KIND, LONGEST, NEAREST, codes_of
from unirna.fold.layout import layout
from unirna.fold.network import NetworkConfig, PairNetwork
from unirna.fold.training import Known, Trainer, TrainingConfig, learnable
from unirna.model import Model, initialise
from unirna.sequence import SequenceError, parse_dot_bracket, shuffle_dinucleotides


def random_energies(seed: int, scale: float = 0.5) -> Energies:
    random = np.random.default_rng(seed)
    scores = Energies.published()
    return Energies.from_flat(scores.flat() + random.normal(0, scale, len(scores.flat())))


def all_structures(sequence: str) -> list[list[tuple[int, int]]]:
    """Every nested structure, by a recursion on the first nucleotide that shares nothing with the package."""
    codes = codes_of(sequence)

    def of(i: int, j: int) -> Iterator[list[tuple[int, int]]]:
        if j - i < NEAREST:
            yield []
            return
        yield from of(i + 1, j)
        for k in range(i + NEAREST, j + 1):
            if KIND[codes[i], codes[k]] >= 0:
                for inner, after in itertools.product(list(of(i + 1, k - 1)), list(of(k + 1, j))):
                    yield [(i, k), *inner, *after]

    return list(of(0, len(codes) - 1))


@pytest.mark.parametrize(
    "sequence", ["GGGAAACCC", "GGCAAAGCAGCAAAGCCC", "GAGGAAACCAAGGNAACCUAC", "GCGGAAACAGCAAAGGCAAAGCC", "ACGU"]
)
@pytest.mark.parametrize("seed", [0, 1])
def test_sums_over_all_structures(sequence: str, seed: int) -> None:
    energies = random_energies(seed)
    extra = np.random.default_rng(seed + 9).normal(0, 1, (len(sequence),) * 2)
    structures = all_structures(sequence)
    scores, counted = [], []
    for pairs in structures:
        counts = count_structure(sequence, np.array(pairs, int).reshape(-1, 2)).flat()
        counted.append(counts)
        scores.append(counts @ energies.flat() + sum(extra[i, j] for i, j in pairs))
    log_z = np.logaddexp.reduce(scores)
    weights = np.exp(np.array(scores) - log_z)
    wanted = np.zeros_like(extra)
    for weight, pairs in zip(weights, structures, strict=True):
        for i, j in pairs:
            wanted[i, j] += weight

    found = fold_all(sequence, energies, extra, counts=True)
    assert found.log_z == pytest.approx(log_z, abs=1e-9)
    np.testing.assert_allclose(found.pairs, wanted, atol=1e-9)
    assert found.counts is not None
    np.testing.assert_allclose(found.counts.flat(), weights @ np.array(counted), atol=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_loops_of_all_sizes_are_summed(seed: int) -> None:
    """As above for long sequences, in which few pairs are allowed: about one hairpin, some two hundred others."""
    random = np.random.default_rng(seed)
    length = 80
    letters = random.choice(list("ACGU"), length)
    middle = int(random.integers(38, 42))
    shifts = [
        (0, 0),
        (31, 0),
        (0, 31),
        (30, 0),
        (0, 30),
        (1, 29),
        (29, 1),
        (2, 28),
        (28, 2),
        (15, 15),
        (1, 1),
        (2, 1),
        (16, 15),
    ]
    allowed = {(middle - 3, middle + 3)}
    for left, right in shifts:
        allowed.add((middle - 4 - left, middle + 4 + right))
    allowed |= {(a - 1, b + 1) for a, b in allowed if a > 0 and b + 1 < length}
    for i, j in allowed:
        letters[i], letters[j] = "G", random.choice(["C", "U"])
    sequence = "".join(letters)
    codes = codes_of(sequence)
    allowed = {(i, j) for i, j in allowed if KIND[codes[i], codes[j]] >= 0}
    extra = np.full((length, length), -np.inf)
    for i, j in allowed:
        extra[i, j] = random.normal()

    def nested(pairs: list[tuple[int, int]], rest: list[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
        yield pairs
        for number, (i, j) in enumerate(rest):
            if all(i < a and b < j for a, b in pairs) and (
                not pairs or (pairs[-1][0] - i) + (j - pairs[-1][1]) - 2 <= LONGEST
            ):
                yield from nested([*pairs, (i, j)], rest[number + 1 :])

    structures = list(nested([], sorted(allowed, key=lambda pair: pair[1] - pair[0])))
    assert len(structures) > 60
    energies = random_energies(seed)
    counted = [count_structure(sequence, np.array(pairs, int).reshape(-1, 2)).flat() for pairs in structures]
    scores = [
        counts @ energies.flat() + sum(extra[pair] for pair in pairs)
        for counts, pairs in zip(counted, structures, strict=True)
    ]
    found = fold_all(sequence, energies, extra, counts=True)
    assert found.log_z == pytest.approx(np.logaddexp.reduce(scores), abs=1e-9)
    weights = np.exp(np.array(scores) - found.log_z)
    assert found.counts is not None
    np.testing.assert_allclose(found.counts.flat(), weights @ np.array(counted), atol=1e-9)
    wanted = np.zeros_like(extra)
    for weight, pairs in zip(weights, structures, strict=True):
        for pair in pairs:
            wanted[pair] += weight
    np.testing.assert_allclose(found.pairs, wanted, atol=1e-9)


def test_a_pair_that_is_forbidden_does_not_form() -> None:
    sequence = "GGGGAAAACCCC"
    extra = np.zeros((12, 12))
    extra[:, 11] = -np.inf
    found = fold_all(sequence, Energies.published(), extra)
    assert found.pairs[:, 11].sum() == 0
    assert found.pairs[0, 10] > 0


def test_long_sequences_stay_in_range() -> None:
    random = np.random.default_rng(0)
    extra = np.triu(random.normal(2, 1, (600, 600)))  # far more weight than the first guess of the scale
    found = fold_all("".join(random.choice(list("ACGU"), 600)), Energies.published(), extra)
    either = found.pairs.sum(axis=0) + found.pairs.sum(axis=1)
    assert np.isfinite(found.log_z)
    assert found.log_z > 300
    assert either.max() <= 1 + 1e-9


@pytest.mark.slow
def test_a_long_start_that_cannot_pair_stays_in_range() -> None:
    energies = Energies.published()
    alone = fold_all("GGGGCAAAAGCCCC" * 20, energies)
    found = fold_all("N" * 2900 + "GGGGCAAAAGCCCC" * 20, energies)
    assert np.isfinite(found.pairs).all()
    np.testing.assert_allclose(found.pairs[2900:, 2900:], alone.pairs, atol=1e-9)


def test_a_crossing_helix_that_opens_first_is_in_the_second_brackets() -> None:
    sequence = "GGGCGAAAGCCGGAACGCCCAAAAAACCGGC"
    nested = np.array([[8, 30], [9, 29], [10, 28], [11, 27], [12, 26]])
    crossing = np.array([[0, 19], [1, 18], [2, 17]])
    found = Fold(sequence, nested, crossing, np.zeros((31, 31), np.float32), 0.0)
    assert found.dot_bracket == "[[[.....(((((....]]]......)))))"
    assert found.pairs[:, 0].tolist() == [0, 1, 2, 8, 9, 10, 11, 12]
    drawing = draw(sequence, found.nested, crossing=found.crossing)
    assert drawing.count("stroke-dasharray") == 3
    both = Fold(sequence, nested, np.array([[0, 19], [5, 24]]), np.zeros((31, 31), np.float32), 0.0)
    assert both.dot_bracket[0] == "[" and both.dot_bracket[5] == "{" and both.dot_bracket[24] == "}"


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("gamma", [0.5, 1.0, 3.0])
def test_no_structure_is_more_accurate(seed: int, gamma: float) -> None:
    random = np.random.default_rng(seed)
    sequence = "".join(random.choice(list("GCAU"), 15))
    pairs = fold_all(sequence, random_energies(seed, 1.0)).pairs
    unpaired = 1 - pairs.sum(axis=0) - pairs.sum(axis=1)

    def accuracy(structure: list[tuple[int, int]]) -> float:
        free = set(range(15)) - {place for pair in structure for place in pair}
        return float(sum(2 * gamma * pairs[i, j] for i, j in structure) + sum(unpaired[i] for i in free))

    best = max(accuracy(structure) for structure in all_structures(sequence))
    found = [(int(i), int(j)) for i, j in most_accurate(pairs, gamma)]
    assert accuracy(found) == pytest.approx(best, abs=0.02)  # pairs below RARE are left out
    assert accuracy(found) <= best + 1e-9


def test_helices_that_cross_are_found() -> None:
    #           (((((...[[[[[..)))))......]]]]]
    sequence = "GGGCGAAAGCCGGAACGCCCAAAAAACCGGC"
    first = np.array([(0, 19), (1, 18), (2, 17), (3, 16), (4, 15)])
    pairs = np.zeros((31, 31))
    pairs[first[:, 0], first[:, 1]] = 0.9
    pairs[range(8, 13), range(30, 25, -1)] = 0.1
    energies = Energies.published()
    (helix,) = crossing_candidates(sequence, first, energies, pairs)
    assert helix.pairs == [(8, 30), (9, 29), (10, 28), (11, 27), (12, 26)]
    kinds = [KIND[a, b] for a, b in codes_of(sequence)[np.array(helix.pairs)]]
    assert helix.score == pytest.approx(sum(energies.stack[a, b ^ 1] for a, b in itertools.pairwise(kinds)))
    assert helix.probability == pytest.approx(np.log(0.1), abs=1e-4)
    assert helix.unpaired == pytest.approx(2 * np.log(0.9))
    model = CrossingModel(1, 2, 3, 4, 5, 6)
    expected = 1 + 2 * helix.score + 3 * 5 + 4 * np.log(0.22) + 5 * helix.probability + 6 * helix.unpaired
    assert helix.log_odds(model) == pytest.approx(expected)
    least = CrossingModel(-helix.score, 1, 0, 0, 0, 0)
    assert len(crossing_helices([helix], replace(least, intercept=0.01 - helix.score))) == 5
    assert len(crossing_helices([helix], replace(least, intercept=-0.01 - helix.score))) == 0
    allowed = np.ones((31, 31), bool)
    allowed[8, 30] = False
    assert crossing_candidates(sequence, first, energies, pairs, allowed)[0].pairs[0] == (9, 29)
    assert crossing_candidates("GGGGAAAACCCC" * 2, np.zeros((0, 2), int), energies, np.zeros((24, 24))) == []


def test_of_crossing_helices_the_likelier_is_taken() -> None:
    one, other = Crossing(8, 30, 5, 6.0, -2, -1), Crossing(10, 40, 4, 7.0, -2, -1)  # both use nucleotide 10
    model = CrossingModel(0, 1, 0, 0, 0, 0)
    assert crossing_helices([one, other], model).tolist() == [list(pair) for pair in other.pairs]


@pytest.mark.slow
def test_shuffled_sequences_get_no_pseudoknots() -> None:
    predictor = load_structure_predictor()
    random = np.random.default_rng(0)
    sequence = "".join(random.choice(list("ACGU"), 1_000))
    folds = predictor.fold([sequence, shuffle_dinucleotides(sequence[::-1], random)])
    crossing, nested = (
        sum(len(pairs) for pairs in part) for part in zip(*((f.crossing, f.nested) for f in folds), strict=True)
    )
    assert crossing <= 0.02 * nested  # 24 % by a least score that does not know the span
    (alone,) = predictor.fold([sequence], pseudoknots=False)
    np.testing.assert_array_equal(alone.nested, folds[0].nested)
    assert len(alone.crossing) == 0


def test_of_crossing_helices_the_longer_is_learned() -> None:
    sequence = "GGCCCCAAAGGAAGGGGAAA"
    pairs = np.array([(0, 10), (1, 9), (2, 16), (3, 15), (4, 14), (5, 13)])
    known = learnable(Known("a", sequence, np.array([*pairs.tolist(), (6, 18)])))  # A with A is left out
    assert known.pairs.tolist() == [[2, 16], [3, 15], [4, 14], [5, 13]]


def test_neighbours_in_a_drawing_are_one_unit_apart() -> None:
    brackets = "..((((.((...)).(((....))).)).)).(((...)))."
    places, outward = layout(parse_dot_bracket(brackets), len(brackets))
    steps = np.hypot(*np.diff(places, axis=0).T)
    assert steps == pytest.approx(np.ones(len(brackets) - 1), abs=1e-9)
    for i, j in parse_dot_bracket(brackets):
        assert np.hypot(*(places[i] - places[j])) == pytest.approx(1.0, abs=1e-9)
    distance = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1)) + np.eye(len(brackets))
    assert distance.min() > 0.9  # nothing on top of anything
    np.testing.assert_allclose(np.hypot(*outward.T), 1)


def random_structure(length: int, seed: int) -> list[tuple[int, int]]:
    """Helices of four to nine pairs and loops of all kinds, branches of several sizes in the larger ones."""
    random = np.random.default_rng(seed)
    pairs: list[tuple[int, int]] = []
    open_ = [(0, length)]
    while open_:
        first, last = open_.pop()
        while last - first > 16:
            first += int(random.integers(0, 7))
            size = int(min(last - first, random.integers(14, max(last - first, 15))))
            if size < 14:
                break
            stem = min(int(random.integers(4, 10)), (size - 4) // 2)
            pairs += [(first + k, first + size - 1 - k) for k in range(stem)]
            open_.append((first + stem, first + size - stem))
            first += size
    return pairs


@pytest.mark.parametrize("seed", range(3))
def test_nothing_lies_over_anything_in_a_drawing_of_1500_nucleotides(seed: int) -> None:
    pairs = random_structure(1_500, seed)
    assert len(pairs) > 300
    places, _ = layout(np.array(sorted(pairs)), 1_500)
    distance = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1)) + np.eye(1_500)
    assert distance.min() > 0.6
    steps = np.hypot(*np.diff(places, axis=0).T)
    assert steps.min() > 0.999
    for i, j in pairs:
        assert np.hypot(*(places[i] - places[j])) == pytest.approx(1.0, abs=1e-6)


def test_a_drawing_is_sound_xml_and_escapes() -> None:
    text = draw("GGGAAACCC", parse_dot_bracket("(((...)))"), title="<script>")
    root = ElementTree.fromstring(text)
    assert root.attrib["role"] == "img"
    assert "<script>" not in text
    assert len(root.findall("{*}g/{*}circle")) == 9
    assert root.find("{*}g/{*}title").text == "G1 paired with C9"  # type: ignore[union-attr]
    ElementTree.fromstring(draw("", np.zeros((0, 2), int)))


def test_tooltips_say_partner_and_probability() -> None:
    matrix = np.zeros((9, 9), np.float32)
    matrix[0, 8], matrix[2, 6], matrix[2, 5] = 0.9, 0.5, 0.25
    notes = tooltips("GGGAAACCC", np.array([(0, 8), (2, 6)]), matrix)
    assert notes[0] == "G1 paired with C9, probability 0.90" and notes[8] == "C9 paired with G1, probability 0.90"
    assert notes[1] == "G2 unpaired, probability 1.00" and notes[5] == "A6 unpaired, probability 0.75"


def test_a_plot_of_probabilities_has_every_pair() -> None:
    matrix = np.zeros((9, 9), np.float32)
    matrix[0, 8], matrix[1, 7], matrix[2, 6] = 1, 0.25, 0.005
    root = ElementTree.fromstring(plot("GGGAAACCC", matrix, np.array([(0, 8)]), np.array([(1, 7)])))
    squares = {str(square[0].text): square.attrib for square in root.findall("{*}rect") if len(square)}
    assert list(squares) == [
        "G1-C9, probability 1.00",
        "G2-C8, probability 0.25",  # and none of less than .01
        "G1-C9, in the structure",
        "G2-C8, in a helix that crosses others",
    ]
    one, quarter, below, _ = squares.values()
    assert float(quarter["width"]) == pytest.approx(float(one["width"]) / 2)  # the area is the probability
    assert (one["x"], one["y"]) == (below["y"], below["x"])
    ElementTree.fromstring(plot("", np.zeros((0, 0), np.float32), np.zeros((0, 2), int)))


def hairpins(count: int, seed: int) -> list[Known]:
    """Stems of four with a loop of A; the nucleotides around them pair as well, but are said not to."""
    random = np.random.default_rng(seed)
    found = []
    for number in range(count):
        stem = random.choice(list("ACGU"), 4)
        other = ["ACGU"["UGCA".index(x)] for x in stem[::-1]]
        found.append(Known(f"k{number}", "GCAC" + "".join(stem) + "AAAA" + "".join(other) + "GUGC", HAIRPIN))
    return found


HAIRPIN = np.array([(4, 15), (5, 14), (6, 13), (7, 12)])


@pytest.fixture(scope="module")
def nano() -> Model:
    return initialise("nano", seed=0, device="cpu")


def test_training_teaches_and_resumes_to_the_same(nano: Model, tmp_path: Path) -> None:
    config = TrainingConfig(steps=16, energy_steps=16, batch=4, checkpoint_every=8, energy_rate=0.1)
    train, valid = hairpins(40, 0), hairpins(10, 1)

    whole = Trainer(nano, train, valid, config, tmp_path / "whole")
    before = max(whole.measure(valid).values())
    result = whole.run(lambda line: None)
    assert np.mean(whole.losses[-4:]) < 0.85 * np.mean(whole.losses[:4])
    assert result["valid_f1_nested"] >= before

    cut = Trainer(nano, train, valid, config, tmp_path / "cut")
    step = cut._one_step

    def dying(number: int) -> None:
        if cut.step == 19:
            raise KeyboardInterrupt
        step(number)

    cut._one_step = dying  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        cut.run(lambda line: None)
    again = Trainer(nano, train, valid, config, tmp_path / "cut")
    again.run(lambda line: None)
    assert len(again.losses) == 32 - 16  # what came after the last checkpoint, no more
    np.testing.assert_allclose(again.flat.detach(), whole.flat.detach(), atol=1e-6)
    for name, value in whole.network.state_dict().items():
        torch.testing.assert_close(again.network.state_dict()[name], value, atol=1e-6, rtol=1e-5)


def test_loops_that_learned_nonsense_go_back_towards_the_published_ones(nano: Model, tmp_path: Path) -> None:
    sequence = "GGGGCCAAGAAAACUUGGAAGCGCAAAAGCGCACCCC"
    (fold,) = StructurePredictor(nano, PairNetwork(NetworkConfig(nano.dimension)), Energies.published(), {}).fold(
        [sequence]
    )
    assert len(fold.nested) >= 8
    known = [Known("k", sequence, fold.nested)]
    trainer = Trainer(nano, known, known, TrainingConfig(network=False), tmp_path)
    with torch.no_grad():
        trainer.flat -= 1  # so that nothing pairs any more
    assert max(trainer.measure(known).values()) == 0
    share = trainer._interpolate()
    assert share == 0.6 and max(trainer.measure(known).values()) == 1
    torch.testing.assert_close(trainer.flat.detach(), trainer.start - share)
    with torch.no_grad():
        trainer.flat.copy_(trainer.start)
    assert trainer._interpolate() == 1.0


def test_a_predictor_is_saved_and_read(nano: Model, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = PairNetwork(NetworkConfig(nano.dimension))
    torch.nn.init.normal_(network.leave.weight)
    predictor = StructurePredictor(nano, network, random_energies(0), {"gamma": 2.0})
    path = predictor.save(tmp_path / "p")
    read = load_structure_predictor(path, model=nano)
    sequences = ["GGGGAAAACCCCAGGGAAAACCC", "ggggaaaaccccagggaaaaccc", "ACGUACGUUAGCAUCGUAGCUAGCUA" * 3, "A", "NNNN"]
    first, alone = predictor.fold(sequences), [read.fold([text])[0] for text in sequences]
    for a, b in zip(first, alone, strict=True):
        assert a.sequence == b.sequence
        np.testing.assert_allclose(a.matrix, b.matrix, atol=5e-3)  # the head is kept in half precision
        assert len(a.dot_bracket) == len(a.sequence)
        assert a.paired.max(initial=0) <= 1
    np.testing.assert_array_equal(first[0].matrix, first[1].matrix)
    np.testing.assert_allclose(alone[2].matrix, read.fold(sequences)[2].matrix, atol=1e-5)
    assert first[3].dot_bracket == "."
    other = initialise("nano", seed=1, device="cpu")
    with pytest.raises(FoldError, match="was trained on the states of"):
        load_structure_predictor(path, model=other)
    with pytest.raises(FoldError, match=r"fold\.json"):
        load_structure_predictor(tmp_path / "nothing")
    with pytest.raises(FoldError, match="up to 4,000"):
        read.fold(["A" * 4001])
    with pytest.raises(SequenceError, match="sequence 0"):
        read.fold(["MEQ"])


def test_rows_in_blocks_are_those_of_the_whole(nano: Model) -> None:
    torch.manual_seed(0)
    network = PairNetwork(NetworkConfig(16)).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    states, codes = torch.randn(600, 16), torch.randint(0, 4, (600,))
    kinds = torch.from_numpy(KIND)[codes][:, codes]
    with torch.no_grad():
        blocks = network(states, codes, kinds)
        x = network._nucleotides(states, codes)
        whole = network._pairs(x, network._columns(x), kinds, 0, 600)
    torch.testing.assert_close(blocks.triu(), whole.triu(), atol=1e-4, rtol=1e-4)
