"""Sphinx's settings for the course's site; `studylib.course.site` starts it on build/site-src."""

from importlib.metadata import files
from pathlib import Path

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
# A pip package that carries MathJax 3 whole: no request to another host, and no npm.
MATHJAX = "tex-svg-full.js"
(_mathjax,) = [file for file in files("sphinx-mathjax-offline") or () if file.name == MATHJAX]
mathjax_path = MATHJAX
html_theme = "sphinx_book_theme"
html_static_path = [str(Path(__file__).parent / "static"), str(_mathjax.locate())]
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
