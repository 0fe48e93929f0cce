"""How often the same model, measured twice in one session, differs by less than the reported interval.

    python -m studies.repeats [--repeats 100] [--models resnet20 resnet56] [--loads once twice] [--check]

Each repeat measures one file under two names in the same rounds; the true ratio is 1. Loaded twice, the two lie at other
addresses, which is a true difference of some tenths of a percent; loaded once, both names are the very same. Writes the
table in docs/measuring.md. About half an hour. ``--check`` makes five repeats and writes nothing.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from hdapbench.arrays import Floats
from hdapbench.models import build_model
from hdapbench.runtimes.host import read_host
from hdapbench.runtimes.interval import median_interval
from hdapbench.runtimes.load import ForeignLoad
from hdapbench.runtimes.onnx_file import write_onnx
from hdapbench.runtimes.protocol import Effort, measure
from hdapbench.runtimes.session import Session
from hdapbench.runtimes.worker import Worker
from hdapbench.spec import ModelSpec, RuntimeSpec
from studies.tables import options, publish

SHAPE = (3, 32, 32)
EFFORT = Effort(round_ms=120.0, extra_rounds=0)
"""The protocol with shorter rounds and none repeated: a hundred sessions then take minutes, and disturbed rounds stay in."""


@dataclass(frozen=True)
class Repeat:
    """What one session says of two equal models."""

    ratio: float
    half_width: float
    holds: bool
    within_latency_interval: bool
    naive_holds: bool
    foreign_cores: float


@dataclass(frozen=True)
class Same:
    """A timer that knows one model, whatever name it is asked for."""

    worker: Worker

    def time(self, key: str, runs: int) -> Floats:  # noqa: ARG002
        return self.worker.time("a", runs)


def repeats(model: str, n: int, loads: str) -> Iterator[Repeat]:
    """Sessions of a model with itself, in one worker process, loaded anew each time."""
    runtime = RuntimeSpec()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        torch.manual_seed(0)
        write_onnx(
            build_model(ModelSpec(name=model, input_shape=SHAPE), n_classes=10, base_dir=Path()), SHAPE, path, batch=1
        )
        with Worker(runtime, name="repeats") as worker:
            load = ForeignLoad([worker.pid])
            for seed in range(n):
                for key in "ab":
                    worker.load(key, path)
                timer = worker if loads == "twice" else Same(worker)
                yield judged(measure(timer, ["a", "b"], effort=EFFORT, seed=seed, load=load))
                for key in "ab":
                    worker.unload(key)
                print(f"{model}, loaded {loads}: {seed + 1} of {n}", end="\r", file=sys.stderr, flush=True)


def judged(session: Session) -> Repeat:
    """Whether the difference of two equal models is within what was reported."""
    ratio, first, second = session.ratio("b"), session.latency("a"), session.latency("b")
    samples = session.samples_ms[session.kept]
    return Repeat(
        ratio=ratio.median,
        half_width=ratio.half_width,
        holds=ratio.holds(1.0),
        within_latency_interval=abs(second.median - first.median) <= first.high - first.low,
        naive_holds=median_interval((samples[:, 1] / samples[:, 0]).ravel()).holds(1.0),
        foreign_cores=float(np.median(session.foreign_cores)),
    )


def row(name: str, found: list[Repeat]) -> str:
    """One model's line of the table."""

    def rate(values: list[bool]) -> str:
        return f"{sum(values)} of {len(values)}"

    apart = [abs(repeat.ratio - 1) for repeat in found]
    cells = [
        name,
        rate([repeat.holds for repeat in found]),
        rate([repeat.within_latency_interval for repeat in found]),
        rate([repeat.naive_holds for repeat in found]),
        f"±{np.median([repeat.half_width for repeat in found]):.2%}",
        f"{np.median(apart):.2%}, {max(apart):.2%}",
        f"{np.median([repeat.foreign_cores for repeat in found]):.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> int:
    """Measure, print, write the table."""
    parser = options(__doc__, check="five repeats; prints and writes nothing")
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--models", nargs="+", default=["resnet20", "resnet56"])
    parser.add_argument("--loads", nargs="+", choices=("once", "twice"), default=["once", "twice"])
    arguments = parser.parse_args()
    n = 5 if arguments.check else arguments.repeats
    header = (
        "model",
        "ratio's interval holds 1",
        "difference within the latency's interval",
        "ratio's, had samples counted as independent",
        "half-width of the ratio's interval, median",
        "distance of the ratio from 1, median and greatest",
        "foreign cores, median",
    )
    lines = [f"| {' | '.join(header)} |", "|---" + "|--:" * (len(header) - 1) + "|"]
    lines += [
        row(f"{model}, loaded {loads}", list(repeats(model, n, loads)))
        for model in arguments.models
        for loads in arguments.loads
    ]
    host = read_host()
    lines += ["", f"onnxruntime {host.packages['onnxruntime']}, {host.processor}, {host.n_usable} processors."]
    publish("measuring.md", "repeats", "repeats", lines, check=arguments.check)
    return 0


if __name__ == "__main__":
    sys.exit(main())
