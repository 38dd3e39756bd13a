"""Reads the papers' printed numbers from the TOML files of this folder, and refuses what is not well formed."""

import tomllib
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, NoReturn

from studylib.errors import StudyError, near

FOLDER = Path(__file__).parent
CHECKED = ("reproduces", "truncates", "does not reproduce")
UNCHECKED = ("quoted", "not verified")
SOURCES = ("R", "R2", "M")
NUMBERS: dict[str, tuple[type, ...]] = {"year": (int,), "precision": (int,), "unit": (int, float)}
NOT_IN_A_TABLE = ("key", "rows", "nets")


class LedgerError(StudyError):
    """A ledger file that cannot be used: the message names the file, the entry and the field, and says what to do."""


@dataclass(frozen=True)
class Row:
    """One number that a paper prints, and how to compute it.

    `printed` holds the digits as printed; a unit from the table's head stands behind them ("569M", "1.19%").
    `compute` is an expression (see `expressions`), empty where nothing is computed. `unit` says what one printed
    unit is worth where the suffix does not (K = 1024), `precision` what the last digit is worth that means
    something (10000 for "650,000"); both are rare. `source`: R read in the paper, R2 read in a copy or in a
    secondary source, M from memory.
    """

    where: str
    what: str
    printed: str
    verdict: str
    source: str
    compute: str = ""
    why: str = ""
    unit: float = 0
    precision: int = 0


@dataclass(frozen=True)
class Net:
    """A network with the error that is printed for it, for the survey: its costs are computed.

    `build` and `input` (channels, height, width) say what is counted. Either the error or the accuracy is given,
    as printed. `protocol` says how it was measured ("single crop", "10 crops", "not stated"): errors of different
    protocols are not comparable.
    """

    name: str
    build: str
    input: tuple[int, int, int]
    where: str
    protocol: str
    source: str
    top1_error: str = ""
    top1_accuracy: str = ""
    top5_error: str = ""
    top5_accuracy: str = ""


@dataclass(frozen=True)
class Paper:
    """One file: `key` is the file's name without ending, `paper` the short name, `link` its arXiv number or venue."""

    key: str
    paper: str
    title: str
    year: int
    link: str
    rows: tuple[Row, ...] = ()
    nets: tuple[Net, ...] = ()


def papers() -> list[str]:
    """The keys of all papers in the ledger, in alphabetical order: what `load` and `check` take."""
    keys = sorted(path.stem for path in FOLDER.glob("*.toml"))
    for key in keys:
        if key != _key(key):
            raise LedgerError(f"{key}.toml: a file's name has small letters and underscores: name it {_key(key)}.toml.")
    return keys


def load(paper: str) -> Paper:
    """The rows and nets of one paper, e.g. `load("mobilenet")`.

    Raises LedgerError if there is no such paper, or if its file is not well formed.
    """
    key = _key(paper)
    if key not in papers():
        raise LedgerError(f"no paper {paper!r} in the ledger{near(key, papers())}. It has: {', '.join(papers())}.")
    file = f"{key}.toml"
    try:
        data = tomllib.loads((FOLDER / file).read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise LedgerError(f"{file}: not UTF-8 text ({error}): save the file as UTF-8.") from None
    except tomllib.TOMLDecodeError as error:
        raise LedgerError(f"{file}: not valid TOML: {error}. Correct that line.") from None
    tables = {kind: _tables(data.pop(kind, []), file, kind) for kind in ("row", "net")}
    head = _values(Paper, data, f"{file}, head of the file")
    if _key(head["paper"]) != key:
        raise LedgerError(
            f"{file}, head of the file, field `paper`: {head['paper']!r} does not go with the file's name. "
            f"Name the file {_key(head['paper'])}.toml, or correct the field."
        )
    rows = tuple(_row(table, f"{file}, row {i}") for i, table in enumerate(tables["row"], 1))
    nets = tuple(_net(table, f"{file}, net {i}") for i, table in enumerate(tables["net"], 1))
    _refuse_twins(file, "row", "`where` and `what`", [(row.where, row.what) for row in rows])
    _refuse_twins(file, "net", "`name`", [(net.name,) for net in nets])
    return Paper(key, rows=rows, nets=nets, **head)


def claimed(key: str, folder: Path | None = None) -> list[str]:
    """The verdict that each row of a paper's file claims, nothing computed or checked; none where it has no file."""
    file = (folder or FOLDER) / f"{key}.toml"
    if not file.is_file():
        return []
    return [row["verdict"] for row in tomllib.loads(file.read_text(encoding="utf-8")).get("row", [])]


def coming_out(verdicts: list[str]) -> tuple[int, int]:
    """How many rows come out, cut off instead of rounded included, and how many are computed."""
    good = sum(verdict in ("reproduces", "truncates") for verdict in verdicts)
    return good, good + verdicts.count("does not reproduce")


def _tables(found: Any, file: str, kind: str) -> list[dict]:
    if not isinstance(found, list) or not all(isinstance(table, dict) for table in found):
        raise LedgerError(f"{file}: {kind!r} must be a list of tables: write [[{kind}]], in double brackets.")
    return found


def _row(table: dict, place: str) -> Row:
    row = Row(**_values(Row, table, place))
    place = f"{place} ({row.where}: {row.what})"
    _one_of(place, "verdict", row.verdict, CHECKED + UNCHECKED)
    _one_of(place, "source", row.source, SOURCES)
    if row.verdict in CHECKED and not row.compute:
        _refuse(place, "compute", f"missing, but the verdict is {row.verdict!r}. Say how it is computed, or quote it.")
    if row.verdict in UNCHECKED and row.compute:
        _refuse(place, "verdict", f"{row.verdict!r}, but there is a computation: what is computed is checked. "
                f"Expected one of {', '.join(CHECKED)}; or remove `compute`.")  # fmt: skip
    if (row.verdict == "does not reproduce") != bool(row.why):
        _refuse(place, "why", "a row has this field if, and only if, it does not reproduce: one or two sentences.")
    if (row.verdict == "not verified") != (row.source == "M"):
        _refuse(place, "source", "M (from memory) goes with the verdict 'not verified', and with no other.")
    return row


def _net(table: dict, place: str) -> Net:
    net = Net(**_values(Net, table, place))
    place = f"{place} ({net.name})"
    _one_of(place, "source", net.source, ("R", "R2"))
    if bool(net.top1_error) == bool(net.top1_accuracy):
        _refuse(place, "top1_error", "give either `top1_error` or `top1_accuracy`, whichever the paper prints.")
    if net.top5_error and net.top5_accuracy:
        _refuse(place, "top5_error", "give only one of `top5_error` and `top5_accuracy`, as the paper prints it.")
    return net


def _values(cls: type, table: dict, place: str) -> dict[str, Any]:
    """The fields of a TOML table as arguments for `cls`: every required one there, none unknown, each of its type."""
    required = {field.name: field.default is MISSING for field in fields(cls) if field.name not in NOT_IN_A_TABLE}
    for name in table:
        if name not in required:
            known = ", ".join(required)
            _refuse(place, name, f"unknown{near(name, required)}. A {cls.__name__.lower()} has the fields {known}.")
    for name, needed in required.items():
        if needed and name not in table:
            _refuse(place, name, "missing. Add it.")
    return {name: _value(name, value, place) for name, value in table.items()}


def _value(name: str, value: Any, place: str) -> Any:
    if name in NUMBERS:
        if type(value) not in NUMBERS[name] or value <= 0:
            _refuse(place, name, f"got {value!r}, expected a number above 0{', whole' * (name != 'unit')}.")
        return value
    if name == "input":
        if not isinstance(value, list) or len(value) != 3 or any(type(n) is not int or n < 1 for n in value):
            _refuse(place, name, f"got {value!r}, expected channels, height, width: [3, 224, 224].")
        return tuple(value)
    if not isinstance(value, str) or not value.strip():
        _refuse(place, name, f"got {value!r}, expected text in quotes. An optional field is left out, not left empty.")
    return " ".join(value.split())  # a long formula or sentence may stand on several lines


def _refuse_twins(file: str, kind: str, field: str, names: list[tuple[str, ...]]) -> None:
    for i, name in enumerate(names, 1):
        first = names.index(name) + 1
        if first != i:
            what = f"{file}, {kind} {i} ({': '.join(name)})"
            raise LedgerError(f"{what}: {field} as in {kind} {first} already. Remove one, or tell them apart.")


def _one_of(place: str, field: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        _refuse(place, field, f"got {value!r}, expected one of {', '.join(known)}{near(value, known)}.")


def _refuse(place: str, field: str, problem: str) -> NoReturn:
    raise LedgerError(f"{place}, field `{field}`: {problem}")


def _key(paper: str) -> str:
    return paper.strip().lower().replace(" ", "_").replace("-", "_")
