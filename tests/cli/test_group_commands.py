"""The group's commands end to end: what they print and write, and every wrong input as one message."""

import datetime
import os

import pytest
import vobject
from typer.testing import CliRunner

from studylib import course
from studylib.cli import app
from studylib.cli import group as commands
from tests.course.conftest import on
from tests.course.test_group import replace


@pytest.fixture
def study(group, git, monkeypatch):
    """Runs the command on 3 November 2026 in the group's repository."""
    monkeypatch.setattr(commands, "now", lambda: on(3))
    return lambda *arguments, **options: CliRunner().invoke(app, arguments, **options)


def files_in(root):
    """Name and content of every file outside .git."""
    paths = [path for path in root.rglob("*") if path.is_file() and ".git" not in path.relative_to(root).parts]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


def test_help_of_each_command_says_what_it_does(study):
    for command in ("claim", "release", "claims", "schedule", "sheet", "next", "doctor", "new-week", "group"):
        shown = study(command, "--help")
        assert shown.exit_code == 0 and f"Usage: root {command}" in shown.output


@pytest.mark.parametrize("command", ["address", "ledger"])
def test_an_argument_that_may_be_left_out_stands_in_one_pair_of_brackets(study, command):
    assert f"Usage: root {command} [OPTIONS] [" in (shown := study(command, "--help").output) and "[[" not in shown


def test_claim_takes_the_name_from_git_and_release_gives_the_topic_back(study, group):
    before = files_in(group)
    result = study("claim", "resnext")
    assert result.exit_code == 0 and result.stdout == "Ada Lovelace presents resnext (week 1)\n"
    assert "git commit -m 'Claim resnext' weeks/01_groups/resnext/topic.toml" in result.stderr
    after = files_in(group)
    changed = {name for name in after if before.get(name) != after[name]}
    assert changed == {"weeks/01_groups/resnext/topic.toml"} and before.keys() == after.keys()
    released = study("release", "resnext")
    assert released.stdout == "Ada Lovelace has released resnext\n"
    assert "git commit -m 'Release resnext' weeks/01_groups/resnext/topic.toml" in released.stderr
    assert files_in(group) == before


def test_claim_for_somebody_who_is_no_participant_says_so(study):
    result = study("claim", "gpu", "--name", "Cy", "--with", "Bob")
    assert result.stdout == "Cy presents gpu (week 2) with Bob\n"
    assert "# Cy is not among the participants in group.toml yet" in result.stderr and "# Bob" not in result.stderr


def test_claims_shows_who_has_what_until_when(study):
    study("claim", "resnext", "--with", "Bob")
    rows = {cells[2]: cells for line in study("claims").stdout.splitlines() if len(cells := line.split("│")) > 5}
    cells = [cell.strip() for key, row in rows.items() if "resnext" in key for cell in row]
    assert cells[1:-1] == ["1", "resnext", "Ada Lovelace and Bob", "2026-11-03", "2026-11-17", "0 of 8"]


def test_a_lapsed_claim_is_shown_as_free_to_take(study, monkeypatch):
    study("claim", "resnext")
    assert "Ada Lovelace" in study("schedule").stdout and "lapsed" not in study("schedule").stdout
    monkeypatch.setattr(commands, "now", lambda: on(18))
    assert "lapsed 2026-11-17" in study("claims").stdout
    assert "(lapsed: study claim resnext)" in " ".join(study("schedule").stdout.split())


def test_codeowners_is_written_when_asked(study, group):
    study("claim", "resnext")
    assert study("claims", "--codeowners").stdout == ".github/CODEOWNERS: written\n"
    assert "/weeks/01_groups/resnext/ @ada\n" in (group / ".github" / "CODEOWNERS").read_text()
    assert study("claims", "--codeowners").stdout == ".github/CODEOWNERS: unchanged\n"


@pytest.mark.parametrize(
    ("day", "marked", "week"), [(on(1), "next", "1"), (on(3), "this week", "1"), (on(9), "this week", "2")]
)
def test_the_schedule_marks_this_week_or_the_next_meeting(study, monkeypatch, day, marked, week):
    monkeypatch.setattr(commands, "now", lambda: day)
    rows = [[cell.strip() for cell in line.split("│")] for line in study("schedule").stdout.splitlines() if "│" in line]
    assert [(row[1], row[2]) for row in rows if row[1]] == [(marked, week)]
    assert ["2", "Monday 9 November 2026", "Week of gpu", "All of gpu", "free: study claim gpu"] in [
        r[2:-1] for r in rows
    ]


def test_after_the_last_meeting_it_says_what_to_do(study, monkeypatch):
    monkeypatch.setattr(commands, "now", lambda: on(17))
    for command in ("schedule", "next"):
        assert "Monday 9 November 2026 was the last one" in " ".join(study(command).stdout.split())


def test_the_calendar_is_one_that_another_parser_reads(study, tmp_path):
    path = tmp_path / "meetings.ics"
    assert study("schedule", "--ics", str(path)).stdout == f"wrote {path}\n"
    events = vobject.readOne(path.read_bytes().decode()).vevent_list
    assert [event.dtstart.value for event in events] == [datetime.date(2026, 11, 2), datetime.date(2026, 11, 9)]


def test_the_sheet_has_everything_on_one_page(study, group):
    replace(group / "group.toml", "start =", 'place = "Room 12"\nlink = "https://meet.example.org/1"\nstart =')
    study("claim", "resnext")
    page = study("sheet", "1").stdout
    for text in (
        "Small nets, Monday 2 November 2026",
        "Room 12",
        "https://meet.example.org/1",
        "0:50   10 min  Break",
        "hour 2  All of resnext: Ada Lovelace",
        "hour 1  All of grouped: free",
        "arxiv.org/abs/1611.05431",
    ):
        assert text in page, text
    assert len(page.splitlines()) < 60


def test_next_shows_the_meeting_and_what_is_mine(study):
    study("claim", "gpu")
    shown = study("next").stdout
    assert "Week 2: Week of gpu\nMonday 9 November 2026, in 6 days\n" in shown
    assert "Yours: gpu; 0 of 8 questions answered in weeks/02_kernels/gpu/notes.md" in shown


def test_next_needs_no_name_in_git(study, git, monkeypatch):
    git("config", "--unset", "user.name")
    for place in ("GLOBAL", "SYSTEM"):
        monkeypatch.setenv(f"GIT_CONFIG_{place}", os.devnull)
    result = study("next")
    assert result.exit_code == 0 and "Week 2: Week of gpu\n" in result.stdout and "Yours" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["claim", "resnet"], "there is no topic 'resnet'; did you mean resnext?\ntopics: grouped, resnext, gpu"),
        (["claim", "../resnext"], "there is no topic '../resnext'"),
        (["claim", "resnext", "--name", "ada/lovelace"], "the name is 'ada/lovelace', expected a name"),
        (["claim", "resnext", "--with", "b/c"], "the name of the second is 'b/c'"),
        (["claim", "resnext", "--with", "Ada Lovelace"], "are both 'Ada Lovelace'"),
        (["release", "resnext"], "nobody has claimed resnext"),
        (["sheet", "3"], "there is no week '3'"),
        (["sheet", "1", "--live"], "--live draws in a terminal"),
        (["sheet", "1", "--live", "--from", "9:00"], "--from is '9:00', expected minutes or h:mm"),
        (["sheet", "1", "--from", "1:00"], "--from goes with --live"),
        (["schedule", "--ics", "no/such/folder.ics"], "there is no folder 'no/such'"),
        (["schedule", "--ics", "."], "--ics is '.', a folder: name a file"),
        (["schedule", "--ics", ""], "--ics is '.', a folder: name a file"),
        (["schedule", "--ics", "weeks"], "--ics is 'weeks', a folder: name a file"),
        (["new-week", "a/b"], "NAME is 'a/b', expected small letters"),
        (["new-week", "nets", "--title", "a" * 101], "expected one line of at most 100 letters"),
        (["new-week", "kernels"], "there is a week '02_kernels' already"),
        (["new-week", "more", "--topic", "gpu"], "there is a topic 'gpu' in 02_kernels already"),
        (["new-week", "more", "--topic", "x", "--topic", "x"], "--topic is 'x' twice"),
        (["new-week", "more", "--title", "a\nb"], "--title is 'a\\nb', expected one line"),
        (["group", "init", "--title", "a\nb"], "--title is 'a\\nb', expected one line"),
        (["group", "init", "--start", "9999-12-30"], "--start is 9999-12-30, expected a day before the year 3000"),
        (["group", "init", "--participant", "a/b"], "--participant is 'a/b', expected a name"),
        (["group", "init", "--participant", "Cy", "--participant", "Cy"], "--participant is 'Cy' twice"),
    ],
)
def test_wrong_input_is_one_message_and_changes_nothing(study, group, arguments, message):
    before = files_in(group)
    result = study(*arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith("study: ") and message in result.stderr and "Traceback" not in result.output
    assert files_in(group) == before


@pytest.mark.parametrize("command", [["claim", "resnext"], ["release", "resnext"], ["claims"], ["schedule"], ["next"]])
def test_a_file_edited_into_nonsense_is_one_message_with_its_name(study, group, command):
    path = group / "weeks" / "01_groups" / "resnext" / "topic.toml"
    path.write_text(path.read_text() + "\n[claim]\nowner = 3\ndate = 2026-11-03\n")
    before = files_in(group)
    result = study(*command)
    assert result.exit_code == 1 and files_in(group) == before
    assert result.stderr == f"study: {path}: claim.owner is 3, expected a text in quotes\n"


@pytest.mark.parametrize("command", [["claim", "resnext"], ["claim", "gpu", "--name", "Ada"], ["claims"]])
def test_without_a_repository_it_is_one_message(study, group, monkeypatch, command):
    (group / ".git").rename(group / "aside")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(group.parent))
    before = files_in(group)
    result = study(*command)
    assert result.exit_code == 1 and "is in no git repository" in result.stderr and files_in(group) == before


def test_without_a_repository_schedule_sheet_and_next_work(study, group, monkeypatch):
    study("claim", "gpu")
    (group / ".git").rename(group / "aside")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(group.parent))
    for command in (["schedule"], ["sheet", "2"], ["next"]):
        result = study(*command)
        assert result.exit_code == 0 and "Ada Lovelace" in result.stdout


def test_ctrl_c_ends_with_a_word_and_130(study, group, monkeypatch):
    def stopped(self, target):
        raise KeyboardInterrupt

    before = files_in(group)
    monkeypatch.setattr(type(group), "replace", stopped)
    result = study("claim", "resnext")
    assert result.exit_code == 130 and "study: stopped" in result.stderr and files_in(group) == before


def test_group_init_begins_another_run(study, group):
    replace(group / "weeks" / "02_kernels" / "week.toml", "number = 2", "number = 2\ndate = 2026-11-10")
    study("claim", "resnext")
    study("claims", "--codeowners")
    notes = group / "weeks" / "01_groups" / "resnext" / "notes.md"
    replace(notes, "Not answered yet", "Paths")
    result = study("group", "init", "--title", "Ours", "--start", "2027-01-14", "--participant", "Zoë", "--yes")
    assert result.exit_code == 0, result.output
    everything = course.load()
    assert everything.group.title == "Ours" and [p.name for p in everything.group.participants] == ["Zoë"]
    assert [everything.date(week) for week in everything.weeks] == [datetime.date(2027, 1, day) for day in (14, 21)]
    assert not [topic for topic in everything.topics if topic.claim]
    assert not any(part.who for week in everything.weeks for hour in week.hours for part in hour.parts)
    assert "@" not in (group / ".github" / "CODEOWNERS").read_text()
    assert "# The group." in (group / "group.toml").read_text() and "Paths" in notes.read_text()
    assert everything.group.repository == "https://github.com/ada/nets"
    assert "January 2027" in study("schedule").stdout


def test_group_init_sets_the_dates_where_they_stand(study, group):
    """Below the comment that explains them, not below the one on what may follow."""
    path = group / "group.toml"
    rest = [line for line in path.read_text().splitlines() if not line.startswith(("start", "weekday"))]
    dates = ["# About dates.", "start = 2020-01-04  # old", 'weekday = "Saturday"', "# About the rest."]
    path.write_text("\n".join([*dates, *rest]) + "\n")
    assert study("group", "init", "--start", "2027-01-14", "--yes").exit_code == 0
    wanted = ["# About dates.", "start = 2027-01-14", 'weekday = "Thursday"', "# About the rest."]
    assert path.read_text().splitlines()[:4] == wanted


def test_group_init_alone_leaves_a_run_without_dates_and_people(study, group):
    assert study("group", "init", "--yes").exit_code == 0
    everything = course.load()
    assert everything.group.participants == [] and [everything.date(week) for week in everything.weeks] == [None, None]
    assert "no date yet" in study("schedule").stdout and "set start and weekday" in study("next").stdout
    assert "no meeting has a date" in study("schedule", "--ics", str(group / "x.ics")).stderr
    assert study("group", "init", "--yes").stdout == "there is nothing to change\n"


def test_group_init_asks_first(study, group):
    before = files_in(group)
    result = study("group", "init", input="n\n")
    assert result.exit_code == 1 and "nothing is changed" in result.stderr and files_in(group) == before
    assert study("group", "init", input="y\n").exit_code == 0 and files_in(group) != before


def test_group_init_cut_off_in_between_is_finished_by_the_same_command(study, group, monkeypatch):
    study("claim", "resnext")
    replaced, count = type(group).replace, [0]

    def stopped(self, target):
        count[0] += 1
        if count[0] > 1:
            raise KeyboardInterrupt
        return replaced(self, target)

    monkeypatch.setattr(type(group), "replace", stopped)
    assert study("group", "init", "--yes").exit_code == 130
    monkeypatch.undo()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("studylib.files.ROOT", group)
        course.load()
        assert CliRunner().invoke(app, ["group", "init", "--yes"]).exit_code == 0
        assert not [topic for topic in course.load().topics if topic.claim]


@pytest.mark.parametrize("after", [1, 2, 3])
def test_cut_off_anywhere_it_leaves_dates_that_go_together(study, group, monkeypatch, after):
    """Meetings that were moved together, as into another month, are out of order beside the new beginning."""
    for week, day in (("01_groups", "01"), ("02_kernels", "02")):
        path = group / "weeks" / week / "week.toml"
        path.write_text(path.read_text().replace("\ntitle", f"\ndate = 2026-10-{day}\ntitle", 1))
    course.load()
    replaced, count = type(group).replace, [0]

    def stopped(self, target):
        count[0] += 1
        if count[0] > after:
            raise KeyboardInterrupt
        return replaced(self, target)

    command = ["group", "init", "--start", "2027-01-14", "--yes"]
    with monkeypatch.context() as patch:
        patch.setattr(type(group), "replace", stopped)
        assert study(*command).exit_code == 130
    result = study(*command)
    assert result.exit_code == 0, result.output
    everything = course.load()
    assert [everything.date(week) for week in everything.weeks] == [datetime.date(2027, 1, day) for day in (14, 21)]


def test_group_init_touches_nothing_where_a_file_is_nonsense(study, group):
    (group / "weeks" / "02_kernels" / "gpu" / "topic.toml").write_text("title =")
    before = files_in(group)
    assert study("group", "init", "--yes").exit_code == 1 and files_in(group) == before
