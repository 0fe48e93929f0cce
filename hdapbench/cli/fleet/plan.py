"""``hdapbench fleet plan``: how many devices to measure for a wanted error, which ones, and what chance would need."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from hdapbench.cli.fleet import source
from hdapbench.cli.options import seed_number
from hdapbench.errors import printable

if TYPE_CHECKING:
    from hdapbench.fleet.estimate.estimators import Estimator
    from hdapbench.fleet.estimate.planner import MeasurementPlan


def add_parser(actions: Any) -> None:
    """Add the action to the parser."""
    parser = actions.add_parser("plan", help="say how many devices to measure, and which", description=__doc__)
    source.add_fleet_argument(parser, what="a fingerprint, or a recording (.csv, .parquet)")
    parser.add_argument(
        "--error", default="1%", metavar="SHARE", help="half-width of the 95 %% interval (default: 1%%)"
    )
    parser.add_argument("--method", default="kmeans", help="clustering (default: %(default)s)")
    parser.add_argument("--seed", type=seed_number, default=0, help="seed of the clustering (default: %(default)s)")
    parser.add_argument("--all", action="store_true", help="print every device, not the first twenty")
    source.add_output_options(parser)
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the plan and its rivals; 1 when no number of devices reaches the error."""
    from hdapbench.fleet.estimate.choice import choose_estimator
    from hdapbench.fleet.estimate.estimators import ESTIMATORS
    from hdapbench.fleet.estimate.planner import plan_measurements

    found = source.open_source(arguments)
    fingerprint = source.need_fingerprint(found, arguments.file)
    error = parse_share(arguments.error)
    choice = choose_estimator(16)
    plans: dict[Estimator, MeasurementPlan] = {
        name: plan_measurements(fingerprint, error=error, estimator=name, method=arguments.method, seed=arguments.seed)
        for name in ESTIMATORS
        if name != "random"
    }
    choice = choose_estimator(plans[choice.estimator].design.n_measured)
    chosen = plans[choice.estimator]
    devices = [fingerprint.device_ids[int(device)] for device in chosen.design.devices]
    content = {
        "error": error,
        "estimator": choice.estimator,
        "reason": choice.reason,
        "reached": chosen.reached,
        "n_measured": chosen.design.n_measured,
        "n_devices": fingerprint.n_devices,
        "half_width": chosen.half_width,
        "n_random": chosen.n_random,
        "devices": [
            {"device": name, "weight": float(weight)}
            for name, weight in zip(devices, chosen.design.weights, strict=True)
        ],
        "others": {
            name: {"n_measured": plan.design.n_measured, "half_width": plan.half_width, "reached": plan.reached}
            for name, plan in plans.items()
        },
    }
    print(json.dumps(content, indent=2) if arguments.json else _text(content, shown=None if arguments.all else 20))
    return 0 if chosen.reached else 1


def parse_share(text: str) -> float:
    """Share of ``1%`` or ``0.01``.

    Raises
    ------
    FleetError
        When it is neither.
    """
    from hdapbench.errors import FleetError

    try:
        return float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        raise FleetError(f"--error {text}: write a share, such as 1% or 0.01") from None


def _text(content: dict[str, Any], *, shown: int | None) -> str:
    verdict, least = "", f"±{content['half_width']:.2%}"
    every_one = content["n_measured"] == content["n_devices"]
    if not content["reached"]:
        verdict = f": NOT REACHED, {least} is the least"
        if every_one:
            verdict = f": no more can be measured; up to {least} is left, noise that more --runs narrow"
    number = f"{'all ' if every_one else ''}{content['n_measured']:,}"
    lines = [
        f"for ±{content['error']:.2%} measure {number} devices per model{verdict}",
        f"estimator {content['estimator']}: {content['reason']}",
        f"the plain mean of random devices would need {content['n_random']:,}",
        "other estimators: "
        + ", ".join(
            f"{name} {other['n_measured']}{'' if other['reached'] or every_one else ' (not reached)'}"
            for name, other in content["others"].items()
            if name != content["estimator"]
        ),
        "devices, with the share of the fleet that each stands for:",
    ]
    every = content["devices"]
    lines += [f"  {row['device']}  {row['weight']:.1%}" for row in every[:shown]]
    if shown is not None and len(every) > shown:
        lines.append(f"  and {len(every) - shown} more (--all)")
    return "\n".join(map(printable, lines))
