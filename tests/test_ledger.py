"""Every row of the ledger agrees with its claim; and format, formulas, verdicts and tables do what they say."""

import math
import re
import shutil
from functools import cache
from html.parser import HTMLParser

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from studylib import ledger, nets
from studylib.costs import count
from studylib.ledger import files
from studylib.ledger.expressions import costs, evaluate, number
from studylib.ledger.printed import Printed

HEAD = 'paper = "Toy"\ntitle = "A toy paper"\nyear = 2020\nlink = "arXiv:2001.00001"\n'
ROW = {
    "where": "Table 1",
    "what": "parameters",
    "printed": "4.2M",
    "compute": "costs(mobilenet_v1()).params",
    "verdict": "reproduces",
    "source": "R",
}
NET = {
    "name": "toy net",
    "build": "lenet5()",
    "input": [1, 28, 28],
    "top1_error": "24.80%",
    "where": "Table 2",
    "protocol": "single crop",
    "source": "R",
}


def entry(kind: str, fields: dict, **changes) -> str:
    """A TOML table; a change to None leaves the field out."""
    lines = [f"{name} = {value!r}" for name, value in (fields | changes).items() if value is not None]
    return "\n".join([f"[[{kind}]]", *lines, ""])


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a file into an otherwise empty ledger."""
    monkeypatch.setattr(files, "FOLDER", tmp_path)

    def toy(*entries: str, head: str = HEAD, name: str = "toy.toml") -> None:
        (tmp_path / name).write_text("\n".join([head, *entries]), encoding="utf-8")

    return toy


# ------------------------------------------------------------------------------------------------- the papers


@cache
def checked(paper: str) -> ledger.Checked:
    return ledger.check(paper)


ROWS = [(paper, i, row) for paper in ledger.papers() for i, row in enumerate(ledger.load(paper).rows)]


def readable(paper: str, i: int, row: ledger.Row) -> str:
    return re.sub(r"[^\w.%+-]+", "_", f"{paper}-{i + 1}-{row.where}-{row.what}")


@pytest.mark.parametrize(("paper", "i"), [pytest.param(*row[:2], id=readable(*row)) for row in ROWS])
def test_row_agrees_with_its_claim(paper, i):
    row = checked(paper).rows[i]
    assert row.agrees_with_claim, (
        f"{paper}.toml, row {i + 1} ({row.where}: {row.what}) prints {row.printed}, {row.compute} gives {row.computed}: "
        f"that {row.verdict}, but the file claims {row.claimed!r}"
    )


def test_this_weeks_papers_are_there():
    papers = {"alexnet", "vgg", "googlenet", "resnet", "densenet", "xception", "mobilenet", "deep_compression"}
    assert papers <= set(ledger.papers())
    assert all(checked(paper).ok for paper in papers)


@pytest.mark.parametrize(
    ("paper", "where", "what", "printed", "computed", "verdict"),
    [
        ("mobilenet", "Table 1", "side of the maps behind", "7", "4", "does not reproduce"),
        ("mobilenet", "Table 2", "first convolution", "1.19%", "1.9056%", "does not reproduce"),
        ("mobilenet", "Table 4", "full convolutions", "4866M", "4,867.29M", "does not reproduce"),
        ("mobilenet", "Table 7", "MobileNet-192", "418M", "418.12M", "reproduces"),
        ("googlenet", "Table 1, convolution 7x7/2", "multiply-adds, as a depthwise", "34M", "34.02M", "reproduces"),
        ("googlenet", "Table 1, inception (3a)", "weights", "159K", "159.50K", "truncates"),
        ("googlenet", "Table 1, inception (4c)", "weights", "463K", "497.50K", "does not reproduce"),
        ("googlenet", "Table 1, inception (5a)", "multiply-adds", "54M", "51.08M", "does not reproduce"),
        (
            "resnet",
            "SENet, Table 2",
            "multiply-adds of ResNet-50, stride in the first",
            "3.86G",
            "3.8580G",
            "reproduces",
        ),
        ("resnet", "ResNeXt, Table 1", "parameters", "25.5M", "25.557M", "truncates"),
        ("densenet", "Table 2", "parameters, DenseNet-BC L=100", "0.8M", "0.769M", "reproduces"),
        ("deep_compression", "Figure 3", "compression of 16", "3.2", "3.200", "reproduces"),
        ("deep_compression", "Sec. 1", "power", "12.8 W", "12.800 W", "reproduces"),
        ("deep_compression", "Table 5, total", "rate P+Q+H", "2.05%", "1.8980%", "does not reproduce"),
        ("alexnet", "MobileNet, Table 9", "multiply-adds", "720M", "724.4M", "reproduces"),
    ],
)
def test_figures_found_earlier_by_other_means(paper, where, what, printed, computed, verdict):
    row = next(row for row in checked(paper).rows if row.where == where and what in row.what)
    assert (row.printed, row.computed, row.verdict) == (printed, computed, verdict)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('printed = "569M"', 'printed = "568M"'),
        ('printed = "1.19%"', 'printed = "1.91%"'),
        ("mobilenet_v1(width=0.75)", "mobilenet_v1(width=0.5)"),
        ('verdict = "truncates"', 'verdict = "reproduces"'),
    ],
)
def test_a_changed_file_contradicts_itself(old, new, tmp_path, monkeypatch):
    text = (files.FOLDER / "mobilenet.toml").read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "mobilenet.toml").write_text(text.replace(old, new, 1), encoding="utf-8")
    monkeypatch.setattr(files, "FOLDER", tmp_path)
    found = ledger.check("mobilenet")
    wrong = [row for row in found.rows if not row.agrees_with_claim]
    assert not found.ok and len(wrong) == 1
    assert f"(BUT CLAIMED: {wrong[0].claimed})" in re.sub(r"\s+", " ", found._repr_html_())
    assert "OTHERWISE THAN CLAIMED 1" in str(found)


def test_survey_has_printed_errors_and_counted_costs():
    points = {point.name: point for point in ledger.survey()}
    assert len(points) == len(ledger.survey())
    net = points["1.0 MobileNet-224"]
    assert (net.macs, net.params, net.year, net.protocol) == (568_740_352, 4_231_976, 2017, "not stated")
    assert net.top1_error == pytest.approx(29.4)
    with torch.device("meta"):
        assert points["Xception"].macs == count(nets.xception(), (3, 299, 299)).macs
    assert points["Xception"].top1_error == pytest.approx(21.0)
    assert (points["ResNet-50"].top1_error, points["ResNet-50"].top5_error) == (24.8, 7.48)
    assert {"AlexNet", "VGG-16", "GoogLeNet", "DenseNet-121", "0.25 MobileNet-224"} <= set(points)
    years = [point.year for point in points.values()]
    assert years == sorted(years)


def test_a_new_file_joins_the_survey(tmp_path, monkeypatch):
    for paper in ("alexnet", "vgg"):
        shutil.copy(files.FOLDER / f"{paper}.toml", tmp_path)
    (tmp_path / "toy.toml").write_text(HEAD + entry("net", NET), encoding="utf-8")
    monkeypatch.setattr(files, "FOLDER", tmp_path)
    assert ledger.papers() == ["alexnet", "toy", "vgg"]
    assert [point.name for point in ledger.survey()] == ["AlexNet", "VGG-16", "toy net"]
    assert ledger.survey()[-1] == ledger.Point(
        "toy net", "Toy", 2020, 24.8, None, "single crop", "Table 2", 2_293_000, 431_080
    )


# --------------------------------------------------------------------------------------------- printed numbers


@pytest.mark.parametrize(
    ("text", "computed", "verdict", "shown"),
    [
        ("569M", 568_740_352, "reproduces", "568.74M"),
        ("568M", 568_740_352, "truncates", "568.74M"),
        ("570M", 568_740_352, "does not reproduce", "568.74M"),
        ("149M", 149_497_088, "reproduces", "149.497M"),
        ("4.2M", 4_231_976, "reproduces", "4.232M"),
        ("1.19%", 0.019056, "does not reproduce", "1.9056%"),
        (".790", 0.79, "reproduces", "0.79000"),
        ("22,855,952", 22_855_952, "reproduces", "22,855,952"),
        ("22,855,952", 22_855_953, "does not reproduce", "22,855,953"),
        ("~70k", 69_632, "reproduces", "69.63k"),
        ("8 times", 7.89, "reproduces", "7.89 times"),
        ("-0.97", -0.97, "reproduces", "-0.9700"),
        ("-1.2", -1.25, "truncates", "-1.250"),
        ("-1.3", -1.25, "reproduces", "-1.250"),
        ("0.00", -1e-18, "reproduces", "0.0000"),
        ("3.1", 3.1999999999999997, "does not reproduce", "3.200"),
        ("0.2", 0.15, "reproduces", "0.150"),
        ("100", 100.4, "reproduces", "100.40"),
        ("100", 104, "does not reproduce", "104"),
    ],
)
def test_verdict_to_the_printed_digits(text, computed, verdict, shown):
    printed = Printed.parse(text)
    assert (printed.verdict(computed), printed.show(computed)) == (verdict, shown)


def test_unit_and_precision():
    assert Printed.parse("159K").verdict(159.5 * 1024) == "does not reproduce"
    assert Printed.parse("159K", unit=1024).verdict(159.5 * 1024) == "truncates"
    assert Printed.parse("650,000").verdict(659_272) == "does not reproduce"
    assert Printed.parse("650,000", precision=10_000).verdict(659_272) == "truncates"


@given(st.floats(-1e6, 1e6), st.integers(0, 4), st.integers(-3, 3))
def test_only_one_number_reproduces(value, places, off):
    """Of the numbers with so many places, the rounded value reproduces and no neighbour does."""
    near = math.floor(abs(value) * 10**places + 0.5) + off
    verdict = Printed.parse(f"{math.copysign(1, value) * near / 10**places:.{places}f}").verdict(value)
    assert (verdict == "reproduces") == (off == 0)


@pytest.mark.parametrize("text", ["", "about 8", "9x-13x", "4.2 furlongs", "M", "4.2.1M"])
def test_printed_that_is_no_number_is_refused(text):
    with pytest.raises(ValueError, match="begin with a number|unknown unit"):
        Printed.parse(text)


def test_precision_must_fit():
    with pytest.raises(ValueError, match="no multiple of the precision"):
        Printed.parse("655", precision=10)


# ------------------------------------------------------------------------------------------------- formulas


def test_formulas():
    assert number("(0.5 + 7 // 2) * -2**3 % 5") == (0.5 + 7 // 2) * -(2**3) % 5
    assert number("fmean((84, 38), (3, 1)) + log2(8) + sum((1, 2)) + ceil(0.5) + max(1, 2)") == 72.5 + 3 + 3 + 1 + 2
    assert number("costs(resnet50(stride_in='1x1')).macs") == 3_857_973_248
    assert number("costs(Inception(192, 64, 96, 128, 16, 32, 32), (192, 28, 28)).weights") == 163_328


def test_nets_are_built_once_and_on_meta():
    net = evaluate("vgg16()")
    assert net is evaluate("vgg16()") and costs(net) is costs(evaluate("vgg16()"))
    assert all(parameter.is_meta for parameter in net.parameters())


@pytest.mark.parametrize(
    ("formula", "problem"),
    [
        ("costs(mobilenet_v3()).macs", r"unknown name 'mobilenet_v3'.*did you mean mobilenet_v1"),
        ("costs(mobilenet_v1()).flops", "unknown figure .flops"),
        ("costs(mobilenet_v1()).__class__", "unknown figure .__class__"),
        ("().__class__.__bases__", "unknown figure"),
        ("__import__('os')", "unknown name '__import__'"),
        ("open('x')", "unknown name 'open'"),
        ("[n for n in (1, 2)]", "ListComp is not allowed"),
        ("(lambda: 1)()", "Lambda is not allowed"),
        ("(1, 2)[0]", "Subscript is not allowed"),
        ("1 < 2", "Compare is not allowed"),
        ("f'{1}'", "JoinedStr is not allowed"),
        ("(n := 1)", "NamedExpr is not allowed"),
        ("sum(*(1, 2))", "Starred is not allowed"),
        ("1 +", "is not a formula"),
        ("", "is not a formula"),
        ("x = 1", "is not a formula"),
        ("1 / 0", "fails: ZeroDivisionError"),
        ("costs(resnet50(stride_in='5x5')).macs", 'fails: ValueError: stride_in must be "3x3"'),
        ("costs(mobilenet_v1(height=2)).macs", "fails: TypeError"),
        ("costs(lenet5(), (1, 2, 2)).macs", "fails:"),
        ("mobilenet_v1()", "expected a finite number"),
        ("1e400", "expected a finite number"),
        ("True", "expected a finite number"),
        ("'4.2'", "expected a finite number"),
    ],
)
def test_formulas_refused(formula, problem):
    with pytest.raises(ValueError, match=problem):
        number(formula)


def test_a_net_that_costs_does_not_know_is_refused(monkeypatch):
    incomplete = count(evaluate("lenet5()"), (1, 28, 28))
    object.__setattr__(incomplete, "unknown", (type("Unknown", (), {"name": "conv1", "operator": "fft"})(),))
    monkeypatch.setattr("studylib.ledger.expressions.count", lambda net, size: incomplete)
    with pytest.raises(ValueError, match="does not know 'fft' in 'conv1'"):
        number("costs(lenet5(), (1, 29, 29)).macs")


# ------------------------------------------------------------------------------------------------- the files


def test_a_file_is_loaded_and_checked(write):
    long = "The net has more.\n    Much more."
    write(
        entry("row", ROW),
        entry("row", ROW, what="layers", printed="28", compute="1 + 2 * 13 + 1"),
        entry("row", ROW, what="error", printed="29.4%", compute=None, verdict="quoted"),
        entry("row", ROW, what="speed", printed="50 ms", compute=None, verdict="not verified", source="M"),
        '[[row]]\nwhere = "Table 2"\nwhat = "K"\nprinted = "2K"\nunit = 1024\ncompute = "1"\n'
        f'verdict = "does not reproduce"\nwhy = """{long}"""\nsource = "R2"\n',
        entry("net", NET),
    )
    paper = ledger.load("Toy")
    assert (paper.key, paper.paper, paper.year, paper.link) == ("toy", "Toy", 2020, "arXiv:2001.00001")
    assert paper.nets[0].input == (1, 28, 28)
    assert paper.rows[4].why == "The net has more. Much more."
    found = ledger.check("toy")
    verdicts = ["reproduces", "reproduces", "quoted", "not verified", "does not reproduce"]
    assert [row.verdict for row in found.rows] == verdicts and found.ok
    assert [row.computed for row in found.rows] == ["4.232M", "28", "", "", "0.00K"]


NO_WHY = {"printed": "5M", "verdict": "does not reproduce"}


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ([entry("row", ROW, where=None)], "row 1, field `where`: missing"),
        ([entry("row", ROW), entry("row", ROW, what=None)], "row 2, field `what`: missing"),
        ([entry("row", ROW, source=None)], "row 1, field `source`: missing"),
        ([entry("row", ROW, printed=4.2)], "row 1, field `printed`: got 4.2, expected text in quotes"),
        ([entry("row", ROW, printed=" ")], "row 1, field `printed`: got ' ', expected text"),
        ([entry("row", ROW, unit="K")], "row 1, field `unit`: got 'K', expected a number above 0"),
        ([entry("row", ROW, precision=0.5)], "field `precision`: got 0.5, expected a number above 0, whole"),
        ([entry("row", ROW, verdit="quoted")], "row 1, field `verdit`: unknown (did you mean 'verdict'?)"),
        ([entry("row", ROW, verdict="reproduce")], "`verdict`: got 'reproduce', expected one of reproduces,"),
        ([entry("row", ROW, verdict="reproduce")], "(did you mean 'reproduces'?)"),
        ([entry("row", ROW, source="C")], "field `source`: got 'C', expected one of R, R2, M"),
        ([entry("row", ROW, compute=None)], "row 1 (Table 1: parameters), field `compute`: missing"),
        ([entry("row", ROW, verdict="quoted")], "field `verdict`: 'quoted', but there is a computation"),
        ([entry("row", ROW, **NO_WHY)], "field `why`: a row has this field if, and only if"),
        ([entry("row", ROW, why="It is so.")], "field `why`: a row has this field if, and only if"),
        ([entry("row", ROW, source="M")], "field `source`: M (from memory) goes with"),
        ([entry("row", ROW, compute=None, verdict="not verified")], "field `source`: M (from memory) goes with"),
        ([entry("row", ROW), entry("row", ROW)], "row 2 (Table 1: parameters): `where` and `what` as in row 1"),
        (["[row]\nwhere = 'x'"], "'row' must be a list of tables: write [[row]]"),
        (["row = 3"], "'row' must be a list of tables"),
        ([entry("net", NET, build=None)], "net 1, field `build`: missing"),
        ([entry("net", NET, input=[224, 224])], "net 1, field `input`: got [224, 224], expected channels"),
        ([entry("net", NET, top1_error=None)], "net 1 (toy net), field `top1_error`: give either"),
        ([entry("net", NET, top1_accuracy="70%")], "net 1 (toy net), field `top1_error`: give either"),
        ([entry("net", NET, top5_error="7%", top5_accuracy="93%")], "field `top5_error`: give only one"),
        ([entry("net", NET, source="M")], "net 1 (toy net), field `source`: got 'M'"),
        ([entry("net", NET), entry("net", NET)], "net 2 (toy net): `name` as in net 1"),
    ],
)
def test_files_refused(entries, problem, write):
    write(*entries)
    with pytest.raises(ledger.LedgerError, match=re.escape(problem)) as error:
        ledger.load("toy")
    assert str(error.value).startswith("toy.toml")


@pytest.mark.parametrize(
    ("head", "problem"),
    [
        (HEAD.replace("year = 2020\n", ""), "head of the file, field `year`: missing"),
        (HEAD.replace("2020", "'2020'"), "head of the file, field `year`: got '2020', expected a number"),
        (HEAD + "url = 'x'\n", "head of the file, field `url`: unknown"),
        (HEAD + "key = 'x'\n", "head of the file, field `key`: unknown"),
        (HEAD.replace('"Toy"', '"Tool"'), "field `paper`: 'Tool' does not go with the file's name"),
        (HEAD.replace("= 2020", "2020"), "not valid TOML: Expected '=' after a key in a key/value pair (at line 3"),
    ],
)
def test_heads_refused(head, problem, write):
    write(head=head)
    with pytest.raises(ledger.LedgerError, match=re.escape(problem)):
        ledger.load("toy")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"compute": "costs(mobilenet()).params"}, "field `compute`: unknown name 'mobilenet'"),
        ({"compute": "costs(lenet5()).params"}, "field `compute`: 'costs(lenet5()).params' fails:"),
        ({"printed": "4.2 furlongs"}, "field `printed`: unknown unit 'furlongs'"),
        ({"precision": 7}, "field `printed`: '4.2M' is no multiple of the precision 7"),
    ],
)
def test_rows_that_cannot_be_computed(changes, problem, write):
    write(entry("row", ROW, what="layers", printed="28", compute="28"), entry("row", ROW, **changes))
    with pytest.raises(ledger.LedgerError, match=re.escape(problem)) as error:
        ledger.check("toy")
    assert str(error.value).startswith("toy.toml, row 2 (Table 1: parameters), ")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"build": "lenet6()"}, "field `build`: unknown name 'lenet6'"),
        ({"build": "28"}, "field `build`: "),
        ({"input": [3, 28, 28]}, "field `build`: "),
        ({"top1_error": "24.80"}, "field `top1_error`: got '24.80', expected e.g. 29.4% or .294"),
        ({"top1_error": "low"}, "field `top1_error`: got 'low', which does not begin with a number"),
        ({"top5_error": "124%"}, "field `top5_error`: got '124%'"),
    ],
)
def test_nets_that_cannot_join_the_survey(changes, problem, write):
    write(entry("net", NET, **changes))
    with pytest.raises(ledger.LedgerError, match=re.escape("toy.toml, net 1 (toy net), " + problem)):
        ledger.survey()


def test_unknown_paper_and_place():
    with pytest.raises(ledger.LedgerError, match=r"no paper 'mobilnet'.*did you mean 'mobilenet'.*It has: alexnet"):
        ledger.check("mobilnet")
    with pytest.raises(ledger.LedgerError, match=r"no row printed at 'Table 99'. It has: .*Table 1"):
        ledger.check("mobilenet", where="Table 99")


def test_a_place_takes_its_parts_and_no_namesakes():
    assert {row.where for row in ledger.check("mobilenet", where="Table 1").rows} == {"Table 1"}
    places = {row.where for row in ledger.check("googlenet", where="Table 1").rows}
    assert "Table 1, inception (3a)" in places and all(place.startswith("Table 1, ") for place in places)


def test_file_names_and_encoding(write, tmp_path):
    write(name="Toy.toml")
    with pytest.raises(ledger.LedgerError, match=re.escape("Toy.toml: a file's name has small letters")):
        ledger.papers()
    (tmp_path / "Toy.toml").unlink()
    (tmp_path / "toy.toml").write_bytes(b'paper = "\xff"')
    with pytest.raises(ledger.LedgerError, match=re.escape("toy.toml: not UTF-8 text")):
        ledger.load("toy")


# ------------------------------------------------------------------------------------------------- the tables


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
    found = checked(paper)
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
