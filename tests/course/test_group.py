"""The course's files are read and held against each other, and whatever is wrong is named with file and field."""

import datetime

import pytest

from studylib import course
from studylib.course import topic

DAY = datetime.date


def replace(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_everything_is_there_and_in_order(group):
    everything = course.load(group)
    assert everything.group.title == "Small nets"
    assert [person.name for person in everything.group.participants] == ["Ada Lovelace", "Bob"]
    assert [week.name for week in everything.weeks] == ["01_groups", "02_kernels"]
    first = everything.weeks[0]
    assert [t.name for t in everything.topics_of(first)] == ["grouped", "resnext"]
    assert everything.topic("gpu").week == "02_kernels" and everything.topic("gpu").claim is None
    assert [t.name for t in everything.topics_of(everything.paper("resnext"))] == ["grouped", "resnext"]
    assert everything.paper("resnext").all_links == ["https://arxiv.org/abs/1611.05431"]


def test_dates_are_weeks_apart_from_the_first_weekday_on(group):
    everything = course.load(group)
    assert [everything.date(week) for week in everything.weeks] == [DAY(2026, 11, 2), DAY(2026, 11, 9)]
    replace(group / "group.toml", 'weekday = "Monday"', 'weekday = "Friday"')  # which the start is
    everything = course.load(group)
    assert everything.date(everything.weeks[0]) == DAY(2026, 10, 30)


def test_a_date_of_its_own_moves_one_meeting_only(group):
    replace(group / "weeks" / "01_groups" / "week.toml", "number = 1", "number = 1\ndate = 2026-11-04")
    everything = course.load(group)
    assert [everything.date(week) for week in everything.weeks] == [DAY(2026, 11, 4), DAY(2026, 11, 9)]


def test_without_a_start_only_own_dates_are_known(group):
    replace(group / "group.toml", "start = 2026-10-30\n", "")
    replace(group / "group.toml", 'weekday = "Monday"', "")
    replace(group / "weeks" / "02_kernels" / "week.toml", "number = 2", "number = 2\ndate = 2026-11-04")
    everything = course.load(group)
    assert [everything.date(week) for week in everything.weeks] == [None, DAY(2026, 11, 4)]


@pytest.mark.parametrize(
    ("today", "this", "following"),
    [
        (DAY(2026, 10, 30), None, "01_groups"),
        (DAY(2026, 11, 2), "01_groups", "01_groups"),
        (DAY(2026, 11, 8), "01_groups", "02_kernels"),
        (DAY(2026, 11, 9), "02_kernels", "02_kernels"),
        (DAY(2026, 11, 10), "02_kernels", None),
        (DAY(2027, 11, 2), None, None),
    ],
)
def test_this_week_and_the_next_meeting(group, today, this, following):
    everything = course.load(group)
    assert getattr(everything.this_week(today), "name", None) == this
    assert getattr(everything.next(today), "name", None) == following


def test_place_and_link_are_the_group_s_unless_the_week_has_its_own(group):
    replace(group / "group.toml", "start =", 'place = "Room 12"\nlink = "https://meet.example.org/1"\nstart =')
    replace(group / "weeks" / "02_kernels" / "week.toml", "number = 2", 'number = 2\nplace = "Garden"')
    everything = course.load(group)
    assert [everything.place(week) for week in everything.weeks] == ["Room 12", "Garden"]
    assert everything.link(everything.weeks[1]) == "https://meet.example.org/1"


@pytest.mark.parametrize("name", ["1", "01", "01_groups", "01_gr", "weeks/01_groups/"])
def test_a_week_is_found_by_number_name_or_beginning(group, name):
    assert course.load(group).week(name).name == "01_groups"


@pytest.mark.parametrize("name", ["", "0", "3", "groups/x", "weeks"])
def test_an_unknown_week_is_answered_with_those_there_are(group, name):
    with pytest.raises(ValueError, match=r"there is no week .*\nweeks: 01_groups, 02_kernels"):
        course.load(group).week(name)


@pytest.mark.parametrize("name", ["resnet", "../resnext", "01_groups/resnext", "resnext/"])
def test_an_unknown_topic_is_answered_with_the_one_that_was_meant(group, name):
    with pytest.raises(
        ValueError, match=r"there is no topic '.*; did you mean resnext\?\ntopics: grouped, resnext, gpu"
    ):
        course.load(group).topic(name)


WEEK, TOPIC = "weeks/01_groups/week.toml", "weeks/01_groups/resnext/topic.toml"
CLAIM = '\n[claim]\nowner = "Ada"\ndate = 2026-11-02\n'
MISTAKES = [
    ("group.toml", 'title = "Small nets"', "", "field 'title' is missing"),
    ("group.toml", 'title = "Small nets"', 'title = ""', "title is '', expected one line"),
    ("group.toml", 'title = "Small nets"', 'title = "Small\\nnets"', r"title is 'Small\\nnets', expected one line"),
    ("group.toml", "start =", 'link = "zoom"\nstart =', "link is 'zoom', expected an address"),
    (
        "group.toml",
        "start = 2026-10-30",
        "start = 9999-12-30",
        "start is 9999-12-30, expected a day before the year 3000",
    ),
    ("group.toml", 'weekday = "Monday"', 'weekday = "Moonday"', "weekday is 'Moonday', expected one of Monday, "),
    ("group.toml", 'weekday = "Monday"', "", "field 'weekday' is missing: dates follow"),
    ("group.toml", "start = 2026-10-30", "", "field 'start' is missing: dates follow"),
    ("group.toml", "start = 2026-10-30", 'start = "soon"', "start is 'soon', expected a date"),
    ("group.toml", '"basics", ', "", "hours has 2 entries, a meeting has 3"),
    ("group.toml", 'name = "Bob"', 'name = "Bob/../x"', r"participants\[2\].name is 'Bob/../x', expected a name"),
    (
        "group.toml",
        'name = "Bob"',
        'name = "Ada Lovelace"',
        r"participants\[2\] is 'Ada Lovelace', as participants\[1\]",
    ),
    ("group.toml", 'github = "ada"', 'github = "@ada"', r"participants\[1\].github is '@ada', expected a handle"),
    ("group.toml", 'title = "Small nets"', "<<<<<<< HEAD", "is not valid TOML"),
    ("readings.toml", 'area = "GPU"', 'area = "gpus"', r"papers\[2\] \(cs179\): area is 'gpus', expected one of"),
    ("readings.toml", '"1611.05431"', '"1611.5431x"', r"papers\[1\] \(resnext\): arxiv is '1611.5431x'"),
    ("readings.toml", 'links = ["https://courses.cms.caltech.edu/cs179"]', "", "neither arxiv nor links"),
    ("readings.toml", '"https://courses', '"courses', r"papers\[2\] \(cs179\): links is 'courses.*expected an address"),
    ("readings.toml", 'key = "cs179"', 'key = "resnext"', r"papers\[2\] is 'resnext', as papers\[1\] is already"),
    ("readings.toml", 'key = "cs179"', 'key = "CS 179"', "key has small letters"),
    (WEEK, 'title = "Week of grouped"', "", "field 'title' is missing"),
    (WEEK, "minutes = 50", "minutes = 55", r"hours\[1\] \(One\) says minutes = 60, its parts add up to 65"),
    (WEEK, "number = 1", "number = 3", "number is 3, and the folder is '01_groups', expected 03_name"),
    (WEEK, '"resnext"]', '"resnet"]', "topics has 'resnet', .*no such folder with a topic.toml; did you mean resnext?"),
    (WEEK, ', "resnext"', "", "topics has no 'resnext', which is a folder with a topic.toml here"),
    (WEEK, ', "resnext"', ', "resnext", "resnext"', r"topics\[3\] is 'resnext', as topics\[2\] is already"),
    (
        WEEK,
        "number = 1",
        'number = 1\nexercises = ["transpose"]',
        "exercises has 'transpose', which is not in exercises/01_groups",
    ),
    (WEEK, "number = 1", 'number = 1\nlink = "zoom"', "link is 'zoom', expected an address"),
    (WEEK, "number = 1", 'number = 1\ndate = "2026-11-02"', "date is '2026-11-02', expected a date"),
    (WEEK, "number = 1", "number = 1\ndate = 9999-12-31", "date is 9999-12-31, expected a day before the year 3000"),
    (WEEK, 'title = "Week of grouped"', 'title = " "', "title is ' ', expected one line"),
    (WEEK, '"https://arxiv', '"arxiv', r"readings\[1\].link is 'arxiv.*expected an address"),
    (
        "weeks/02_kernels/week.toml",
        "number = 2",
        "number = 2\ndate = 2026-11-02",
        "date is 2026-11-02, which is not after",
    ),
    (TOPIC, 'title = "All of resnext"', "", "field 'title' is missing"),
    (TOPIC, 'title = "All of resnext"', 'title = " "', "title is ' ', expected one line"),
    (TOPIC, "hour = 2", "hour = 4", "hour is 4, expected 1, 2 or 3"),
    (TOPIC, '"resnext"]', '"resnet"]', "papers has 'resnet', which is not in readings.toml; did you mean resnext?"),
    (TOPIC, "# in this order", CLAIM.replace('owner = "Ada"\n', ""), "field 'owner' is missing in claim"),
    (TOPIC, "# in this order", CLAIM.replace("date = 2026-11-02", ""), "field 'date' is missing in claim"),
    (TOPIC, "# in this order", CLAIM.replace("2026-11-02", '"monday"'), "claim.date is 'monday', expected a date"),
    (TOPIC, "# in this order", CLAIM.replace("Ada", "a/b"), "claim.owner is 'a/b', expected a name"),
    (TOPIC, "# in this order", CLAIM.replace("Ada", ""), "claim.owner is '', expected a name"),
    (TOPIC, "# in this order", CLAIM + 'second = "Ada"', "claim.second is 'Ada' as claim.owner is"),
    (TOPIC, "# in this order", CLAIM + 'secnod = "Bob"', "unknown field 'secnod' in claim"),
    (TOPIC, "# in this order", '\nclaim = "mine"', "claim is 'mine', expected a table"),
    (TOPIC, "# A topic.", "<<<<<<< HEAD", "is not valid TOML: line 1 .* two branches changed it"),
]


@pytest.mark.parametrize(("file", "old", "new", "message"), MISTAKES)
def test_a_mistake_is_named_with_file_and_field(group, file, old, new, message):
    replace(group / file, old, new)
    with pytest.raises(ValueError, match=rf"{file}.*{message}"):
        course.load(group)


def test_a_topic_without_notes_and_two_of_one_name_are_refused(group):
    folder = group / "weeks" / "02_kernels" / "gpu"
    (folder / "notes.md").rename(folder / "aside.md")
    with pytest.raises(FileNotFoundError, match=r"there is no .*gpu.notes\.md"):
        course.load(group)
    (folder / "aside.md").rename(folder / "notes.md")
    folder.rename(folder.with_name("resnext"))
    with pytest.raises(ValueError, match=r"there is a topic 'resnext' in \w+ already: rename the folder"):
        course.load(group)


def test_notes_that_are_no_text_are_named(group):
    (group / "weeks" / "01_groups" / "resnext" / "notes.md").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"resnext.notes\.md is not text in UTF-8"):
        course.load(group).topic("resnext").answered()


def test_a_folder_with_topics_and_no_week_toml_is_an_error(group):
    (group / "weeks" / "02_kernels" / "week.toml").unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no .*02_kernels.week\.toml"):
        course.load(group)


@pytest.mark.parametrize("name", ["group.toml", "readings.toml"])
def test_a_missing_file_is_named(group, name):
    (group / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        course.load(group)


@pytest.mark.parametrize("name", ["Ada", "Sriharsha Annamaneni", "Zoë O'Neil-Smith Jr.", "अमेय प्रभु", "李 明", "x2"])
def test_names_of_people(name):
    topic.check_name(name, "the name")


@pytest.mark.parametrize(
    "name", ["", " ", "a/b", "a\\b", "Ada\n", " Ada", "a@b", "<b>", '"', "2", ".", "A" * 61, "a\x00"]
)
def test_names_of_nobody(name):
    with pytest.raises(ValueError, match="the name is .* expected a name"):
        topic.check_name(name, "the name")


def test_an_answer_is_text_below_a_question_beside_the_template_s_own(group):
    gpu = course.load(group).topic("gpu")
    assert gpu.answered() == (0, 8)
    replace(gpu.notes, topic.ANSWER, "")  # deleting the placeholder answers nothing
    assert gpu.answered() == (0, 8)
    replace(gpu.notes, topic.ANSWER, "Coalescing.")
    assert gpu.answered() == (1, 8)
    with gpu.notes.open("a", encoding="utf-8") as notes:
        notes.write("\n## A question of my own\n\nAnd its answer.\n")
    assert gpu.answered() == (2, 9)


def test_the_state_of_a_paper_is_computed(group):
    def state():
        everything = course.load(group)
        return everything.state(everything.paper("resnext"))

    assert (state().claimed, state().read, state().derived, state().checked) == (False, False, True, False)
    path = group / TOPIC
    path.write_text(path.read_text() + CLAIM)
    path.with_name("notes.md").write_text("# Notes\n\n## What is the idea?\n\nPaths.\n")
    ledger = group / "studylib" / "ledger" / "resnext.toml"
    ledger.parent.mkdir(parents=True)
    ledger.write_text("".join(f'[[row]]\nverdict = "{v}"\n' for v in ("does not reproduce", "quoted", "not verified")))
    assert state().claimed and state().read and not state().checked and state().reproduced == (0, 1, 3)
    ledger.write_text(ledger.read_text() + '[[row]]\nverdict = "truncates"\n[[row]]\nverdict = "reproduces"\n')
    assert state().checked and state().reproduced == (2, 3, 5)
    replace(group / "weeks" / "01_groups" / "01_groups.py", "2.1 Paths", "2.1 Ways")
    assert not state().derived
