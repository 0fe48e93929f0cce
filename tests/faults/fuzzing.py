"""Inputs that nobody would write: made from real ones by mutation, guided by coverage where atheris is installed.

python -m tests.faults.fuzzing TARGET N FOLDER [SEEDS...]: one target under atheris, for `make fuzz`.
"""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from hdapbench.errors import HdapbenchError
from tests.faults.arena import Attack
from tests.faults.stage import Stage, mutated

ROOT = Path(__file__).parents[2]
BATCH = 50
"""Inputs per process: what one of them takes or leaves is seen soon."""


def spec(content: bytes) -> None:
    """A YAML spec."""
    from hdapbench.spec import load

    Path("s.yaml").write_bytes(content)
    load("s.yaml")


def csv(content: bytes, name: str = "lab.csv") -> None:
    """A recording, opened and looked at."""
    from hdapbench.fleet.recorded.fleet import RecordedFleet
    from hdapbench.spec import RecordedFleetSpec

    Path(name).write_bytes(content)
    fleet = RecordedFleet(RecordedFleetSpec(name="lab", kind="recorded", path=str(Path(name).resolve())))
    fleet.describe()
    fleet.close()


def parquet(content: bytes) -> None:
    """The same as Parquet."""
    csv(content, "lab.parquet")


def plan(content: bytes) -> None:
    """An artifact's plan."""
    from hdapbench.run.artifact import load_plan

    Path("plan.json").write_bytes(content)
    load_plan(Path())


def plans(content: bytes) -> None:
    """What plans of a recording are, with their kernels."""
    from hdapbench.cost.kernel_file import kernels_from_dict
    from hdapbench.fleet.recorded.matrix import LatencyMatrix

    Path("m.plans.json").write_bytes(content)
    matrix = LatencyMatrix(Path("m.csv"))
    _ = matrix.references, matrix.probes
    with suppress(ValueError, RecursionError):  # what is no JSON has no kernels
        kernels_from_dict(json.loads(content))


def answers(content: bytes) -> None:
    """What a board made of a job."""
    import numpy as np

    from hdapbench.fleet.command.answers import AnswerError, References, checked_samples
    from hdapbench.fleet.command.jobs import read_result

    Path("r.json").write_bytes(content)
    for answer in read_result(Path("r.json")).answers:
        with suppress(AnswerError):
            samples = checked_samples(answer, n_models=2, runs=2, seconds=None)
            References().slowdown("nx", np.asarray(samples))


def packed(content: bytes) -> None:
    """A packed network."""
    from hdapbench.quant.deploy.packed import load_packed

    Path("m.hdpq").write_bytes(content)
    load_packed(Path("m.hdpq"))


def results(content: bytes) -> None:
    """A file of results, its checksum and compression made right: what is inside is what is tried."""
    from zstandard import ZstdCompressor

    from hdapbench.store.travel import parse_travelling

    parse_travelling(content, "r.jsonl.zst") if content[:4] == b"\x28\xb5\x2f\xfd" else parse_travelling(
        ZstdCompressor().compress(content + hashlib.sha256(content).hexdigest().encode()), "r.jsonl.zst"
    )


def archive(content: bytes) -> None:
    """A tar archive of pictures."""
    from hdapbench.data.archive import index, read_members

    Path("a.tar").write_bytes(content)
    for _ in read_members(Path("a.tar"), list(index(Path("a.tar")).files)):
        pass


def image(content: bytes) -> None:
    """A picture; whoever decodes it reports any exception as that of the file."""
    from hdapbench.data.decode import decode_image

    with suppress(Exception):
        decode_image(io.BytesIO(content), (3, 16, 16))


def weights(content: bytes) -> None:
    """A state dict."""
    from hdapbench.models.weights import read_state

    Path("w.pt").write_bytes(content)
    read_state(Path("w.pt"))


def checkpoint(content: bytes) -> None:
    """A training that was kept, its checksum made right."""
    from hdapbench.tasks.checkpoint import Checkpoint

    Path("0.ckpt").write_bytes(hashlib.sha256(content).digest() + content)
    Checkpoint(Path("0.ckpt"), {}, print).read()


TARGETS: dict[str, Callable[[bytes], None]] = {
    one.__name__: one
    for one in (spec, csv, parquet, plan, plans, answers, packed, results, archive, image, weights, checkpoint)
}
WHAT = {
    "plan": "plans of artifacts",
    "plans": "plans and kernels of recordings",
    "answers": "answers of boards",
    "csv": "CSV",
    "parquet": "Parquet",
}


def seeds(stage: Stage, target: str) -> list[bytes]:
    """Real inputs of a target."""
    root = stage.root
    names = {
        "csv": ["lab.csv", "matrix.csv"],
        "parquet": ["lab.parquet"],
        "packed": ["model.hdpq"],
        "spec": ["tiny.yaml"],
    }
    if target == "plans":
        return [(root / "matrix.plans.json").read_bytes()]
    if target == "plan":
        return [path.read_bytes() for path in sorted(root.glob(".hdapbench/artifacts/*/plan.json"))]
    if target in ("answers", "results", "image", "archive", "weights", "checkpoint"):
        return [path.read_bytes() for path in sorted((root / "fuzz" / target).iterdir())]
    return [(root / name).read_bytes() for name in names[target]]


def made(root: Path) -> None:
    """Seeds that the stage has not."""
    import torch
    from PIL import Image
    from zstandard import ZstdDecompressor

    from hdapbench.cli.main import main

    folders = {
        name: root / "fuzz" / name for name in ("answers", "results", "image", "archive", "weights", "checkpoint")
    }
    for folder in folders.values():
        folder.mkdir(parents=True)
    answer = {"samples_ms": [[1.0, 1.1], [2.0, 2.1]], "clock_mhz": 900.0, "temperature_c": 50.0}
    result = {"job": "0" * 12, "device": "nx", "answers": [answer, {"error": "no"}]}
    (folders["answers"] / "r.json").write_text(json.dumps(result))
    whole = folders["results"] / "whole"
    if main(["results", "export", "tiny", "--workspace", str(root / ".hdapbench"), "-o", str(root / "t.jsonl.zst")]):
        raise RuntimeError("nothing was exported")
    whole.write_bytes((root / "t.jsonl.zst").read_bytes())
    lines = ZstdDecompressor().decompressobj().decompress(whole.read_bytes()).splitlines(keepends=True)
    (folders["results"] / "lines").write_bytes(b"".join(lines[:-1]))
    for mode, suffix in (("L", "png"), ("RGB", "jpeg"), ("I;16", "png"), ("P", "gif"), ("RGBA", "webp"), ("F", "tiff")):
        Image.new(mode, (9, 7)).save(folders["image"] / f"{mode.replace(';', '')}.{suffix}")
    with tarfile.open(folders["archive"] / "a.tar", "w") as tar:
        for name in ("train/a/0.png", "train/b/0.png"):
            info = tarfile.TarInfo(name)
            info.size = 40
            tar.addfile(info, io.BytesIO(bytes(40)))
        for kind, name, to in (
            (tarfile.SYMTYPE, "l", "train/a/0.png"),
            (tarfile.LNKTYPE, "h", "../../x"),
            (tarfile.CHRTYPE, "d", ""),
        ):
            info = tarfile.TarInfo(f"train/a/{name}")
            info.type, info.linkname = kind, to
            tar.addfile(info)
    torch.save({"w": torch.zeros(3, 2), "b": torch.zeros(3)}, folders["weights"] / "plain.pt")
    torch.save({"state_dict": {"w": torch.zeros(3)}, "epoch": 3}, folders["weights"] / "wrapped.pt")
    torch.save({"about": {"seed": 1}, "state": {"stepper": {"tensors": [torch.zeros(2)]}}}, folders["checkpoint"] / "0")


def tried(do: Callable[[bytes], None], content: bytes) -> None:
    """An input is taken, or refused by an error of ours; anything else is a fault, and the input is shown."""
    try:
        do(content)
    except HdapbenchError as error:
        if "\n" in str(error) and len(str(error)) > 20_000:
            raise RuntimeError(f"a refusal of {len(str(error))} letters") from error
    except BaseException as error:
        raise RuntimeError(f"{type(error).__name__}: {error}; input {content[:2000]!r}") from error


def by_mutation(stage: Stage, n: int) -> Iterator[Attack]:
    """``n`` inputs for all targets together, each made of a real one by one to four changes."""

    def batch(target: str, number: int, size: int) -> None:
        known = seeds(stage, target)
        for index in range(size):
            rng = stage.rng("fuzz", target, number, index)
            content = rng.choice(known)
            for _ in range(rng.choice((1, 1, 2, 4))):
                content = mutated(content, rng)
            tried(TARGETS[target], content)

    each = max(1, n // len(TARGETS))
    for target in TARGETS:
        for number, size in enumerate([BATCH] * (each // BATCH) + ([each % BATCH] if each % BATCH else [])):
            yield Attack(
                f"fuzzing: {WHAT.get(target, target)}",
                f"{target} {number}",
                lambda target=target, number=number, size=size: batch(target, number, size),
                n=size,
            )


def by_coverage(stage: Stage, n: int) -> Iterator[Attack]:
    """The same many inputs, chosen by atheris for the code that they reach; by mutation where it is not installed."""
    if find_spec("atheris") is None:
        yield from by_mutation(stage, n)
        return

    def fuzzed(target: str, size: int) -> str | None:
        Path("corpus").mkdir()
        for number, content in enumerate(seeds(stage, target)):
            Path("corpus", str(number)).write_bytes(content)
        command = [sys.executable, "-W", "ignore", "-m", "tests.faults.fuzzing", target, str(size), str(Path.cwd())]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace")
        return None if done.returncode == 0 else " | ".join(done.stderr.strip().splitlines()[-12:])[:1500]

    each = max(1, n // len(TARGETS))
    for target in TARGETS:
        name = f"fuzzing: {WHAT.get(target, target)}"
        yield Attack(name, target, lambda target=target: fuzzed(target, each), seconds=7200, n=each)


def main(target: str, n: int, folder: Path) -> None:
    """Run one target under atheris; it ends the process, with an error where an input was a fault."""
    import os

    import atheris

    os.chdir(folder)
    with atheris.instrument_imports(include=["hdapbench"], enable_loader_override=False):
        for name in ("spec", "store.travel", "data.archive", "data.decode", "fleet.recorded.fleet", "run.artifact"):
            import_module(f"hdapbench.{name}")
        for name in ("fleet.recorded.matrix", "quant.deploy.packed", "models.weights", "tasks.checkpoint"):
            import_module(f"hdapbench.{name}")
    options = ["-rss_limit_mb=1600", "-timeout=60", "-max_len=65536", f"-runs={n}", "-print_final_stats=1"]
    atheris.Setup(["fuzz", *options, "corpus"], lambda content: tried(TARGETS[target], content))
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
