"""The form of a meeting as rules: participants work themselves, and what a part asks for fits its minutes."""

from studylib.course import loads, meeting, notebooks
from studylib.course.week import MEETING_MINUTES, Week
from studylib.words import counted

OWN_WORK = MEETING_MINUTES // 4
GAPS = 3  # at least, in each of these hours
HOURS = (1, 2)
LINES = 25  # of a cell in sight, at most
ASSERTIONS = 40  # in sight, at most


def faults(week: Week) -> list[str]:
    """In which ways a meeting is not in the form, in words that say what to change; none where it is."""
    found = loads.of_week(week)
    wrong = [
        f"“{each.part.what}” has {each.part.minutes} minutes and a load of {each.minutes:.1f}: "
        f"shorten or fold, or give it {-(-each.minutes // loads.OVER):.0f}"
        for each in found
        if each.is_over
    ]
    if (own := loads.own_work(found)) < OWN_WORK:
        wrong.append(
            f"the participants' own work is {own} minutes, expected {OWN_WORK}: gaps, exercises in the meeting"
        )
    gaps = loads.gaps_by_hour(found)
    wrong += [
        f"hour {hour} has {counted(gaps.get(hour, 0), 'gap')}, expected {GAPS} or more"
        for hour in HOURS
        if gaps.get(hour, 0) < GAPS
    ]
    return wrong + _of_cells(week)


def _of_cells(week: Week) -> list[str]:
    """What is too long in the notebook itself."""
    source = week.folder / f"{week.name}.py"
    if not source.is_file():
        return []
    notebook, wrong, assertions = notebooks.read(source), [], 0
    opened = {gap.cell: gap.open for gap in meeting.gaps(notebook)}
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type != "code" or not loads.in_sight(cell):
            continue
        code = opened.get(number, cell.source)
        if (lines := len(code.splitlines())) > LINES:
            wrong.append(f"a cell in sight has {lines} lines, at most {LINES}: {next(iter(code.splitlines()))!r}")
        assertions += sum(line.lstrip().startswith("assert ") for line in code.splitlines())
    if assertions > ASSERTIONS:
        wrong.append(f"{assertions} assertions are in sight, at most {ASSERTIONS}: make tests of them, or fold")
    return wrong
