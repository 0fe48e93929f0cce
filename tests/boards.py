"""Boards of the benchmark ``example``: its spec, trials on its fleets, and what results of them become."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

from hdapbench.leaderboard.board import Leaderboard
from hdapbench.leaderboard.build import build_leaderboard
from hdapbench.run.grid import fleet_hash
from hdapbench.spec import Spec
from hdapbench.store.sqlite import Benchmark
from hdapbench.testing.store_contract import example_trial
from hdapbench.trial import Result, Trial

SPEC: dict[str, Any] = {
    "schema_version": 1,
    "name": "example",
    "model": {"name": "resnet20", "input_shape": [1, 16, 16]},
    "data": {"name": "digits"},
    "fine_tune": {"epochs": 3.0},
    "fleets": [
        {"name": "nx", "kind": "simulated", "sku": "xavier_nx", "scenario": "mixed", "n_devices": 40, "seed": 7}
    ],
    "targets": [{"flops": "0.5x"}],
    "methods": [{"name": "uniform"}],
    "seeds": [0, 1],
}


def spec_of(content: dict[str, Any]) -> Spec:
    """The spec that a file of this content gives."""
    return parsed(json.dumps(content))


parsed = cache(Spec.model_validate_json)


def trial(method: str, *, spec: dict[str, Any] = SPEC, number: int = 0, **fields: Any) -> Trial:
    """Trial on one of a spec's fleets."""
    fleet = spec_of(spec).fleets[number]
    return example_trial(method, fleet=fleet.name, fleet_hash=fleet_hash(fleet), **fields)


def board(results: Sequence[Result], *, spec: dict[str, Any] = SPEC, pending: int = 0) -> Leaderboard:
    """Leaderboard of results, and of trials that have not run."""
    ids = [result.trial.id for result in results] + [f"pending{number}" for number in range(pending)]
    content = spec_of(spec).model_dump(mode="json")
    return build_leaderboard(Benchmark(spec["name"], "5" * 16, content, tuple(ids)), results)
