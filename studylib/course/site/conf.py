"""Sphinx's settings for the course's site; `studylib.course.site` starts it on build/site-src."""

import shutil
from importlib.metadata import files
from pathlib import Path
from typing import Any

# Sphinx reads these names.
project = "Efficient CNNs"
html_title = project
language = "en"
extensions = ["myst_nb", "sphinx.ext.mathjax"]
exclude_patterns = ["jupyter_execute"]
nb_execution_mode = "off"  # what is stored is what is shown
nb_merge_streams = True
# The stored notebooks hold no widgets, so that nothing has to be loaded for them.
nb_ipywidgets_js: dict[str, dict[str, str]] = {}
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
# MathJax 3 from a pip package: no request to another host, and no npm. Of its parts only those that the pages need,
# with its fonts as files of their own, of which a browser fetches those whose letters stand in the page.
_mathjax = [file for file in files("sphinx-mathjax-offline") or () if "/static/mathjax/" in file.as_posix()]
PARTS = ["core", "input/tex", "output/chtml", "a11y/assistive-mml"]
FONT = "output/chtml/fonts/tex"  # output/chtml loads it itself, and must come first
FONTS = "output/chtml/fonts/woff-v2"
mathjax_path = "mathjax/startup.js"
mathjax3_config = {"loader": {"load": PARTS}}
html_theme = "sphinx_book_theme"
html_static_path = [str(Path(__file__).parent / "static")]
html_css_files = ["course.css"]
html_js_files = ["course.js"]
html_show_sourcelink = False
html_copy_source = False
html_last_updated_fmt = None
html_favicon = str(Path(__file__).parent / "static" / "icon.svg")
html_context = {"default_mode": "auto"}  # light or dark as the reader's system is, until the button is pressed
html_theme_options = {
    "navbar_persistent": [],
    "footer_content_items": [],
    "use_download_button": False,
    "use_fullscreen_button": False,
    "home_page_in_toc": True,
    "show_navbar_depth": 1,
    "show_toc_level": 2,
}


def setup(app: Any) -> None:
    app.connect("build-finished", _finish)


def _finish(app: Any, error: Exception | None) -> None:
    """Copy MathJax's parts; empty a script of 1.6 MB that draws anew the icons which the theme's font shows already."""
    if error:
        return
    static = Path(app.outdir) / "_static"
    scripts = [f"{part}.js" for part in ("startup", *PARTS, FONT)]
    for file in _mathjax:
        name = file.as_posix().partition("/static/mathjax/")[2]
        if name in scripts or name.startswith(FONTS):
            target = static / "mathjax" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(str(file.locate()), target)
    (static / "scripts" / "fontawesome.js").write_text("")
