from __future__ import annotations

import io
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from hdapbench.leaderboard.board import Leaderboard
from hdapbench.leaderboard.statistics import Interval
from hdapbench.plan import Plan
from hdapbench.render.cells import share, significant
from hdapbench.render.markdown import render_markdown, table
from hdapbench.render.terminal import print_leaderboard
from hdapbench.testing.store_contract import example_gap, example_metrics, example_result
from hdapbench.trial import DENSE, Result, Spent, Status, Trial
from tests.boards import SPEC, board, trial

GOLDEN = Path(__file__).parent / "golden"
FLEET = {"kind": "simulated", "scenario": "mixed", "n_devices": 40, "seed": 7}
TWO_SEEDS: dict[str, Any] = SPEC | {
    "fine_tune": {"epochs": 3.0, "learning_rate": 0.03},
    "fleets": [FLEET | {"name": "nx", "sku": "xavier_nx"}, FLEET | {"name": "nano", "sku": "nano"}],
    "targets": [{"flops": "0.5x"}, {"flops": "0.25x"}],
}
ONE_SEED = TWO_SEEDS | {"name": "one-seed", "fleets": TWO_SEEDS["fleets"][:1], "seeds": [0]}
DENSE_FLOPS = 4_000_000
NOTES: dict[str, Any] = {
    "base_hash": "b" * 64,
    "base_origin": "trained by the spec's recipe",
    "data_hash": "d" * 64,
    "n_groups": 12,
    "frozen_groups": {"stem.conv": "a pruned copy does not run: shape mismatch"},
    "n_clusters": 6,
    "n_measured": 6,
    "estimator": "calibrated",
    "fingerprint_queries": 120,
}


class Examples:
    """Results of one fleet of a spec."""

    def __init__(self, spec: dict[str, Any], number: int = 0) -> None:
        self.spec, self.number = spec, number

    def trial(self, method: str, seed: int = 0, target: str = "0.5x", **parameters: str | int) -> Trial:
        return trial(method, spec=self.spec, number=self.number, seed=seed, target=target, parameters=parameters)

    def dense(self, latency_ms: float, accuracy: float) -> Result:
        metrics = example_metrics(latency_ms=latency_ms, accuracy=accuracy, flops=DENSE_FLOPS)
        fleet = self.spec["fleets"][self.number]
        description = {"sku": fleet["sku"], **{key: FLEET[key] for key in ("kind", "scenario", "n_devices", "seed")}}
        return example_result(
            self.trial(DENSE),
            metrics=metrics.model_copy(update={"flops_target": None}),
            notes=NOTES | {"fleet": description | {"precision": "fp32"}},
        ).model_copy(update={"spent": Spent()})

    def complete(self, trial: Trial, latency_ms: float, accuracy: float, *, share: float = 0.99) -> Result:
        target = round(DENSE_FLOPS * float(str(trial.target).rstrip("x")))
        flops = round(target * share)
        metrics = example_metrics(latency_ms=latency_ms, accuracy=accuracy, flops=flops, target=target)
        plan = Plan(kept={"conv": tuple(range(round(latency_ms * 10)))})
        return example_result(trial, metrics=metrics).model_copy(update={"plan": plan})


def two_seeds_results() -> list[Result]:
    nx, nano = Examples(TWO_SEEDS, 0), Examples(TWO_SEEDS, 1)
    half = [
        nx.dense(12.5, 0.981),
        nx.complete(nx.trial("hdap", 0), 6.95, 0.969),
        nx.complete(nx.trial("hdap", 1), 7.05, 0.972),
        nx.complete(nx.trial("torch-pruning", 0, importance="taylor"), 7.4, 0.973),
        nx.complete(nx.trial("torch-pruning", 1, importance="taylor"), 7.8, 0.975),
        nx.complete(nx.trial("torch-pruning", 0, importance="lamp"), 9.50, 0.941, share=0.93),
        nx.complete(nx.trial("torch-pruning", 1, importance="lamp"), 9.52, 0.944, share=0.93),
        nx.complete(nx.trial("uniform", 0), 8.25, 0.966),
        example_gap(nx.trial("uniform", 1), status=Status.TIMEOUT, reason="61 of 60 train_epochs are spent"),
        example_gap(nx.trial("nni", 0), reason="ValueError at slim.py:31: expected <class 'int'> | None,\ngot 'x'"),
        example_gap(nx.trial("nni", 1), reason="ValueError at slim.py:31: expected <class 'int'> | None,\ngot 'x'"),
        example_gap(nx.trial("bn-scale", 0), status=Status.SKIPPED, reason="needs batch norm"),
        example_gap(nx.trial("bn-scale", 1), status=Status.SKIPPED, reason="needs batch norm"),
    ]
    quarter = [
        nx.complete(nx.trial("uniform", 0, "0.25x"), 4.0, 0.91),
        nx.complete(nx.trial("uniform", 1, "0.25x"), 4.0, 0.90),
    ]
    slow_boards = [
        nano.dense(2345.6, 0.981),
        nano.complete(nano.trial("uniform", 0), 1234.0, 0.966),
        nano.complete(nano.trial("uniform", 1), 1290.0, 0.981),
    ]
    return [*half, *quarter, *slow_boards]


def one_seed_results() -> list[Result]:
    nx = Examples(ONE_SEED)
    return [
        nx.dense(12.5, 0.981),
        nx.complete(nx.trial("uniform"), 8.25, 0.981),
        example_gap(nx.trial("hdap", 0, "0.25x"), status=Status.INFEASIBLE, reason="no plan is that small"),
    ]


BOARDS = {
    "two-seeds": lambda: board(two_seeds_results(), spec=TWO_SEEDS, pending=4),
    "one-seed": lambda: board(one_seed_results(), spec=ONE_SEED),
    "nothing-yet": lambda: board([], spec=TWO_SEEDS, pending=20),
}


def plain_text(board: Leaderboard) -> str:
    stream = io.StringIO()
    print_leaderboard(board, Console(file=stream, width=160))
    return "".join(f"{line.rstrip()}\n" for line in stream.getvalue().splitlines())


@pytest.mark.parametrize("name", BOARDS)
@pytest.mark.parametrize(("suffix", "render"), [("md", render_markdown), ("txt", plain_text)])
def test_a_board_looks_as_in_the_golden_file(name: str, suffix: str, render: Any) -> None:
    """Write the files anew with HDAPBENCH_UPDATE_GOLDEN=1, and read the difference."""
    path = GOLDEN / f"{name}.{suffix}"
    text = render(BOARDS[name]())
    if os.environ.get("HDAPBENCH_UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")

    assert text == path.read_text(encoding="utf-8")


def test_seconds_and_artifacts_do_not_show_because_a_second_run_would_differ() -> None:
    slower = [
        result.model_copy(
            update={
                "seconds": result.seconds + 100.0,
                "spent": result.spent.model_copy(update={"wall_seconds": 99.0}),
                "artifact": "elsewhere",
            }
        )
        for result in two_seeds_results()
    ]

    assert render_markdown(board(slower, spec=TWO_SEEDS, pending=4)) == render_markdown(BOARDS["two-seeds"]())


def test_every_markdown_table_is_one_that_github_draws() -> None:
    lines = render_markdown(BOARDS["two-seeds"]()).splitlines()
    tables = "\n".join(line if line.startswith("|") else "" for line in lines).split("\n\n")
    found = [block.strip("\n").splitlines() for block in tables if block.strip()]

    assert len(found) == 12
    for header, rule, *rows in found:
        # GitHub wants a hyphen in every cell of the second line, and the same number of cells as in the first.
        assert re.fullmatch(r"\|( :?-+:? \|)+", rule)
        n_cells = {len(re.split(r"(?<!\\)\|", line)) for line in (header, rule, *rows)}
        assert len(n_cells) == 1
        assert len({len(line) for line in (header, rule, *rows)}) == 1, "columns are aligned in the source too"


@given(st.text(alphabet="ab|<>\\*` ", min_size=1, max_size=12))
def test_no_text_breaks_out_of_its_cell(text: str) -> None:
    *_, line = table(("method", "seed"), [(text, "1")])

    assert len(re.split(r"(?<!\\)\|", line)) == 4
    assert "<" not in line


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (7.0, "7.000"),
        (12.345, "12.35"),
        (9.99996, "10.00"),
        (999.96, "1,000"),
        (1234567.0, "1,235,000"),
        (0.00012346, "0.0001235"),
    ],
)
def test_latencies_have_four_significant_digits(number: float, text: str) -> None:
    assert significant(number) == text


@given(st.floats(min_value=1e-4, max_value=1e7))
def test_a_rendered_latency_is_within_half_a_digit_of_its_value(number: float) -> None:
    assert float(significant(number).replace(",", "")) == pytest.approx(number, rel=5.1e-4)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Interval(0.9, 0.88, 0.92), "90.0 (88.0-92.0)"),
        (Interval(0.9861, 0.983, 0.989), "98.61 (98.30-98.90)"),
        (Interval(1.0, 0.989, 1.0), "100.0 (98.9-100.0)"),
        (Interval(0.9, 0.0, 1.0), "90.00"),
    ],
)
def test_a_share_shows_its_interval_or_nothing_where_none_is_known(value: Interval, text: str) -> None:
    assert share(value) == text


def test_no_line_of_a_table_is_longer_than_100_columns() -> None:
    tables = [line for line in render_markdown(BOARDS["two-seeds"]()).splitlines() if line.startswith("|")]

    assert max(len(line) for line in tables if "reason" not in line and "ValueError" not in line) <= 100


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_breaks_no_word(width: int) -> None:
    stream = io.StringIO()
    print_leaderboard(BOARDS["two-seeds"](), Console(file=stream, width=width))

    text = stream.getvalue()
    assert max(map(len, text.splitlines())) <= width
    for words in ("torch-pruning (taylor)", "x first (95 %)"):
        assert words in text


def test_a_board_in_a_pipe_has_no_escape_codes(capsys: pytest.CaptureFixture[str]) -> None:
    print_leaderboard(BOARDS["one-seed"]())

    out = capsys.readouterr().out
    assert "uniform" in out
    assert "\x1b" not in out


def test_a_board_on_a_terminal_says_the_same_in_bold_and_dim() -> None:
    stream = io.StringIO()
    print_leaderboard(BOARDS["one-seed"](), Console(file=stream, width=160, force_terminal=True))

    assert "\x1b[1m" in stream.getvalue()
    without_codes = re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue())
    assert [line.rstrip() for line in without_codes.splitlines()] == plain_text(BOARDS["one-seed"]()).splitlines()
