"""The meetings as an iCalendar file, which calendar programs import."""

import datetime

from icalendar import Calendar, Event

from studylib.course.course import Course
from studylib.course.week import MEETING_MINUTES, Week
from studylib.errors import StudyError


def calendar(course: Course, now: datetime.datetime) -> bytes:
    """An event for each meeting that has a date: three hours long, or a whole day where group.toml has no time.

    Times are local ones without a zone: they mean the clock on the wall of the room. `now` is when the file was made.
    Raises StudyError where no meeting has a date.
    """
    dated = [week for week in course.weeks if course.date(week)]
    if not dated:
        raise StudyError(f"no meeting has a date: set start and weekday in {course.root / 'group.toml'}")
    made = Calendar()
    made.add("prodid", "-//Efficient CNNs//studylib//EN")
    made.add("version", "2.0")
    made.add("x-wr-calname", course.group.title)
    for week in dated:
        made.add_component(_event(course, week, now))
    return made.to_ical()


def _event(course: Course, week: Week, now: datetime.datetime) -> Event:
    day, time = course.date(week), course.group.time
    assert day is not None
    event = Event()
    # The run's beginning is in it: a second run of the course has meetings of its own.
    event.add("uid", f"{week.name}-{course.group.first() or day}@efficient-cnns")
    event.add("dtstamp", now.astimezone(datetime.UTC))
    event.add("summary", f"{course.group.title} {week.number}: {week.title}")
    if time:
        event.add("dtstart", datetime.datetime.combine(day, time))
        event.add("duration", datetime.timedelta(minutes=MEETING_MINUTES))
    else:
        event.add("dtstart", day)
        event.add("dtend", day + datetime.timedelta(days=1))
    if course.place(week):
        event.add("location", course.place(week))
    if course.link(week):
        event.add("url", course.link(week))
    event.add("description", _description(course, week))
    return event


def _description(course: Course, week: Week) -> str:
    lines = [f"Hour {number}: {hour.title}" for number, hour in enumerate(week.hours, 1)]
    lines.append("")
    for topic in course.topics_of(week):
        who = " and ".join(topic.claim.people) if topic.claim else "nobody yet"
        lines.append(f"{topic.title} ({who})")
    if week.readings:
        lines += ["", "To read:", *(f"{reading.title} {reading.link}" for reading in week.readings)]
    return "\n".join(lines)
