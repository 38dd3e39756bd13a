"""The run sheet during the meeting: which part is on, and how long it, its hour and the meeting still last."""

import re
import time
from collections.abc import Callable

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from studylib.course import meeting
from studylib.course.week import MEETING_MINUTES, Week
from studylib.errors import StudyError


def frame(week: Week, seconds: float) -> Table:
    """The run sheet `seconds` after the beginning: the hour that is on with its parts, each other one in a line.

    What is on has its time left beside it, what is over is dim. It fits a terminal of 24 lines.
    """
    left = max(0.0, MEETING_MINUTES * 60 - seconds)
    table = Table(title=f"Week {week.number}: {week.title}")
    notebook = meeting.opened(week.folder.parents[1], week.name)
    table.caption = (
        f"{clock(left)} left of the meeting ({notebook}); Ctrl-C ends this" if left else "The meeting is over."
    )
    for column in ("start", "min", "what", "who", "left"):
        table.add_column(column, justify="right" if column in ("min", "left") else "left")
    rows, end = iter(week.rows()), 0.0
    for number, hour in enumerate(week.hours, 1):
        hour_begin, hour_end = end, end + hour.minutes * 60
        on = hour_begin <= seconds < hour_end
        cells = ["", str(hour.minutes), f"Hour {number}: {hour.title}", "", clock(hour_end - seconds) if on else ""]
        table.add_row(*map(Text, cells), style="dim" if seconds >= hour_end else "bold")
        for start, minutes, what, _, who in (next(rows) for _ in hour.parts):
            begin, end = end, end + minutes * 60
            if on:
                style = "dim" if seconds >= end else "reverse" if seconds >= begin else ""
                rest = clock(end - seconds) if style == "reverse" else ""
                table.add_row(*map(Text, [start, str(minutes), what, who, rest]), style=style)
    return table


def run(
    week: Week,
    console: Console,
    begin: float = 0.0,
    now: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Show `frame` once a second from `begin` seconds into the meeting to its end; a bell where a part ends.

    Ctrl-C ends it and leaves the terminal as it was. Raises StudyError where `console` is no terminal.
    """
    if not console.is_terminal:
        raise StudyError(
            "--live draws in a terminal, and the output is not one: leave out --live, or do not redirect it"
        )
    zero, place = now() - begin, part_at(week, begin)
    with Live(frame(week, begin), console=console, auto_refresh=False, transient=False) as live:
        while (seconds := now() - zero) < MEETING_MINUTES * 60:
            live.update(frame(week, seconds), refresh=True)
            if part_at(week, seconds) != place:
                place = part_at(week, seconds)
                console.bell()
            sleep(1.0)
        live.update(frame(week, MEETING_MINUTES * 60), refresh=True)
        console.bell()


def part_at(week: Week, seconds: float) -> int:
    """The number of the part, from 0, that is on; the number of parts when all are over."""
    end = 0
    parts = [part for hour in week.hours for part in hour.parts]
    for place, part in enumerate(parts):
        end += part.minutes * 60
        if seconds < end:
            return place
    return len(parts)


def parse(text: str) -> float:
    """Seconds of "h:mm" or of minutes, at most a meeting's. Raises StudyError for anything else."""
    match = re.fullmatch(r"(\d):([0-5]\d)|(\d{1,3})", text, re.ASCII)
    total = int(match[3] or 60 * int(match[1] or 0) + int(match[2] or 0)) if match else MEETING_MINUTES
    if total >= MEETING_MINUTES:
        raise StudyError(f"--from is {text!r}, expected minutes or h:mm from the beginning, below 3:00")
    return total * 60.0


def clock(seconds: float) -> str:
    """h:mm:ss or m:ss, the second that has begun counted whole."""
    whole = max(0, -int(-seconds // 1))
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"
