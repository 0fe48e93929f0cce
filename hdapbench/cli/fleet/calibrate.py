"""``hdapbench fleet calibrate``: fit a board profile's free constants to measurements, and say how far to trust it.

FILE is a recording that hdapbench fleet measure wrote, or a local fleet, which is then measured first: ResNet50, or the
model that is named, at shares from 1 down to 0.2. The profile that is written holds the report, and boards show it.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from hdapbench.cli.fleet import asked, source
from hdapbench.cli.output import write_output
from hdapbench.errors import printable

if TYPE_CHECKING:
    from hdapbench.fleet.recorded.fleet import RecordedFleet
    from hdapbench.fleet.simulated.calibration import MeasuredModel
    from hdapbench.fleet.simulated.profile import Calibration

SHARES = ("1", "0.85", "0.7", "0.6", "0.5", "0.4", "0.3", "0.2")


def add_parser(actions: Any) -> None:
    """Add the action to the parser."""
    parser = actions.add_parser("calibrate", help="fit a simulated board to measurements", description=__doc__)
    source.add_fleet_argument(parser, what="a recording (.csv) of hdapbench fleet measure, or a local fleet")
    asked.add_model_options(parser)
    parser.add_argument("--sku", default="xavier_nx", help="profile to start from (default: %(default)s)")
    parser.add_argument("--precision", default="fp32", help="fp32, fp16 or tc16 (default: %(default)s)")
    parser.add_argument("--device", default=None, metavar="NAME", help="one device, not the average of all")
    parser.add_argument("--name", default=None, help="name of the profile (default: that of the file)")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="YAML file to write")
    parser.add_argument("--force", action="store_true", help="overwrite the file")
    source.add_output_options(parser)
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Fit, write the profile with its report, and print that."""
    from hdapbench.errors import FleetError
    from hdapbench.fleet.recorded.fleet import RecordedFleet
    from hdapbench.fleet.simulated.calibration import calibrate
    from hdapbench.fleet.simulated.profile import load_profile
    from hdapbench.spec import RecordedFleetSpec

    output: Path = arguments.output
    if output.suffix not in (".yaml", ".yml"):
        raise FleetError(f"-o {output}: name a .yaml file")
    if output.exists() and not arguments.force:
        raise FleetError(f"'{output}' exists; overwrite it with --force, or name another file")
    profile = load_profile(arguments.sku)
    spec = source.fleet_spec(arguments.file, arguments.fleet, arguments.overrides)
    if isinstance(spec, RecordedFleetSpec):
        recording, overrides = Path(spec.path), arguments.overrides
    else:
        recording, overrides = _measured(arguments, output.with_suffix(".csv")), []
    recorded = source.fleet_spec(recording, None, overrides)
    if not isinstance(recorded, RecordedFleetSpec):
        raise FleetError(f"'{recording}' is no recording")
    fleet = RecordedFleet(recorded)
    models, n_devices = _models(fleet, arguments.device)
    of = f"{fleet.path.name}, {arguments.device or f'geometric mean of {n_devices} devices'}"
    fitted = calibrate(profile, models, precision=arguments.precision, source=of, n_devices=n_devices)
    report = fitted.calibration
    if report is None:
        raise FleetError("the calibration gave no report")
    named = fitted.model_copy(update={"name": arguments.name or output.stem})
    write_output(output, yaml.safe_dump(named.model_dump(mode="json"), sort_keys=False))
    content = report.model_dump(mode="json") | {"file": str(output)}
    print(json.dumps(content, indent=2) if arguments.json else _text(report, output))
    return 0


def _measured(arguments: argparse.Namespace, path: Path) -> Path:
    """Recording of the fleet that was named, made now or completed."""
    from hdapbench.cli.main import main

    command = ["fleet", "measure", str(arguments.file), "-o", str(path), "--share", *SHARES]
    for option, value in (
        ("--fleet", arguments.fleet),
        ("--model", arguments.model),
        ("--input-shape", arguments.input_shape),
        ("--classes", None if arguments.classes is None else str(arguments.classes)),
    ):
        command += [option, value] if value is not None else []
    command += ["--trust"] if arguments.trust else []
    for override in arguments.overrides:
        command += ["--set", override]
    print(f"measuring first: hdapbench {' '.join(command)}", file=sys.stderr)
    main(command)
    return path


def _model(plan: str) -> str:
    """Model and input shape of ``MODEL@SHAPE/SHARE[/MULTIPLE]``, as `fleet measure` names plans."""
    model, at, rest = plan.rpartition("@")
    return f"{model}{at}{rest.partition('/')[0]}"


def _models(fleet: RecordedFleet, device: str | None) -> tuple[list[MeasuredModel], int]:
    """Plans that are known, model by model, with their latency on one device or averaged; and how many devices."""
    from hdapbench.errors import FleetError
    from hdapbench.fleet.recorded.matrix import LatencyMatrix
    from hdapbench.fleet.simulated.calibration import MeasuredModel
    from hdapbench.spec import did_you_mean

    names = list(fleet.device_ids)
    if device is not None and device not in names:
        raise FleetError(f"'{fleet.path}' has no device '{device}'{did_you_mean(device, names)}")
    known = LatencyMatrix(fleet.path).known_plans()
    found: dict[str, list[tuple[Any, Any, float]]] = {}
    for plan in [plan for plan in fleet.complete_plans if plan in known]:
        kernels, widths = known[plan]
        latency = fleet.medians_ms(plan)
        value = float(np.exp(np.log(latency).mean())) if device is None else float(latency[names.index(device)])
        found.setdefault(_model(plan), []).append((kernels, widths, value))
    models = [
        MeasuredModel(name, rows[0][0], np.stack([row[1] for row in rows]), np.array([row[2] for row in rows]))
        for name, rows in found.items()
    ]
    return models, len(names) if device is None else 1


def _text(report: Calibration, path: Path) -> str:
    agreement = f"{report.within_10_share:.0%} within 10 %, rank correlation {report.rank_correlation:.2f}"
    lines = [
        f"{path}: fitted to {report.n_plans} plans of {', '.join(report.models)} ({report.source}, {report.precision})",
        f"error on plans left out: {report.mape:.1%} on average (before: {report.mape_before:.1%}), {agreement}",
    ]
    if report.mape_new_models is not None:
        lines.append(f"on models left out whole: {report.mape_new_models:.1%}")
    lines += [f"  {name}: {value:.4g}" for name, value in report.fitted.items()]
    lines.append(f"next: hdapbench fleet make --sku {path}")
    return "\n".join(map(printable, lines))
