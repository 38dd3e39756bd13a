"""Where the course lies on the web: one line of group.toml, from which the notebooks' badges and set-up cells are made.

A notebook that Colab or Binder opens must name the repository in its own text, so the address stands in each of them.
`study address URL` writes another one everywhere at once. The course as it is cloned has none, and shows no badge.
"""

import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from studylib import files
from studylib.course import meeting, notebooks, toml_files
from studylib.errors import StudyError

ADDRESS = re.compile(r"https://github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?/?")
BADGES = re.compile(r"^\[!\[Open in Colab\].*$", re.MULTILINE)
SETUP_TAGS = ["remove-cell"]  # the site leaves such a cell out


def parse(address: str) -> str:
    """The address without what may stand behind it; "" for none. Raises StudyError where it is no repository on GitHub."""
    if not address:
        return ""
    found = ADDRESS.fullmatch(address.strip())
    if not found:
        raise StudyError(f"the repository is {address!r}, expected an address such as https://github.com/OWNER/NAME")
    return f"https://github.com/{found[1]}"


def repository(root: Path = files.ROOT) -> str:
    """What group.toml says, "" where it names no address. Raises StudyError naming the file where it is no usable one."""
    path = root / "group.toml"
    try:
        return parse(str(toml_files.document(path).get("repository", "")))
    except ValueError as error:
        raise StudyError(f"{path}: {error}") from None


def badges(path: str, address: str) -> str:
    """The line of Markdown below a notebook's title; path: of the notebook that they open, from the course's root.

    Without an address, where they would lead nowhere, "".
    """
    if not address:
        return ""
    slug = address.removeprefix("https://github.com/")
    # The pictures are found from weeks/WEEK and from exercises/WEEK.
    colab = f"https://colab.research.google.com/github/{slug}/blob/main/{path}"
    binder = f"https://mybinder.org/v2/gh/{slug}/main?urlpath=lab/tree/{path}"
    pictures = "../../weeks/open-in-colab.svg", "../../weeks/open-in-binder.svg"
    return f"[![Open in Colab]({pictures[0]})]({colab}) [![Open in Binder]({pictures[1]})]({binder})"


def setup(week: str, address: str) -> str:
    """The code of the cell that makes the rest of the course on Colab, and does nothing elsewhere."""
    return f"""\
# Google Colab opens this file alone: fetch the rest. Anywhere else this cell does nothing.
import os
import site
import subprocess
import sys

if "google.colab" in sys.modules and not os.path.exists("week.toml"):
    address = "{address}"
    if not address:
        raise RuntimeError("this copy names no address to fetch the course from: study address URL writes it here")
    subprocess.run(["git", "clone", "--depth=1", address, "course"], check=True)
    subprocess.run([sys.executable, "-m", "pip", "install", "-qe", "course[weeks]"], check=True)
    site.main()  # this running Python finds the package too
    os.chdir("course/weeks/{week}")"""


def dress(notebook: NotebookNode, week: str, address: str) -> bool:
    """Put badges and set-up cell into a notebook, or bring them up to date; True where it has changed.

    The badges open the participants' notebook where the week has gaps. Raises StudyError where it does not begin with its title.
    """
    if not notebook.cells or notebook.cells[0].cell_type != "markdown" or not notebook.cells[0].source.startswith("# "):
        raise StudyError(f"{week}: the first cell must begin with the title, `# Week ...`")
    before = [cell.source for cell in notebook.cells]
    path = f"exercises/{week}/{meeting.NAME}" if meeting.gaps(notebook) else f"weeks/{week}/{week}.ipynb"
    title, _, rest = BADGES.sub("", notebook.cells[0].source).partition("\n")
    notebook.cells[0].source = "\n\n".join(part for part in (title, badges(path, address), rest.strip()) if part)
    if len(notebook.cells) < 2 or '"google.colab"' not in notebook.cells[1].source:
        notebook.cells.insert(1, nbformat.v4.new_code_cell(metadata={"tags": SETUP_TAGS}))
    notebook.cells[1].source = setup(week, address)
    return before != [cell.source for cell in notebook.cells]


def dress_week(source: Path, address: str) -> bool:
    """Bring a week's .py up to date; the .ipynb too where only the address in it is old. True where one has changed.

    Where the .ipynb lacks the cell it must be executed: `study run --save` does that.
    """
    notebook, week = notebooks.read(source), source.stem
    changed = dress(notebook, week, address)
    if changed:
        files.replace(source, notebooks.as_source(notebook))
    twin = source.with_suffix(".ipynb")
    if twin.exists():
        stored, fresh = notebooks.read_twin(twin), notebooks.read(source)
        if dress(stored, week, address) and len(stored.cells) == len(fresh.cells) and _executed(stored.cells[1]):
            for cell, wanted in zip(stored.cells, fresh.cells, strict=True):
                cell.id = wanted.id
            files.replace(twin, nbformat.writes(stored) + "\n")
            changed = True
    return changed


def _executed(cell: NotebookNode) -> bool:
    return cell.execution_count is not None


def write(address: str, root: Path = files.ROOT) -> None:
    """Make `address` the one that group.toml names; "" takes it away. Raises StudyError for any other."""
    path, wanted = root / "group.toml", parse(address)
    document = toml_files.document(path)
    if document.get("repository") != wanted:
        document["repository"] = wanted
        files.replace(path, document.as_string())
