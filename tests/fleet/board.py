"""A board of tests: answers as its name says (honest-1, nan-2, ...) what the runner would."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from random import Random


def main(name: str, runs: int, files: list[str]) -> None:
    """Answer as the board of that name does: latencies go by the size of the files, nothing is run."""
    kind = name.partition("-")[0]
    state = Path(os.environ.get("BOARDS_STATE", "/nonexistent")) / name
    n_calls = 0
    if state.parent.is_dir():
        n_calls = int(state.read_text()) if state.exists() else 0
        state.write_text(str(n_calls + 1))
    if kind == "hanging":
        time.sleep(3600)
    if (
        kind == "failing"
        or (kind == "vanishing" and n_calls >= 1)
        or (kind == "late" and n_calls >= 4)
        or (kind == "flaky" and n_calls % 2 == 0)
    ):
        sys.exit("connection lost")
    throttled = (kind == "throttled" and n_calls) or (kind == "hot" and n_calls == 1)
    speed = {"slow": 3.0}.get(kind, 1.0) * (1 + len(name) % 3 / 10) * (5 if throttled else 1)
    rng = Random(f"{name} {n_calls}")
    spans = [
        [speed * (0.02 + Path(file).stat().st_size / 3e7) * rng.uniform(0.98, 1.02) for _ in range(runs)]
        for file in files
    ]
    lies = {"nan": float("nan"), "negative": -1.0, "constant": 1.0, "impossible": 1e9, "magic": 1e-7}
    if kind in lies:
        spans = [
            [lies[kind] if kind in ("nan", "negative", "constant") else lies[kind] * rng.random() for _ in range(runs)]
            for _ in files
        ]
    if kind == "short":
        spans = spans[:-1]
    if kind not in lies:
        time.sleep(sum(map(sum, spans)) / 1e3)
    print("Welcome to this board")
    print("no JSON" if kind == "chatty" else json.dumps({"samples_ms": spans, "board": {"power_mode": "15W"}}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
