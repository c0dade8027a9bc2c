"""The static site of the documentation: `just docs` builds it into `site/`, to be read without a network."""

from __future__ import annotations

import re
from importlib.metadata import version as version_of
from typing import TYPE_CHECKING, Any

from sphinx.ext.napoleon import Config
from sphinx.ext.napoleon.docstring import GoogleDocstring

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "opscore"
author = "The opscore authors"
project_copyright = author
release = version = version_of("opscore")

extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown"}
root_doc = "index"
myst_heading_anchors = 3
# A page may link to a file beside docs/, which the site does not have; tests/test_house.py looks at every link.
suppress_warnings = ["myst.xref_missing"]

# One backtick is how docstrings quote code; what it names becomes a link where there is one.
default_role = "py:obj"
add_module_names = False
autodoc_default_options = {"undoc-members": True}
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88

html_theme = "furo"
html_title = "opscore"
html_copy_source = False
html_show_sphinx = False


def read_google_style(app: Sphinx, what: str, name: str, obj: object, options: Any, lines: list[str]) -> None:
    """Turn sections like `Args:` into fields, as `sphinx.ext.napoleon` does.

    It would also take what stands before the first colon of an attribute's docstring for its type.
    """
    if what != "attribute":
        lines[:] = GoogleDocstring(lines, Config(), app, what, name, obj, options).lines()


def plain_enums(*event: Any) -> tuple[str | None, str | None]:
    """Write members of enums inside of default values as code does: Sphinx can't read the signature otherwise."""
    *_, signature, returns = event
    return signature and re.sub(r"<(\w+\.\w+): [^>]*>", r"\1", signature), returns


def setup(app: Sphinx) -> None:
    """Read docstrings and signatures in the style of the house."""
    app.connect("autodoc-process-signature", plain_enums)
    app.connect("autodoc-process-docstring", read_google_style)
