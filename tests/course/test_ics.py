"""The calendar as another program's parser reads it, vobject, which shares no code with the one that wrote it."""

import datetime

import pytest
import vobject

from studylib import course
from studylib.course import ics
from tests.course.conftest import on
from tests.course.test_group import replace


def events():
    content = ics.calendar(course.load(), on(3))
    assert content.endswith(b"\r\n") and all(len(line) <= 75 for line in content.split(b"\r\n"))
    return vobject.readOne(content.decode()).vevent_list


def test_each_meeting_is_a_whole_day_where_no_time_is_set(group):
    first, second = events()
    assert (first.dtstart.value, first.dtend.value) == (datetime.date(2026, 11, 2), datetime.date(2026, 11, 3))
    assert second.dtstart.value == datetime.date(2026, 11, 9)
    assert first.summary.value == "Small nets 1: Week of grouped"
    assert first.uid.value != second.uid.value and first.dtstamp.value == on(3)


def test_with_a_time_it_lasts_three_hours_on_the_clock_of_the_room(group):
    replace(group / "group.toml", "start =", 'time = 17:30:00\nplace = "Room 12; 2nd floor, left"\nstart =')
    first = events()[0]
    assert first.dtstart.value == datetime.datetime(2026, 11, 2, 17, 30)
    assert first.duration.value == datetime.timedelta(hours=3)
    assert first.location.value == "Room 12; 2nd floor, left"


def test_topics_presenters_links_and_any_letter_come_through(group):
    replace(
        group / "weeks" / "01_groups" / "week.toml", "number = 1", 'number = 1\nlink = "https://meet.example.org/1"'
    )
    replace(group / "weeks" / "01_groups" / "week.toml", "Week of grouped", "Zoë's nets; “2ⁿ”, and more " + "x" * 80)
    topic = group / "weeks" / "01_groups" / "resnext" / "topic.toml"
    topic.write_text(topic.read_text() + '\n[claim]\nowner = "Zoë"\nsecond = "李 明"\ndate = 2026-11-02\n')
    first = events()[0]
    assert first.summary.value.endswith("Zoë's nets; “2ⁿ”, and more " + "x" * 80)
    lines = first.description.value.splitlines()
    assert "All of resnext (Zoë and 李 明)" in lines and "All of grouped (nobody yet)" in lines
    assert "ResNeXt https://arxiv.org/abs/1611.05431" in lines and first.url.value == "https://meet.example.org/1"


def test_a_meeting_is_the_same_event_when_it_is_exported_again_and_another_in_another_run(group):
    before = [event.uid.value for event in events()]
    replace(group / "weeks" / "02_kernels" / "week.toml", "number = 2", "number = 2\ndate = 2026-11-10")
    assert [event.uid.value for event in events()] == before
    replace(group / "group.toml", "start = 2026-10-30", "start = 2027-01-30")
    replace(group / "weeks" / "02_kernels" / "week.toml", "date = 2026-11-10\n", "")
    assert not set(before) & {event.uid.value for event in events()}


def test_without_a_date_there_is_no_calendar(group):
    replace(group / "group.toml", "start = 2026-10-30\n", "")
    replace(group / "group.toml", 'weekday = "Monday"', "")
    with pytest.raises(ValueError, match=r"no meeting has a date: set start and weekday in .*group\.toml"):
        ics.calendar(course.load(), on(3))
