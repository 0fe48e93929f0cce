"""What is attacked, made once: a workspace with a board, a folder of images, artifacts, recordings, a packed network."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hdapbench.cli.main import main
from hdapbench.tasks import checkpoint
from tests.faults.arena import Attack, fates

SPEC = """\
schema_version: 1
name: tiny
model: {name: resnet8, input_shape: [1, 8, 8]}
data: {name: digits}
base: {epochs: 1, max_train_images: 128, batch_size: 32}
fine_tune: {epochs: 1, max_train_images: 64, batch_size: 32}
fleets:
  - {name: six, kind: simulated, sku: nano, scenario: mixed, n_devices: 6, clustering: {n_clusters: 2}}
targets: [{flops: 0.5x}]
methods: [uniform, fpgm]
"""
WORKSPACE = ".hdapbench"
EXECUTOR = "HDAPBENCH_FAULTS_EXECUTOR"
"""Variable that names the executor of all runs; none is named to `hdapbench run` where it is not set."""


@contextmanager
def kept_at_every_step() -> Iterator[None]:
    """Trainings of seconds are kept as those of hours are."""
    before = checkpoint.SECONDS, checkpoint.EPOCH_SECONDS, checkpoint.MOST_SHARE
    checkpoint.SECONDS, checkpoint.EPOCH_SECONDS, checkpoint.MOST_SHARE = 0.0, 0.0, float("inf")
    try:
        yield
    finally:
        checkpoint.SECONDS, checkpoint.EPOCH_SECONDS, checkpoint.MOST_SHARE = before


def run(*arguments: str) -> int:
    """Exit code of ``hdapbench run``."""
    executor = os.environ.get(EXECUTOR)
    return main(["run", *arguments, *(["--executor", executor] if executor else [])])


@dataclass(frozen=True)
class Stage:
    """Folder with everything that attacks start from, and the random numbers that choose what they do."""

    root: Path
    seed: int = 0

    def copied(self, *names: str) -> None:
        """Bring files and folders of the stage into the current folder."""
        for name in names:
            source = self.root / name
            if source.is_dir():
                shutil.copytree(source, name, symlinks=True)
            else:
                Path(name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, name)

    def rng(self, *parts: object) -> random.Random:
        """Random numbers of one attack."""
        return random.Random(repr((self.seed, *parts)))


@contextmanager
def built(*parts: Callable[[Path], None], seed: int = 0) -> Iterator[Stage]:
    """Stage of these parts, each made in a process of its own: this one may then still be copied."""
    with tempfile.TemporaryDirectory(prefix="hdapbench-stage-") as folder:
        stage = Stage(Path(folder), seed)

        def made(part: Callable[[Path], None]) -> None:
            part(stage.root)

        for part in parts:
            for fate in fates([Attack("stage", part.__name__, lambda part=part: made(part))]):
                if fate.outcome != "right":
                    raise RuntimeError(f"{part.__name__}: {fate.outcome}: {fate.why}")
        yield stage


def workspace(root: Path) -> None:
    """A run, and its board."""
    (root / "tiny.yaml").write_text(SPEC)
    arguments = ["--workspace", str(root / WORKSPACE), "--output", str(root / "board.md")]
    if run(str(root / "tiny.yaml"), "--quiet", *arguments):
        raise RuntimeError("the run failed")
    if main(["board", "tiny", *arguments]):
        raise RuntimeError("there is no board")


def pictures(root: Path) -> None:
    """A folder of small images of three classes."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for split, n in (("train", 8), ("test", 3)):
        for name in ("ant", "bee", "cat"):
            folder = root / "pictures" / split / name
            folder.mkdir(parents=True)
            for number in range(n):
                pixels = rng.integers(0, 256, (8, 8), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")


def packed(root: Path) -> None:
    """A packed network, and what it computes."""
    import torch

    from hdapbench.quant.deploy.execute import run_integer
    from hdapbench.quant.deploy.packed import save_packed
    from tests.quant.quant_networks import images, lowered

    model = lowered("mixed")[1]
    save_packed(model, root / "model.hdpq")
    torch.save(run_integer(model, images(4)), root / "computed.pt")


def recordings(root: Path) -> None:
    """A recording as CSV and Parquet, with plans that are described, a fingerprint of it and one of a simulated fleet."""
    import numpy as np
    import polars as pl

    rng = np.random.default_rng(1)
    plans = {"dense": 30.0, "thin": 9.0, "half": 17.0}
    rows = [
        {"device": f"unit-{device:03d}", "plan": plan, "sample": sample, "latency_ms": base * speed * noise}
        for device, speed in enumerate(rng.uniform(0.8, 1.3, 12))
        for plan, base in plans.items()
        for sample, noise in enumerate(np.exp(0.01 * rng.standard_normal(3)))
    ]
    frame = pl.DataFrame(rows)
    frame.write_csv(root / "lab.csv")
    frame.write_parquet(root / "lab.parquet")
    fleet, model = str(root / "fleet.yaml"), ["--model", "resnet8", "--input-shape", "1,8,8", "--classes", "10"]
    for arguments in (
        ["make", "--devices", "12", "-o", fleet],
        ["fingerprint", fleet, *model, "-o", str(root / "fingerprint.parquet")],
        ["measure", fleet, *model, "-o", str(root / "matrix.csv"), "--share", "1.0", "0.5", "0.25"],
    ):
        if main(["fleet", *arguments]):
            raise RuntimeError(f"fleet {arguments[0]} failed")


def damaged(data: bytes, kind: str, rng: random.Random) -> bytes:
    """The bytes after a fault: ``bits`` flipped, a block of 512 ``zeroed``, or ``cut``."""
    if not data:
        return b"x"
    if kind == "cut":
        return data[: rng.randrange(len(data))]
    changed = bytearray(data)
    if kind == "zeroed":
        start = rng.randrange(0, len(data), 512)
        changed[start : start + 512] = bytes(len(changed[start : start + 512]))
        return bytes(changed)
    for _ in range(rng.choice((1, 1, 2, 8))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


TEXTS = (
    b"",
    b"nan",
    b"inf",
    b"-1",
    b"1e309",
    b"9" * 400,
    b'"',
    b"\x00",
    b"\xff\xfe",
    b"\n",
    b",",
    b"[",
    b"{",
    b"null",
    b"\x1b[2J",
    b"__import__('os')",
)


def mutated(data: bytes, rng: random.Random) -> bytes:
    """The bytes after whatever happens to files: damaged, or parts left out, repeated, swapped or replaced."""
    kind = rng.choice(("bits", "bits", "zeroed", "cut", "left out", "repeated", "replaced", "replaced", "lines"))
    if kind in ("bits", "zeroed", "cut"):
        return damaged(data, kind, rng)
    if kind == "lines":
        lines = data.split(b"\n")
        rng.shuffle(lines)
        return b"\n".join(lines)
    start = rng.randrange(max(1, len(data)))
    end = min(len(data), start + rng.choice((1, 3, 20, 200)))
    middle = {"left out": b"", "repeated": data[start:end] * rng.choice((2, 50)), "replaced": rng.choice(TEXTS)}[kind]
    return data[:start] + middle + data[end:]
