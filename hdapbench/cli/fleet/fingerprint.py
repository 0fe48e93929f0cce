"""``hdapbench fleet fingerprint``: time a few probe models on every device, once."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hdapbench.cli.fleet import asked, source
from hdapbench.cli.options import seed_number, whole_number
from hdapbench.cli.output import raw


def add_parser(actions: Any) -> None:
    """Add the action to the parser."""
    parser = actions.add_parser("fingerprint", help="time probe models on every device", description=__doc__)
    source.add_fleet_argument(parser, what="a fleet's YAML file, a spec, or a recording (.csv, .parquet)")
    asked.add_model_options(parser)
    parser.add_argument(
        "--probes", type=whole_number, default=3, metavar="N", help="probe models (default: %(default)s)"
    )
    parser.add_argument("--runs", type=whole_number, default=None, metavar="N", help="repeats per device and probe")
    parser.add_argument(
        "--session", type=seed_number, default=0, metavar="N", help="measuring session (default: %(default)s)"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="Parquet file to write")
    parser.add_argument("--dry-run", action="store_true", help="say what it costs and stop")
    source.add_output_options(parser)
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Take the fingerprint, say what it cost, and keep it."""
    from hdapbench.cost.kernel_file import kernels_to_dict
    from hdapbench.errors import FleetError
    from hdapbench.fleet.estimate.probes import choose_probes, take_fingerprint
    from hdapbench.fleet.fingerprint import save_fingerprint

    found = source.open_source(arguments)
    runs = found.spec.runs if arguments.runs is None else arguments.runs
    taken, n_probes = found.fingerprint, arguments.probes
    if taken is not None:
        if "recorded" not in taken.conditions:
            raise FleetError(f"'{arguments.file}' is a fingerprint already; name the fleet it was taken of")
        n_probes, runs = len(taken.probes), taken.runs
    cost = {"device_queries": found.fleet.n_devices * n_probes, "runs": runs}
    if arguments.dry_run:
        _say(arguments, cost | {"taken": False}, f"would cost {_cost(found.fleet.n_devices, n_probes, runs)}")
        return 0
    if taken is None:
        model, n_classes = asked.model_of(arguments)
        network = source.trace_model(model, n_classes)
        kernels = network.kernels
        simulated = found.fleet.source == "simulated"
        widths = choose_probes(kernels, found.fleet, n_probes=arguments.probes)
        taken = take_fingerprint(
            found.fleet,
            kernels,
            runs=runs,
            seed=arguments.session,
            widths=widths,
            model=model.name,
            variants=network.variants,
            on_progress=None if simulated and found.fleet.n_devices < 200_000 else _progress,
        )
        taken.conditions["model_spec"] = model.model_dump(mode="json") | {"n_classes": n_classes}
        taken.conditions["kernels"] = kernels_to_dict(kernels, with_blocks=False)
    taken = replace(taken, conditions=taken.conditions | {"fleet_spec": found.spec.model_dump(mode="json")})
    if arguments.output is not None:
        save_fingerprint(taken, arguments.output)
    summary = cost | {
        "taken": True,
        "probes": list(taken.probes),
        "mean_ms": [float(value) for value in np.average(taken.latency_ms, axis=0, weights=taken.weights)],
        "taken_at": taken.taken_at,
        "file": str(arguments.output) if arguments.output else None,
    }
    text = f"cost {_cost(taken.n_devices, len(taken.probes), taken.runs)}"
    if "model_spec" in taken.conditions:
        shape = "x".join(map(str, taken.conditions["model_spec"]["input_shape"]))
        summary["model"] = taken.conditions["model"]
        text += f"\nprobes are widths of {taken.conditions['model']} at {shape}"
    for name, values, mean in zip(taken.probes, taken.latency_ms.T, summary["mean_ms"], strict=True):
        text += f"\n  {name}: mean {mean:.4g} ms, from {values.min():.4g} to {values.max():.4g}"
    for reason in taken.conditions.get("lost", {}).values():
        text += f"\nleft out: {reason}"
    if arguments.output is not None:
        text += f"\nkept in {arguments.output}; next: hdapbench fleet cluster {arguments.output}"
    _say(arguments, summary, text)
    return 0


def _cost(n_devices: int, n_probes: int, runs: int) -> str:
    return f"{n_devices * n_probes:,} device queries ({n_devices:,} devices x {n_probes} probes, {runs} repeats each)"


def _say(arguments: argparse.Namespace, content: dict[str, Any], text: str) -> None:
    print(json.dumps(content, indent=2) if arguments.json else text)


def _progress(done: int, total: int) -> None:
    """Overwrite one line on a terminal; elsewhere a line per tenth."""
    if sys.stderr.isatty():
        print(
            f"\r{done:,} of {total:,} device queries",
            end="\n" if done == total else "",
            file=raw(sys.stderr),
            flush=True,
        )
    elif done == total:
        print(f"{done:,} device queries", file=sys.stderr)
