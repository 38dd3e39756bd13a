"""The run sheet during the meeting: which part is on, and how long it, its hour and the meeting still last."""

import time
from collections.abc import Callable

from rich.console import Console
from rich.live import Live
from rich.table import Table

from studylib.course.week import MEETING_MINUTES, Week


def frame(week: Week, seconds: float) -> Table:
    """The run sheet `seconds` after the beginning: what is over is dim, what is on has its time left beside it."""
    left = max(0.0, MEETING_MINUTES * 60 - seconds)
    table = Table(title=f"Week {week.number}: {week.title}")
    table.caption = f"{clock(left)} left of the meeting; Ctrl-C ends this" if left else "The meeting is over."
    for column in ("start", "min", "what", "who", "left"):
        table.add_column(column, justify="right" if column in ("min", "left") else "left")
    rows, end = iter(week.rows()), 0.0
    for number, hour in enumerate(week.hours, 1):
        hour_end = end + hour.minutes * 60
        hour_left = clock(hour_end - seconds) if end <= seconds < hour_end else ""
        table.add_row("", str(hour.minutes), f"Hour {number}: {hour.title}", "", hour_left, style="bold")
        for start, minutes, what, _, who in (next(rows) for _ in hour.parts):
            begin, end = end, end + minutes * 60
            style = "dim" if seconds >= end else "reverse" if seconds >= begin else ""
            table.add_row(
                start, str(minutes), what, who, clock(end - seconds) if style == "reverse" else "", style=style
            )
        table.add_section()
    return table


def run(
    week: Week,
    console: Console,
    begin: float = 0.0,
    now: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Show `frame` once a second from `begin` seconds into the meeting to its end; a bell where a part ends.

    Ctrl-C ends it and leaves the terminal as it was. Raises ValueError where `console` is no terminal.
    """
    if not console.is_terminal:
        raise ValueError("--live draws in a terminal, and the output is none: leave out --live, or do not redirect it")
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
    """Seconds of "h:mm" or of minutes, at most a meeting's. Raises ValueError for anything else."""
    hours, colon, minutes = text.rpartition(":")
    digits = minutes.isascii() and minutes.isdigit() and (not colon or (hours.isascii() and hours.isdigit()))
    total = int(minutes) + 60 * int(hours or 0) if digits else -1
    if not 0 <= total < MEETING_MINUTES or (colon and int(minutes) > 59):
        raise ValueError(f"--from is {text!r}, expected minutes or h:mm from the beginning, below 3:00")
    return total * 60.0


def clock(seconds: float) -> str:
    """h:mm:ss or m:ss, the second that has begun counted whole."""
    whole = max(0, -int(-seconds // 1))
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"
