"""JupyterLab and a browser as a participant has them, driven from Python: for the tests here and for look.py."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from playwright.sync_api import Browser, Page, Response, sync_playwright

import bootstrap

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "browser-test"
PATIENCE = 180  # seconds; a start takes ten of them on an idle machine
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
# Without windowing every cell is in the page, so that all can be asked and measured.
ALL_CELLS = {"@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"}}
# What a cell shows that is wider than its place and cannot be scrolled to, or is scrolled sideways.
OVERFLOW = """() => [...document.querySelectorAll(
    '.jp-OutputArea-output, .jp-OutputArea-output :is(table, img, svg, pre), .jp-MarkdownOutput, .jp-MarkdownOutput *')]
    .filter(e => e.clientWidth && !e.matches('mjx-container *, .jp-InternalAnchorLink'))
    .map(e => {
        const place = e.closest('.jp-OutputArea-child, .jp-MarkdownOutput').getBoundingClientRect();
        const excess = Math.max(e.getBoundingClientRect().right - place.right, e.scrollWidth - e.clientWidth);
        return [e.tagName.toLowerCase(), Math.round(excess), e.textContent.trim().slice(0, 60)];
    }).filter(([tag, excess]) => excess > 2)"""

TYPESET = r"""() => {
    const walk = document.createTreeWalker(document.querySelector('.jp-Notebook'), NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) {
        const e = walk.currentNode.parentElement, text = walk.currentNode.data;
        const isLeft = /\$[^$]+\$/.test(text) && !e.closest('code, mjx-container');
        if (isLeft && e.closest('.jp-MarkdownOutput')) return false;
    }
    return true;
}"""


def find_browser() -> str | None:
    """The path of a Chromium or Chrome: the environment's STUDY_BROWSER, else the first on PATH, else None."""
    return os.environ.get("STUDY_BROWSER") or next((path for name in NAMES if (path := shutil.which(name))), None)


def copy_course(folder: Path, root: Path = ROOT) -> Path:
    """A copy of what participants work in, of `root`, in `folder`: saving there leaves the repository as it is."""
    for name in ("weeks", "data", "exercises"):
        if (root / name).exists():
            shutil.copytree(root / name, folder / name, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Lab:
    """A JupyterLab server on `root` whose own files lie in `folder`; `log` is what it printed."""

    def __init__(self, root: Path, folder: Path):
        self.port = _free_port()
        self.log = folder / "lab.log"
        environment: dict[str, str] = dict(os.environ)
        for name in ("CONFIG", "DATA", "RUNTIME"):
            environment[f"JUPYTER_{name}_DIR"] = str(folder / name.lower())
        environment |= {"JUPYTERLAB_SETTINGS_DIR": str(folder / "settings")}
        environment |= {"JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces")}
        settings: dict[str, Any] = bootstrap.LAB_SETTINGS
        for plugin, values in settings.items():
            file = folder / "settings" / f"{plugin.replace(':', '/')}.jupyterlab-settings"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(values | ALL_CELLS.get(plugin, {})))
        shutil.copytree(ROOT / bootstrap.LAB_EXTENSION, folder / "data" / "labextensions" / "study-course")
        options = [f"--port={self.port}", f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={root}"]
        options += ["--no-browser", "--ip=127.0.0.1", "--allow-root", *bootstrap.LAB_OPTIONS]
        command = [sys.executable, "-m", "jupyterlab", *options]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)

    def __enter__(self) -> Self:
        try:
            self._wait(PATIENCE, "the server answers", lambda: self.ask("") is not None)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def ask(self, path: str) -> Any:
        """The server's answer at /api/`path`, or None while it gives none."""
        with suppress(OSError, ValueError):
            url = f"http://127.0.0.1:{self.port}/api/{path}?token={TOKEN}"
            return json.load(urllib.request.urlopen(url, timeout=5))
        return None

    def kernel_is_idle(self, notebook: str) -> bool:
        """Whether the kernel of a notebook (path from the root) is idle; the icon in the page is not to be trusted."""
        sessions = self.ask("sessions") or []
        return any(s["path"] == notebook and s["kernel"].get("execution_state") == "idle" for s in sessions)

    def open(self, page: Page, notebook: str) -> None:
        """Open a notebook (path from the root) and wait for its cells and its kernel."""
        page.goto(f"http://127.0.0.1:{self.port}/lab/tree/{notebook}?reset&token={TOKEN}")
        page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=PATIENCE * 1000)
        self._wait(PATIENCE, "the kernel is idle", lambda: self.kernel_is_idle(notebook))
        page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]', timeout=PATIENCE * 1000)

    def run_all(self, page: Page, notebook: str, seconds: float) -> None:
        """Clear all outputs, run all cells from the menu and wait until every code cell has its number or fails."""
        _menu(page, "Edit", "Clear Outputs of All Cells")  # stored outputs would pass for new ones
        page.wait_for_function("document.querySelectorAll('.jp-Notebook .jp-OutputArea-output').length === 0")
        _menu(page, "Run", "Run All Cells")
        self._wait(seconds, "every cell is run", lambda: all_numbered(page) or has_error(page))
        self._wait(PATIENCE, "the kernel is idle", lambda: self.kernel_is_idle(notebook))

    def _wait(self, seconds: float, what: str, done) -> None:
        end = time.monotonic() + seconds
        while not done():
            if self.process.poll() is not None:
                raise RuntimeError(f"JupyterLab ended before {what}:\n{self.log.read_text()[-3000:]}")
            if time.monotonic() > end:
                raise RuntimeError(f"waited {seconds:.0f} s in vain until {what}:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.5)


def _menu(page: Page, menu: str, item: str) -> None:
    page.get_by_role("menuitem", name=menu, exact=True).click()
    page.get_by_role("menuitem", name=item, exact=True).click()


def all_numbered(page: Page) -> bool:
    # One question to the page, and none that needs the layout: it is asked again and again while the notebook runs.
    # A cell whose code is folded shows no number.
    prompts = page.evaluate(
        """[...document.querySelectorAll('.jp-CodeCell')].filter(e => !e.querySelector('.jp-InputPlaceholder'))
        .map(e => e.querySelector('.jp-InputPrompt').textContent)"""
    )
    return bool(prompts) and all(re.fullmatch(r"\[\d+\]:", prompt.strip()) for prompt in prompts)


def has_error(page: Page) -> bool:
    # An error has the type of what is written to stderr; it begins with a line of dashes.
    written = page.locator('.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.stderr"]')
    return any(text.lstrip().startswith("-----") for text in written.all_text_contents())


def save(page: Page) -> None:
    """Save what is open, and wait until it is saved."""

    # The answer of the server: a tab that was not changed is never dirty, not even while its file is being written.
    def is_saving(response: Response) -> bool:
        return response.request.method == "PUT" and "/api/contents/" in response.url

    with page.expect_response(is_saving, timeout=PATIENCE * 1000):
        page.keyboard.press("Control+s")
    page.wait_for_selector(".lm-TabBar-tab.jp-mod-current:not(.jp-mod-dirty)", timeout=PATIENCE * 1000)


@contextmanager
def started_browser() -> Iterator[Browser]:
    """A browser without a window."""
    sandbox = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    quiet = [
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=sandbox + quiet)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def page_of(browser: Browser, width: int = 1280, height: int = 900) -> Iterator[Page]:
    """A page that shares nothing with others of the browser."""
    with browser.new_context(viewport={"width": width, "height": height}) as context:
        yield context.new_page()


def wait_for_formulas(page: Page) -> None:
    """They are typeset after the cells are there; until then their source stands in their place."""
    page.wait_for_function(TYPESET, timeout=PATIENCE * 1000)


def photograph(page: Page, folder: Path, stem: str) -> list[Path]:
    """The notebook in `page` from top to bottom, as pictures of one screen each, written to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    scroller = page.locator(".jp-WindowedPanel-outer").first
    wait_for_formulas(page)
    screen, total = scroller.evaluate("e => [e.clientHeight, e.scrollHeight]")
    pictures = []
    for number, top in enumerate(range(0, total, max(screen - 40, 1)), 1):
        scroller.evaluate("(e, top) => e.scrollTo(0, top)", top)
        page.wait_for_timeout(100)
        pictures.append(folder / f"{stem}-{number:02d}.png")
        page.screenshot(path=pictures[-1])
    return pictures
