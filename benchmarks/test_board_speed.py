"""A board of 100,000 results: what it takes per result against one of 2,000, in what memory, and how large its page is.

20 methods at 10 targets with 500 seeds, and the dense model; each result has what one of the quickstart has: 8 devices of 7
repeats, 6 channel groups, 359 test images. Raw results are stored of the trials that a page tells of, briefs of all.

    python -m pytest benchmarks/test_board_speed.py --benchmark-only
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hdapbench.leaderboard.board import Leaderboard
from hdapbench.leaderboard.build import build_from_briefs
from hdapbench.plan import Plan
from hdapbench.render.markdown import render_markdown
from hdapbench.store.brief import Brief, brief_of, store_briefs
from hdapbench.store.sqlite import Store, open_store
from hdapbench.testing.store_contract import example_metrics, example_result
from hdapbench.trial import DENSE, DeviceLatency, Outcomes, Result
from tests.boards import SPEC, spec_of, trial

pytestmark = pytest.mark.benchmark(timer=time.process_time)

N_METHODS, N_TARGETS, N_IMAGES, N_DEVICES, N_REPEATS = 20, 10, 359, 8, 7
WIDTHS = {"conv1": 32, "conv2": 64, "conv3": 128, "conv4": 128, "conv5": 256, "conv6": 256}
N_RAW = 10
"""Seeds of each row whose raw results are stored: as many as its page tells of."""

MOST_GROWTH = 1.5
MOST_MEBIBYTES, MOST_PAGE_MEGABYTES = 1000, 5

BOARD = """
import sys
from hdapbench.cli.main import main
main(["board", "big", "--workspace", sys.argv[1], "--output", sys.argv[2]])
with open("/proc/self/status") as status:
    print(next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024)
"""


def spec(n_seeds: int) -> dict[str, object]:
    targets = [{"flops": f"{0.9 - 0.08 * number:.2f}x"} for number in range(N_TARGETS)]
    return SPEC | {"name": "big", "targets": targets, "seeds": list(range(n_seeds))}


def result(method: str, place: int, seed: int, content: dict[str, object], rng: np.random.Generator) -> Result:
    """A result of a method at one of the targets, or of the dense model."""
    target = None if method == DENSE else spec_of(content).targets[place].text
    latency, right = measured(method, place, rng)
    share = 1.0 if target is None else 0.9 - 0.06 * place
    kept = {name: tuple(range(int(width * share))) for name, width in WIDTHS.items()}
    metrics = example_metrics(latency_ms=latency, accuracy=float(right.mean()), flops=990)
    samples = latency * np.exp(rng.normal(0, 0.01, (N_DEVICES, N_REPEATS)))
    devices = tuple(
        DeviceLatency(device=f"nx-{number:03}", cluster=number, weight=1 / N_DEVICES, samples_ms=tuple(of.tolist()))
        for number, of in enumerate(samples)
    )
    made = example_result(trial(method, spec=content, target=target, seed=seed), metrics=metrics)
    return made.model_copy(update={"plan": Plan(kept=kept), "devices": devices, "outcomes": Outcomes.of_images(right)})


def measured(method: str, place: int, rng: np.random.Generator) -> tuple[float, np.ndarray]:
    """Latency in ms, and which images are named rightly."""
    number = 0 if method == DENSE else int(method.removeprefix("m"))
    latency = (20 - 1.2 * place) * (1 + 0.01 * number) * np.exp(rng.normal(0, 0.02))
    return float(latency), rng.random(N_IMAGES) < 0.95 - 0.001 * number - 0.008 * place + rng.normal(0, 0.004)


def like(brief: Brief, seed: int, place: int, rng: np.random.Generator) -> Brief:
    """Brief of another seed."""
    latency, right = measured(brief.method, place, rng)
    samples = latency * np.exp(rng.normal(0, 0.01, N_DEVICES * N_REPEATS))
    assert brief.numbers is not None
    numbers = brief.numbers._replace(latency_ms=latency, accuracy=float(right.mean()))
    widths = tuple(max(1, width - int(rng.integers(3))) for width in brief.widths)
    return brief._replace(
        id=hashlib.sha256(f"{brief.id} {seed}".encode()).hexdigest()[:12], seed=seed, numbers=numbers, widths=widths, samples=samples.tobytes(),
        bits=np.packbits(right).tobytes(),
    )  # fmt: skip


def briefs_of_row(store: Store, method: str, place: int, n_seeds: int, rng: np.random.Generator) -> Iterator[Brief]:
    content = spec(n_seeds)
    for seed in range(min(n_seeds, N_RAW)):
        made = result(method, place, seed, content, rng)
        store.add(made)
        yield (brief := brief_of(made))
    for seed in range(N_RAW, n_seeds):
        yield like(brief, seed, place, rng)


def filled(folder: Path, n_seeds: int) -> Path:
    """Database with results of all methods and targets on so many seeds."""
    rng, path = np.random.default_rng(0), folder / "results.db"
    rows = [(DENSE, 0), *((f"m{number}", place) for place in range(N_TARGETS) for number in range(N_METHODS))]
    with open_store(path) as store:
        store._connection.execute("PRAGMA synchronous = OFF")
        briefs = [brief for row in rows for brief in briefs_of_row(store, *row, n_seeds, rng)]
        with store._connection.writing():
            store._connection.executemany(
                "INSERT OR IGNORE INTO result (trial_id, benchmark, method, fleet, seed, status, content)"
                " VALUES (?, 'big', ?, 'nx', ?, 'complete', '{}')",
                [(brief.id, brief.method, brief.seed) for brief in briefs],
            )
            store_briefs(store._connection, briefs)
        text = json.dumps(spec_of(spec(n_seeds)).model_dump(mode="json"))
        store.register("big", spec_hash="b" * 16, spec_json=text, trial_ids=[brief.id for brief in briefs])
    return path


def board(path: Path) -> Leaderboard:
    with open_store(path) as store:
        benchmark = store.benchmark("big")
        found = build_from_briefs(benchmark, store.briefs(trial_ids=benchmark.trial_ids))
    render_markdown(found)
    return found


def test_the_time_of_a_board_grows_with_its_results_and_no_faster(benchmark, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """The seconds are of processor time, without starting Python."""
    (tmp_path / "few").mkdir()
    few, many = filled(tmp_path / "few", 10), filled(tmp_path, 500)
    board(few)
    started = time.process_time()
    n_few = board(few).n_finished
    few_seconds = time.process_time() - started

    made = benchmark.pedantic(lambda: board(many), rounds=3)
    file = tmp_path / "big.html"
    command = [sys.executable, "-c", BOARD, str(tmp_path), str(file)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout

    per_result = benchmark.stats.stats.min / made.n_finished
    page_megabytes, mebibytes = file.stat().st_size / 1e6, float(said)
    benchmark.extra_info.update(
        n_results=made.n_finished, mebibytes=round(mebibytes), page_megabytes=round(page_megabytes, 1),
        microseconds_per_result=round(per_result * 1e6), growth=round(per_result / (few_seconds / n_few), 2),
    )  # fmt: skip
    assert made.n_finished == (1 + N_METHODS * N_TARGETS) * 500
    assert per_result < MOST_GROWTH * few_seconds / n_few
    assert mebibytes < MOST_MEBIBYTES
    assert page_megabytes < MOST_PAGE_MEGABYTES
