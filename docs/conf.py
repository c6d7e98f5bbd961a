"""The documentation as a site: python -m sphinx -W docs build/site."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from docs import generated

project = "DE-CROP tuning"
html_title = project
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
# GitHub's anchors of headings.
myst_heading_anchors = 4
myst_enable_extensions = ["deflist"]
autodoc_member_order = "bysource"
autodoc_typehints = "description"
# What Pygments cannot colour, such as diagrams, is shown as it is.
suppress_warnings = ["misc.highlighting_failure"]
exclude_patterns = ["conf.py", "generated.py"]

generated.write(Path(__file__).parent / "reference")
