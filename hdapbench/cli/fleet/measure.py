"""``hdapbench fleet measure``: fill a matrix of latencies, plan by device; what is there already is not measured again.

The file is a recorded fleet: hdapbench fleet cluster, plan and estimate take it as it is. Another model or other shares
with the same -o add to it. Interrupted, it holds what was measured; the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hdapbench.cli.fleet import asked, source
from hdapbench.cli.options import seed_number, whole_number
from hdapbench.errors import printable

if TYPE_CHECKING:
    from hdapbench.bench.network import Network
    from hdapbench.fleet.base import Fleet, Workloads

LOT = 4
"""Plans measured together; what an interruption loses."""


def add_parser(actions: Any) -> None:
    """Add the action to the parser."""
    parser = actions.add_parser("measure", help="fill a matrix of latencies, plan by device", description=__doc__)
    source.add_fleet_argument(parser, what="a fleet's YAML file, or a spec")
    asked.add_model_options(parser)
    parser.add_argument(
        "--share",
        type=float,
        nargs="+",
        default=None,
        metavar="S",
        help="shares of the channels that every group keeps; without it the probes are measured",
    )
    parser.add_argument(
        "--round-to", type=whole_number, default=1, metavar="N", help="widths are multiples of N, or dense"
    )
    parser.add_argument(
        "--probes", type=whole_number, default=3, metavar="N", help="probe models (default: %(default)s)"
    )
    parser.add_argument("--runs", type=whole_number, default=None, metavar="N", help="repeats per device and plan")
    parser.add_argument(
        "--session", type=seed_number, default=0, metavar="N", help="measuring session (default: %(default)s)"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="CSV file to fill")
    source.add_output_options(parser)
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure what is missing, a few plans at a time; 1 when devices were lost."""
    from hdapbench.errors import FleetError
    from hdapbench.fleet.recorded.matrix import LatencyMatrix, name_of_model

    if arguments.output.suffix != ".csv":
        raise FleetError(f"-o {arguments.output}: name a .csv file")
    found = source.open_source(arguments)
    with found.fleet as fleet:
        if fleet.plans is not None:
            raise FleetError(f"'{arguments.file}' is a recording already; name the fleet that is to be measured")
        runs = found.spec.runs if arguments.runs is None else arguments.runs
        model, n_classes = asked.model_of(arguments)
        network = source.trace_model(model, n_classes)
        name = name_of_model(model)
        workloads = _workloads(arguments, network, name)
        matrix = LatencyMatrix(arguments.output)
        known = matrix.measured()
        facts = model.model_dump(mode="json") | {"n_classes": n_classes}
        matrix.describe(name, facts, network.kernels, dict(zip(workloads.ids, workloads.widths, strict=True)))
        counts = _fill(matrix, fleet, workloads, known=known, runs=runs, session=arguments.session)
        source.clear_step()
        content = counts | {"file": str(arguments.output), "plans": list(workloads.ids), "runs": runs}
        content |= {"fleet": fleet.name, "source": fleet.source, **fleet.describe()}
    print(json.dumps(content, indent=2) if arguments.json else _text(content))
    return 1 if content["lost"] else 0


def _workloads(arguments: argparse.Namespace, network: Network, name: str) -> Workloads:
    """Probes, or the model at the shares that were asked for."""
    from hdapbench.errors import FleetError
    from hdapbench.fleet.estimate.probes import choose_probes

    sizes = network.kernels.sizes
    if arguments.share is None:
        widths = choose_probes(network.kernels, n_probes=arguments.probes)
        return network.workloads(widths, tuple(f"{name}/probe{number}" for number in range(len(widths))))
    if not all(0 < share <= 1 for share in arguments.share) or arguments.round_to < 1:
        raise FleetError("shares are above 0 and at most 1, and --round-to is at least 1")
    step = arguments.round_to
    exact = sizes * np.array(arguments.share)[:, None]
    widths = np.minimum(np.maximum(np.rint(exact / step), 1).astype(np.int64) * step, sizes)
    grid = f"/{step}" if step > 1 else ""
    return network.workloads(widths, tuple(f"{name}/{share:g}{grid}" for share in arguments.share))


def _fill(
    matrix: Any, fleet: Fleet, workloads: Workloads, *, known: set[tuple[str, str]], runs: int, session: int
) -> dict[str, Any]:
    """Measure every missing pair of device and plan, a lot of plans at a time, and keep it at once."""
    from dataclasses import replace

    from hdapbench.fleet.base import DeviceLostError

    names = list(fleet.device_ids)
    missing = {
        plan: [device for device, name in enumerate(names) if (name, plan) not in known] for plan in workloads.ids
    }
    n_missing = n_left = sum(map(len, missing.values()))
    lost: dict[int, str] = {}
    todo = [plan for plan in workloads.ids if missing[plan]]
    while todo:
        lot = [plan for plan in todo if missing[plan] == missing[todo[0]]][:LOT]
        rows = [workloads.ids.index(plan) for plan in lot]
        some = replace(workloads, widths=workloads.widths[rows], ids=tuple(lot))
        devices = [device for device in missing[todo[0]] if device not in lost]
        try:
            samples = fleet.measure(some, np.array(devices, dtype=np.int64), runs=runs, seed=session)
        except DeviceLostError as error:
            lost[error.device] = str(error)
            print(f"left out from now on: {error}", file=sys.stderr)
            continue
        if devices:
            matrix.append([names[device] for device in devices], lot, samples)
        n_left -= len(devices) * len(lot)
        todo = [plan for plan in todo if plan not in lot]
        source.clear_step()
        print(f"{n_missing - n_left:,} of {n_missing:,} missing cells measured", file=sys.stderr, flush=True)
    return {
        "cells": len(names) * len(workloads),
        "known": len(names) * len(workloads) - n_missing,
        "measured": n_missing - n_left,
        "lost": {names[device]: reason for device, reason in lost.items()},
    }


def _text(content: dict[str, Any]) -> str:
    cells = f"{content['cells']:,} cells of {content['fleet']} ({content['source']})"
    done = f"{content['known']:,} were there and {content['measured']:,} were measured, {content['runs']} repeats each"
    lines = [f"{content['file']}: {cells}, of which {done}"]
    if "foreign_load" in content:
        lines.append(f"foreign load: {content['foreign_load']}")
    lines += [f"lost: {reason}; the same command tries again" for reason in content["lost"].values()]
    lines.append(f"next: hdapbench fleet cluster {content['file']}")
    return "\n".join(map(printable, lines))
