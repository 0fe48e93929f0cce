"""Boards as CSV, LaTeX and JSON: all numbers, and no text of anybody's that a program would execute."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.console import Console

from hdapbench.leaderboard.board import Leaderboard
from hdapbench.plan import Plan
from hdapbench.render.document import board_schema_json, read_board, render_json
from hdapbench.render.latex import escape, render_latex
from hdapbench.render.markdown import render_markdown
from hdapbench.render.records import COLUMNS, ORDERS, records, render_csv
from hdapbench.render.terminal import print_leaderboard
from hdapbench.testing.store_contract import example_gap, example_metrics, example_result
from hdapbench.trial import DENSE
from tests.boards import SPEC, board, trial

ROOT = Path(__file__).parents[2]
NARROW = Plan(kept={"conv1": (0,), "layer1": (1,)})
FEW = settings(max_examples=20)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12) | st.sampled_from(
    ["=1+1", "@SUM(A1)", "\t=1", "\x1b[2J", "a\r\nb", "\\input{x}", "[1ex]", "|<b>", "--", "\u202ereversed", "\uff1d1"]
)


def two_rows(text: str = "fast", latency_ms: float = 8.0) -> Leaderboard:
    """A board whose free texts are all the same: a variant's name, reasons, notes."""
    one = example_result(trial("uniform", parameters={"kind": text}), metrics=example_metrics(latency_ms=latency_ms))
    other = example_result(trial("uniform", parameters={"kind": "other"})).model_copy(update={"plan": NARROW})
    gap = example_gap(trial("uniform", parameters={"kind": text}, seed=1), reason=text)
    dense = example_result(trial(DENSE), notes={"fleet": {"sku": text}, "frozen_groups": {"stem": text}})
    return board([dense, one, other, gap], spec=SPEC | {"fleets": [SPEC["fleets"][0]]})


def lines_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_a_spreadsheet_gets_every_row_with_its_numbers_and_the_ends_of_their_intervals() -> None:
    dense, first, other, gap = lines_of(render_csv(two_rows()))

    assert [line["status"] for line in (dense, first, other, gap)] == ["reference", "ranked", "ranked", "failed"]
    assert (first["label"], first["rank"], first["target"]) == ("uniform (fast)", "1", "0.5x")
    assert float(first["latency_ms_low"]) < float(first["latency_ms"]) == pytest.approx(8.0)
    assert float(other["slower"]) == pytest.approx(10 / 8 - 1)
    assert (gap["label"], gap["seed"], gap["reason"]) == ("uniform (fast)", "1", "fast")
    assert {tuple(record) for record in records(two_rows())} == {COLUMNS}


@FEW
@given(TEXTS)
@example("=1+1")
@example("a\r\nb")
def test_no_text_is_a_formula_to_a_spreadsheet_or_breaks_its_line(text: str) -> None:
    written = render_csv(two_rows(text))
    read = lines_of(written)

    assert len(written.split("\r\n")) == 6  # a header, four lines, nothing
    assert all(line["status"] in {"reference", "ranked", "failed"} for line in read)
    assert not [line["reason"] for line in read if line["reason"].lstrip().startswith(ORDERS)]


@FEW
@given(TEXTS)
def test_latex_sets_every_text_as_it_is_written(text: str) -> None:
    plain = escape(text)
    left = re.sub(r"\\(text\w+\{\}|[{}$&#%_])|\{[][]\}|-\{\}(?=-)", "", plain)

    assert not set("\\{}$&#%_^~[]\n\r") & set(left)
    assert render_latex(two_rows(text)).count(r"\begin{tabular}") == 1


def test_latex_is_a_booktabs_table_per_ranking() -> None:
    text = render_latex(two_rows("a_b & c"))

    assert r"1 & uniform (a\_b \& c)" in text
    assert text.count("\n\\midrule\n") == 2  # under the header, and under the dense model
    assert len({line.count(" & ") for line in text.splitlines() if line.endswith(r"\\")}) == 1


@FEW
@given(TEXTS, st.sampled_from([8.0, 1e-3, 1e6]))
def test_a_board_as_json_is_what_its_schema_says_in_finite_numbers(text: str, latency_ms: float) -> None:
    def refuse(number: str) -> None:
        raise AssertionError(number)

    found = json.loads(render_json(two_rows(text, latency_ms)), parse_constant=refuse)

    jsonschema.validate(found, json.loads(board_schema_json()))
    assert found["schema"] == 1


def test_ends_without_bound_are_null_and_read_as_such() -> None:
    apart = [example_result(trial("uniform", seed=0)), example_result(trial("random", seed=1))]  # no seed in common
    found = json.loads(render_json(board(apart)))

    assert read_board(render_json(board(apart))) == board(apart)

    jsonschema.validate(found, json.loads(board_schema_json()))
    assert found["sections"][0]["rows"][1]["slower"]["high"] is None


def test_the_schema_of_boards_is_up_to_date() -> None:
    """Write it anew with: hdapbench schema board > docs/board.schema.json."""
    assert (ROOT / "docs/board.schema.json").read_text() == board_schema_json()


@FEW
@given(TEXTS)
@example("\x1b[2J")
@example("[a](javascript:b)<i>")
def test_no_text_moves_the_cursor_of_a_terminal_or_is_a_tag_or_link_in_markdown(text: str) -> None:
    written = io.StringIO()
    print_leaderboard(two_rows(text), Console(file=written, width=200))
    shown: Any = {"terminal": written.getvalue(), "markdown": render_markdown(two_rows(text))}

    for form, whole in shown.items():
        assert all(line.isprintable() for line in whole.split("\n")), form
    assert "<" not in shown["markdown"]
    assert not re.search(r"\]\(", shown["markdown"])
