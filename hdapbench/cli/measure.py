"""``hdapbench measure MODEL|TRIAL|SPEC|FILE...``: times on this machine, of all models in the same rounds."""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hdapbench.cli.options import (
    add_trust_option,
    add_workspace_options,
    existing_database,
    seed_number,
    whole_number,
    workspace_of,
)
from hdapbench.cli.output import console, raw
from hdapbench.errors import HdapbenchError, ModelError

if TYPE_CHECKING:
    from hdapbench.run.workspace import Workspace
    from hdapbench.runtimes.session import Session
    from hdapbench.spec import RuntimeSpec

TRIAL_ID = re.compile(r"[0-9a-f]{4,12}")
DEFAULT_SHAPES = {"torchvision": (3, 224, 224), "ultralytics": (3, 640, 640)}
DEFAULT_CLASSES = {"torchvision": 1000, "ultralytics": 80}
"""Where a model is named alone: usual input and classes, of other models 3x32x32 and 10."""


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "measure", help="time models on this machine, against each other", description=__doc__
    )
    parser.add_argument(
        "models",
        nargs="+",
        metavar="MODEL",
        help="a model as a spec names it (random weights), a spec (its dense model), the id of a trial, or an .onnx "
        "file; ratios are to the first",
    )
    parser.add_argument(
        "--runtime",
        default="onnxruntime",
        metavar="NAME",
        help="onnxruntime (default), eager, compile, or one that an installed package offers",
    )
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="default: 1")
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="default: 1")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="bf16: eager and compile")
    parser.add_argument("--boundary", choices=("engine", "copies", "end_to_end"), default="engine")
    parser.add_argument("--graph-optimization", choices=("all", "extended", "basic", "none"), default="all")
    parser.add_argument("--isa", choices=("native", "avx2", "sse41"), default="native", help="eager and compile")
    parser.add_argument("--cpus", type=_numbers, metavar="N,N", help="processors that may be used (default: all)")
    parser.add_argument(
        "--rounds", type=whole_number, default=15, metavar="N", help="default: 15; 6 are the least for 95 %%"
    )
    parser.add_argument("--seed", type=seed_number, default=0, metavar="N", help="of the order of models (default: 0)")
    parser.add_argument("--input-shape", type=_numbers, metavar="C,H,W", help="of models that are named alone")
    parser.add_argument("--classes", type=whole_number, metavar="N", help="of models that are named alone")
    add_workspace_options(parser)
    parser.add_argument("--json", action="store_true", help="print JSON with every sample")
    add_trust_option(parser)
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Write model files, time them in a process of their own, print the table."""
    from tempfile import TemporaryDirectory

    from hdapbench.runtimes.host import read_host

    runtime = _runtime(arguments)
    before = read_host()
    with TemporaryDirectory(prefix="hdapbench-") as folder:
        subjects = _prepared(arguments, runtime, Path(folder))
        session = _session(arguments, runtime, subjects)
    after = read_host()
    if arguments.json:
        content = {
            "runtime": runtime.model_dump(mode="json"),
            "host": before.to_dict(),
            "host_after": after.to_dict(),
            "files": {subject.key: subject.facts for subject in subjects},
            "session": session.to_dict(),
        }
        print(json.dumps(content, indent=2, allow_nan=False))
    else:
        from hdapbench.render.session import print_session

        print_session(session, runtime=runtime, before=before, after=after, console=console(width=120))
    return 0


@dataclass(frozen=True)
class _Subject:
    """A model to be timed: its name in the table, and its file."""

    key: str
    path: Path
    facts: dict[str, Any]


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a list of whole numbers such as 3,224,224") from None


def _runtime(arguments: argparse.Namespace) -> RuntimeSpec:
    """Runtime of the options; what does not fit is told as argparse tells it."""
    from pydantic import ValidationError

    from hdapbench.spec import RuntimeSpec

    try:
        return RuntimeSpec(**{name: getattr(arguments, name) for name in RuntimeSpec.model_fields})
    except ValidationError as error:
        told = [str(problem["msg"]).removeprefix("Value error, ") for problem in error.errors()]
        places = [".".join(map(str, problem["loc"])) for problem in error.errors()]
        raise HdapbenchError(
            "; ".join(f"{place}: {text}" if place else text for place, text in zip(places, told, strict=True))
        ) from None


def _prepared(arguments: argparse.Namespace, runtime: RuntimeSpec, folder: Path) -> list[_Subject]:
    """Files of all models; the same model named twice is timed twice."""
    subjects: list[_Subject] = []
    for number, name in enumerate(arguments.models):
        print(f"preparing {name}", file=sys.stderr)
        seen = sum(earlier.key.split(" #")[0] == name for earlier in subjects)
        key = f"{name} #{seen + 1}" if seen else name
        subjects.append(replace(_subject(name, arguments, runtime, folder / str(number)), key=key))
    return subjects


def _subject(name: str, arguments: argparse.Namespace, runtime: RuntimeSpec, stem: Path) -> _Subject:
    from hdapbench.runtimes.base import find_runtime

    suffix = find_runtime(runtime.runtime).suffix
    if name.endswith(".onnx"):
        path = Path(name)
        if not path.is_file() or suffix != ".onnx":
            why = "there is no such file" if not path.is_file() else f"{runtime.runtime} does not load it"
            raise ModelError(f"'{name}': {why}")
        return _Subject(name, path, {"path": name, "n_bytes": path.stat().st_size})

    from hdapbench.quant.deploy.packed import PACKED
    from hdapbench.runtimes.program_file import write_model

    path = stem.with_suffix(suffix)
    if TRIAL_ID.fullmatch(name):
        directory = _artifact(name, workspace_of(arguments))
        if (directory / PACKED).is_file():
            return _bits(name, directory / PACKED, runtime, path)
        from hdapbench.run.artifact import open_saved

        saved = open_saved(directory, trusted=arguments.trust)
        model, shape = saved.compact, saved.input_shape
    else:
        model, shape = _built(name, arguments)
    written = write_model(model, shape, path, runtime=runtime)
    return _Subject(name, path, written.to_dict() | {"path": path.name, "input_shape": list(shape)})


def _artifact(trial: str, workspace: Workspace) -> Path:
    from hdapbench.store.sqlite import open_store

    with open_store(existing_database(workspace)) as store:
        return workspace.artifacts / store.get(trial).trial.id


def _bits(name: str, packed: Path, runtime: RuntimeSpec, path: Path) -> _Subject:
    """Quantised form of a trial with bit-widths."""
    from hdapbench.quant.deploy.onnx_export import export_onnx
    from hdapbench.quant.deploy.packed import load_packed

    if runtime.runtime != "onnxruntime":
        raise ModelError(f"trial {name} has bit-widths, which only --runtime onnxruntime runs")
    export_onnx(load_packed(packed), path)
    return _Subject(name, path, {"path": path.name, "n_bytes": path.stat().st_size, "exporter": "qdq"})


def _built(name: str, arguments: argparse.Namespace) -> tuple[Any, tuple[int, int, int]]:
    """Dense model with random weights, which take the same time as trained ones, and its input shape."""
    import torch

    from hdapbench.cli.trust import require_trust
    from hdapbench.models import build_model
    from hdapbench.run.grid import base_directory
    from hdapbench.run.inspection import count_classes
    from hdapbench.spec import ModelSpec, load

    torch.set_num_threads(1)
    torch.manual_seed(0)
    if name.endswith((".yaml", ".yml")) and not name.startswith("ultralytics:"):
        loaded = load(name, [])
        require_trust(loaded, [], trusted=arguments.trust)
        n_classes, _ = count_classes(loaded, cache_dir=workspace_of(arguments).cache)
        spec = loaded.spec.model
        return build_model(spec, n_classes=n_classes, base_dir=base_directory(loaded)), spec.input_shape
    source = name.partition(":")[0]
    shape = arguments.input_shape or DEFAULT_SHAPES.get(source, (3, 32, 32))
    if len(shape) != 3 or min(shape) < 1:
        raise ModelError(f"--input-shape {','.join(map(str, shape))}: write channels, height and width, as in 3,32,32")
    spec = ModelSpec(name=name, input_shape=shape)
    n_classes = arguments.classes or DEFAULT_CLASSES.get(source, 10)
    return build_model(spec, n_classes=n_classes, base_dir=Path.cwd()), shape


def _session(arguments: argparse.Namespace, runtime: RuntimeSpec, subjects: list[_Subject]) -> Session:
    from hdapbench.runtimes.load import ForeignLoad
    from hdapbench.runtimes.protocol import Effort, measure
    from hdapbench.runtimes.worker import Worker

    effort = Effort(rounds=arguments.rounds, extra_rounds=arguments.rounds)
    with Worker(runtime, cpus=arguments.cpus, name="measure") as worker:
        for subject in subjects:
            worker.load(subject.key, subject.path)
        return measure(
            worker,
            [subject.key for subject in subjects],
            effort=effort,
            seed=arguments.seed,
            load=ForeignLoad([worker.pid]),
            on_round=_progress,
        )


def _progress(quiet: int, rounds: int, total: int) -> None:
    repeated = f", {total - quiet} disturbed by others" if total > quiet else ""
    end = "\r" if sys.stderr.isatty() else "\n"
    if sys.stderr.isatty() or total % 5 == 0 or quiet == rounds:
        print(f"round {total}: {quiet} of {rounds} count{repeated}  ", end=end, file=raw(sys.stderr), flush=True)
