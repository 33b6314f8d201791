"""Configuration of the Sphinx documentation."""

from importlib.metadata import version as installed_version

project = "daskperiment"
author = "The daskperiment developers"
copyright = "2026, The daskperiment developers"
release = version = installed_version("daskperiment")

extensions = ["sphinx.ext.autodoc", "numpydoc"]
autodoc_member_order = "bysource"
autodoc_typehints = "none"
numpydoc_show_class_members = False
exclude_patterns = ["_build"]
html_theme = "alabaster"
html_theme_options = {
    "description": "Records experiments made of Dask graphs",
    "page_width": "1000px",
    "sidebar_width": "220px",
}
html_sidebars = {"**": ["about.html", "navigation.html", "searchbox.html"]}
