"""What a method's code does while it is imported: watched in another process, which has not imported it yet."""

from __future__ import annotations

import linecache
from collections.abc import Callable
from typing import Any

from hdapbench.method.isolation import Settings
from hdapbench.testing import rules
from hdapbench.testing.rules import Violation
from hdapbench.testing.source_line import LastLine, OwnCode, SourceLine, traced
from hdapbench.testing.state import RandomState, Snapshot, changed_parts
from hdapbench.testing.watch import Findings, watched

IMPORTS = ("import ", "from ")


def watch_import(load: Callable[[], object], own: OwnCode) -> list[Violation]:
    """Rules that code breaks while ``load`` imports it; what the packages do that it imports is not its own.

    Raises
    ------
    MethodError
        When the code cannot be loaded, unless it wanted a connection, which is its violation.
    """
    findings, changes, last = Findings(), dict[tuple[str, str], SourceLine | None](), LastLine(own)
    before = _state()

    def note(frame: Any, event: str) -> None:
        for rule, now in _state().items():
            for part in changed_parts(before[rule], now):
                changes.setdefault((rule, part), last.place)
        last.follow(frame, event)

    try:
        with watched(findings, own), traced(own, note):
            load()
    except Exception:
        if not findings.connected:
            raise
    seen = [
        *((rules.SILENT, f"prints {what.rpartition(' to ')[0]}", place) for what, place in findings.printed),
        *((rules.FILES, f"writes {what}", place) for what, place in findings.written),
        *((rule, f"changes {part}", place) for (rule, part), place in changes.items()),
    ]
    own_doing = [(rule, what, place) for rule, what, place in seen if place is not None and not _is_import(place)]
    connections = [(rules.NETWORK, f"asks for {what}", place) for what, place in findings.connected]
    return [
        Violation(rule, f"being imported, it {what}; a module only defines its methods", place=place)
        for rule, what, place in [*own_doing, *connections]
    ]


def _state() -> dict[str, Snapshot]:
    """Rule -> what it says is left alone."""
    return {rules.RANDOM: RandomState.now().snapshot(), rules.SETTINGS: Settings.now().snapshot()}


def _is_import(place: SourceLine) -> bool:
    return linecache.getline(place.file, place.line).strip().startswith(IMPORTS)
