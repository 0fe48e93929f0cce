"""``hdapbench explain`` of methods that leave no account: their plan against uniform and the first of its table."""

from __future__ import annotations

from pathlib import Path

import pytest

from hdapbench.cli.main import main
from hdapbench.plan import Plan
from hdapbench.spec import canonical_json, spec_hash
from hdapbench.store.sqlite import open_store
from hdapbench.testing.store_contract import example_metrics, example_result
from hdapbench.trial import DENSE, DeviceLatency, Result, Status
from tests.boards import SPEC, spec_of, trial


def planned(method: str, ms: float, stem: int, head: int) -> Result:
    devices = [DeviceLatency(device=f"nx-{n}", cluster=n, weight=0.5, samples_ms=(ms + n,) * 3) for n in (0, 1)]
    plan = Plan(kept={"stem": tuple(range(stem)), "head": tuple(range(head))})
    metrics = example_metrics(latency_ms=ms, flops=100 * stem)
    return example_result(trial(method), metrics=metrics).model_copy(update={"plan": plan, "devices": tuple(devices)})


UNIFORM, FIRST, OTHER = planned("uniform", 10.0, 5, 5), planned("fpgm", 8.0, 4, 6), planned("random", 9.0, 7, 5)
DENSE_RESULT = planned(DENSE, 20.0, 10, 10)
TOO_LARGE = planned("magnitude", 9.0, 6, 6).model_copy(
    update={"status": Status.INFEASIBLE, "reason": "above its target", "metrics": None, "devices": ()}
)


@pytest.fixture(autouse=True)
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spec, results = spec_of(SPEC | {"seeds": [0]}), (DENSE_RESULT, UNIFORM, FIRST, OTHER, TOO_LARGE)
    with open_store(Path(".hdapbench") / "results.db") as store:
        ids = [result.trial.id for result in results]
        store.register(spec.name, spec_hash=spec_hash(spec), spec_json=canonical_json(spec), trial_ids=ids)
        for result in results:
            store.add(result)


def explained(result: Result, capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert main(["explain", result.trial.id]) == 0
    return capsys.readouterr().out.splitlines()


def test_a_plan_is_told_against_uniform_and_against_the_first_of_its_table(capsys: pytest.CaptureFixture[str]) -> None:
    lines = explained(OTHER, capsys)

    first = lines.index("against uniform:")
    assert "is 10.0 %" in lines[first + 1]
    assert "faster than uniform @ 0.5x on nx" in lines[first + 1]
    assert lines[first + 2 : first + 5] == [
        "  latency by cluster: 0 -10.0%, 1 -9.1%",
        "  more channels in stem (+2)",
        "against fpgm, the first of its table:",
    ]
    assert lines[first + 6 :] == [
        "  latency by cluster: 0 +12.5%, 1 +11.1%",
        "  more channels in stem (+3)",
        "  fewer channels in head (-1)",
    ]
    assert any(line.startswith("  stem     7 of    10  ") and line.endswith("  uniform 5") for line in lines)


def test_uniform_is_told_against_the_first_and_the_first_against_uniform(capsys: pytest.CaptureFixture[str]) -> None:
    assert [line for line in explained(UNIFORM, capsys) if line.startswith("against")] == [
        "against fpgm, the first of its table:"
    ]
    assert [line for line in explained(FIRST, capsys) if line.startswith("against")] == ["against uniform:"]


def test_a_plan_above_its_limit_is_told_by_its_channels(capsys: pytest.CaptureFixture[str]) -> None:
    lines = explained(TOO_LARGE, capsys)

    first = lines.index("against uniform:")
    assert lines[first + 1] == "  more channels in head (+1), stem (+1)"


def test_the_page_says_it_too(capsys: pytest.CaptureFixture[str]) -> None:
    explained(OTHER, capsys)
    assert main(["explain", OTHER.trial.id, "--html", "trial.html"]) == 0

    page = Path("trial.html").read_text()
    assert "faster than uniform @ 0.5x on nx" in page
    assert "uniform pruning keeps 5" in page
