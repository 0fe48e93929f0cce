"""Boards as CSV, LaTeX and JSON: all numbers, and no text of anybody's that a program would execute."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.console import Console

from hdapbench.leaderboard.board import EqualAccuracy, Leaderboard, Leads
from hdapbench.leaderboard.statistics import Interval
from hdapbench.plan import Plan
from hdapbench.render.document import board_schema_json, read_board, render_json
from hdapbench.render.latex import escape, render_latex
from hdapbench.render.markdown import render_markdown, table
from hdapbench.render.notebook import notebook_html
from hdapbench.render.records import COLUMNS, ORDERS, TEXT_COLUMNS, records, render_csv
from hdapbench.render.terminal import print_leaderboard
from hdapbench.testing.store_contract import example_gap, example_metrics, example_result
from hdapbench.trial import DENSE, Environment
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
    left = re.sub(r"\\(text\w+\{\}|char34\{\}|[{}$&#%_])|\{[][]\}|-\{\}(?=-)", "", plain)

    assert not set("\\{}$&#%_^~[]\n\r") & set(left)
    assert render_latex(two_rows(text)).count(r"\begin{tabular}") == 1


def test_latex_sets_signs_and_ranges_of_numbers_and_leaves_names_alone() -> None:
    dense = example_result(trial(DENSE))
    worse = example_result(trial("uniform"), metrics=example_metrics(accuracy=0.85))

    assert " & $-$5.00 " in render_latex(board([dense, worse]))
    text = render_latex(two_rows("-1 to 2-3"))
    assert "uniform (-1 to 2-3)" in text
    assert re.search(r" & [\d.]+ \([\d.]+--[\d.]+\) & ", text)


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


def poisoned(board: Leaderboard, text: str) -> Leaderboard:
    """A board with a text in every field that a spec, a method, a plug-in or a host may fill."""
    rows = [replace(row, label=text, method=text, same_as=(text,)) for row in board.sections[0].rows]
    gaps = [replace(gap, label=text, reason=text) for gap in board.sections[0].gaps]
    rule = replace(board.sections[0].rule, of=text)
    section = replace(
        board.sections[0], fleet=text, source=text, rule=rule, rows=tuple(rows), gaps=tuple(gaps), warnings=(text,)
    )
    leads = [EqualAccuracy(text, Interval(0.1, 0.0, 0.2), (0.1, 0.2), 1, overlaps=False)]
    notes = {"fleet": {text: text}, "frozen_groups": {text: text}, "base_origin": text, "estimator": text}
    environment = {name: text for name in Environment.model_fields if name != "threads"}
    return replace(
        board,
        name=text,
        spec=board.spec | {"model": {"name": text}, "data": {"name": text}},
        dense=dict.fromkeys([text], rows[0]),
        sections=(section,),
        leads=(Leads(text, "latency", text, tuple(leads)),),
        warnings=(text,),
        notes={text: notes},
        environments=(Environment(**environment, threads=1),),
    )


BASE = two_rows()


def test_no_field_of_a_board_is_more_than_text_to_what_shows_it() -> None:
    """Cells of spreadsheets, cursors of terminals, tags and links of markdown and notebooks, commands of LaTeX."""
    for text in POISONS:
        board = poisoned(BASE, text)
        written = io.StringIO()
        print_leaderboard(board, Console(file=written, width=200, force_terminal=False))
        shown = {"terminal": written.getvalue(), "markdown": render_markdown(board), "latex": render_latex(board)}

        for form, whole in shown.items():
            assert all(line.isprintable() for line in whole.split("\n")), (form, text)
        assert "<" not in shown["markdown"]
        assert "](" not in shown["markdown"]
        assert "\\input" not in shown["latex"]
        assert "<i>" not in notebook_html(board)
        for line in lines_of(render_csv(board)):
            assert not [value for name, value in line.items() if name in TEXT_COLUMNS and value.startswith(ORDERS)]


POISONS = (
    "=1+1",
    "@SUM(A1)",
    "\t=1",
    "\x1b[2J",
    "\x9b2J",
    "a\r\nb",
    "\\input{x}",
    "[1ex]",
    "\u202ereversed",
    "[a](b)<i>",
)


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


@given(st.text(alphabet="ab|\\\\", min_size=1, max_size=8))
@example("a\\|b")
def test_no_backslash_before_a_pipe_ends_its_cell(text: str) -> None:
    *_, line = table(("method", "seed"), [(text, "1")])

    # As GitHub reads a row: a backslash takes the character after it with it.
    assert len(re.split(r"\|", re.sub(r"\\.", "", line))) == 4
