from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from hdapbench.cli.main import main
from hdapbench.method.decisions import as_json, read_decisions
from hdapbench.store.sqlite import open_store
from hdapbench.surrogate.report_card import Agreement, ReportCard
from hdapbench.testing.store_contract import example_result

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
    assert explained(tmp_path, {"surrogate": as_json(CARD)}) == 0

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
    card = as_json(CARD) | {"devices": None, "optimum_error": None, "learning_curve": []}

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
    explained(tmp_path, {"surrogate": as_json(CARD)}, "--json")

    told, _ = read_decisions(json.loads(capsys.readouterr().out)["decisions"])
    assert told.surrogate == CARD


COMPARED = [
    {"plan": "ranking", "latency_ms": 5.006, "recalibrated_loss": 0.7214, "accuracy": 0.8452},
    {"plan": "candidate 1", "latency_ms": 4.689, "recalibrated_loss": 0.9466},
    {"plan": "candidate 2", "flops": 62_000_000.0, "accuracy_at_once": 0.31},
]


def test_plans_compared_are_told_with_all_that_was_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert explained(tmp_path, {"accuracies": COMPARED}) == 0

    text = capsys.readouterr().out
    assert (
        "  ranking: 5.006 ms, loss 0.721 with batch norms recalibrated, "
        "accuracy 84.52% on the search split after fine-tuning\n" in text
    )
    assert "  candidate 1: 4.689 ms, loss 0.947 with batch norms recalibrated\n" in text
    assert "  candidate 2: 62,000,000 FLOPs, accuracy 31.00% right after pruning\n" in text


def test_the_page_is_one_file_that_loads_nothing_and_escapes_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = example_result().plan
    assert kept is not None
    group = next(iter(kept.kept))
    decisions = {
        "surrogate": as_json(CARD),
        "accuracies": COMPARED,
        "why": "candidate 2: <b>fast</b>",
        "dense_widths": {group: 64},
        "uniform_widths": {group: 45},
        "predicted_ms": [5.0],
        "rounds": [{"predicted_ms": 5.0, "measured_ms": 4.0}],
        "search": {
            "algorithm": "exact",
            "n_evaluations": 1234,
            "unit": "ms",
            "value": 4.9,
            "bound": 4.8,
            "gap": 0.02,
            "levels": "every width",
            "trace": [[1, 6.0], [1234, 4.9]],
            "reason": "",
        },
        "odd & end": ["<i>", 1],
    }
    page = tmp_path / "trial.html"

    assert explained(tmp_path, decisions, "--html", str(page)) == 0

    assert capsys.readouterr().out == f"wrote {page}\n"
    text = page.read_text()
    for said in (
        "within 2.00% of optimal",
        "+25.0%",
        "84.52%",
        "latency (ms)",
        "0.971",
        "3.1% of 25, 1.1% of 102",
        "uniform pruning keeps 45",
        "of 64",
    ):
        assert said in text
    assert "&lt;b&gt;fast&lt;/b&gt;" in text
    assert "<b>fast" not in text
    assert "<i>" not in text
    assert "http" not in text.replace("http://www.w3.org", "")
    assert "<script" not in text
    HTMLParser().feed(text)


def test_the_page_of_a_trial_without_an_account_says_what_was_measured(tmp_path: Path) -> None:
    page = tmp_path / "trial.html"

    assert explained(tmp_path, {}, "--html", str(page)) == 0

    assert "Average over the fleet" in page.read_text()


@pytest.mark.parametrize(
    ("unit", "value", "said"),
    [
        (
            "ms",
            1.25,
            "search: exact, 12 evaluations, predicted 1.25 ms\n  no plan of this surrogate is below 1.25 ms: within",
        ),
        ("FLOPs", 2e6, "search: exact, 12 evaluations, 2,000,000 FLOPs\n  no plan is below 2,000,000 FLOPs: within"),
    ],
)
def test_a_search_says_what_it_searched_in_its_unit(
    unit: str, value: float, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search = {"algorithm": "exact", "n_evaluations": 12, "unit": unit, "value": value, "bound": value, "gap": 0.0}

    explained(tmp_path, {"search": search | {"levels": "every width", "trace": [[1, value], [12, value]]}})

    assert f"{said} 0.00% of optimal over every width\n" in capsys.readouterr().out


@pytest.mark.parametrize("option", [None, "--html"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("search", "greedy, 12 steps"),
        ("search", {"algorithm": "mine", "n_evaluations": 3, "unit": "ms", "value": 1.0, "bound": 0.5}),
        ("surrogate", {"kind": "mine"}),
        ("rounds", [3, 2, 1]),
        ("rounds", [{"predicted_ms": 1.0, "measured_ms": 0.0}]),
        ("accuracies", [0.9, 0.8]),
        ("accuracies", [{"plan": "first", "accuracy": "0.9"}]),
        ("predicted_ms", {"conv1": 1.0}),
        ("dense_widths", {"conv1": 0}),
        ("uniform_widths", [16, 32]),
        ("why", ["no", "reason"]),
    ],
)
def test_a_plug_ins_own_facts_are_shown_as_they_are_under_names_that_mean_something_else(
    name: str, value: object, option: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "trial.html"

    assert explained(tmp_path, {name: value}, *([option, str(page)] if option else [])) == 0

    if option:
        assert f"<h2>{name.replace('_', ' ')}</h2>" in page.read_text()
    else:
        assert (
            f"{name}: {value if isinstance(value, str) else json.dumps(value)}" in capsys.readouterr().out.splitlines()
        )


def test_a_long_list_is_told_by_its_ends(tmp_path, capsys):
    assert explained(tmp_path, {"cost_and_strength": [[1.0 - k / 100, 2.0 * k] for k in range(77)]}) == 0

    assert "cost_and_strength: 77 values, from [1.0, 0.0] to [0.24, 152.0]" in capsys.readouterr().out
