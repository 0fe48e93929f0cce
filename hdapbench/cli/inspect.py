"""``hdapbench inspect MODEL``: what can be pruned of a network and where its FLOPs are, before anything is trained."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from hdapbench.cli.options import DEFAULT_WORKSPACE, add_trust_option, whole_number
from hdapbench.errors import printable

if TYPE_CHECKING:
    from torch import nn

    from hdapbench.run.layers import ModelReport
    from hdapbench.spec import ModelSpec

WIDTH = 80
USUAL_INPUT = {"torchvision": (3, 224, 224), "timm": (3, 224, 224), "ultralytics": (3, 640, 640)}
USUAL_CLASSES = {"torchvision": 1000, "timm": 1000, "ultralytics": 80}
"""Of models that are named alone, by what stands before the colon; of others 3x32x32 and 10."""


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "inspect", help="what can be pruned of a network, and where its FLOPs are", description=__doc__
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a model as a spec names it, such as torchvision:vit_b_16 or ./net.py:build, or a spec",
    )
    parser.add_argument(
        "--input", type=_shape, metavar="CxHxW", help="input of a model that is named alone, such as 3x224x224"
    )
    parser.add_argument("--classes", type=whole_number, metavar="N", help="classes of a model that is named alone")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="default: %(default)s")
    parser.add_argument("--json", dest="format", action="store_const", const="json", help="the same as --format json")
    parser.add_argument("--workspace", type=Path, default=DEFAULT_WORKSPACE, metavar="DIR", help="default: %(default)s")
    add_trust_option(parser)
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Print groups, frozen layers with reasons, and FLOPs by layer.

    Raises
    ------
    ModelError
        When the network cannot be built, traced, counted or pruned.
    """
    import torch

    from hdapbench.models import build_model
    from hdapbench.run.layers import report_model

    spec, n_classes, base_dir = _named(arguments)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model: nn.Module = build_model(spec, n_classes=n_classes, base_dir=base_dir)
    report = report_model(model.eval(), spec.input_shape, n_classes=n_classes)
    if arguments.format == "json":
        print(json.dumps({"name": spec.name} | report.to_dict(), indent=2))
    else:
        _print(spec.name, report)
    return 0


def _named(arguments: argparse.Namespace) -> tuple[ModelSpec, int, Path]:
    """Model of the command line or of the spec that it names, its classes, and where its paths start."""
    from hdapbench.cli.trust import require_trust
    from hdapbench.run.grid import base_directory
    from hdapbench.run.inspection import count_classes
    from hdapbench.run.workspace import Workspace
    from hdapbench.spec import ModelSpec, load
    from hdapbench.spec.shipped import shipped_specs, spec_file

    name: str = arguments.model
    if name in shipped_specs() or (name.endswith((".yaml", ".yml")) and not name.startswith("ultralytics:")):
        loaded = load(spec_file(name), [])
        require_trust(loaded, [], trusted=arguments.trust)
        counted, _ = count_classes(loaded, cache_dir=Workspace(arguments.workspace).cache)
        return loaded.spec.model, counted, base_directory(loaded)
    source = name.partition(":")[0]
    shape = arguments.input or USUAL_INPUT.get(source, (3, 32, 32))
    classes = arguments.classes or USUAL_CLASSES.get(source, 10)
    return ModelSpec(name=name, input_shape=shape), classes, Path.cwd()


def _shape(text: str) -> tuple[int, int, int]:
    parts = text.replace(",", "x").split("x")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() and 0 < int(part) < 1 << 16 for part in parts):
        raise argparse.ArgumentTypeError(f"'{text}' is not channels x height x width, such as 3x224x224")
    channels, height, width = map(int, parts)
    return channels, height, width


def _print(name: str, report: ModelReport) -> None:
    size = "x".join(map(str, report.input_shape))
    print(printable(f"{name}, input {size}, {report.n_classes} classes"))
    least = report.minimum_flops / max(report.flops, 1)
    print(f"{report.flops:,} FLOPs (multiply-accumulates), {report.params:,} parameters")
    found = f"{len(report.groups)} channel groups, found in {report.seconds:.1f} s of processor time"
    print(f"{1 - least:.1%} of the FLOPs can go, {found}")
    print(f"\n{'group':40} {'channels':>8} {'of FLOPs':>9}  layers")
    for group in report.groups:
        line = f"{_fit(group.name, 40)} {group.n_channels:8,} {group.flops_share:9.2%}  {len(group.layers)}"
        print(printable(line))
    if report.frozen:
        print(f"\n{'frozen':40} {'channels':>8}  why")
    for layer in report.frozen:
        start = f"{_fit(layer.name, 40)} {layer.n_channels:8,}  "
        for line in wrap(printable(layer.reason), WIDTH - len(start)):
            print(printable(start) + line)
            start = " " * len(start)
    print(f"\n{'layer':40} {'kind':10} {'FLOPs':>16} {'share':>6}")
    for cost in (layer for layer in report.layers if layer.flops):
        share = cost.flops / max(report.flops, 1)
        print(printable(f"{_fit(cost.name, 40)} {cost.kind:10} {cost.flops:16,} {share:6.1%}"))


def _fit(text: str, width: int) -> str:
    """Text of that width, its middle left out where it is longer."""
    if len(text) > width:
        half = (width - 1) // 2
        text = f"{text[:half]}~{text[len(text) - (width - 1 - half) :]}"
    return f"{text:{width}}"
