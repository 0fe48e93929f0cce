"""``hdapbench export TRIAL --format onnx|packed``: the deployable model of a trial with bit-widths."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from hdapbench.cli.options import DEFAULT_WORKSPACE, existing_database
from hdapbench.errors import PlanError

SUFFIXES = {"onnx": ".onnx", "packed": ".hdpq"}


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser("export", help="write the deployable model of a trial", description=__doc__)
    parser.add_argument("trial", metavar="TRIAL", help="id of a trial, or its beginning (hdapbench show lists them)")
    parser.add_argument(
        "--format",
        choices=sorted(SUFFIXES),
        default="packed",
        help="packed: integers alone, weights at their bits; onnx: QDQ, 2-bit weights in 4 (default: %(default)s)",
    )
    parser.add_argument("--output", "-o", type=Path, metavar="FILE", help="default: TRIAL.hdpq or TRIAL.onnx")
    parser.add_argument("--workspace", type=Path, default=DEFAULT_WORKSPACE, metavar="DIR", help="default: %(default)s")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the file, and say how large it is."""
    from hdapbench.quant.packed import PACKED, load_packed, save_packed
    from hdapbench.runner import Workspace
    from hdapbench.store.sqlite import open_store

    with open_store(existing_database(arguments.workspace)) as store:
        trial_id = store.get(arguments.trial).trial.id
    source = Workspace(arguments.workspace).artifacts / trial_id / PACKED
    if not source.is_file():
        raise PlanError(f"trial {trial_id} has no bit-widths to export; choose one of a method such as joint-mpq")
    model = load_packed(source)
    target = arguments.output or Path(f"{trial_id}{SUFFIXES[arguments.format]}")
    target.parent.mkdir(parents=True, exist_ok=True)
    if arguments.format == "packed":
        save_packed(model, target)
    else:
        from hdapbench.quant.onnx_export import export_onnx

        export_onnx(model, target)
    size = f"{target.stat().st_size:,} bytes"
    weights = f", {model.n_weight_bits / 8:,.0f} of them weights" if arguments.format == "packed" else ""
    print(f"{target}: {size}{weights}")
    return 0
