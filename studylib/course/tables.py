"""What `study schedule`, `claims`, `sheet` and `next` show, made of the course's files and the claims in git."""

import datetime

from rich.console import Group
from rich.table import Table
from rich.text import Text

from studylib.course import claims
from studylib.course.course import Course
from studylib.course.topic import Topic
from studylib.course.week import Week

NOT_SET = "no date yet"


def schedule(course: Course, now: datetime.datetime) -> Table:
    """All meetings with their topics and presenters; this week's is marked, else the next one."""
    today = now.date()
    marked = course.this_week(today)
    word, marked = ("this week", marked) if marked else ("next", course.next(today))
    table = Table(title=course.group.title, caption=None if marked else no_meeting_ahead(course))
    for column in ("", "week", "date", "meeting", "topic", "who"):
        table.add_column(column, style="bold" if column == "" else None)
    for week in course.weeks:
        mine = week is marked
        first = [word if mine else "", str(week.number), day(course.date(week)), week.title]
        for place, topic in enumerate(course.topics_of(week)):
            cells = first if place == 0 else [""] * 4
            table.add_row(*map(Text, [*cells, topic.title, presenters(topic, now)]), style="bold" if mine else None)
        if not week.topics:
            table.add_row(*map(Text, [*first, "", ""]), style="bold" if mine else None)
        table.add_section()
    return table


def all_claims(course: Course, now: datetime.datetime) -> Table:
    """Every topic: who has it until when, how far its notes are."""
    table = Table()
    for column in ("week", "topic", "who", "since", "holds until", "notes"):
        table.add_column(column)
    for topic in course.topics:
        held, state = topic.claim, claims.standing(topic, now)
        given, asked = topic.answered()
        who, since, until = "", "", ""
        if held and state:
            who, since = " and ".join(held.people), str(held.date)
            until = f"lapsed {state.until}" if state.lapsed else str(state.until)
        cells = [str(course.week(topic.week).number), topic.name, who, since, until, f"{given} of {asked}"]
        table.add_row(*map(Text, cells))
    return table


def page(course: Course, week: Week, now: datetime.datetime) -> str:
    """The run sheet of a meeting on one page: when and where, the three hours, topics, exercises, readings."""
    lines = [f"{course.group.title}, {day(course.date(week))}"]
    lines += [line for line in (course.place(week), course.link(week)) if line]
    lines += ["", str(week), "", "Topics"]
    lines += [f"  hour {topic.hour}  {topic.title}: {presenters(topic, now)}" for topic in course.topics_of(week)]
    if week.exercises:
        lines += ["", *exercises(week)]
    if week.readings:
        lines += ["", "Readings"]
        lines += [line for reading in week.readings for line in (f"  {reading.title}", f"    {reading.link}")]
    return "\n".join(lines)


def coming(course: Course, person: str, now: datetime.datetime) -> Group:
    """The next meeting: when, where, what to read and which topics are free; and what `person` has still to answer."""
    today = now.date()
    week = course.next(today)
    if week is None:
        lines = [no_meeting_ahead(course)]
    else:
        date = course.date(week)
        assert date is not None
        days = (date - today).days
        when = "today" if days == 0 else "tomorrow" if days == 1 else f"in {days} days"
        lines = [f"Week {week.number}: {week.title}", f"{day(date)}, {when}"]
        lines += [line for line in (course.place(week), course.link(week)) if line]
        lines += [f"  hour {topic.hour}  {topic.title}: {presenters(topic, now)}" for topic in course.topics_of(week)]
        if week.readings:
            lines += ["To read:"] + [f"  {reading.title}\n    {reading.link}" for reading in week.readings]
        if week.exercises:
            lines += [*exercises(week), f"study check {week.number} judges yours"]
    for topic in course.topics:
        if topic.claim and person in topic.claim.people:
            given, asked = topic.answered()
            path = topic.notes.relative_to(course.root.resolve())
            lines.append(f"Yours: {topic.name}; {given} of {asked} questions answered in {path}")
    return Group(*map(Text, lines))


def exercises(week: Week) -> list[str]:
    """A week's exercises in a line, or in two: those of the meeting, and those for at home."""
    at_home = [name for name in week.exercises if name not in week.in_meeting]
    if not week.in_meeting:
        return [f"Exercises: {', '.join(at_home)}"]
    lines = [f"Exercises in the meeting: {', '.join(week.in_meeting)}"]
    return lines + ([f"Exercises at home: {', '.join(at_home)}"] if at_home else [])


def presenters(topic: Topic, now: datetime.datetime) -> str:
    """Who presents a topic, in words; a lapsed claim says so where git can tell."""
    if topic.claim is None:
        return f"free: study claim {topic.name}"
    who = " and ".join(topic.claim.people)
    if not claims.has_git(topic.folder):
        return who
    state = claims.standing(topic, now)
    return f"{who} (lapsed: study claim {topic.name})" if state and state.lapsed else who


def day(date: datetime.date | None) -> str:
    return f"{date:%A} {date.day} {date:%B %Y}" if date else NOT_SET


def no_meeting_ahead(course: Course) -> str:
    """Why there is no next meeting, and what to do about it."""
    last = max((date for week in course.weeks if (date := course.date(week))), default=None)
    if last is None:
        return "No meeting has a date: set start and weekday in group.toml."
    return (
        "New here? Begin with week 1, alone or with others; to meet as a group, set your dates with study group init. "
        f"(The meetings of the last run are over: {day(last)} was the last one.)"
    )
