"""Imports run downwards only and close no circle: read from the files of studylib, without importing them."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import studylib

HOME = Path(studylib.__file__).parent
# Floors from the bottom up. A room may import from the rooms before its own line, and nothing from those after it.
GPU = (
    ("findings", "hardware", "device"),
    ("language",),
    ("emulator", "compiler"),
    ("checks",),
    ("report",),
    ("check", "patch"),
    ("__init__",),
)
GRADING = (
    ("verdict", "identity", "vetting", "runs", "budget", "seed", "record", "isolation", "fence"),
    ("submission", "mismatches", "card", "results", "child"),
    ("compile_apart", "bench", "hand_ins"),
    ("judge",),
    ("judge_apart", "proof"),
    ("local", "grade", "report"),
    ("progress",),
)
HOUSE = (
    ("errors", "gpu", "metrics", "mec", "compression", "lowrank", "connectivity"),
    ("files", "costs", "data"),
    ("nets",),
    ("kernels", "ledger", "scenes", "training"),
    ("plots",),
    ("blocks",),
    ("course", "grading"),
    ("__init__", "pytest_exercises"),
    ("cli",),
    ("__main__",),
)


def modules(home: Path) -> dict[str, Path]:
    """The modules of the package, by the name that an import gives them."""
    found = {}
    for path in sorted(home.rglob("*.py")):
        parts = [home.name, *path.relative_to(home).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name: str, path: Path, known: dict[str, Path]) -> set[str]:
    """The modules of the package that a file imports, wherever it does so, but for those that only name a type."""
    found: set[str] = set()
    for node in _running(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = name if path.name == "__init__.py" else name.rpartition(".")[0]
                base = ".".join([*package.split(".")[: len(package.split(".")) - node.level + 1], *base.split(".")])
                base = base.rstrip(".")
            # `from a import b` imports the module a.b where there is one, and else takes a name out of a.
            found |= {f"{base}.{a.name}" if f"{base}.{a.name}" in known else base for a in node.names}
    return (found & known.keys()) - {name}


def _running(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below one, without what stands under `if TYPE_CHECKING:`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        yield child
        yield from _running(child)


def arrows(home: Path) -> dict[str, set[str]]:
    known = modules(home)
    return {name: imports(name, path, known) for name, path in known.items()}


def climbing(graph: dict[str, set[str]], package: str, floors) -> list[str]:
    """The imports within a package that do not lead down, each with both modules."""
    height = {room: number for number, rooms in enumerate(floors) for room in rooms}

    def room(name: str) -> str | None:
        if name == package:
            return "__init__"
        return name.removeprefix(f"{package}.").split(".")[0] if name.startswith(f"{package}.") else None

    found = []
    for name, targets in graph.items():
        for target in sorted(targets):
            here, there = room(name), room(target)
            if here in height and there in height and here != there and height[there] >= height[here]:
                found.append(f"{name} imports {target}")
    return found


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The modules of one circle in order, or none."""
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for target in sorted(graph.get(name, ())):
            if met := walk(target, [*path, name]):
                return met
        done.add(name)
        return []

    return next((met for name in graph if (met := walk(name, []))), [])


@pytest.fixture(scope="module")
def graph():
    return arrows(HOME)


def test_every_room_of_gpu_has_a_floor(graph):
    rooms = {name.split(".")[2] for name in graph if name.startswith("studylib.gpu.")}
    assert rooms == {room for rooms in GPU for room in rooms} - {"__init__"}


def test_imports_in_gpu_lead_down(graph):
    assert not (wrong := climbing(graph, "studylib.gpu", GPU)), "\n".join(wrong)


def test_every_room_of_the_house_has_a_floor(graph):
    rooms = {name.split(".")[1] for name in graph if name != "studylib"}
    assert rooms == {room for rooms in HOUSE for room in rooms} - {"__init__"}


def test_the_page_on_the_architecture_names_every_room():
    page = (HOME.parent / "ARCHITECTURE.md").read_text(encoding="utf-8")
    words = set(re.findall(r"\w+", page))
    rooms = {room for floors in (GPU, GRADING, HOUSE) for rooms in floors for room in rooms}
    assert rooms - words - {"__main__", "pytest_exercises"} == set()


@pytest.mark.parametrize(("room", "floors"), [("gpu", GPU), ("grading", GRADING)])
def test_the_page_draws_the_floors_of_a_large_room(room, floors):
    page = (HOME.parent / "ARCHITECTURE.md").read_text(encoding="utf-8")
    drawn = re.search(rf"^{room} {{2,}}(.*\n(?: +.*\n)*)", page, re.MULTILINE)
    assert drawn is not None
    names = [set(re.findall(r"\w+", floor)) for floor in drawn[1].split(">")]
    assert names[::-1] == [set(floor) for floor in floors]


def test_imports_between_rooms_lead_down(graph):
    assert not (wrong := climbing(graph, "studylib", HOUSE)), "\n".join(wrong)


def test_gpu_imports_nothing_else_of_the_house(graph):
    outside = [
        f"{name} imports {target}"
        for name, targets in graph.items()
        for target in targets
        if name.startswith("studylib.gpu") and not target.startswith("studylib.gpu")
    ]
    assert outside == []


def test_every_room_of_grading_has_a_floor(graph):
    rooms = {name.split(".")[2] for name in graph if name.startswith("studylib.grading.")}
    assert rooms == {room for rooms in GRADING for room in rooms}


def test_imports_in_grading_lead_down(graph):
    assert not (wrong := climbing(graph, "studylib.grading", GRADING)), "\n".join(wrong)


def test_no_circle_in_the_house(graph):
    assert not (met := circle(graph)), " -> ".join(met)


def test_an_import_that_climbs_is_named_with_both_files(tmp_path):
    (home := tmp_path / "studylib").joinpath("gpu").mkdir(parents=True)
    (home / "__init__.py").write_text("")
    (home / "gpu/__init__.py").write_text("")
    (home / "gpu/hardware.py").write_text("def f():\n    from studylib.gpu import check\n")
    (home / "gpu/check.py").write_text("from . import hardware\n")
    graph = arrows(home)
    assert climbing(graph, "studylib.gpu", GPU) == ["studylib.gpu.hardware imports studylib.gpu.check"]
    assert circle(graph) == ["studylib.gpu.check", "studylib.gpu.hardware", "studylib.gpu.check"]
