"""Fleet commands as a user types them: recordings to give them, what they answer, and what they say when they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hdapbench.cli.main import main

PLANS = {"dense": 30.0, "thin": 9.0, "half": 17.0}
"""Plan -> its latency in ms on a device of speed 1."""
PROBES = ["--set", "probes=[dense, thin]"]


def recording(folder: Path, speed: np.ndarray, **columns: object) -> str:
    """Path of a CSV of devices of these speeds, three samples of each plan with 1 % noise; columns are added."""
    rng = np.random.default_rng(1)
    rows = [
        {"device": f"unit-{device:03d}", "plan": plan, "sample": sample, "latency_ms": base * factor * noise}
        for device, factor in enumerate(speed)
        for plan, base in PLANS.items()
        for sample, noise in enumerate(np.exp(0.01 * rng.standard_normal(3)))
    ]
    schema = {"device": pl.String, "plan": pl.String, "sample": pl.Int64, "latency_ms": pl.Float64}
    path = folder / "lab.csv"
    pl.DataFrame(rows, schema=schema).with_columns(**columns).write_csv(path)
    return str(path)


def answer(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict:
    capsys.readouterr()
    assert main(["fleet", *arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(["fleet", *arguments]) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error
