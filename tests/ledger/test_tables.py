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


def test_the_rows_to_show_are_in_sight_and_all_are_folded_below():
    found = ledger.check("mobilenet", where="Table 4", show=["linear layer left out"])
    (shown,) = found.shown
    assert shown.what.endswith("linear layer left out") and len(found.rows) > 3 and found.ok
    text = str(found)
    assert "left out" in text and "parameters" not in text
    assert f"1 shown of {len(found.rows)} rows: " in text
    sight, _, folded = found._repr_html_().partition("<details")
    for html, rows in ((sight, found.shown), (folded, found.rows)):
        page = Balanced()
        page.feed(html if html is sight else f"<details{folded}")
        assert not page.open and page.cells == 5 * len(rows)
    assert "<summary>all rows: " in folded and 'href="https://arxiv.org/abs/1704.04861v1"' in folded


def test_without_rows_to_show_nothing_is_folded():
    assert "<details" not in ledger.check("mobilenet", where="Table 4")._repr_html_()


def test_a_row_to_show_that_is_not_there_is_named():
    with pytest.raises(ledger.LedgerError, match=r"no row of mobilenet.toml to show has 'GPU'. There are: .*MobileNet"):
        ledger.check("mobilenet", where="Table 4", show=["parameters", "GPU"])


def test_a_grid_is_the_papers_own_table(write):
    rows = [
        entry("row", ROW, what="parameters, Big", printed="3", compute="1 + 2"),
        entry(
            "row",
            ROW,
            what="parameters of Small",
            printed="5",
            compute="1 + 3",
            verdict="does not reproduce",
            why="<a slip>",
        ),
        entry("row", ROW, what="Small, error", printed="1%", compute=None, verdict="quoted"),
        entry("row", ROW, where="Table 1, Big", what="bits", printed="8", compute="2**3"),
        entry("row", ROW, what="beside", printed="8", compute="2**3"),
    ]
    write("\n".join(rows))
    grid = ledger.check("toy").grid(["Big", "Small"], ["parameters", "error", "bits"])
    assert {place: row.printed for place, row in grid.cells.items()} == {
        ("Big", "parameters"): "3",
        ("Small", "parameters"): "5",
        ("Small", "error"): "1%",
        ("Big", "bits"): "8",
    }
    lines = [line.split() for line in str(grid).splitlines()]
    assert ["Big", "3", "✓", "8", "✓"] in lines and ["Small", "5", "✗", "4", "1%", "“"] in lines
    assert "✗ Small, parameters: <a slip>" in str(grid) and repr(grid) == str(grid)
    page = Balanced()
    page.feed(grid._repr_html_())
    assert not page.open and page.cells == 6 + 5 * 5 and "<a slip>" in "".join(page.texts)
    named = ledger.check("toy").grid({"The big one": "Big"}, {"bits": "bits"})
    assert named.down == ("The big one",) and named.cells["The big one", "bits"].printed == "8"
    assert grid._repr_html_().index("parameters") < grid._repr_html_().index("<details")


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        (
            ["MobileNet", "MobileNot"],
            ["parameters"],
            "no row of mobilenet.toml is of 'MobileNot' in this table. It has: ",
        ),
        (["MobileNet"], ["parameters", "colour"], "is of 'colour' in this table"),
    ],
)
def test_a_grid_with_a_side_that_has_no_row_says_so(rows, columns, message):
    with pytest.raises(ledger.LedgerError, match=message):
        ledger.check("mobilenet", where="Table 4").grid(rows, columns)


def test_a_cell_with_two_rows_is_refused():
    with pytest.raises(
        ledger.LedgerError, match=r"\d rows of deep_compression.toml are 'weights' of 'conv1': give `where`"
    ):
        ledger.check("deep_compression").grid(["conv1"], ["weights"])
