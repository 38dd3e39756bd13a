"""What a folder with a topic.toml is: a topic that somebody claims, reads all papers of, and presents."""

import datetime
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from studylib import files
from studylib.course import toml_files
from studylib.errors import StudyError

NAME = re.compile(r"[a-z][a-z0-9_]*")
# The presenter's questions, as a new topic's notes.md has them; what stands in place of an answer is ANSWER.
ANSWER = "*Not answered yet.*"
QUESTIONS = (
    ("What is the problem?", "What did the best answer cost before this paper, in parameters, multiply-adds or bytes?"),
    ("What is the idea?", "One sentence, then the formula with every symbol explained."),
    ("What does it cost?", "Parameters, multiply-adds and activation bytes as formulas, for one layer of the paper."),
    ("Which of its numbers come out?", "`study ledger` shows the table. Why do those that fail fail?"),
    ("What do its experiments show, and what not?", "Which result would have spoken against the idea?"),
    ("How does it run on a GPU?", "What is read how often, from which memory; what limits it?"),
    ("What is still unclear to you?", "An honest list helps the group more than a smooth talk."),
    ("Two questions for the discussion", "Not to be answered from the abstract."),
)


@dataclass(frozen=True)
class Claim:
    """Who presents a topic: the owner, a second where two share it, and the day on which it was claimed."""

    owner: str
    date: datetime.date
    second: str = ""

    @property
    def people(self) -> list[str]:
        return [self.owner, self.second] if self.second else [self.owner]


@dataclass(frozen=True)
class Topic:
    """A topic as topic.toml describes it. papers: keys of readings.toml. folder: where topic.toml and notes.md lie."""

    title: str
    hour: int
    papers: list[str]
    folder: Path
    claim: Claim | None = None

    @property
    def name(self) -> str:
        """The folder's name, such as resnext; no two topics of the course have the same."""
        return self.folder.name

    @property
    def week(self) -> str:
        """The name of the week's folder, such as 02_resnext_gpu1."""
        return self.folder.parent.name

    @property
    def file(self) -> Path:
        return self.folder / "topic.toml"

    @property
    def notes(self) -> Path:
        return self.folder / "notes.md"

    def answered(self) -> tuple[int, int]:
        """How many of the questions in notes.md have an answer, and how many there are."""
        parts = re.split(r"^## +(.*?) *$", files.text(self.notes), flags=re.MULTILINE)[1:]
        asked = {heading: text for heading, text in zip(parts[::2], parts[1::2], strict=True)}
        given = dict(QUESTIONS)
        own = [text.replace(given.get(heading, ""), "").replace(ANSWER, "") for heading, text in asked.items()]
        return sum(bool(text.strip()) for text in own), len(own)


def load(folder: Path) -> Topic:
    """The topic of `folder`. Raises StudyError or OSError naming file and field."""
    topic = toml_files.read(Topic, folder / "topic.toml", folder=folder.resolve())
    path = topic.file
    if not NAME.fullmatch(topic.name):
        raise StudyError(f"{path}: a topic's folder has small letters, digits and _, such as resnext: rename it")
    if topic.hour not in (1, 2, 3):
        raise StudyError(f"{path}: hour is {topic.hour}, expected 1, 2 or 3")
    toml_files.check_line(topic.title, f"{path}: title")
    if not topic.notes.is_file():
        raise FileNotFoundError(f"there is no {topic.notes}: each topic has notes; copy those of another topic")
    if topic.claim:
        check_name(topic.claim.owner, f"{path}: claim.owner")
        if topic.claim.second:
            check_name(topic.claim.second, f"{path}: claim.second")
        if topic.claim.second == topic.claim.owner:
            raise StudyError(
                f"{path}: claim.second is {topic.claim.owner!r} as claim.owner is: two people share a topic"
            )
    return topic


def check_name(name: str, where: str) -> None:
    """Raises StudyError, which begins with `where`, unless `name` can be a person's: letters, digits, spaces, . ' -"""
    allowed = all(unicodedata.category(letter)[0] in "LMN" or letter in " .'’-" for letter in name)
    if not allowed or name != name.strip() or not any(letter.isalpha() for letter in name) or len(name) > 60:
        raise StudyError(f"{where} is {name!r}, expected a name: letters, digits, spaces, . ' - and 60 of them at most")


def notes_template(title: str) -> str:
    """The notes.md of a new topic: the questions that its presenter must answer."""
    blocks = [
        f"# {title}",
        "Reading notes. Who presents this topic answers these questions; what is drawn or computed goes in the notebook.",
    ]
    blocks += [block for question, more in QUESTIONS for block in (f"## {question}", more, ANSWER)]
    return "\n\n".join(blocks) + "\n"
