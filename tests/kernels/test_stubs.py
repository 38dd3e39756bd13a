"""A stub equals its source outside the marks, and a participant's work is never written over."""

import pytest

from studylib import files
from studylib.grading import proof
from studylib.grading.judge import judge
from studylib.kernels import Mutant, exercise, find, load, names, stubs, weeks


@pytest.mark.parametrize("name", names())
def test_a_stub_is_its_source_without_solution_hints_and_grader(name):
    source, stub = load(name), stubs.stub(load(name))
    text = source.text.partition(stubs.GRADER)[0]
    kept = [line for line in stub.splitlines() if "NotImplementedError" not in line and "study hint" not in line]
    assert [line for line in kept[:-3] if line not in text.splitlines()] == []
    solution = stubs.SOLUTION.search(source.text)[2]
    assert solution not in stub and source.hints[-1][:40] not in " ".join(stub.split())
    for word in ("MUTANTS", "def reference", "BEGIN", "END SOLUTION", "import numpy"):
        assert word not in stub
    assert f"week {source.number}, {name}:" in stub and "studylib" not in stub
    compile(stub, name, "exec")


def test_cards_are_complete():
    for name in names():
        e = load(name)
        assert 1 <= e.difficulty <= 5 and 5 <= e.minutes <= 60 and len(e.plan) >= 2 and 2 <= len(e.hints) <= 3, name
        assert len(e.mutants) >= 3 and e.title and e.task and e.budget_text and e.hardware, name


def test_names_and_weeks():
    assert weeks() == sorted(weeks()) and "02_resnext_gpu1" in weeks()
    assert find([]) == names() and "transpose" in find(["2"]) and find(["2", "transpose"]) == find(["02_resnext_gpu1"])
    with pytest.raises(ValueError, match="there is no exercise or week '99'"):
        find(["99"])
    for name in ("../x", "nothing"):
        with pytest.raises(ValueError, match="there is no exercise"):
            load(name)


def test_building_keeps_what_was_changed(tmp_path):
    written, refused = stubs.build(tmp_path)
    assert len(written) == len(names()) + len(weeks()) and not refused
    assert stubs.build(tmp_path) == ([], [])
    mine, old = (tmp_path / load(n).week / f"{n}.py" for n in ("transpose", names()[0]))
    mine.write_text(mine.read_text().replace("raise NotImplementedError", "x = 1  # "))
    body = old.read_text().replace("Difficulty", "Hardness").rpartition("\n\n\n# made")[0]
    if old != mine:  # an older version's stub, as nobody has touched it
        old.write_text(f"{body}\n\n\n# made from the solved exercise: {stubs._digest(body)}\n")
    changed = mine.read_text()
    written, refused = stubs.build(tmp_path)
    assert refused == [mine] and mine.read_text() == changed
    assert written == ([old] if old != mine else [])
    assert not list(tmp_path.rglob(".*"))


def source(tmp_path, change):
    path = tmp_path / "02_resnext_gpu1" / "transpose.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(change(load("transpose").text))
    return exercise.read(path)


@pytest.mark.parametrize("section", exercise.SECTIONS)
def test_a_card_without_a_section(section, tmp_path):
    with pytest.raises(ValueError, match=f"has no {section}"):
        source(tmp_path, lambda text: text.replace(f"\n{section}:", f"\n{section.lower()} "))


def test_a_source_without_a_part(tmp_path):
    with pytest.raises(ValueError, match="has no reference, MUTANTS"):
        source(tmp_path, lambda t: t.replace("def reference", "def other").replace("MUTANTS =", "THEM ="))


@pytest.mark.parametrize("mark", ["# BEGIN SOLUTION", "# END SOLUTION", "# BEGIN GRADER"])
def test_a_source_without_a_mark(mark, tmp_path):
    with pytest.raises(ValueError, match="once each"):
        stubs.stub(source(tmp_path, lambda text: text.replace(mark, "# nothing")))


def prove(tmp_path, change):
    found = source(tmp_path, change)
    files.replace(tmp_path / found.week / "README.md", stubs.readme(found.week))
    folder = tmp_path / "exercises" / found.week
    folder.mkdir(parents=True)
    (folder / "transpose.py").write_text(stubs.stub(found))
    (folder / "README.md").write_text(stubs.readme(found.week))
    return proof.prove(found, tmp_path / "exercises")


def test_the_proof_finds_nothing_wrong(tmp_path):
    assert prove(tmp_path, lambda text: text) == []


WRONG = {
    "a wrong solution": (
        "        out[left + y, top + x] = tile[x, y]\n",
        "        out[left + y, top + x] = tile[y, x]\n",
    ),
    "a solution over its budget": ('"sectors": 4', '"sectors": 3'),
    "a mutant that passes": ('"old": "(32, 33)", "new": "(32, 32)"', '"old": "(32, 33)", "new": "(32, 35)"'),
    "a mutant rejected elsewhere": ('"stage": "right"},', '"stage": "budget"},'),
    "a mutant without its finding": ('"finds": "race"', '"finds": "shuffle"'),
    "too few mutants": ("MUTANTS = [", "MUTANTS = []\nOTHERS = ["),
    "another operator of torch": ("a.t().contiguous()", "a.contiguous()"),
}


@pytest.mark.parametrize("what", WRONG)
def test_the_proof_finds(what, tmp_path, monkeypatch):
    monkeypatch.setattr(proof, "CCS", ())  # the compiler finds nothing wrong with any of them
    old, new = WRONG[what]
    assert old in load("transpose").text
    assert prove(tmp_path, lambda text: text.replace(old, new))


def test_the_proof_looks_at_the_stub(tmp_path):
    found = load("transpose")
    assert "there is no stub" in proof._stub(found, tmp_path)[0]
    path = tmp_path / found.week / "transpose.py"
    path.parent.mkdir()
    path.write_text(stubs.stub(found).replace("TILE = 32", "TILE = 16"))
    assert "is not what is made" in proof._stub(found, tmp_path)[0]
    path.write_text(stubs.stub(found))
    assert "README" in proof._stub(found, tmp_path)[0]


def test_a_mutant_must_change_something():
    with pytest.raises(ValueError, match="is not in the solution"):
        stubs.mutated(load("transpose"), "no such text", "")


def test_python_in_the_kernels_place_is_rejected(tmp_path):
    assert isinstance(proof.IMPOSTOR, Mutant)
    path = tmp_path / "transpose.py"
    path.write_text(load("transpose").text.partition(stubs.GRADER)[0] + proof.IMPOSTOR.new.format(name="transpose"))
    verdict = judge("transpose", path=path)
    assert verdict.state == "failed" and "not a constant expression" in verdict.stage("imports").text
