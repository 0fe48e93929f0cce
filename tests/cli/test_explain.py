from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hdapbench.cli.main import main
from hdapbench.latency.report_card import Agreement, ReportCard
from hdapbench.store.contract import example_result
from hdapbench.store.sqlite import open_store

PLANS = Agreement(mape=0.0113, within_5=0.98, bias=0.002, spearman=0.971, kendall=0.862, top_k_regret=0.004, n=128)
DEVICES = Agreement(mape=0.0216, within_5=0.91, bias=-0.013, spearman=0.955, kendall=0.83, top_k_regret=0.0, n=2000)
CARD = ReportCard(
    kind="nnls",
    n_plans=128,
    n_clusters=16,
    plans=PLANS,
    devices=DEVICES,
    learning_curve=((25, 0.031), (102, 0.0113)),
    optimum_error=-0.0062,
)
ON_PLANS = (
    "  on plans left out: MAPE 1.1%, within 5 % 98%, bias +0.2%, Spearman 0.971, Kendall 0.862, top-5 regret 0.4% "
    "(128 predictions)"
)
ON_DEVICES = (
    "  on devices left out: MAPE 2.2%, within 5 % 91%, bias -1.3%, Spearman 0.955, Kendall 0.830, top-5 regret 0.0% "
    "(2,000 predictions)"
)


def explained(tmp_path: Path, decisions: dict[str, Any], *options: str) -> int:
    """Exit code of the command on a stored trial with these decisions."""
    result = example_result().model_copy(update={"notes": {"decisions": decisions}})
    with open_store(tmp_path / "results.db") as store:
        store.add(result)
    return main(["explain", result.trial.id, "--workspace", str(tmp_path), *options])


def test_the_surrogates_report_card_is_shown_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert explained(tmp_path, {"surrogate": CARD.to_dict()}) == 0

    lines = capsys.readouterr().out.splitlines()
    first = lines.index("surrogate: nnls, fitted to 128 plans on 16 clusters")
    assert lines[first + 1 : first + 5] == [
        ON_PLANS,
        ON_DEVICES,
        "  MAPE by training plans: 3.1% of 25, 1.1% of 102",
        "  bias at the last optimum, before it was measured: -0.6%",
    ]


def test_a_card_without_devices_or_an_optimum_leaves_their_lines_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = CARD.to_dict() | {"devices": None, "optimum_error": None, "learning_curve": []}

    assert explained(tmp_path, {"surrogate": card}) == 0

    shown = capsys.readouterr().out
    assert "on plans left out" in shown
    assert "devices left out" not in shown
    assert "optimum" not in shown
    assert "training plans" not in shown


def test_predictions_stand_beside_measurements_of_each_cluster(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    devices = sorted(example_result().devices, key=lambda device: device.cluster)
    measured = [sorted(device.samples_ms)[len(device.samples_ms) // 2] for device in devices]

    explained(tmp_path, {"predicted_ms": [1.1 * value for value in measured]})

    assert capsys.readouterr().out.count("(+10.0%)") == len(measured)


def test_json_holds_the_card_as_it_was_stored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    explained(tmp_path, {"surrogate": CARD.to_dict()}, "--json")

    stored = json.loads(capsys.readouterr().out)["decisions"]["surrogate"]
    assert ReportCard.from_dict(stored) == CARD
