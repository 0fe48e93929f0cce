"""How far a simulated board can be trusted to be this processor, after calibration to its measured latencies.

    python -m studies.calibration [--matrix calibration.csv]

Measures ResNet50 and ResNet18 at 64 pixels, eleven shares of their channels, exact and in multiples of 16, on three local devices, then fits
the Xavier NX's profile to each. The matrix is filled up where cells are missing. Writes the table in docs/fleets.md: two
minutes of an otherwise idle machine.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from studies.runs import said
from studies.tables import options, publish

MODELS = ("torchvision:resnet50", "torchvision:resnet18")
SHARES = ("1", "0.9", "0.8", "0.75", "0.65", "0.55", "0.5", "0.45", "0.35", "0.25", "0.2")
MULTIPLES = ("1", "16")
DEVICES: tuple[dict[str, Any], ...] = (
    {"name": "plain"},
    {"name": "no-optimization", "runtime": {"graph_optimization": "none"}},
    {"name": "throttled", "cpu_share": 0.68},
)


def main() -> int:
    """Measure, calibrate and write; 0."""
    parser = options(__doc__)
    parser.add_argument("--matrix", type=Path, default=Path("calibration.csv"), help="default %(default)s")
    matrix = str(parser.parse_args().matrix)
    lines = [
        "| device | plans | error before | error on plans left out | within 10 % | rank correlation |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    with TemporaryDirectory() as folder:
        fleet = Path(folder) / "this-cpu.yaml"
        fleet.write_text(yaml.safe_dump({"name": "this-cpu", "kind": "local", "devices": list(DEVICES)}))
        for model in MODELS:
            named = ["--model", model, "--input-shape", "3,64,64", "--share", *SHARES]
            for multiple in MULTIPLES:
                said("fleet", "measure", str(fleet), *named, "--round-to", multiple, "-o", matrix)
        for device in DEVICES:
            board = str(Path(folder) / f"{device['name']}.yaml")
            found = said("fleet", "calibrate", matrix, "--device", device["name"], "-o", board)
            lines.append(
                f"| {device['name']} | {found['n_plans']} | {found['mape_before']:.1%} | {found['mape']:.1%} | "
                f"{found['within_10_share']:.0%} | {found['rank_correlation']:.2f} |"
            )
    publish("fleets.md", "calibration", "calibration", lines)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
