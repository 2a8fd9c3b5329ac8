"""Corpus: every record counted, no copy kept, no near-duplicate on two sides, and the same bytes after any kill."""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from unirna.corpus import (
    BuildConfig,
    Corpus,
    CorpusError,
    agreement,
    build,
    build_corpus,
    cluster,
    corpus_job,
    parse_source,
    verify,
)
from unirna.corpus.kmers import distinct_kmers, shared_kmers
from unirna.corpus.work import Work
from unirna.runs import Folder
from unirna.sequence import InputError, normalise, read, sequence_sha

ROOT = Path(__file__).resolve().parent.parent
LETTERS = np.array(list("..N..A.CGU"))
SPLITS = ("train", "valid", "test")
needs_mmseqs = pytest.mark.skipif(shutil.which("mmseqs") is None, reason="needs the program mmseqs (MMseqs2)")
TOOLS = [pytest.param("mmseqs2", marks=needs_mmseqs), "minhash"]


@pytest.fixture
def tool(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The tool that finds near-duplicates: MMseqs2, or our own steps as where it is not installed."""
    if request.param == "minhash":
        monkeypatch.setattr(build, "mmseqs_version", lambda: "")
    return str(request.param)


def random_rna(chance: np.random.Generator, length: int) -> str:
    return "".join(chance.choice(list("ACGU"), length))


def mutate(sequence: str, identity: float, chance: np.random.Generator) -> str:
    """Substitutions at an exact number of places, all of them to another letter."""
    letters = list(sequence)
    for i in chance.choice(len(letters), round((1 - identity) * len(letters)), replace=False):
        letters[i] = chance.choice([c for c in "ACGU" if c != letters[i]])
    return "".join(letters)


def write_fasta(path: Path, sequences: dict[str, str]) -> str:
    path.write_text("".join(f">{name}\n{letters}\n" for name, letters in sequences.items()))
    return str(path)


def write_table(path: Path, **columns: list) -> str:
    pq.write_table(pa.table(columns), path)
    return str(path)


def letters_of(folder: Path, *splits: str) -> list[str]:
    corpora = [Corpus(folder, name) for name in splits or SPLITS]
    return ["".join(LETTERS[corpus[i]]) for corpus in corpora for i in range(len(corpus))]


def ids_of(folder: Path, split: str = "*") -> dict[str, dict]:
    rows = [row for path in sorted(folder.glob(f"{split}-*.ids.parquet")) for row in pq.read_table(path).to_pylist()]
    return {row["id"]: row for row in rows}


def content_of(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


# ---- what is in


def test_corpus_holds_every_sequence_once(rfam_sample: Path, tmp_path: Path) -> None:
    manifest = build_corpus(BuildConfig((str(rfam_sample),), str(tmp_path / "c")))
    assert sorted(letters_of(tmp_path / "c")) == sorted({normalise(r.sequence or "") for r in read(str(rfam_sample))})
    assert manifest["read"] == manifest["kept"] + manifest["rejected"] + manifest["duplicates"] == 3900
    assert 0 < len(Corpus(tmp_path / "c", "valid")) < 200
    assert not (tmp_path / "c" / "work").exists()


records = st.lists(
    st.tuples(st.sampled_from(["ACGU", "acgt", "ACGT", "GGNC", "AC-U", "", "MKL", "UUUUUUUUUU"]), st.integers(0, 3)),
    min_size=1,
    max_size=30,
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=records, second=records, size=st.sampled_from([150, 1000]))
def test_sums_add_up_and_the_first_copy_stands(first: list, second: list, size: int, tmp_path_factory) -> None:
    folder = tmp_path_factory.mktemp("sums")
    rows = [
        [(f"{n}{i}", letters * (1 + times)) for i, (letters, times) in enumerate(r)]
        for n, r in zip("ab", (first, second), strict=True)
    ]
    paths = [write_fasta(folder / f"{n}.fasta", dict(r)) for n, r in zip("ab", rows, strict=True)]
    expected: dict[str, str] = {}
    bad = 0
    for name, letters in rows[0] + rows[1]:
        try:
            expected.setdefault(normalise(letters), name)
        except ValueError:
            bad += 1
    config = BuildConfig(tuple(paths), str(folder / "c"), valid_share=0, shard_nucleotides=size)
    if not expected:
        with pytest.raises(CorpusError, match="no sequence to train on"):
            build_corpus(config)
        return
    manifest = build_corpus(config)
    assert manifest["rejected"] == bad
    assert manifest["read"] == len(first) + len(second) == manifest["kept"] + bad + manifest["duplicates"]
    assert {row["sha"]: name for name, row in ids_of(folder / "c").items()} == {
        sequence_sha(letters): name for letters, name in expected.items()
    }
    # Sequences lie in the order of their hashes, whatever the number of shards.
    assert letters_of(folder / "c", "train") == [
        s.translate(str.maketrans("RY", "NN")) for s in sorted(expected, key=sequence_sha)
    ]


def test_copies_become_one_and_stay_on_one_side(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    distinct = [random_rna(chance, 30) for _ in range(200)]
    rna = write_fasta(tmp_path / "a.fasta", {f"r{i}": s for i, s in enumerate(distinct)})
    dna = write_fasta(tmp_path / "b.fasta", {f"d{i}": s.replace("U", "t").lower() for i, s in enumerate(distinct)})
    manifest = build_corpus(BuildConfig((rna, dna), str(tmp_path / "c"), valid_share=0.3, test_share=0.2))
    sides = [letters_of(tmp_path / "c", split) for split in SPLITS]
    assert sorted(s for side in sides for s in side) == sorted(distinct)
    assert min(len(side) for side in sides) > 20
    assert manifest["by_source"]["b"]["duplicates"] == 200
    assert all(name.startswith("r") for name in ids_of(tmp_path / "c"))


def test_sources_and_groups_of_each_sequence(tmp_path: Path) -> None:
    one = write_table(tmp_path / "a.parquet", id=["x", "y"], sequence=["ACGUACGU", "GGGGCCCC"], family=["F2", None])
    two = write_table(tmp_path / "b.parquet", id=["v", "w"], sequence=["GGGGCCCC", "UUUUAAAA"], family=["F1", ""])
    three = write_fasta(tmp_path / "c.fasta", {"z": "CACACACA"})
    out = tmp_path / "out"
    manifest = build_corpus(BuildConfig((f"left={one}", two, f"{three}@3"), str(out), 0, group_column="family"))
    corpus = Corpus(out)
    assert corpus.sources == ("left", "b", "c")
    assert manifest["source_weights"] == [1, 1, 3]
    assert corpus.groups == ("F1", "F2")
    found = {
        "".join(LETTERS[corpus[i]]): (corpus.sources[corpus.source_of(i)], corpus.group_of(i)) for i in range(len(corpus))
    }
    # y comes first, and takes its group from v, its copy.
    expected = {"ACGUACGU": ("left", 1), "GGGGCCCC": ("left", 0), "UUUUAAAA": ("b", -1), "CACACACA": ("c", -1)}
    assert found == expected
    assert manifest["splits"]["train"]["with_group"] == 2
    assert len({corpus.cluster_of(i) for i in range(4)}) == 4
    empty = Corpus(out, "valid")
    assert (len(empty), empty.num_tokens) == (0, 0)
    with pytest.raises(CorpusError, match="no sequence in its split 'valid'"):
        empty.draw(np.random.default_rng(0))
    with pytest.raises(CorpusError, match="it has train, valid, test"):
        Corpus(out, "dev")


# ---- what is out


def test_rules_drop_a_sequence_in_all_its_copies(tmp_path: Path) -> None:
    columns = {"id": list("abcde"), "sequence": ["ACGUACGU", "GGGGCCCC", "UUUUAAAA", "CACACACA", "GUGUGUGU"]}
    flagged = [False, True, None, False, False]
    path = write_table(tmp_path / "t.parquet", **columns, family=["F1", "F1", "F2", "F3", None], in_test=flagged)
    copy = write_fasta(tmp_path / "first.fasta", {"copy": "ggggcccc", "free": "AAAAACCCCC"})
    groups = tmp_path / "families.tsv"
    groups.write_text("family\tnote\nF3\tx\nF9\ty\n")
    config = BuildConfig(
        (copy, path), str(tmp_path / "c"), 0, group_column="family", drop=("in_test",), drop_groups=str(groups)
    )
    manifest = build_corpus(config)
    assert set(ids_of(tmp_path / "c")) == {"a", "c", "e", "free"}
    assert manifest["excluded_by_set"] == {"in_test": 1, "family in families.tsv": 1}
    assert (manifest["read"], manifest["kept"], manifest["duplicates"], manifest["excluded"]) == (7, 4, 1, 2)
    rows = pq.read_table(tmp_path / "c" / "excluded.parquet").to_pylist()
    assert {(row["id"], row["source"], row["set"]) for row in rows} == {
        ("copy", "first", "in_test"),
        ("d", "t", "family in families.tsv"),
    }


@pytest.mark.parametrize("tool", TOOLS, indirect=True)
def test_exclusion_finds_copies_relatives_and_fragments_and_nothing_else(tool: str, tmp_path: Path) -> None:
    chance = np.random.default_rng(1)
    tests = {f"t{i}": random_rna(chance, 120) for i in range(40)}
    inputs: dict[str, str] = {}
    for name, letters in tests.items():
        flanks = [random_rna(chance, 150) for _ in range(2)]
        inputs[f"same-{name}"] = letters.replace("U", "T").lower()
        inputs[f"near-{name}"] = mutate(letters, 0.9, chance)
        inputs[f"inside-{name}"] = flanks[0] + mutate(letters, 0.92, chance) + flanks[1]
        inputs[f"fragment-{name}"] = mutate(letters[20:80], 0.95, chance)
        inputs[f"half-{name}"] = letters[:48] + random_rna(chance, 72)  # 40 % of the length is not enough
        inputs[f"other-{name}"] = random_rna(chance, 120)
        inputs[f"reverse-{name}"] = letters[::-1].translate(
            str.maketrans("ACGU", "UGCA")
        )  # the other strand is another RNA
    config = BuildConfig(
        (write_fasta(tmp_path / "in.fasta", inputs),),
        str(tmp_path / "c"),
        0,
        exclude=(f"bench={write_fasta(tmp_path / 'test.fasta', tests)}",),
        shard_nucleotides=30_000,
    )
    manifest = build_corpus(config)
    rows = pq.read_table(tmp_path / "c" / "excluded.parquet").to_pylist()
    kinds = Counter(row["id"].split("-")[0] for row in rows)
    assert kinds["same"] == 40
    assert min(kinds["near"], kinds["inside"], kinds["fragment"]) >= (40 if tool == "mmseqs2" else 38)
    # Without an alignment an identical part is as good as the whole: the k-mers err on the side of leaving out.
    assert set(kinds) - ({"half"} if tool == "minhash" else set()) == {"same", "near", "inside", "fragment"}
    assert all(row["match"] == row["id"].split("-")[1] and row["set"] == "bench" for row in rows)
    assert all(row["identity"] >= 0.8 for row in rows if tool == "mmseqs2")
    assert manifest["excluded_by_set"] == {"bench": len(rows)}
    assert manifest["read"] == 280 == manifest["kept"] + manifest["excluded"]
    assert not {row["id"] for row in rows} & set(ids_of(tmp_path / "c"))


def test_short_members_exclude_copies_alone(tmp_path: Path) -> None:
    short = "ACGUACGUACGGAUUCGA"
    path = write_fasta(tmp_path / "in.fasta", {"same": short, "longer": short + "A", "other": "GGGGAAAAUUUUCCCCA"})
    sets = write_fasta(tmp_path / "test.fasta", {"t": short})
    manifest = build_corpus(BuildConfig((path,), str(tmp_path / "c"), 0, exclude=(sets,)))
    assert manifest["excluded_by_set"] == {"test": 1}
    assert set(ids_of(tmp_path / "c")) == {"longer", "other"}


# ---- clusters


def families(chance: np.random.Generator, number: int, members: int, identity: float = 0.9) -> dict[str, str]:
    """Families of one sequence and its relatives, some of them a little shorter."""
    found = {}
    for family in range(number):
        seed = random_rna(chance, int(chance.integers(80, 400)))
        found[f"{family}-0"] = seed
        for member in range(1, members):
            start = int(chance.integers(0, 10)) if member % 2 else 0
            found[f"{family}-{member}"] = mutate(seed[start:], identity, chance)
    return found


@pytest.mark.parametrize("tool", TOOLS, indirect=True)
def test_near_duplicates_are_one_cluster_on_one_side(tool: str, tmp_path: Path) -> None:
    records = families(np.random.default_rng(2), 60, 6, 0.95)
    config = BuildConfig(
        (write_fasta(tmp_path / "in.fasta", records),),
        str(tmp_path / "c"),
        valid_share=0.3,
        clustering="auto",
        shard_nucleotides=20_000,
    )
    manifest = build_corpus(config)
    assert manifest["clustering"] == tool
    rows = ids_of(tmp_path / "c")
    clusters = [{rows[f"{family}-{member}"]["cluster"] for member in range(6)} for family in range(60)]
    assert [len(c) for c in clusters] == [1] * 60
    assert len(set.union(*clusters)) == manifest["clusters"]["clusters"] == 60  # strangers are not joined
    assert manifest["clusters"]["largest"] == 6
    sides = [{rows[f"{family}-{member}"]["split"] for member in range(6)} for family in range(60)]
    assert all(len(side) == 1 for side in sides)
    assert 5 < sum(side == {"valid"} for side in sides) < 35
    by_number = {}
    for split in ("train", "valid"):
        corpus = Corpus(tmp_path / "c", split)
        by_number |= {"".join(LETTERS[corpus[i]]): corpus.cluster_of(i) for i in range(len(corpus))}
    assert by_number == {records[name]: row["cluster"] for name, row in rows.items()}


def test_clusters_do_not_depend_on_the_number_of_buckets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_fasta(tmp_path / "in.fasta", families(np.random.default_rng(3), 40, 5))
    found = []
    for size in (5_000, 1_000_000):
        build_corpus(BuildConfig((path,), str(tmp_path / str(size)), clustering="minhash", shard_nucleotides=size))
        found.append({name: row["cluster"] for name, row in ids_of(tmp_path / str(size)).items()})
    assert found[0] == found[1]


def test_members_resemble_their_representative_not_each_other_in_chains(tmp_path: Path) -> None:
    chance = np.random.default_rng(4)
    chain = [random_rna(chance, 400)]
    for _ in range(6):  # each 90 % identical to the one before: the last has little in common with the first
        chain.append(mutate(chain[-1], 0.9, chance))
    path = write_fasta(tmp_path / "in.fasta", {f"{i}": s for i, s in enumerate(chain)})
    build_corpus(BuildConfig((path,), str(tmp_path / "c"), 0, clustering="minhash"))
    rows = ids_of(tmp_path / "c")
    assert rows["0"]["cluster"] != rows["6"]["cluster"]
    assert len({row["cluster"] for row in rows.values()}) > 1


def test_rounds_give_what_going_from_the_longest_gives(tmp_path: Path) -> None:
    chance = np.random.default_rng(10)
    number, starts = 60, np.array([0, 25, 25, 60])  # the second bucket is empty
    rank = chance.permutation(number)  # of length: 0 is the longest
    partners = {
        i: sorted((j for j in range(number) if rank[j] < rank[i] and chance.random() < 0.1), key=lambda j: rank[j])
        for i in range(number)
    }
    work = Work(tmp_path)
    for bucket in range(3):
        rows = [(i, j) for i in range(starts[bucket], starts[bucket + 1]) for j in partners[i]]
        work.write_array("edges", bucket, np.array(rows, np.int64).reshape(-1, 2))
    turn, undecided = 0, 1
    while undecided:
        undecided = sum(cluster.settle_bucket(work, bucket, starts, turn)["undecided"] for bucket in range(3))
        turn += 1
    expected: dict[int, int] = {}
    for i in sorted(range(number), key=lambda i: rank[i]):
        expected[i] = next((j for j in partners[i] if expected[j] == j), i)
    assert turn > 3
    assert np.concatenate([work.array(f"settle-{turn - 1}", b) for b in range(3)]).tolist() == [
        expected[i] for i in range(number)
    ]


def test_shared_kmers_are_those_of_a_plain_count() -> None:
    chance = np.random.default_rng(5)
    base = random_rna(chance, 60)
    left = [base, random_rna(chance, 30), "ACGUN" * 8, "ACG"]
    right = [mutate(base, 0.9, chance), base[10:50], "ACGUN" * 4]

    def plain(a: str, b: str, k: int) -> float:
        one, other = ({s[i : i + k] for i in range(len(s) - k + 1) if "N" not in s[i : i + k]} for s in (a, b))
        return len(one & other) / max(min(len(one), len(other)), 1)

    pairs = np.array([(i, j) for i in range(4) for j in range(3)])
    arrays = [pa.array(s, pa.large_string()) for s in (left, right)]
    for k in (3, 10):
        expected = [plain(left[i], right[j], k) for i, j in pairs]
        np.testing.assert_allclose(shared_kmers(arrays[0], arrays[1], pairs, k), expected)
    codes, rows = distinct_kmers(arrays[0].slice(1), 3)  # a slice starts in the middle of its buffer
    assert (np.diff(rows) >= 0).all()
    assert len(codes) == len({left[1][i : i + 3] for i in range(28)}) + 2 + 1


def test_agreement_is_the_usual_one() -> None:
    chance = np.random.default_rng(6)
    one = chance.integers(0, 20, 300)
    other = np.where(chance.random(300) < 0.8, one, chance.integers(0, 20, 300))
    found = agreement(one, other)
    assert found["rand"] == pytest.approx(adjusted_rand_score(one, other))
    assert agreement(one, one * 7 + 3) == {"rand": 1, "precision": 1, "recall": 1}
    assert agreement(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 2]))["precision"] == 1
    assert agreement(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 2]))["recall"] == pytest.approx(1 / 3)


# ---- weights


@pytest.mark.parametrize("exponents", [(0.5, 0.5), (0.0, 1.0), (1.0, 0.0)])
def test_weights_follow_the_formula(exponents: tuple[float, float], tmp_path: Path) -> None:
    chance = np.random.default_rng(7)
    big, small = families(chance, 3, 8), families(chance, 10, 2)
    mixed = {**dict(list(small.items())[:4]), "shared": mutate(big["0-0"], 0.95, chance)}  # joins a cluster of `big`
    paths = [write_fasta(tmp_path / f"{n}.fasta", r) for n, r in (("big", big), ("small", mixed))]
    config = BuildConfig(
        (paths[0], f"{paths[1]}@3"),
        str(tmp_path / "c"),
        valid_share=0,
        clustering="minhash",
        cluster_exponent=exponents[0],
        source_exponent=exponents[1],
        shard_nucleotides=2_000,
    )
    manifest = build_corpus(config)
    corpus = Corpus(tmp_path / "c")
    assert len(manifest["shards"]) > 2
    n = len(corpus)
    clusters, source = ([f(i) for i in range(n)] for f in (corpus.cluster_of, corpus.source_of))
    size = Counter(clusters)
    raw = np.array([size[c] ** (exponents[0] - 1) for c in clusters])
    share = np.array(
        [
            w * sum(1 / size[c] for c, s in zip(clusters, source, strict=True) if s == i) ** exponents[1]
            for i, w in ((0, 1), (1, 3))
        ]
    )
    share /= share.sum()
    expected = np.array([raw[i] * share[source[i]] / raw[np.array(source) == source[i]].sum() for i in range(n)])
    cumulative = [np.load(p) for p in sorted((tmp_path / "c").glob("train-*.cumulative.npy"))]
    np.testing.assert_allclose(np.concatenate([np.diff(c, prepend=0) for c in cumulative]), expected)
    assert manifest["splits"]["train"]["sources"]["small"]["share"] == pytest.approx(share[1], abs=1e-6)
    random = np.random.default_rng(0)
    drawn = np.bincount([corpus.draw(random) for _ in range(20_000)], minlength=n) / 20_000
    assert np.abs(drawn - expected).max() < 5 * np.sqrt(expected.max() / 20_000)
    one, other = (np.random.default_rng(9) for _ in range(2))
    assert [corpus.draw(one) for _ in range(20)] == [corpus.draw(other) for _ in range(20)]


# ---- kills, damage, mistakes


def a_build(tmp_path: Path, out: str) -> BuildConfig:
    chance = np.random.default_rng(8)
    data = []
    for name in "ab":
        rows = families(chance, 12, 4)
        families_of = [f"F{key.split('-')[0]}" for key in rows]
        path = tmp_path / f"{name}.parquet"
        if not path.exists():
            write_table(path, id=list(rows), sequence=list(rows.values()), family=families_of)
        data.append(str(path))
    sets = write_fasta(tmp_path / "test.fasta", {"t": pq.read_table(data[0])["sequence"][0].as_py()})
    return BuildConfig(
        tuple(data),
        str(tmp_path / out),
        valid_share=0.2,
        group_column="family",
        exclude=(sets,),
        clustering="minhash",
        shard_nucleotides=25_000,
    )


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_any_moment_gives_the_same_bytes(when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "mmseqs_version", lambda: "")
    build_corpus(a_build(tmp_path, "whole"))
    write = Folder.write_json
    kills: Counter[str] = Counter()
    calls: Counter[str] = Counter()

    def dying(self: Folder, name: str, record: dict) -> None:
        """Dies just before or just after the first try of every part of every stage is noted."""
        calls[name] += 1
        if calls[name] > 1 or when == "after":
            write(self, name, record)
        if calls[name] == 1:
            kills[name.partition("/")[0]] += 1
            raise KeyboardInterrupt

    monkeypatch.setattr(Folder, "write_json", dying)
    for _ in range(200):
        try:
            build_corpus(a_build(tmp_path, "killed"))
            break
        except KeyboardInterrupt:
            assert not (tmp_path / "killed" / "manifest.json").exists()
    stages = {
        "rows",
        "references",
        "kept",
        "sketch",
        "pairs",
        "edges",
        "settle-0",
        "cluster",
        "members",
        "sizes",
        "raw",
        "shards",
    }
    assert stages <= set(kills)
    assert max(calls.values()) == (2 if when == "before" else 1)  # what is finished is not done again
    assert content_of(tmp_path / "killed") == content_of(tmp_path / "whole")
    assert verify(tmp_path / "killed") == len(content_of(tmp_path / "killed")) - 1


def test_other_settings_in_one_folder_start_again_or_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "mmseqs_version", lambda: "")
    config = a_build(tmp_path, "c")

    def dying(function: Callable, items: list):  # two parts of each stage, then the lights go out
        for item in items[:2]:
            function(item)
            yield item
        if len(items) > 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_corpus(config, dying)
    other = replace(config, valid_share=0.5)
    build_corpus(other)
    build_corpus(replace(other, out=str(tmp_path / "fresh")))
    assert content_of(tmp_path / "c") == content_of(tmp_path / "fresh")
    assert build_corpus(other) == json.loads((tmp_path / "c" / "manifest.json").read_text())
    with pytest.raises(CorpusError, match="other data or settings"):
        build_corpus(config)


def test_a_damaged_shard_is_found(tmp_path: Path) -> None:
    path = write_fasta(tmp_path / "x.fasta", {f"k{i}": "ACGUACGU" + "ACGU" * i for i in range(9)})
    build_corpus(BuildConfig((path,), str(tmp_path / "c"), valid_share=0))
    assert verify(tmp_path / "c") == 11
    shard = tmp_path / "c" / "train-00000.tokens"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    Corpus(tmp_path / "c")  # of the right size
    with pytest.raises(CorpusError, match=r"train-00000.tokens does not match its checksum"):
        verify(tmp_path / "c")
    shard.write_bytes(whole[:-1])
    with pytest.raises(CorpusError, match="damaged"):
        Corpus(tmp_path / "c")
    shard.write_bytes(whole)
    group = tmp_path / "c" / "train-00000.group.npy"
    group.unlink()
    with pytest.raises(CorpusError, match=r"group.npy is missing"):
        verify(tmp_path / "c")
    with pytest.raises(CorpusError, match=r"group.npy cannot be read"):
        Corpus(tmp_path / "c")
    with pytest.raises(CorpusError, match=r"no manifest\.json"):
        Corpus(tmp_path)


def test_rejects_are_counted_by_reason(tmp_path: Path) -> None:
    path = tmp_path / "x.fasta"
    path.write_text(">a\nACGU\n>b\nAC-U\n>c\nMKL\n>d\n\n" + "".join(f">k{i}\nACGUACGU{'ACGU' * i}\n" for i in range(9)))
    manifest = build_corpus(BuildConfig((str(path),), str(tmp_path / "c"), valid_share=0))
    assert manifest["rejected_by_reason"] == {"gap": 1, "protein letter": 1, "empty sequence": 1}
    assert manifest["read"] == 13
    rejects = pq.read_table(tmp_path / "c" / "rejects.parquet").to_pylist()
    assert [(r["id"], r["number"], r["reason"], r["letter"]) for r in rejects] == [
        ("b", 2, "gap", "-"),
        ("c", 3, "protein letter", "L"),
        ("d", 4, "empty sequence", ""),
    ]
    assert all(r["source"].endswith("x.fasta") for r in rejects)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"valid_share": 0.7, "test_share": 0.3},
            "valid share 0.7, test share 0.3: expected 0 or more, together less than 1",
        ),
        ({"identity": 0.2}, "identity 0.2: expected 0.5 to 1"),
        ({"exclude_coverage": 1.2}, "exclude coverage 1.2"),
        ({"cluster_exponent": 2}, "cluster exponent 2: expected 0 to 1"),
        ({"clustering": "cdhit"}, "expected one of auto, mmseqs2, minhash, none"),
        ({"clustering": "mmseqs2"}, "no program `mmseqs` is installed"),
        ({"group_column": "family"}, "no input has a column 'family'. Name another with --group-column"),
        ({"drop": ("in_test",)}, "no input has a column 'in_test'. Name another with --drop"),
        ({"drop_groups": "x.tsv"}, "give --group-column too"),
        ({"data": ("{}@heavy",)}, "weight 'heavy' is not a positive number"),
        ({"data": ("{}@-1",)}, "weight '-1' is not a positive number"),
        ({"data": ("x={}", "x={}@2")}, "source 'x' has weights 1 and 2"),
        ({"data": ("nowhere.fasta",)}, "nowhere.fasta: no such file"),
        ({"exclude": ("nowhere.fasta",)}, "nowhere.fasta: no such file"),
        ({"shard_nucleotides": 0}, "shard nucleotides 0"),
    ],
)
def test_mistakes_are_named(change: dict, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "mmseqs_version", lambda: "")
    path = write_fasta(tmp_path / "a.fasta", {"a": "ACGUACGU"})
    data = tuple(spec.format(path) for spec in change.get("data", ("{}",)))
    with pytest.raises((CorpusError, InputError)) as caught:
        build_corpus(BuildConfig(**{"out": str(tmp_path / "c"), "valid_share": 0, **change, "data": data}))
    assert says in str(caught.value)


def test_a_drop_column_that_is_no_flag_is_named(tmp_path: Path) -> None:
    path = write_table(tmp_path / "t.parquet", id=["a"], sequence=["ACGU"], flag=["maybe"])
    with pytest.raises(InputError, match="column 'flag', which --drop names, is not true or false"):
        build_corpus(BuildConfig((path,), str(tmp_path / "c"), drop=("flag",)))


def test_names_and_weights_of_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for odd in ("a@2", "x=y.fasta"):
        Path(odd).touch()
    for spec, name, path, weight in [
        ("dir/rfam.fasta.gz", "rfam", "dir/rfam.fasta.gz", 1),
        ("r=s3://bucket/x.parquet@0.5", "r", "s3://bucket/x.parquet", 0.5),
        ("s3://user@host/x.fa", "x", "s3://user@host/x.fa", 1),
        ("folder/", "folder", "folder/", 1),
        ("*.fa@3", "*", "*.fa", 3),
        ("-", "stdin", "-", 1),
        ("a@2", "a@2", "a@2", 1),
        ("x=y.fasta", "x=y", "x=y.fasta", 1),
    ]:
        source = parse_source(spec)
        assert (source.name, source.path, source.weight) == (name, path, weight)


# ---- the page and the job


def test_the_page_says_what_happened_and_loads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "mmseqs_version", lambda: "")
    manifest = build_corpus(a_build(tmp_path, "c"))
    page = (tmp_path / "c" / "summary.html").read_text()
    assert f"{manifest['read']:,} records read = {manifest['kept']:,} kept" in page
    assert page.count("<svg") == 2
    for word in ("src=", "href=", "http", "@import", "<script"):
        assert word not in page
    for word in ("Sources", "Lengths", "Clusters", "Excluded", "minhash at 80% identity"):
        assert word in page


def test_the_job_spreads_the_work_and_gives_the_same_bytes(ray_cluster: None, tmp_path: Path) -> None:
    config = a_build(tmp_path, "plain")
    build_corpus(config)
    summary = corpus_job(replace(config, out=str(tmp_path / "ray")))
    assert content_of(tmp_path / "ray") == content_of(tmp_path / "plain")
    counts = ("kept", "rejected", "duplicates", "excluded")
    assert summary["read"] == sum(summary[name] for name in counts)

    # ---- what a worker finds wrong with the input is the user's to read, not Ray's
    pq.write_table(pa.table({"name": ["a"], "sequence": ["ACGU"]}), tmp_path / "t.parquet")
    with pytest.raises(ValueError, match=r"t.parquet: has no column 'id'.*with --id-column") as caught:
        corpus_job(BuildConfig((str(tmp_path / "t.parquet"),), str(tmp_path / "none")))
    assert not str(type(caught.value).__module__).startswith("ray")
