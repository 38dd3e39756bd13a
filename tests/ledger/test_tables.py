"""The tables fit their width, show every row, and escape what a file says."""

from html.parser import HTMLParser

import pytest
from toy import ROW, entry

from studylib import ledger


class Balanced(HTMLParser):
    """Collects the text and asserts that every tag is closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.texts, self.cells = [], [], 0

    def handle_starttag(self, tag, attrs):
        self.cells += tag == "td"
        if tag not in ("br", "col"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


@pytest.mark.parametrize("paper", ledger.papers())
def test_tables_fit_and_show_everything(paper):
    found = ledger.check(paper)
    assert max(len(line) for line in str(found).splitlines()) <= 110
    assert repr(found) == str(found)
    page = Balanced()
    page.feed(found._repr_html_())
    assert not page.open and page.cells == 5 * len(found.rows)
    text = " ".join(page.texts)
    for row in found.rows:
        assert all(part in text for part in (row.where, row.what, row.printed, row.computed, row.verdict, row.why))
    assert "max-width:900px" in found._repr_html_() and "background" not in found._repr_html_()


def test_long_texts_wrap(write):
    long = "a " * 200
    write(entry("row", ROW, where=long, what="z" * 99, printed="5M", verdict="does not reproduce", why=long))
    lines = str(ledger.check("toy")).splitlines()
    assert max(len(line) for line in lines) == 110
    assert sum(line.count("z") for line in lines) == 99


def test_tables_escape_what_the_file_says(write):
    why = "5 < 6 & <b>more</b>"
    write(entry("row", ROW, what="<script>", printed="5M", verdict="does not reproduce", why=why))
    html = ledger.check("toy")._repr_html_()
    assert "<script>" not in html and "<b>" not in html
    page = Balanced()
    page.feed(html)
    assert "<script>" in page.texts and why in page.texts
