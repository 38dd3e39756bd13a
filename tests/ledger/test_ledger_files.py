"""A well-formed file is loaded; any other is refused with its name, the entry, the field and what to do."""

import re

import pytest
from toy import HEAD, NET, ROW, entry

from studylib import ledger


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
        ([entry("row", ROW, verdit="quoted")], "row 1, field `verdit`: unknown; did you mean verdict?"),
        ([entry("row", ROW, verdict="reproduce")], "`verdict`: got 'reproduce', expected one of reproduces,"),
        ([entry("row", ROW, verdict="reproduce")], "; did you mean reproduces?"),
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
    with pytest.raises(ledger.LedgerError, match=r"no paper 'mobilnet'.*did you mean mobilenet.*It has: alexnet"):
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
