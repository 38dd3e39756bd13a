"""The countdown says what is on and what is left of it, moves on at the minute, and ends well."""

import io

import pytest
from rich.console import Console

from studylib import course
from studylib.course import countdown


@pytest.fixture
def week(group):
    """Parts: Talk 0:00 to 0:50, Break to 1:00, Paths to 2:00, Kernels to 3:00."""
    return course.load().weeks[0]


def shown(week, seconds, lines=24):
    console = Console(width=100, height=lines, file=io.StringIO(), force_terminal=True, color_system=None)
    console.print(countdown.frame(week, seconds))
    return console.file.getvalue()


def left(week, seconds, what):
    """The last column of the row with `what`."""
    (row,) = [line for line in shown(week, seconds).splitlines() if what in line]
    return row.split("│")[-2].strip()


@pytest.mark.parametrize(
    ("seconds", "what", "expected"),
    [
        (0, "Talk", "50:00"),
        (0, "Hour 1", "1:00:00"),
        (0, "Break", ""),
        (49 * 60 + 59, "Talk", "0:01"),
        (50 * 60, "Talk", ""),
        (50 * 60, "Break", "10:00"),
        (3600, "Paths", "1:00:00"),
        (3600, "Hour 1", ""),
        (9000.5, "Kernels", "30:00"),
    ],
)
def test_the_time_left_stands_at_what_is_on(week, seconds, what, expected):
    assert left(week, seconds, what) == expected


def test_only_the_hour_that_is_on_is_spread_out(week):
    assert "Talk" in shown(week, 0) and "Kernels" not in shown(week, 0) and "Hour 3: Three" in shown(week, 0)
    assert "Talk" not in shown(week, 7200) and "Kernels" in shown(week, 7200)
    assert "3:00:00 left of the meeting" in shown(week, 0)
    over = shown(week, 10800)
    assert "The meeting is over." in over and "Kernels" not in over


def test_it_names_the_notebook_to_open(week, group):
    assert "(weeks/01_groups/01_groups.ipynb); Ctrl-C" in shown(week, 0)
    (group / "exercises" / "01_groups").mkdir(parents=True)
    (group / "exercises" / "01_groups" / "meeting.ipynb").touch()
    assert "(exercises/01_groups/meeting.ipynb); Ctrl-C" in shown(week, 0)


def test_every_real_meeting_fits_a_terminal_of_24_lines():
    from studylib import course

    for week in course.load().weeks:
        for seconds in range(0, 10801, 3600):
            assert len(shown(week, seconds).splitlines()) <= 24, (week.name, seconds)


@pytest.mark.parametrize(
    ("seconds", "part"), [(0, 0), (2999, 0), (3000, 1), (3599.9, 1), (3600, 2), (7200, 3), (10799, 3), (10800, 4)]
)
def test_which_part_is_on(week, seconds, part):
    assert countdown.part_at(week, seconds) == part


def running(week, begin=0.0, **options):
    """Run it on a clock of its own: (what was drawn, how often the bell rang, how long it slept)."""
    clock = [1000.0]

    def sleep(seconds):
        clock[0] += 300 * seconds
        if options.get("stop") and clock[0] > options["stop"]:
            raise KeyboardInterrupt

    console = Console(width=100, file=io.StringIO(), force_terminal=options.get("terminal", True))
    try:
        countdown.run(week, console, begin, lambda: clock[0], sleep)
    finally:
        text = console.file.getvalue()
        options.setdefault("seen", []).append(text)
    return text, text.count("\x07"), clock[0] - 1000.0


def test_it_runs_to_the_end_and_rings_where_a_part_ends(week):
    text, bells, slept = running(week)
    assert bells == 4 and slept == 10800 and "The meeting is over." in text


def test_it_goes_on_from_where_the_meeting_is(week):
    text, bells, slept = running(week, begin=7200.0)
    assert bells == 1 and slept == 3600 and "Talk" not in text


def test_ctrl_c_gives_the_cursor_back(week):
    seen = []
    with pytest.raises(KeyboardInterrupt):
        running(week, stop=2000.0, seen=seen)
    assert "\x1b[?25l" in seen[0] and seen[0].rindex("\x1b[?25h") > seen[0].rindex("\x1b[?25l")


def test_where_there_is_no_terminal_it_says_so(week):
    with pytest.raises(ValueError, match="--live draws in a terminal"):
        running(week, terminal=False)


@pytest.mark.parametrize(("text", "seconds"), [("0", 0), ("90", 5400), ("1:20", 4800), ("2:59", 10740), ("0:05", 300)])
def test_how_far_the_meeting_is(text, seconds):
    assert countdown.parse(text) == seconds


@pytest.mark.parametrize("text", ["", "3:00", "180", "1:60", "-5", "1:", "x", "1:2:3", ":05", "0:5", "½"])
def test_nonsense_is_refused(text):
    with pytest.raises(ValueError, match="--from is .* expected minutes or h:mm"):
        countdown.parse(text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (0.2, "0:01"), (61, "1:01"), (3599.5, "1:00:00"), (-3, "0:00")]
)
def test_a_second_that_has_begun_is_shown(seconds, text):
    assert countdown.clock(seconds) == text
