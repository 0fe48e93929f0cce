"""What all pages share: templates that escape what they are given, and scripts that a page lets run."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from hdapbench.errors import printable


def templates() -> Environment:
    """Templates of all pages: what they are given is escaped, and what is no character written out."""
    environment = Environment(
        loader=PackageLoader("hdapbench.render"),
        autoescape=True,
        finalize=lambda value: _plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["spec"] = format
    return environment


def marked(text: str) -> Markup:
    """Text whose ``**words**`` are strong and whose `words` are code; everything else is escaped."""
    strong = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", str(escape(_plain(text))))
    return Markup(re.sub(r"`(.+?)`", r"<code>\1</code>", strong))  # noqa: S704 - escaped above


def style() -> Markup:
    """Style sheet of all pages of boards."""
    return Markup(_file("board.css"))  # noqa: S704 - a file of this package


@cache
def scripts() -> dict[str, str]:
    """Script of a board's page, and the library that draws: Vega, Vega-Lite and vega-embed in one bundle."""
    import vl_convert

    library = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return {"page": _file("board.js"), "library": library.replace("</script", "<\\/script")}


def _file(name: str) -> str:
    return (files("hdapbench.render") / "templates" / name).read_text(encoding="utf-8")


def _plain(text: str) -> str:
    return text if text.isprintable() else printable(" ".join(text.split()))


def csp_hash(script: str) -> str:
    """Source of a content security policy that lets this script run, and no other."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
