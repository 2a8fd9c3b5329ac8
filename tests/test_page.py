"""The web page in a real browser: chromium, driven over WebDriver's plain HTTP."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.browser import Browser
from unirna import sdk
from unirna.tasks import DataConfig, FinetuneConfig, finetune

TRNA = "GCGGAUUUAGCUCAGUUGGGAGAGCGCCAGACUGAAGAUCUGGAGGUCCUGUGUUCGAUCCACAGAAUUCGCACCA"
RFAM = {"riboswitch": "Cis-reg;riboswitch", "ribozyme": "ribozyme;RNase P"}
CLOVERLEAF = "(((((((..((((........)))).(((((.......))))).....(((((.......))))))))))))...."


@pytest.fixture
def page(browser: Browser, service: Any) -> Browser:
    browser.size(1100, 900)
    browser.open(service.url)
    browser.wait("document.querySelector('#collection').options.length === 2")
    browser.console()
    return browser


def search(page: Browser, sequence: str, where: str = "") -> None:
    page.type("#sequence", sequence)
    page.type("#where", where)
    page.click("#search-form .primary")
    page.wait("!document.querySelector('#search-form .primary').disabled")


def test_a_held_out_sequence_finds_hits(page: Browser, library: Any, tmp_path: Path) -> None:
    query = library.heldout[0]
    page.click("#verify")  # by vectors alone
    search(page, f">{query['id']}\n{query['sequence']}\n", where="length < 200")
    page.wait("document.querySelectorAll('#hits tr:not(.alignment)').length === 10")
    assert [t.strip() for t in page.texts("#headings th")] == [
        "#", "id", "family", "family name", "rna type", "length", "similarity",
    ]  # fmt: skip
    known = {row["id"]: row for row in library.rows}
    similarities = []
    for cells in page.run(
        "return [...document.querySelectorAll('#hits tr')].map((r) => [...r.cells].map((c) => c.innerText.trim()))"
    ):
        row = known[cells[1]]
        assert cells[2:5] == [row["family"], row["family_name"], row["rna_type"]]
        assert cells[5] == f"{len(row['sequence'])} nt"
        similarities.append(float(cells[6]))
    assert similarities == sorted(similarities, reverse=True)
    rfam = page.run("return document.querySelector('#hits td:nth-child(3) a').href")
    assert rfam == f"https://rfam.org/family/{page.texts('#hits td:nth-child(3)')[0].strip()}"
    page.picture(tmp_path / "hits.png")
    assert (tmp_path / "hits.png").stat().st_size > 10_000
    assert page.console() == []


def test_a_record_opens_and_leads_back(page: Browser, library: Any) -> None:
    row = library.rows[4]
    search(page, row["sequence"])
    page.wait("document.querySelectorAll('#hits tr:not(.alignment)').length === 10")
    page.click("#hits tr:first-child td.id a")
    page.wait("!document.querySelector('#record').hidden")
    shown = page.text("#record-id")
    record = next(r for r in library.rows if r["id"] == shown)
    letters = "".join(c for c in page.text("#letters") if c.isalpha())
    assert letters == record["sequence"]
    assert record["family"] in page.text("#labels") and record["rna_type"] in page.text("#labels")
    # The address alone opens it too: a link that can be sent.
    page.open(page.run("return location.href"))
    page.wait("!document.querySelector('#record').hidden")
    assert page.text("#record-id") == shown
    page.click("#similar")
    page.wait("document.querySelectorAll('#hits tr:not(.alignment)').length === 10")
    page.run("history.back()")
    page.wait("!document.querySelector('#record-view').hidden")
    assert page.console() == []


def test_the_example_and_a_prediction(page: Browser) -> None:
    page.click("#example")
    page.wait("document.querySelector('#sequence').value.startsWith('>')")
    page.run("document.querySelector('#task').value = 'rna_type'")
    page.click("#predict")
    page.wait("!document.querySelector('#prediction').hidden")
    assert page.text("#prediction-title") == "Predicted rna type"
    shares = [float(text.removesuffix(" %")) for text in page.texts("#classes .share")]
    assert len(shares) == 4 and shares == sorted(shares, reverse=True)
    assert page.text("#value") == "" == page.text("#beyond")
    page.run("document.querySelector('#task').value = 'sirna'")  # values, of sequences of 21 nt
    page.click("#predict")
    page.wait("document.querySelector('#prediction-title').innerText === 'Predicted sirna'")
    assert page.text("#value").startswith("Not applicable: expected exactly 21 nt (the guide strand of an siRNA")
    assert page.texts("#classes li") == [] and page.text("#beyond") == ""
    page.type("#sequence", "CUAAUAUGUUAAUUGAUUUAU")
    page.click("#predict")
    page.wait("document.querySelector('#value').innerText.includes('normalised inhibition; nine of ten')")
    page.type("#sequence", "GCUUCGGAUCCUAGCUUCGGACUUCGGAUCGGCUUAGCUGG")
    page.run("document.querySelector('#task').value = 'm6a'")
    page.run("document.querySelector('#task').dispatchEvent(new Event('change'))")
    assert "exactly 41 nt; A at the middle nucleotide" in page.text("#task-note")
    page.click("#predict")
    page.wait("document.querySelector('#prediction-title').innerText === 'Predicted m6a'")
    assert page.text("#beyond").startswith("In the motif DRACH. Each label was true in 49 % to 50 % of its training data")
    before = dict(zip(page.texts("#classes li > span:first-child"), page.texts("#classes .share"), strict=True))
    assert len(before) == 8
    # ---- for a stated prevalence; it stands in the address
    page.type("#prior", "5 per cent")
    page.click("#predict")
    page.wait("document.querySelector('#message .error')")
    assert page.text("#message").startswith("Prevalence: expected a share such as 0.05 or 5 %")
    page.type("#prior", "5 %")
    page.click("#predict")
    page.wait("document.querySelector('#beyond').innerText.includes('a prevalence of 5 %, as you stated')")
    after = dict(zip(page.texts("#classes li > span:first-child"), page.texts("#classes .share"), strict=True))
    assert all(float(after[name].split()[0]) < float(before[name].split()[0]) for name in before)
    assert "prior=5" in page.run("return location.search")
    page.run("location.reload()")
    page.wait("document.querySelector('#beyond')?.innerText.includes('a prevalence of 5 %')")
    assert page.run("return document.querySelector('#prior').value") == "5 %"
    page.run("const t = document.querySelector('#task'); t.value = 'sirna'; t.dispatchEvent(new Event('change'))")
    assert page.run("return document.querySelector('#prior-box').hidden")  # it predicts values
    assert page.console() == []


def test_values_of_nucleotides_are_drawn(browser: Browser, service: Any, library: Any, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = []
    for _ in range(60):
        letters = "".join(random.choice(list("ACGU"), 40))
        rows.append({"sequence": letters, "value": [float(letter == "A") + 0.2 for letter in letters]})
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    data = DataConfig((str(tmp_path / "t.parquet"),), "value", numeric=True, level="nucleotide")
    finetune(FinetuneConfig("worth", library.model, data, library.registry, unit="au", cnn=False))
    try:
        browser.size(1100, 900)
        browser.open(service.url)
        browser.wait("[...document.querySelector('#task').options].some((o) => o.value === 'worth')")
        browser.console()
        browser.type("#sequence", "GGGGAAAACCCCUUUUGGGGCCCCAAAAUUUUGGGGCCCC")
        browser.run("document.querySelector('#task').value = 'worth'")
        browser.click("#predict")
        browser.wait("document.querySelectorAll('.profile > span').length === 40")
        heights = browser.run("return [...document.querySelectorAll('.profile > span > span')].map((e) => e.offsetHeight)")
        assert min(heights[4:8]) > 2 * max(heights[8:12])
        assert "40 nucleotides" in browser.text("#value") and " au, highest at" in browser.text("#value")
        browser.run("document.querySelector('#prediction').scrollIntoView()")
        browser.picture(tmp_path / "profile.png")
        assert browser.console() == []
    finally:
        shutil.rmtree(Path(library.registry) / "worth")


def test_several_labels_are_listed(browser: Browser, service: Any, library: Any, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    letters = ["".join(random.choice(list("ACGU"), 40, p=random.dirichlet([1, 1, 1, 1]))) for _ in range(200)]
    limits = {f"{n} {c}": [text.count(c) >= n for text in letters] for c in "AG" for n in (10, 11, 12)}
    table = {"sequence": letters, **limits}
    pq.write_table(pa.table(table), tmp_path / "t.parquet")
    data = DataConfig((str(tmp_path / "t.parquet"),), "", label_columns=tuple(limits))
    finetune(FinetuneConfig("rich", library.model, data, library.registry, cnn=False))
    try:
        browser.size(1100, 900)
        browser.open(service.url)
        browser.wait("[...document.querySelector('#task').options].some((o) => o.value === 'rich')")
        for letters_of_it, said in (("A" * 40, "10 A"), ("C" * 40, "None of its labels")):
            browser.type("#sequence", letters_of_it)
            browser.run("document.querySelector('#task').value = 'rich'; document.querySelector('#value').textContent = ''")
            browser.click("#predict")
            browser.wait(f"document.querySelector('#value').innerText.startsWith({said!r})")
            if letters_of_it[0] == "C":  # the thresholds, without decimals and once where they are the same
                assert re.search(r"its threshold \((\d+ % to )?\d+ %\)\.$", browser.text("#value"))
            assert len(browser.texts("#classes .share")) == 6  # all of them, instead of the five best classes
        assert browser.console() == []
    finally:
        shutil.rmtree(Path(library.registry) / "rich")


def test_hits_are_aligned(page: Browser, library: Any, tmp_path: Path) -> None:
    row = library.rows[7]
    sequence = row["sequence"]
    query = sequence[:20] + sequence[22:]  # two letters are missing
    search(page, query)
    page.wait("document.querySelectorAll('#hits tr:not(.alignment)').length === 10")
    assert page.texts("#headings th")[-2:] == ["identity", "coverage"]
    first = page.run("return [...document.querySelector('#hits tr').cells].map((c) => c.innerText.trim())")
    assert first[1].startswith(row["id"])
    assert page.run("return document.querySelector('#hits tr.alignment').hidden")
    page.click("#hits tr td .quiet")
    page.wait("!document.querySelector('#hits tr.alignment').hidden")
    lines = page.text("#hits tr.alignment pre").split("\n")
    above = "".join(line.split()[2] for line in lines if line.startswith("query"))
    below = "".join(line.split()[2] for line in lines if line.startswith("hit"))
    assert above.replace("-", "") == query and above.count("-") == 2
    assert below == sequence
    page.picture(tmp_path / "aligned.png")
    page.click("#verify")
    search(page, query)
    page.wait("[...document.querySelectorAll('#headings th')].at(-1).innerText.trim() === 'similarity'")
    assert page.console() == []


def test_a_sequence_is_folded_and_drawn(page: Browser, tmp_path: Path) -> None:
    page.type("#sequence", ">trna\n" + TRNA)
    page.click("#fold")
    page.wait("!document.querySelector('#structure').hidden", 60)
    assert page.text("#fold-here pre").split() == [TRNA[:80], CLOVERLEAF]
    assert page.text("#fold-here .hint").startswith("21 base pairs, free energy -22.4 kcal/mol")
    assert page.run("return document.querySelectorAll('#fold-here svg circle').length") == len(TRNA)
    assert page.run("return document.querySelector('#fold-here svg').getBoundingClientRect().height") > 150
    names = page.run("return [...document.querySelectorAll('#fold-here a')].map((a) => a.download)")
    assert names == ["trna.svg", "trna_probabilities.svg", "trna.dbn", "trna.ct", "trna.bpseq"]
    page.picture(tmp_path / "fold.png")
    # zoom, move, all of it again
    box = "document.querySelector('#fold-here .drawing-canvas svg').getAttribute('viewBox').split(' ').map(Number)"
    whole = page.run(f"return {box}")
    page.click("#fold-here button[aria-label='Zoom in']")
    closer = page.run(f"return {box}")
    assert closer[2] == pytest.approx(whole[2] / 1.4) and closer[0] > whole[0]
    canvas = "document.querySelector('#fold-here .drawing-canvas')"
    page.run(f"{canvas}.dispatchEvent(new KeyboardEvent('keydown', {{key: 'ArrowRight'}}))")
    assert page.run(f"return {box}")[0] > closer[0]
    # dragged by 30 pixels, once at the end: the picture follows by as much
    before = page.run(f"return {box}")
    drag = """
        const canvas = document.querySelector('#fold-here .drawing-canvas'), place = canvas.getBoundingClientRect();
        canvas.setPointerCapture = () => {};
        const send = (kind, step) => canvas.dispatchEvent(
            new PointerEvent(kind, { pointerId: 7, bubbles: true, clientX: place.x + 50 + step, clientY: place.y + 50 }));
        send('pointerdown', 0);
        const seen = new Set();
        for (let step = 1; step <= 30; step++) {
            send('pointermove', step);
            seen.add(canvas.querySelector('svg').getAttribute('viewBox'));
        }
        send('pointerup', 30);
        return [seen.size, canvas.clientWidth];
    """
    drawn, width = page.run(drag)
    assert drawn == 1 and page.run(f"return {box}")[0] == pytest.approx(before[0] - 30 * before[2] / width)
    page.click("#fold-here button[aria-label='Show all']")
    assert page.run(f"return {box}") == whole
    # the tooltip of a nucleotide
    page.run(
        "const g = document.querySelector('#fold-here g[data-tip]'), r = g.getBoundingClientRect();"
        "g.dispatchEvent(new PointerEvent('pointermove', {bubbles: true, clientX: r.x + 3, clientY: r.y + 3}))"
    )
    assert re.fullmatch(r"G1 paired with C72, probability 0\.\d\d", page.text("#fold-here .tip"))
    # the plot, and another way to fold it
    page.click("#fold-here details:not(:has(form)) summary")
    page.wait("document.querySelectorAll('#fold-here details svg rect').length > 40")
    page.click("#fold-here details:has(form) summary")
    page.type("#fold-here .fold-constraint", "x" * 5)
    page.click("#fold-here form button")
    page.wait("document.querySelector('#fold-here form .error')")
    assert page.text("#fold-here form .error") == "5 characters for 76 nucleotides: expected one for each"
    page.type("#fold-here .fold-constraint", "x" * 7 + "." * 69)
    page.click("#fold-here .fold-pseudoknots")
    page.click("#fold-here form button")
    page.wait("document.querySelector('#fold-here pre').innerText.split('\\n')[1].startsWith('.......')", 60)
    assert not page.run("return document.querySelector('#fold-here .fold-pseudoknots').checked")
    page.run("location.reload()")  # the address says how it was folded
    page.wait("document.querySelector('#fold-here pre')?.innerText.split('\\n')[1].startsWith('.......')", 60)
    assert page.run("return document.querySelector('#fold-here .fold-constraint').value") == "x" * 7 + "." * 69
    assert not page.run("return document.querySelector('#fold-here .fold-pseudoknots').checked")
    assert [line for line in page.console() if "422" not in line] == []
    assert page.console() == []  # nothing that the content policy forbids


def test_a_record_shows_what_is_known_of_it(page: Browser, library: Any, service: Any, tmp_path: Path) -> None:
    row = library.rows[4]
    page.open(f"{service.url}/record?{urlencode({'collection': 'rfam', 'id': row['id']})}")
    page.wait("!document.querySelector('#record-structure').hidden", 60)
    assert page.run("return document.querySelectorAll('#record-fold-here svg circle').length") == len(row["sequence"])
    with sdk.connect(service.url) as client:
        near = [hit.id for hit in client.search(id=row["id"], k=9) if hit.id != row["id"]]
        wanted = client.predict("gc", [row["sequence"]])[0]
        predictors = [model.name.replace("_", " ") for model in client.models()[1:]]
    assert [text.strip() for text in page.texts("#neighbours td.id")] == near[:8]
    page.wait("[...document.querySelectorAll('#predictions dd')].every((e) => e.innerText !== '…')", 60)
    said = dict(zip(page.texts("#predictions dt"), page.texts("#predictions dd"), strict=True))
    refused = {"m6a", "ribosome load", "sirna"}  # they take other lengths
    assert sorted(said) == sorted(set(predictors) - refused)
    assert page.text("#refusals summary") == "3 predictors do not apply to this sequence"
    page.run("document.querySelector('#refusals details').open = true")
    assert {line.partition(":")[0] for line in page.texts("#refusals li")} == refused
    assert any(line.startswith("sirna: expected exactly 21 nt") for line in page.texts("#refusals li"))
    assert isinstance(wanted, sdk.Estimate) and said["gc"].startswith(f"{wanted.value:.4g} %; nine of ten")
    assert " %; then " in said["rna type"]
    page.picture(tmp_path / "record.png")
    page.click("#neighbours tr:first-child a")  # one leads to the next
    page.wait(f"document.querySelector('#record-id').innerText === {near[0]!r}")
    assert page.console() == []


def test_filters_pages_and_files_of_hits(page: Browser, library: Any, tmp_path: Path) -> None:
    row = library.rows[7]
    kind = next(r["family"] for r in library.rows if sum(o["family"] == r["family"] for o in library.rows) > 4)
    page.run("document.querySelector('#label').value = 'family'")
    page.run("document.querySelector('#label').dispatchEvent(new Event('change'))")
    page.type("#label-value", kind)
    page.type("#shortest", "20")
    page.type("#k", "2")
    page.click("#verify")
    assert page.run("return document.querySelector('#k').max") == "1000"  # the service's own limit
    search(page, row["sequence"])
    page.wait("document.querySelectorAll('#hits tr:not(.alignment)').length === 2")
    page.click("#more")
    page.wait("document.querySelectorAll('#hits tr:not(.alignment)').length === 4")
    assert {text.strip() for text in page.texts("#hits td:nth-child(3)")} == {kind}
    assert [text.strip() for text in page.texts("#hits td:first-child")] == ["1", "2", "3", "4"]
    assert page.run("return [...document.querySelectorAll('#label-values option')].map((o) => o.value)") == [kind]
    page.picture(tmp_path / "filtered.png")
    # The files are what the links hold when they are clicked.
    page.run("window.saved = []; URL.createObjectURL = (blob) => (window.saved.push(blob.text()), '#')")
    for link in (1, 2):
        page.run(f"document.querySelector('#save-hits a:nth-child({link})').click()")
    table, fasta = page.run("return Promise.all(window.saved)")
    rows = list(csv.DictReader(io.StringIO(table)))
    assert [r["family"] for r in rows] == [kind] * 4 and [r["rank"] for r in rows] == ["1", "2", "3", "4"]
    assert fasta == "".join(f">{r['id']}\n{r['sequence']}\n" for r in rows)
    # A number is wanted where one is due.
    page.type("#shortest", "many")
    page.click("#search-form .primary")
    page.wait("document.querySelector('#message .error')")
    assert "whole number" in page.text("#message")
    page.run("for (const id of ['shortest', 'label-value']) document.getElementById(id).value = ''")
    page.type("#k", "10")
    assert page.console() == []


def test_a_cell_is_no_formula(page: Browser) -> None:
    script = """
        const { csvOf } = await import('/static/hits.js');
        const labels = { note: 'a "b", c', more: null };
        const hit = { rank: 1, id: '=cmd()', similarity: -0.5, length: 4, sequence: 'ACGU', labels };
        return csvOf([hit]);
    """
    text = page.run(f"return (async () => {{{script}}})()")
    assert text == 'rank,id,similarity,p,length,sequence,note,more\n1,\'=cmd(),-0.5,,4,ACGU,"a ""b"", c",\n'


def test_one_of_several_sequences_is_chosen(page: Browser, library: Any) -> None:
    rows = library.rows[3:6]
    fasta = "".join(f">{row['id']}\n{row['sequence']}\n" for row in rows)
    dropped = """
        const data = new DataTransfer();
        data.items.add(new File([arguments[0]], 'some.fasta'));
        document.querySelector('#sequence').dispatchEvent(new DragEvent('drop', { dataTransfer: data, cancelable: true }));
    """
    page.run(dropped, fasta)
    page.wait("document.querySelectorAll('#record-at option').length === 3")
    page.run("const s = document.querySelector('#record-at'); s.selectedIndex = 2; s.dispatchEvent(new Event('change'))")
    assert rows[2]["id"] in page.text("#sequence-note")
    page.click("#search-form .primary")
    page.wait("document.querySelectorAll('#hits tr:not(.alignment)').length === 10")
    assert "same sequence" in page.texts("#hits td.id")[0] and rows[2]["id"] in page.texts("#hits td.id")[0]
    page.type("#sequence", "ACGU")
    page.wait("document.querySelector('#which').hidden")


@pytest.mark.parametrize(
    ("sequence", "where", "message"),
    [
        ("ACGX", "", "Protein letter at position 4"),
        ("", "", "Paste a sequence first"),
        ("ACGU", "colour = 'red'", "colour"),
    ],
)
def test_errors_are_said_in_words(page: Browser, sequence: str, where: str, message: str) -> None:
    search(page, sequence, where)
    page.wait("document.querySelector('#message .error')")
    assert message in page.text("#message")
    assert page.run("return document.activeElement.getAttribute('aria-invalid')") == "true"
    assert page.run("return document.querySelector('#results').hidden")


def test_a_record_that_is_not_there(page: Browser, service: Any) -> None:
    page.open(f"{service.url}/record?collection=rfam&id=%3Cb%3Enope%3C/b%3E")
    page.wait("document.querySelector('#record-message .error')")
    assert "No sequence '<b>nope</b>'" in page.text("#record-message")


def test_it_fits_a_phone(page: Browser, library: Any) -> None:
    page.size(390, 800)
    search(page, library.rows[0]["sequence"])
    page.wait("document.querySelectorAll('#hits tr:not(.alignment)').length === 10")
    for view in ("search", "record"):
        if view == "record":
            page.run("document.querySelector('#hits a').click()")
            page.wait("!document.querySelector('#record').hidden")
        assert page.run("return document.documentElement.scrollWidth <= window.innerWidth"), view


def test_everything_has_a_name(page: Browser, library: Any) -> None:
    """Every control has a label, and every picture a text."""
    search(page, library.rows[0]["sequence"])
    controls = "[...document.querySelectorAll('input, select, textarea')]"
    assert page.run(f"return {controls}.filter((e) => !e.labels.length).map((e) => e.id)") == []
    assert page.run("return [...document.querySelectorAll('img')].filter((e) => !e.hasAttribute('alt')).length") == 0
    assert page.run("return document.documentElement.lang") == "en"


def test_the_reference_lists_every_operation(browser: Browser, service: Any) -> None:
    browser.console()
    browser.open(f"{service.url}/docs")
    browser.wait("document.querySelectorAll('#operations section').length")
    listed = ["".join(text.split()) for text in browser.texts("#operations section > h2")]
    paths = httpx2.get(f"{service.url}/openapi.json", trust_env=False).json()["paths"]
    assert listed == [f"{method.upper()}{path}" for path, methods in paths.items() for method in methods]
    assert "similar_to" in browser.text("#operations")
    assert browser.console() == []
    # ---- commands can be run as they stand, but for those with a word in capitals to replace
    answers: dict[str, int] = {}
    for command in browser.texts("#operations pre"):
        words = shlex.split(command.replace("\\\n", " "))
        url = next(word for word in words if word.startswith("http"))
        if re.search(r"[/=][A-Z]{2,}", url) or "-X" in words:
            continue
        body = words[words.index("-d") + 1] if "-d" in words else None
        headers = {"content-type": "application/json"} if body else {}
        method = "POST" if body else "GET"
        answers[f"{method} {url.removeprefix(service.url)}"] = httpx2.request(
            method, url, content=body, headers=headers, timeout=60, trust_env=False
        ).status_code
    wrong = {name: status for name, status in answers.items() if status >= 400}
    assert len(answers) >= 16 and set(wrong.values()) <= {501, 404} and all("/map" in n or "/jobs" in n for n in wrong), (
        wrong
    )


def test_what_comes_is_in_sight_on_a_phone(browser: Browser, service: Any, library: Any) -> None:
    browser.size(390, 844)
    browser.open(service.url)
    browser.wait("document.querySelector('#collection').options.length")
    top = "const { top } = document.querySelector(arguments[0]).getBoundingClientRect();"
    seen = f"{top} return top > -2 && top < innerHeight - 60"
    browser.type("#sequence", "ACGX")
    browser.click("#search-form .primary")
    browser.wait("document.querySelector('#message .error')")
    assert browser.run(seen, "#message .error")
    browser.run("document.querySelector('#sequence').value = ''; scrollTo(0, 0)")
    browser.type("#sequence", library.rows[0]["sequence"])
    browser.click("#search-form .primary")
    browser.wait("!document.querySelector('#results').hidden && !document.querySelector('#fold').disabled")
    assert browser.run(seen, "#results")
    browser.console()


def test_classifiers_that_contradict_each_other_are_named(page: Browser) -> None:
    def said(*answers: tuple[str, str, bool], records: Sequence[dict[str, str]] = ()) -> str:
        classes = {
            "ncrna_class": ["tRNA", "5S_rRNA", "CD-box", "HACA-box", "riboswitch", "ribozyme"],
            "rna_type": [
                *("tRNA", "rRNA", "snoRNA;CD-box", "snoRNA;HACA-box", "Cis-reg;riboswitch", "Cis-reg;other"),
                *("ribozyme", "ribozyme;RNase P"),
            ],
            "family": [
                *("SAM-IV", "preQ1_riboswitch", "Hairpin_ribozyme", "RNaseP_bact_a", "RNase_MRP", "SNORD22", "tRNA-Sec"),
                *("let-7", "mir-30", "tRNA", "5S_rRNA", "CopA", "6S"),
            ],
            "half_life": ["stable", "unstable"],
        }
        rows = [
            {"name": name, "labels": classes[name], "label": label, "probability": 0.997, "out_of_distribution": outside}
            for name, label, outside in answers
        ]
        arguments = f"{json.dumps(rows)}, {json.dumps(list(records))}"
        script = f"return (await import('/static/agreement.js')).disagreement({arguments});"
        return str(page.run(f"return (async () => {{{script}}})()"))

    for ours, theirs in (("5S_rRNA", "rRNA"), ("CD-box", "snoRNA;CD-box"), ("riboswitch", "Cis-reg;riboswitch")):
        assert said(("ncrna_class", ours, False), ("rna_type", theirs, False)) == ""
    assert said(("ncrna_class", "tRNA", False), ("half_life", "stable", False)) == ""  # nothing in common to disagree on
    both = said(("ncrna_class", "CD-box", False), ("half_life", "stable", False), ("rna_type", "snoRNA;HACA-box", False))
    assert "ncrna class says CD-box (99.7 %)" in both and "They cannot all be right" in both and "half life" not in both
    one = said(("ncrna_class", "riboswitch", True), ("rna_type", "tRNA", False))
    assert "riboswitch (99.7 %, out of distribution)" in one
    assert "To all of these but rna type the sequence is out of distribution" in one
    # ---- a family and its type are no contradiction; a family is compared by what its records are
    for family, kind, coarse in (
        ("SAM-IV", "Cis-reg;riboswitch", "riboswitch"),
        ("RNaseP_bact_a", "Gene;ribozyme", "ribozyme"),
    ):
        records = [{"family": "RF0", "family_name": family, "rna_type": kind}]
        answers = (("family", family, False), ("ncrna_class", coarse, False), ("rna_type", RFAM[coarse], False))
        assert said(*answers, records=records) == said(*answers) == ""
    answers = (("family", "SNORD22", False), ("ncrna_class", "riboswitch", False))
    assert said(*answers) == ""  # nothing says here what SNORD22 is
    known = said(*answers, records=[{"family_name": "SNORD22", "rna_type": "Gene;snRNA;snoRNA;CD-box"}])
    assert known.startswith("The predictors disagree: family says SNORD22 (99.7 %); ncrna class says riboswitch (99.7 %).")
    # ---- two that agree stand on one side
    sides = said(("family", "tRNA-Sec", False), ("ncrna_class", "5S_rRNA", False), ("rna_type", "tRNA", False))
    assert "family says tRNA-Sec (99.7 %) and rna type says tRNA (99.7 %); ncrna class says 5S_rRNA (99.7 %). They" in sides
    assert said(("ncrna_class", "riboswitch", False), ("rna_type", "Cis-reg;other", False)) != ""
