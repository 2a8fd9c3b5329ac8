"""The page with text as people paste and drop it, and its addresses, in a real browser."""

from __future__ import annotations

import gzip
from typing import Any

import httpx2
import pytest

from tests.browser import Browser

FILE = """
    const [bytes, name] = arguments;
    const data = new DataTransfer();
    data.items.add(new File([new Uint8Array(bytes)], name));
    document.querySelector('#sequence').dispatchEvent(new DragEvent('drop', { dataTransfer: data, cancelable: true }));
"""


@pytest.fixture
def page(browser: Browser, service: Any) -> Browser:
    browser.size(1100, 900)
    browser.open("about:blank")
    browser.open(service.url)
    browser.wait("document.querySelector('#collection').options.length === 2")
    browser.console()
    return browser


def paste(page: Browser, text: str) -> None:
    script = "const b = document.querySelector('#sequence'); b.value = arguments[0]; b.dispatchEvent(new Event('input'))"
    page.run(script, text)


def said(page: Browser, text: str) -> None:
    page.wait(f"document.querySelector('#sequence-note').innerText.includes({text!r})")


def test_pasted_text_is_read_as_people_paste_it(page: Browser) -> None:
    for text, note in (
        ("ACGU ACG-U*", "8 nucleotides; 1 gap removed; final * removed"),
        ("  1 gatcctccat atacaacggt\n 21 acgt", "24 nucleotides; numbers within the sequence removed"),
        ("@r1\nA\n+\nI\n", "1 nucleotide of r1"),
        ("hello world", "Protein letter 'e' at line 1, column 2"),
        ('"ACGUACGU"', "8 nucleotides; quotes removed"),
        ("GGG\nACGU", "3 nucleotides; 2 sequences, one on each line"),
    ):
        paste(page, text)
        said(page, note)
    assert page.console() == []


def test_dropped_files_are_unpacked_and_tables_asked_for_their_column(page: Browser) -> None:
    page.run(FILE, list(gzip.compress(b"@r1\nGGGAAACCC\n+\nIIIIIIIII\n", mtime=0)), "reads.fastq.gz")
    said(page, "9 nucleotides of r1")
    page.run(FILE, list(b"id,sequence\na,GGGAAA\nb,ACGX\n"), "t.csv")
    said(page, "6 nucleotides of a")
    assert page.texts("#record-at option") == ["a (1 of 2)", "b (2 of 2): cannot be used"]
    page.run(FILE, list(b"name\tfive\tthree\na\tGGGAAACC\tCCCC\n"), "t.tsv")
    page.run(FILE, list(b"name\tfive\tthree\na\tGGGAAACC\tCCCCGGGG\n"), "t.tsv")
    said(page, "Which column holds the sequences?")
    page.click("#search-form .primary")
    page.wait("document.querySelector('#message .error')")
    assert page.run("return document.activeElement.id") == "column"
    page.run("const c = document.querySelector('#column'); c.value = 'three'; c.dispatchEvent(new Event('change'))")
    said(page, "8 nucleotides of a")
    page.click("#search-form .primary")
    page.wait("document.querySelectorAll('#hits tr:not(.alignment)').length === 10")
    for name, content, said_of_it in (
        ("book.xlsx", b"PK\x03\x04 x", "The file book.xlsx is a zip or Excel file"),
        ("paper.pdf", b"%PDF-1.4\n1 0 obj\n", "The file paper.pdf is a formatted document"),
        ("gel.jpg", b"\xff\xd8\xff\xe0 x", "The file gel.jpg is a picture"),
        ("none.fa", b"", "The file none.fa is empty."),
        ("genome.2bit", b"C'A\x1a\x00\x00", "The file genome.2bit is not a text file"),
    ):
        page.run(FILE, list(content), name)
        page.wait(f"document.querySelector('#message').innerText.startsWith({said_of_it!r})")
    assert page.console() == []


def test_an_identifier_finds_the_stored_sequence(page: Browser, library: Any) -> None:
    row = library.rows[3]
    paste(page, row["id"])
    said(page, "looked up among the identifiers")
    page.click("#search-form .primary")
    page.wait("document.querySelectorAll('#hits tr:not(.alignment)').length === 10")
    assert page.run("return document.querySelector('#sequence').value") == f">{row['id']}\n{row['sequence']}"
    assert row["id"] in page.texts("#hits td.id")[0]
    paste(page, "NOSUCH_99.1")
    page.click("#search-form .primary")
    page.wait("document.querySelector('#message .error')")
    assert page.text("#message").startswith(
        "No sequence of rfam has 'NOSUCH_99.1' as its identifier. It is not a sequence either"
    )
    paste(page, row["family"])
    page.click("#search-form .primary")
    page.wait(f"document.querySelector('#message').innerText.includes(\"There are rows with family = '{row['family']}'\")")
    paste(page, row["id"].lower())
    page.click("#search-form .primary")
    page.wait(f"document.querySelector('#sequence').value.startsWith('>{row['id']}')")


def test_a_search_has_an_address_that_brings_it_back(page: Browser, library: Any) -> None:
    first, second = library.rows[3], library.rows[9]
    page.type("#where", "length < 100")
    page.type("#k", "3")
    for row in (first, second):
        paste(page, f">{row['id']}\n{row['sequence']}")
        page.click("#search-form .primary")
        page.wait(f"decodeURIComponent(location.hash).includes({row['sequence']!r})")
    address = page.run("return location.href")
    assert "where=length" in address and "k=3" in address and second["sequence"] not in address.partition("#")[0]
    page.run("history.back()")
    page.wait(f"document.querySelector('#sequence').value.includes({first['sequence']!r})")
    page.run("history.forward()")
    page.wait(f"document.querySelector('#sequence').value.includes({second['sequence']!r})")
    page.open("about:blank")  # as in another tab
    page.open(address)
    page.wait("document.querySelectorAll('#hits tr:not(.alignment)').length === 3")
    assert second["sequence"] in page.run("return document.querySelector('#sequence').value")
    assert page.run("return document.querySelector('#where').value") == "length < 100"
    # ---- a structure, too; and a sequence that is too long for an address in this tab
    page.click("#fold")
    page.wait("!document.querySelector('#structure').hidden", 60)
    assert "show=fold" in page.run("return location.search")
    page.run("location.reload()")
    page.wait("document.querySelector('#structure') && !document.querySelector('#structure').hidden", 60)
    paste(page, "ACGU" * 2500)
    page.click("#search-form .primary")
    page.wait("document.querySelector('#message').innerText.includes('too long for an address')")
    assert len(page.run("return location.href")) < 1000
    page.run("location.reload()")
    page.wait("document.querySelector('#sequence').value.length > 9000 && !document.querySelector('#results').hidden")
    assert page.console() == []


def test_a_filter_that_passes_nothing_says_why(page: Browser, library: Any) -> None:
    kind = library.rows[0]["rna_type"]
    paste(page, library.rows[0]["sequence"])
    page.type("#where", f"rna_type = '{kind.swapcase()}'")
    page.click("#search-form .primary")
    page.wait("!document.querySelector('#results').hidden")
    assert f"did you mean '{kind}'" in page.text("#results-note")
    page.run("document.querySelector('#where').value = ''")


def test_nothing_there_is_a_page_for_a_browser_and_json_for_a_client(browser: Browser, service: Any) -> None:
    browser.open(f"{service.url}/no/such")
    assert browser.text("h1") == "Not found" and "/no/such" in browser.text(".lead")
    browser.click("main li:first-child a")
    browser.wait("document.querySelector('#search-form')")
    answer = httpx2.get(f"{service.url}/no/such", trust_env=False)
    assert answer.status_code == 404 and answer.headers["content-type"] == "application/problem+json"
    browser.console()


def test_percentages_and_counts(page: Browser) -> None:
    script = """
        const { counted, percent } = await import('/static/common.js');
        const shares = [0.997, 1, 0, 0.004, 0.5].map((share) => percent(share));
        return [counted(1, 'sequence'), counted(1200, 'sequence'), ...shares];
    """
    assert page.run(f"return (async () => {{{script}}})()") == [
        *("1 sequence", "1,200 sequences", "99.7 %", "100 %", "0 %", "0.4 %", "50 %")
    ]
