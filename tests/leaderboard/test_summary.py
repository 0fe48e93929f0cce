"""A method over all boards: its lead over the best of its rivals, told as it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hdapbench.cli.main import main
from hdapbench.leaderboard.build import build_from_briefs
from hdapbench.leaderboard.summary import ordered, standings
from hdapbench.store.brief import Brief, brief_of
from hdapbench.store.sqlite import Benchmark
from hdapbench.store.travel import read_travelling

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def quickstart() -> tuple[Benchmark, list[Brief]]:
    held = read_travelling(ROOT / "leaderboards/results/quickstart.jsonl.zst")
    return held.benchmark, [brief_of(result) for result in held.results]


def test_the_best_rival_is_the_one_that_the_method_leads_least(quickstart: tuple[Benchmark, list[Brief]]) -> None:
    benchmark, briefs = quickstart
    (found,) = standings(benchmark, briefs, "hdap")
    labels = [row.label for row in build_from_briefs(benchmark, briefs).leads[0].rows]

    leads = {}
    for rival in sorted({"uniform", *labels} - {"hdap"}):
        ranking = {"reference": rival}
        board = build_from_briefs(replace(benchmark, spec={**benchmark.spec, "ranking": ranking}), briefs)
        leads[rival] = next(row.lead.value for row in board.leads[0].rows if row.label == "hdap")
        assert board.leads[0].reference == rival  # labels of rows name the reference too

    assert found.n_rivals == len(leads) == len(labels)
    assert found.rival == min(leads, key=lambda rival: leads[rival])
    assert found.lead.lead.value == leads[found.rival]


def test_of_two_methods_one_leads_by_what_the_other_lacks(quickstart: tuple[Benchmark, list[Brief]]) -> None:
    benchmark, briefs = quickstart
    two = [brief for brief in briefs if brief.method in ("dense", "uniform", "magnitude")]
    (one,), (other,) = (standings(benchmark, two, method) for method in ("uniform", "magnitude"))

    assert (1 + one.lead.lead.value) * (1 + other.lead.lead.value) == pytest.approx(1)
    assert ordered([one, other])[0].lead.lead.value > 0 > ordered([one, other])[1].lead.lead.value
    assert standings(benchmark, two, "hdap") == []


def test_the_readme_holds_the_summary_of_the_committed_boards(capsys: pytest.CaptureFixture[str]) -> None:
    """Write it anew with: hdapbench results summary."""
    assert main(["results", "summary", str(ROOT / "leaderboards")]) == 0

    said = capsys.readouterr().out
    assert said in (ROOT / "README.md").read_text()
