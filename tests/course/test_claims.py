"""Claims under real git: who may take what, when a claim lapses, what merges, and what is written meanwhile."""

import datetime
import subprocess

import pytest

from studylib import course, files
from studylib.course import claims
from tests.course.conftest import on

TOPIC = "weeks/01_groups/resnext/topic.toml"


@pytest.fixture
def topic_file(group, git):
    return group / TOPIC


def claim(name, person, now, second=""):
    return claims.claim(course.load(), name, person, now, second)


def release(name, person, now):
    return claims.release(course.load(), name, person, now)


def standing(now, name="resnext"):
    return claims.standing(course.load().topic(name), now)


def test_a_claim_is_written_into_the_topic_s_file_and_release_takes_it_out_again(topic_file):
    before = topic_file.read_bytes()
    assert claim("resnext", "Ada Lovelace", on(5)) == "Ada Lovelace presents resnext (week 1)"
    text = topic_file.read_text(encoding="utf-8")
    assert text.startswith(before.decode()) and text.endswith('\n[claim]\nowner = "Ada Lovelace"\ndate = 2026-11-05\n')
    held = course.load().topic("resnext").claim
    assert (held.owner, held.second, held.date) == ("Ada Lovelace", "", datetime.date(2026, 11, 5))
    assert release("resnext", "Ada Lovelace", on(6)) == "Ada Lovelace has released resnext"
    assert topic_file.read_bytes() == before


def test_a_second_shares_and_stays_when_the_owner_leaves(topic_file):
    assert claim("resnext", "Ada", on(5), "Bob").endswith("with Bob")
    assert course.load().topic("resnext").claim.people == ["Ada", "Bob"]
    assert release("resnext", "Ada", on(6)) == "Ada has released resnext; Bob goes on alone"
    assert course.load().topic("resnext").claim.people == ["Bob"]
    claim("resnext", "Bob", on(7), "Cy")
    assert release("resnext", "Cy", on(8)) == "Cy has released resnext; Bob goes on alone"
    assert course.load().topic("resnext").claim.date == datetime.date(2026, 11, 5)  # sharing renews nothing


@pytest.mark.parametrize(
    ("person", "second", "message"),
    [
        ("Cy", "", r"resnext is Ada and Bob's until 2026-11-19.*; one of them may release it"),
        ("Bob", "", "is yours already, with Ada, until 2026-11-19"),
        ("Ada", "", "is yours already, with Bob, until 2026-11-19"),
        ("Ada", "Bob", "is yours already, with Bob"),
        ("Ada", "Cy", "is shared with Bob already"),
        ("Ada", "Ada", "are both 'Ada'"),
        ("a/b", "", "the name is 'a/b', expected a name"),
        ("Ada", "a/b", "the name of the second is 'a/b', expected a name"),
        ("", "", "the name is '', expected a name"),
    ],
)
def test_a_claim_that_can_not_be_changes_nothing(topic_file, person, second, message):
    claim("resnext", "Ada", on(5), "Bob")
    before = topic_file.read_bytes()
    with pytest.raises(ValueError, match=message):
        claim("resnext", person, on(10), second)
    assert topic_file.read_bytes() == before


def test_who_comes_second_is_told_how_to_share(topic_file):
    claim("resnext", "Ada", on(5))
    with pytest.raises(
        ValueError, match=r"Ada may share it \(study claim resnext --with \"Cy Twombly\"\) or release it"
    ):
        claim("resnext", "Cy Twombly", on(6))
    with pytest.raises(ValueError, match="is yours already, until 2026-11-19"):
        claim("resnext", "Ada", on(6))


def test_release_is_for_those_who_have_it(topic_file):
    with pytest.raises(ValueError, match="nobody has claimed resnext"):
        release("resnext", "Ada", on(5))
    claim("resnext", "Ada", on(5))
    with pytest.raises(ValueError, match="resnext is Ada's until 2026-11-19, not Bob's"):
        release("resnext", "Bob", on(19))
    assert release("resnext", "Bob", on(20)) == "resnext is free; the claim of Ada had lapsed after 2026-11-19"


@pytest.mark.parametrize(("day", "lapsed"), [(5, False), (19, False), (20, True)])
def test_a_claim_holds_for_two_weeks(topic_file, day, lapsed):
    claim("resnext", "Ada", on(5))
    assert standing(on(day)) == claims.Standing(datetime.date(2026, 11, 5), datetime.date(2026, 11, 19), lapsed)


def test_a_lapsed_claim_can_be_taken_over_and_not_a_day_before(topic_file):
    claim("resnext", "Ada", on(5), "Bob")
    with pytest.raises(ValueError, match="until 2026-11-19"):
        claim("resnext", "Cy", on(19, hour=23))
    assert "Ada and Bob had lapsed after 2026-11-19" in claim("resnext", "Cy", on(20))
    assert course.load().topic("resnext").claim.people == ["Cy"]


def test_one_s_own_lapsed_claim_is_renewed(topic_file):
    claim("resnext", "Ada", on(5))
    claim("resnext", "Ada", on(25))
    assert course.load().topic("resnext").claim.date == datetime.date(2026, 11, 25)


def test_a_commit_in_the_folder_prolongs_a_claim_and_one_elsewhere_does_not(group, git, topic_file):
    claim("resnext", "Ada", on(5))
    git("commit", "-qam", "Claim", when=on(6))
    assert standing(on(20)).until == datetime.date(2026, 11, 20)
    (group / "weeks" / "01_groups" / "grouped" / "notes.md").write_text("## What?\n\nThis.\n")
    git("commit", "-qam", "Another topic", when=on(12))
    assert standing(on(20)).until == datetime.date(2026, 11, 20)
    (group / "weeks" / "01_groups" / "resnext" / "figure.txt").write_text("paths")
    git("add", ".")
    git("commit", "-qm", "This topic", when=on(15))
    assert standing(on(20)).until == datetime.date(2026, 11, 29)
    with pytest.raises(ValueError, match="is Ada's until 2026-11-29"):
        claim("resnext", "Bob", on(29))


def test_work_on_another_branch_counts(group, git, topic_file):
    claim("resnext", "Ada", on(5))
    git("commit", "-qam", "Claim", when=on(5))
    git("switch", "-qc", "notes")
    (group / "weeks" / "01_groups" / "resnext" / "notes.md").write_text("## What?\n\nThis.\n")
    git("commit", "-qam", "Notes", when=on(17))
    git("switch", "-q", "main")
    assert not standing(on(28)).lapsed and standing(on(28)).changed == datetime.date(2026, 11, 17)


def test_the_same_topic_on_two_branches_conflicts_and_in_that_file_only(git, topic_file):
    for branch, person in (("ada", "Ada"), ("bob", "Bob")):
        git("switch", "-qc", branch, "main")
        claim("resnext", person, on(5))
        git("commit", "-qam", f"{person} claims", when=on(5))
    merged = git("merge", "ada", check=False)
    assert merged.returncode == 1 and f"CONFLICT (content): Merge conflict in {TOPIC}" in merged.stdout
    assert git("diff", "--name-only", "--diff-filter=U").stdout.split() == [TOPIC]
    with pytest.raises(ValueError, match=r"resnext.topic\.toml is not valid TOML"):
        course.load()


def test_sharing_against_another_s_claim_conflicts_too(git, topic_file):
    git("switch", "-qc", "ada", "main")
    claim("resnext", "Ada", on(5), "Cy")
    git("commit", "-qam", "Ada claims", when=on(5))
    git("switch", "-qc", "bob", "main")
    claim("resnext", "Bob", on(6))
    git("commit", "-qam", "Bob claims", when=on(6))
    assert git("merge", "ada", check=False).returncode == 1


@pytest.mark.parametrize("other", ["grouped", "gpu"])  # of the same week, of another
def test_different_topics_on_two_branches_merge(git, topic_file, other):
    for branch, person, name in (("ada", "Ada", "resnext"), ("bob", "Bob", other)):
        git("switch", "-qc", branch, "main")
        claim(name, person, on(5))
        git("commit", "-qam", f"{person} claims", when=on(5))
    git("merge", "-q", "ada", "-m", "Both")
    everything = course.load()
    assert everything.topic("resnext").claim.owner == "Ada" and everything.topic(other).claim.owner == "Bob"


def test_a_claim_of_the_future_is_named_with_its_file(topic_file):
    claim("resnext", "Ada", on(10))
    assert standing(on(9)).lapsed is False  # where Ada is, it is tomorrow
    for asking in (standing, lambda now: release("resnext", "Ada", now), lambda now: claim("resnext", "Bob", now)):
        with pytest.raises(
            ValueError, match=r"resnext.topic\.toml: claim\.date is 2026-11-10, and today is 2026-11-08"
        ):
            asking(on(8))


def test_a_clock_behind_the_last_commit_claims_nothing(topic_file):
    before = topic_file.read_bytes()
    long_ago = datetime.datetime(2018, 1, 1, tzinfo=datetime.UTC)
    with pytest.raises(ValueError, match="clock says 2018-01-01, and the last commit is of 2026-11-02: set the clock"):
        claim("resnext", "Ada", long_ago)
    assert topic_file.read_bytes() == before


def test_a_commit_of_the_future_does_not_make_a_claim_hold_for_ever(group, git, topic_file):
    claim("resnext", "Ada", on(5))
    git("commit", "-qam", "Claim", when=on(5).replace(year=2036))
    assert standing(on(10)).until == datetime.date(2026, 11, 24)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_claim_that_is_cut_off_changes_nothing(topic_file, monkeypatch, error):
    before = topic_file.read_bytes()

    def stopped(self, target):
        raise error

    monkeypatch.setattr(type(topic_file), "replace", stopped)
    with pytest.raises(error):
        claim("resnext", "Ada", on(5))
    assert topic_file.read_bytes() == before
    assert sorted(path.name for path in topic_file.parent.iterdir()) == ["notes.md", "topic.toml"]


def test_without_a_repository_it_says_what_to_do(group, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(group.parent))
    before = (group / TOPIC).read_bytes()
    for asking in (lambda: claim("resnext", "Ada", on(5)), lambda: claims.git_name(group)):
        with pytest.raises(ValueError, match=r"is in no git repository .*git clone, or begin with git init"):
            asking()
    assert (group / TOPIC).read_bytes() == before and not claims.has_git(group)


def test_without_the_program_git_it_says_so(group, monkeypatch):
    monkeypatch.setenv("PATH", str(group))
    with pytest.raises(ValueError, match="there is no program git"):
        claims.git_name(group)


def test_the_name_is_git_s_and_a_missing_one_is_asked_for(group, git, monkeypatch):
    monkeypatch.setenv("HOME", str(group.parent))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    assert claims.git_name(group) == "Ada Lovelace"
    git("config", "--unset", "user.name")
    with pytest.raises(ValueError, match="git has no name for you: .* or give --name"):
        claims.git_name(group)


def test_a_clone_without_history_is_recognised(group, git, tmp_path):
    assert not claims.is_shallow(group)
    git("commit", "-q", "--allow-empty", "-m", "Later")
    subprocess.run(["git", "clone", "-q", "--depth=1", group.as_uri(), str(tmp_path / "shallow")], check=True)
    assert claims.is_shallow(tmp_path / "shallow")


def test_codeowners_has_the_claimed_folders_with_handles_and_says_who_has_none(group, git):
    assert claims.codeowners(course.load()) == claims.CODEOWNERS_HEAD + "\n"
    claim("resnext", "Ada Lovelace", on(5), "Bob")
    claim("gpu", "Bob", on(5))
    assert claims.codeowners(course.load()).splitlines()[1:] == [
        "/weeks/01_groups/resnext/ @ada",
        "# /weeks/01_groups/resnext/ Bob: no github in group.toml",
        "# /weeks/02_kernels/gpu/ Bob: no github in group.toml",
    ]
    assert claims.write_codeowners(course.load()) is True and claims.write_codeowners(course.load()) is False
    assert (group / claims.CODEOWNERS).read_text() == claims.codeowners(course.load())


def test_a_claim_does_not_touch_codeowners_which_would_conflict(group, git):
    claims.write_codeowners(course.load())
    before = (group / claims.CODEOWNERS).read_bytes()
    claim("resnext", "Ada Lovelace", on(5))
    assert (group / claims.CODEOWNERS).read_bytes() == before


def test_comments_of_the_file_outlive_a_claim(topic_file):
    files.replace(topic_file, "# first\n" + topic_file.read_text() + "\n# last\n")
    claim("resnext", "Ada", on(5))
    text = topic_file.read_text()
    assert all(comment in text for comment in ("# first", "# A topic.", "# in this order", "# last"))
    release("resnext", "Ada", on(5))
    assert topic_file.read_text() == text.split("\n[claim]")[0]
