"""What the site holds: documents from where the repository has them, and references made from the code.

A document's path is its name in mkdocs, so its links work here as they do there, and mkdocs finds every dead one. Its
address is shorter.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import reference
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
DOCUMENTS = ("*.md", "docs/*.md", "docs/adr/*.md", "leaderboards/*.md")
COPIED = (
    "CITATION.cff",
    "LICENSE",
    "docs/*.json",
    "docs/hosting/*",
    "docs/notebooks/*",
    "leaderboards/*.html",
    "specs/*.yaml",
)
"""Files that documents link to, and pages of boards."""

ADDRESSES = {"docs/start.md": "index.html", "README.md": "readme.html"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Patterns in the navigation become the documents that they match."""
    config.nav = _spread(config.nav)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add documents and references to the theme's own files."""
    for path in _matching(*DOCUMENTS, *COPIED):
        file = File.generated(config, path, abs_src_path=str(ROOT / path))
        if file.is_documentation_page():
            place = path.removeprefix("docs/").replace("leaderboards/", "boards/")
            file.dest_uri = ADDRESSES.get(path) or re.sub(
                "(README)?[.]md$", lambda end: "index.html" if end[1] else ".html", place
            )
            file.name = Path(file.dest_uri).stem
        files.append(file)
    for path, make in reference.PAGES.items():
        files.append(File.generated(config, path, content=make()))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Lists in lists are indented as is asked for here. Diagrams are left out: another host has what draws them."""
    parts = re.split("(?ms)(^```.*?^```$)", markdown)
    parts[::2] = [re.sub("(?m)^  - ", "    - ", text) for text in parts[::2]]
    parts[1::2] = ["" if block.startswith("```mermaid") else block for block in parts[1::2]]
    return "".join(parts)


def _spread(items: Any) -> Any:
    """Navigation without patterns."""
    if isinstance(items, dict):
        return {title: _spread(item) for title, item in items.items()}
    if isinstance(items, list):
        return [found for item in items for found in (_matching(item) if "*" in item else [_spread(item)])]
    return items


def _matching(*patterns: str) -> list[str]:
    """Files of the repository, sorted by pattern and name."""
    return [found.relative_to(ROOT).as_posix() for pattern in patterns for found in sorted(ROOT.glob(pattern))]
