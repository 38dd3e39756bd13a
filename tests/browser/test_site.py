"""The built site as a reader meets it: links, search, figures, formulas, dark mode and a phone, and no other host."""

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Request, Response, ViewportSize
from playwright.sync_api import Page as PlaywrightPage

from studylib.course import notebooks
from tests.browser.lab import ROOT, page_of

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore::DeprecationWarning")]  # the theme's own
SCREEN, PHONE = ViewportSize(width=1280, height=900), ViewportSize(width=390, height=844)
# Colours change at once, not within a tenth of a second.
STILL = """addEventListener('DOMContentLoaded', () => {
    const style = document.createElement('style');
    style.textContent = '* { transition: none !important }';
    document.head.append(style);
})"""
HEAVIEST = 3_300_000  # bytes of a page with all that it fetches, uncompressed; a week's is the heaviest
TOO_WIDE = """() => [...document.querySelectorAll('.bd-article *, .prev-next-area *')]
    .filter(e => e.getBoundingClientRect().right > innerWidth + 1)
    .filter(e => !e.closest('pre, mjx-container, .cell_output, .pst-scrollable-table-container'))
    .map(e => e.tagName + ' ' + e.textContent.trim().slice(0, 60))"""

# Texts with less contrast to their ground than WCAG 2.2 AA asks: 4.5, and 3 where they are large.
TOO_FAINT = r"""() => {
    const rgba = text => { const [r, g, b, a] = text.match(/[\d.]+/g).map(Number); return [r, g, b, a ?? 1]; };
    const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3]));
    const light = colour => {
        const [r, g, b] = colour.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const upwards = e => e ? [e, ...upwards(e.parentElement)] : [];
    const walk = document.createTreeWalker(document.querySelector('article') ?? document.body, NodeFilter.SHOW_TEXT);
    const found = new Set();
    while (walk.nextNode()) {
        const e = walk.currentNode.parentElement, text = walk.currentNode.data.trim(), style = getComputedStyle(e);
        if (!text || !e.checkVisibility({visibilityProperty: true}) || e.closest('script, style, svg')) continue;
        const styles = upwards(e).map(e => getComputedStyle(e));
        const ground = styles.map(s => rgba(s.backgroundColor)).reduceRight((b, t) => over(t, b), [255, 255, 255]);
        const [r, g, b, a] = rgba(style.color);
        const ink = over([r, g, b, styles.reduce((o, s) => o * s.opacity, a)], ground);
        const [low, high] = [light(ink), light(ground)].sort((x, y) => x - y);
        const size = parseFloat(style.fontSize), large = size >= 24 || size >= 18.66 && style.fontWeight >= 700;
        const ratio = (high + 0.05) / (low + 0.05);
        if (ratio < (large ? 3 : 4.5)) found.add(`${ratio.toFixed(2)} ${e.tagName} ${style.color}: ${text.slice(0,
        30)}`);
    }
    return [...found];
}"""


class Page(HTMLParser):
    """What a page of the site leads to (`links`) and where it can be led to (`anchors`)."""

    def __init__(self, file: Path):
        super().__init__()
        self.links: list[str] = []
        self.anchors = {""}
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("href", "src") and value is not None:
                self.links.append(value)
            elif name == "id" and value:
                self.anchors.add(value)


@pytest.fixture(scope="module")
def folder() -> Path:
    """build/site, built anew by the command."""
    from typer.testing import CliRunner

    from studylib.cli import app

    done = CliRunner().invoke(app, ["site"])
    assert done.exit_code == 0, done.output
    return ROOT / "build" / "site"


@pytest.fixture(scope="module")
def address(folder) -> Iterator[str]:
    """Where the site is served, below a folder as GitHub Pages does it."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def translate_path(self, path):
            return super().translate_path(path.removeprefix("/course"))

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/course/"
    server.shutdown()
    server.server_close()


@contextmanager
def faultless_page(browser: Browser, address: str) -> Iterator[PlaywrightPage]:
    """A page that collects what must not happen; it is checked at the end."""
    faults: list[str] = []

    def asked(request: Request) -> None:
        if not request.url.startswith((address, "data:", "blob:")):
            faults.append(f"another host: {request.url}")

    def answered(response: Response) -> None:
        if response.status >= 400:
            faults.append(f"{response.status}: {response.url}")

    def said(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            faults.append(f"console: {message.text}")

    with page_of(browser) as page:
        page.on("pageerror", lambda error: faults.append(f"error: {error}"))
        page.on("console", said)
        page.on("response", answered)
        page.on("request", asked)
        yield page
    assert faults == []


@pytest.fixture
def page(browser, address):
    with faultless_page(browser, address) as page:
        yield page


class Visit(NamedTuple):
    """What one visit of a page finds: texts too faint in the light and in the dark mode, what is wider than a phone.

    fetched: the files of the site that the page asked for.
    """

    light: list[str]
    dark: list[str]
    wide: list[str]
    fetched: set[str]


@pytest.fixture(scope="module")
def visits(folder, browser, address) -> dict[str, Visit]:
    """By name of every page a visit, each begun on a wide screen in the light mode, with nothing fetched before."""
    with faultless_page(browser, address) as page:
        page.add_init_script(STILL)
        return {name: visit(page, address, name) for name in names(folder)}


def visit(page: PlaywrightPage, address: str, name: str) -> Visit:
    fetched: set[str] = set()

    def note(request: Request) -> None:
        fetched.add(urlsplit(request.url).path.removeprefix("/course/"))

    page.set_viewport_size(SCREEN)
    page.emulate_media(color_scheme="light")
    page.on("request", note)
    page.goto(address + name)
    light = page.evaluate(TOO_FAINT)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("document.documentElement.dataset.theme === 'dark'")
    dark = page.evaluate(TOO_FAINT)
    page.set_viewport_size(PHONE)
    wide = page.evaluate(TOO_WIDE)
    width, inner = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    page.wait_for_load_state("networkidle")
    page.remove_listener("request", note)
    return Visit(light, dark, wide or [f"{width} of {inner}"] if wide or width > inner else [], fetched)


def names(folder):
    """The site's pages; under _static the theme keeps parts of pages."""
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*.html"))
    return sorted(name for name in found if not name.startswith("_static"))


def test_every_link_leads_to_a_page_and_a_place_that_are_there(folder):
    pages = {name: Page(folder / name) for name in names(folder)}
    assert len(pages) > 30
    lost = []
    for name, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme:
                assert parts.scheme in ("https", "http", "data", "mailto"), f"{name}: {link}"
                continue
            target = (folder / name).parent / unquote(parts.path) if parts.path else folder / name
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                lost.append(f"{name}: {link}")
            elif target.suffix == ".html" and parts.fragment:
                found = pages[target.resolve().relative_to(folder.resolve()).as_posix()]
                if unquote(parts.fragment) not in found.anchors:
                    lost.append(f"{name}: {link} has no such place")
    assert lost == []


def test_every_page_fits_a_phone(visits):
    assert {name: found.wide for name, found in visits.items() if found.wide} == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_contrast(scheme, visits):
    assert {name: faint for name, found in visits.items() if (faint := getattr(found, scheme))} == {}


def test_no_page_is_heavy(folder, visits):
    """By the sizes of all files that a page fetches, each once, on a first visit."""
    heavy = {}
    for name, found in visits.items():
        files = [folder / path for path in found.fetched if (folder / path).is_file()]
        images = {(folder / name).parent / source for source in Page(folder / name).links if source.endswith(".png")}
        size = sum(path.stat().st_size for path in {path.resolve() for path in {*files, *images}})
        heavy |= {name: size} if size > HEAVIEST else {}
        assert len(files) > 10
    assert heavy == {}


@pytest.mark.parametrize(
    "week", [name for name, path in notebooks.weeks().items() if path.with_suffix(".ipynb").exists()]
)
def test_a_notebook_shows_its_figures_and_formulas(week, folder, page, address):
    page.goto(f"{address}weeks/{week}/{week}.html")
    page.wait_for_function("document.querySelectorAll('mjx-container mjx-math').length > 0")
    page.wait_for_function("[...document.fonts].some(e => e.family.startsWith('MJX') && e.status === 'loaded')")
    assert page.locator("mjx-merror, [data-mjx-error]").count() == 0
    assert page.locator(".cell_output img").count() > 0
    images = page.evaluate("[...document.images].map(e => e.complete && e.naturalWidth > 0)")
    assert images and all(images)
    assert page.locator("article h1").count() == 1
    assert "google.colab" not in page.content()  # the set-up cell is not for readers


def test_the_survey_figure_is_on_the_first_page_and_leads_to_its_points(page, address):
    page.goto(address)
    figure = page.get_by_role("img", name="Top-1 error against multiply-adds")
    assert figure.evaluate("e => e.naturalWidth") > 400
    figure.click()
    page.get_by_role("heading", name="The survey figure").wait_for()
    assert page.get_by_role("cell", name="VGG-16").count() == 1


def test_search_finds_a_paper_and_leads_to_it(page, address):
    page.goto(address)
    page.keyboard.press("Control+k")
    page.keyboard.type("Rethinking Atrous Convolution")
    page.keyboard.press("Enter")
    result = page.locator("#search-results .search li a").filter(has_text="DeepLabV3").first
    result.click()
    page.get_by_role("heading", name="DeepLabV3", exact=False).first.wait_for()
    assert "/papers/deeplabv3.html" in page.url


def test_a_computed_number_opens_to_its_formula(page, address):
    page.goto(address + "papers/mobilenet.html")
    row = page.locator("tr").filter(has_text="first convolution 3x3").filter(has_text="1.19%")
    assert "does not reproduce" in row.inner_text() and "1.91%" in row.inner_text()
    formula = row.locator("code")
    assert not formula.is_visible()
    row.locator("summary").click()
    assert formula.is_visible() and "costs(mobilenet_v1())" in formula.inner_text()


def test_the_dark_mode_turns_the_page_dark_and_stays(page, address):
    lightness = (
        "getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).slice(0, 3).reduce((a, b) => a + +b, 0)"
    )
    page.goto(address)
    assert page.evaluate(lightness) > 600
    page.locator("button.theme-switch-button:visible").click()
    page.get_by_text("Dark", exact=True).click()
    page.wait_for_function(f"{lightness} < 150")
    page.goto(address + "papers/mobilenet.html")
    page.wait_for_function(f"{lightness} < 150")


def test_on_a_phone_a_row_names_its_columns(page, address):
    page.set_viewport_size(PHONE)
    page.goto(address + "papers/mobilenet.html")
    label = page.locator("td[data-label=printed]").first.evaluate("e => getComputedStyle(e, '::before').content")
    assert label == '"printed"' and not page.locator("table.cards thead").first.is_visible()


def test_the_next_meeting_is_marked_on_the_day_it_is_read(page, address):
    first, last = page.context.request.get(address).text().split('data-date="')[1][:10], None
    page.goto(address)
    dates = page.eval_on_selector_all("tr[data-date]", "rows => rows.map(row => row.dataset.date)")
    last = dates[-1]
    assert first == dates[0] and dates == sorted(dates)
    page.clock.install(time=f"{last}T09:00:00")
    page.goto(address)
    assert page.locator("tr.next").get_attribute("data-date") == last
