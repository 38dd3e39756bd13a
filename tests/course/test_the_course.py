"""This repository's own files: every week, topic and paper is right, and nothing of the group's page is lost."""

import re
import subprocess

import pytest

from studylib import course, files, kernels, ledger
from studylib.course import claims, group, toml_files
from studylib.course.week import headings

COURSE = course.load()
# The group's page, by area: what an entry's arXiv number or link must have.
READING_LIST = {
    "compression": "1510.00149 ieeexplore.ieee.org/document/8099498 1603.05279 allenai.org/plato/xnornet",
    "designs": "ikhlestov.github.io/pages/machine-learning/convolutions-types blog.yani.io/filter-group-tutorial "
    "1704.04861 1611.05431 1608.06993 1707.01083 1707.02725 1711.08757 1711.08141 "
    "blog.openai.com/block-sparse-gpu-kernels 1710.09829 1605.07648 proceedings.mlr.press/v70/cho17a/cho17a.pdf "
    "1709.01507 1801.04381",
    "segmentation": "1706.05587 1612.01105 hszhao.github.io/projects/pspnet",
    "search": "1707.07012 research.googleblog.com/2017/11/automl-for-large-scale-image.html 1711.00436 1712.00559 "
    "1711.09224",
    "GPU": "courses.cms.caltech.edu/cs179",
    "theory": "stats385.github.io/readings",
}


@pytest.mark.parametrize(("area", "links"), READING_LIST.items())
def test_the_reading_list_of_the_group_s_page_is_here(area, links):
    here = " ".join(link for paper in COURSE.papers if paper.area == area for link in paper.all_links)
    assert [link for link in links.split() if link not in here] == []


def test_every_folder_of_weeks_is_a_week_and_every_folder_in_it_a_topic():
    weeks = [path for path in (files.ROOT / "weeks").iterdir() if path.is_dir() and not path.name.startswith(".")]
    assert sorted(path.name for path in weeks) == [week.name for week in COURSE.weeks]
    folders = [path for week in weeks for path in week.iterdir() if path.is_dir()]
    folders = [path.name for path in folders if not path.name.startswith((".", "__"))]
    assert sorted(folders) == sorted(topic.name for topic in COURSE.topics)


def test_weeks_follow_each_other_from_the_first():
    assert [week.number for week in COURSE.weeks] == list(range(1, len(COURSE.weeks) + 1))


@pytest.mark.parametrize("week", COURSE.weeks, ids=lambda week: week.name)
def test_a_week_has_topics_in_order_all_its_exercises_and_known_readings(week):
    hours = [topic.hour for topic in COURSE.topics_of(week)]
    assert hours == sorted(hours) and hours
    assert sorted(week.exercises) == sorted(kernels.names(week.name))
    known = " ".join(link for paper in COURSE.papers for link in paper.all_links)
    numbers = [match[1] for r in week.readings if (match := re.search(r"arxiv\.org/abs/(\d{4}\.\d{4,5})", r.link))]
    assert [number for number in numbers if number not in known] == [], "add it to readings.toml"


def test_what_readings_toml_says_of_sections_is_so():
    stale = []
    for paper in COURSE.papers:
        weeks = {topic.week for topic in COURSE.topics_of(paper)}
        if paper.section and not COURSE.state(paper).derived:
            stale.append(
                f"{paper.key}: {paper.section!r} is no heading of {', '.join(weeks) or 'any: no topic has it'}"
            )
    assert stale == []


def test_every_ledger_file_is_of_a_paper_on_the_list():
    assert set(ledger.papers()) <= {paper.key for paper in COURSE.papers}, "add it to readings.toml, its key the file's"


def test_every_topic_s_notes_have_the_questions():
    for topic in COURSE.topics:
        given, asked = topic.answered()
        assert asked >= 8 and 0 <= given <= asked, topic.name


def test_the_hours_are_as_the_group_has_them():
    assert [hour.split()[0] for hour in COURSE.group.hours] == ["basics", "recent", "GPU"]
    for week in COURSE.weeks:
        assert [hour.minutes for hour in week.hours] == [60, 60, 60]


def test_what_group_toml_has_in_comments_can_be_switched_on(tmp_path):
    text = (files.ROOT / "group.toml").read_text(encoding="utf-8")
    switched = re.sub(r"^# (?=(time|place|link) = )", "", text, flags=re.MULTILINE)
    (tmp_path / "group.toml").write_text(switched, encoding="utf-8")
    toml_files.read(group.Group, tmp_path / "group.toml")


def test_claims_rest_on_a_history_that_git_can_tell():
    """Nothing is claimed in the future, and what is claimed can be asked about."""
    if not claims.has_git(files.ROOT):
        pytest.skip("no git repository, as in an archive of the sources")
    from studylib.cli.terminal import now

    for topic in COURSE.topics:
        claims.standing(topic, now())


def test_codeowners_is_what_the_claims_say():
    if not claims.has_git(files.ROOT):
        pytest.skip("no git repository, as in an archive of the sources")
    command = ["git", "-C", str(files.ROOT), "rev-parse", "--abbrev-ref", "HEAD"]
    branch = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    if branch != "main":
        pytest.skip(f"this is {branch}; CODEOWNERS is written on main, after merging claims")
    text = (files.ROOT / claims.CODEOWNERS).read_text(encoding="utf-8")
    assert text == claims.codeowners(COURSE), "study claims --codeowners"


def test_the_first_headings_are_found():
    assert "2.5 MobileNet's tables" in headings(files.ROOT / "weeks/01_intro_depthwise/01_intro_depthwise.py")
    assert headings(files.ROOT / "nowhere.py") == []
