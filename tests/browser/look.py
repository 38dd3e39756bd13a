"""Pictures of a notebook as JupyterLab shows it, screen by screen, for a person to look at.

    python -m tests.browser.look weeks/01_intro_depthwise/01_intro_depthwise.ipynb --out build/look --run

Without --run it shows the stored outputs. What is too wide, and every error, is listed.
"""

import argparse
import tempfile
from pathlib import Path

from tests.browser.lab import OVERFLOW, ROOT, Lab, copy_course, has_error, photograph, started_browser


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "look")
    parser.add_argument("--run", action="store_true", help="run all cells first, from the menu")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=900)
    options = parser.parse_args()
    course = options.notebook.resolve().parents[2]
    notebook = options.notebook.resolve().relative_to(course).as_posix()
    with tempfile.TemporaryDirectory() as scratch:
        root = copy_course(Path(scratch) / "course", course)
        with Lab(root, Path(scratch)) as lab, started_browser() as browser:
            page = browser.new_page(viewport={"width": options.width, "height": options.height})
            lab.open(page, notebook)
            if options.run:
                lab.run_all(page, notebook, seconds=1200)
            pictures = photograph(page, options.out, options.notebook.stem)
            for tag, excess, text in page.evaluate(OVERFLOW):
                print(f"too wide by {excess} px: <{tag}> {text!r}")
            if has_error(page):
                print("a cell shows an error")
    print(f"{len(pictures)} pictures: {pictures[0]} to {pictures[-1].name}")


if __name__ == "__main__":
    main()
