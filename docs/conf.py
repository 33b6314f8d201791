"""Configuration of the Sphinx documentation. Building it needs no internet."""

from importlib.metadata import version as installed_version

project = "daskperiment"
author = "The daskperiment developers"
copyright = "2026, The daskperiment developers"
release = version = installed_version("daskperiment")

extensions = ["sphinx.ext.autodoc", "numpydoc"]
exclude_patterns = ["_build"]
templates_path: list[str] = []

autodoc_member_order = "bysource"
autodoc_typehints = "none"
numpydoc_show_class_members = False

html_theme = "pydata_sphinx_theme"
html_title = "daskperiment"
html_static_path = ["_static"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "header_links_before_dropdown": 6,
    "navigation_depth": 3,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
}
# A page without pages below it needs no empty sidebar.
html_sidebars = {name: [] for name in ("index", "installation", "quickstart", "changelog")}
