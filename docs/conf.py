"""The static site of the documentation: `just docs` builds it into `site/`, to be read without a network."""

from __future__ import annotations

import re
import sys
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sphinx.ext.napoleon import Config
from sphinx.ext.napoleon.docstring import GoogleDocstring
from sphinx.util.inspect import object_description

from opscore.runtime.simulation import STANDARD, Faults, Skill
from opscore.runtime.simulation.faults import fault_meaning, fault_names
from opscore.runtime.simulation.scenario import SIMULATED_LIMITS

if TYPE_CHECKING:
    from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent))

FAULTS = "opscore.runtime.simulation.Faults."
LONG_DEFAULTS = {
    object_description(STANDARD): "STANDARD",
    repr(STANDARD): "STANDARD",
    repr(Faults()): "Faults()",
    repr(Skill()): "Skill()",
    repr(SIMULATED_LIMITS): "SIMULATED_LIMITS",
}
"""Defaults that would fill a page, and the names by which programs say them."""

project = "opscore"
author = "The opscore authors"
project_copyright = author
release = version = version_of("opscore")

extensions = ["myst_parser", "sphinx.ext.autodoc", "command_line"]
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


def add_what_the_code_says(*event: Any) -> None:
    """Add an error's code, and what a fault of the simulator does, which stand in the code and not in a docstring."""
    _, what, name, obj, _, lines = event
    code = getattr(obj, "code", None)
    if what == "exception" and isinstance(code, str):
        lines += ["", f"Its code is ``{code}``."]
    if name.startswith(FAULTS) and name.removeprefix(FAULTS) in fault_names():
        fault = name.removeprefix(FAULTS)
        usual = getattr(Faults.usual(fault), fault)
        meaning = fault_meaning(fault)
        lines[:] = [f"{meaning[0].upper()}{meaning[1:]}. Usually {usual:g}."]


def plain_defaults(*event: Any) -> tuple[str | None, str | None]:
    """Write defaults as code does: members of enums and classes, which Sphinx can't read otherwise, and empty ones."""
    *_, signature, returns = event
    signature = signature and re.sub(r"<(\w+\.\w+): [^>]*>", r"\1", signature)
    signature = signature and re.sub(r"<class '[\w.]*?(\w+)'>", r"\1", signature)
    signature = signature and re.sub(r"(= ?)NOTHING", r"\1{}", signature)
    for value, name in LONG_DEFAULTS.items():
        signature = signature and signature.replace(f"={value}", f"={name}").replace(f"= {value}", f"= {name}")
    return signature, returns


def setup(app: Sphinx) -> None:
    """Read docstrings and signatures in the style of the house."""
    app.connect("autodoc-process-signature", plain_defaults)
    app.connect("autodoc-process-docstring", read_google_style)
    app.connect("autodoc-process-docstring", add_what_the_code_says)
