"""The card of a verdict can be read on any page: whatever sets a colour of its own sets its ground too."""

import re
from html.parser import HTMLParser

import pytest
from matplotlib.colors import to_rgb

from studylib.grading import card
from studylib.grading.verdict import Stage, Verdict


class Styles(HTMLParser):
    """The style of each element that has one, as a dictionary."""

    def __init__(self, page: str):
        super().__init__()
        self.found: list[dict[str, str]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        if style := dict(attrs).get("style"):
            self.found.append(dict(re.findall(r"([\w-]+):\s*([^;]+)", style)))


def light(colour):
    """The relative luminance of WCAG 2.2."""
    red, green, blue = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in to_rgb(colour))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("statuses", [["passed", "passed"], ["passed", "failed", "skipped"], ["skipped"]])
def test_every_coloured_text_has_contrast_whatever_the_page_is(statuses):
    stages = [Stage(name, status) for name, status in zip(("attempted", "compiles", "right"), statuses, strict=False)]
    verdict = Verdict("vector_add", "01_intro_depthwise", "vector_add.py", 1, "abc", False, stages)
    styles = Styles(card.page(verdict)).found
    coloured = [style for style in styles if "color" in style]
    assert len(coloured) == 1 + len(stages)
    for style in coloured:
        low, high = sorted(light(style[name]) for name in ("color", "background-color"))
        assert (high + 0.05) / (low + 0.05) >= 4.5
