"""The reading list: the papers that readings.toml names, of which the topics are made."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from studylib.course import toml_files, topic
from studylib.errors import StudyError

AREAS = ("compression", "designs", "segmentation", "search", "GPU", "theory")


@dataclass(frozen=True)
class Paper:
    """An entry of readings.toml: a paper, or a page that stands for one. It has an arXiv number, links, or both.

    name: the short one. section: the heading, in the notebook of one of its topics, under which it is derived; empty
    where there is none. A test holds it against the notebook.
    """

    key: str
    name: str
    title: str
    area: str
    arxiv: str = ""
    links: list[str] = field(default_factory=list)
    section: str = ""

    @property
    def all_links(self) -> list[str]:
        return [f"https://arxiv.org/abs/{self.arxiv}", *self.links] if self.arxiv else self.links


@dataclass(frozen=True)
class Readings:
    papers: list[Paper]


def load(path: Path) -> list[Paper]:
    """The reading list of a readings.toml. Raises StudyError or OSError naming file and field for what is wrong in it."""
    papers = toml_files.read(Readings, path).papers
    for number, paper in enumerate(papers, 1):
        where = f"{path}: papers[{number}] ({paper.key})"
        if not topic.NAME.fullmatch(paper.key):
            raise StudyError(f"{where}: key has small letters, digits and _, such as mobilenet_v2")
        if paper.area not in AREAS:
            raise StudyError(f"{where}: area is {paper.area!r}, expected one of {', '.join(AREAS)}")
        if paper.arxiv and not re.fullmatch(r"\d{4}\.\d{4,5}", paper.arxiv):
            raise StudyError(f"{where}: arxiv is {paper.arxiv!r}, expected a number such as 1704.04861")
        if not paper.all_links:
            raise StudyError(f"{where}: has neither arxiv nor links, one of them is needed")
        for link in paper.links:
            toml_files.check_link(link, f"{where}: links")
    toml_files.refuse_twins(path, "papers", [paper.key for paper in papers])
    return papers
