"""Leaderboard -> JSON with a versioned schema: everything that a board knows, in finite numbers."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from hdapbench.errors import StoreError, said
from hdapbench.leaderboard.board import Leaderboard

SCHEMA = 1
"""Version of the schema. Raised when a key goes away or changes its meaning; new keys do not raise it."""


def render_json(board: Leaderboard) -> str:
    """JSON of a board, ending with a newline; an end of an interval that has no bound is null."""
    return json.dumps(document(board), indent=2, allow_nan=False) + "\n"


def document(board: Leaderboard) -> dict[str, Any]:
    """The same as plain values."""
    return {"schema": SCHEMA, **json.loads(_adapter().dump_json(board))}


def board_schema_json() -> str:
    """JSON Schema of a board's JSON, as in docs/board.schema.json, ending with a newline."""
    schema = _adapter().json_schema(mode="serialization")
    for end in ("low", "high"):
        found = schema["$defs"]["Interval"]["properties"][end]
        found |= {"type": ["number", "null"], "description": "null: it has no bound"}
    version = {"const": SCHEMA, "description": "Version of this schema."}
    schema["properties"] = {"schema": version, **schema["properties"]}
    schema["required"] = ["schema", *schema["required"]]
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2) + "\n"


def read_board(text: str) -> Leaderboard:
    """The board that `render_json` wrote.

    Raises
    ------
    StoreError
        When it is no such text, or of another version of the schema.
    """
    try:
        found = json.loads(text)
        version = found.pop("schema", None) if isinstance(found, dict) else None
        if version == SCHEMA:
            return _adapter().validate_json(json.dumps(_unbounded(found)))
    except ValueError as error:
        raise StoreError(
            f"this is no board as JSON: {said(error)[:200]}; write one with: hdapbench board NAME --format json"
        ) from error
    raise StoreError(f"this is no board as JSON of schema {SCHEMA}: write one with: hdapbench board NAME --format json")


def _unbounded(value: Any) -> Any:
    """Values in which an end of an interval that is null is infinite again."""
    if isinstance(value, list):
        return [_unbounded(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    inner = {name: _unbounded(part) for name, part in value.items()}
    if set(inner) == {"value", "low", "high"}:
        inner |= {name: sign for name, sign in (("low", "-Infinity"), ("high", "Infinity")) if inner[name] is None}
    return inner


@cache
def _adapter() -> TypeAdapter[Leaderboard]:
    return TypeAdapter(Leaderboard)
