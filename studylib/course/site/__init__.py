"""Builds the course as a website from what is stored: nothing is executed, and no page asks another host.

`study site` writes the pages' sources to build/site-src and the site to build/site.
"""

import datetime
import shutil
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import nbformat

from studylib import files, kernels, ledger
from studylib.course import notebooks
from studylib.course.course import Course, load
from studylib.course.site import pages
from studylib.errors import StudyError

HERE = Path(__file__).parent
NEEDED = ("sphinx", "myst-nb", "sphinx-book-theme", "sphinx-mathjax-offline")


class SiteError(StudyError):
    """Sphinx found something wrong with the pages; what it is stands above, in its own words."""


def build(now: datetime.datetime, root: Path = files.ROOT) -> Path:
    """Build the site of the course under `root`, with the claims as they stand `now`; return build/site/index.html.

    Raises SiteError where a page is wrong (a link to a page that is not there, a heading out of order), and StudyError
    or OSError where the course's files are.
    """
    if missing := [name for name in NEEDED if not _installed(name)]:
        raise StudyError(f"the site needs {', '.join(missing)}: run `make lab` or `pip install -e .[site]` again")
    from sphinx.cmd.build import build_main

    course = load(root)
    source, target = root / "build" / "site-src", root / "build" / "site"
    shutil.rmtree(source, ignore_errors=True)
    shutil.rmtree(target, ignore_errors=True)
    write_pages(course, now, source)
    title = course.group.title
    quiet = ["-q", "-W", "--keep-going", "-j", "auto"]
    names = ["-D", f"project={title}", "-D", f"html_title={title}"]
    if build_main(
        [
            "-b",
            "html",
            *quiet,
            *names,
            "-d",
            str(root / "build" / "site-trees"),
            "-c",
            str(HERE),
            str(source),
            str(target),
        ]
    ):
        raise SiteError(f"the site in {target} has the faults that are listed above")
    (target / ".nojekyll").touch()  # else GitHub Pages leaves out _static
    return target / "index.html"


def write_pages(course: Course, now: datetime.datetime, source: Path) -> None:
    """Write the sources of all pages to the folder `source`."""
    checks = {key: ledger.check(key) for key in ledger.papers()}
    texts = {
        "index.md": "",
        "schedule.md": pages.schedule(course, now),
        "papers/index.md": pages.papers_page(course, checks),
        "papers/differences.md": pages.differences_page(checks),
        "exercises/index.md": pages.exercises_page(),
    }
    survey = next(iter(sorted(course.root.glob("weeks/*/survey.png"))), None)
    if survey:
        _copy(survey, source / "survey.png")
        texts["survey.md"] = pages.survey_page(ledger.survey())
    texts["index.md"] = pages.home(course, survey is not None)
    for key in dict.fromkeys([*(paper.key for paper in course.papers), *checks]):
        texts[f"papers/{key}.md"] = pages.paper_page(course, key, checks.get(key), now)
    for name in kernels.weeks():
        texts[f"exercises/{name}.md"] = pages.cards_page(name)
    for week in course.weeks:
        twin = week.folder / f"{week.name}.ipynb"
        texts[f"weeks/{week.name}/index.md"] = pages.week_page(course, week, now, twin.exists())
        if twin.exists():
            page = pages.notebook_page(notebooks.read_twin(twin))
            texts[f"weeks/{week.name}/{week.name}.ipynb"] = nbformat.writes(page)
        for topic in course.topics_of(week):
            texts[f"weeks/{week.name}/{topic.name}/notes.md"] = pages.notes_page(topic, now)
    for badge in (course.root / "weeks").glob("*.svg"):
        _copy(badge, source / "weeks" / badge.name)
    for name, text in texts.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text, encoding="utf-8")


def _copy(file: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(file, target)


def _installed(name: str) -> bool:
    try:
        return bool(distribution(name))
    except PackageNotFoundError:
        return False
