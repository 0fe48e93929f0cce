"""``hdapbench doctor``: what is installed, what is missing, and why it matters."""

from __future__ import annotations

import argparse
import json
import os
import platform
from dataclasses import asdict, dataclass
from typing import Any

PACKAGES = (
    ("torch", None, "builds, trains and prunes models"),
    ("torchvision", None, "models and image data"),
    ("torch-pruning", None, "finds channel groups; the method torch-pruning"),
    ("scikit-learn", None, "the digits data, clustering, tree surrogates"),
    ("scipy", None, "intervals"),
    ("polars", None, "fingerprints and recorded fleets"),
    ("nni", "nni", "the method nni"),
    ("cma", "cma", "hdap's searcher cma-es"),
    ("ultralytics", "yolo", "detection models (AGPL-3.0)"),
    ("timm", "timm", "models by the name timm:NAME"),
    ("safetensors", "safetensors", "weights in files of safetensors"),
    ("stable-baselines3", "amc", "AMC-style reinforcement learning"),
    ("onnx", "onnx", "export"),
    ("onnxruntime", "onnx", "measured latency"),
    ("ray", "ray", "boards of a Ray cluster as a fleet"),
    ("matplotlib", "report", "pictures"),
    ("ray", "ray", "trials on several machines"),
    ("pandas", "pandas", "boards as data frames of pandas"),
)
"""Distribution, extra that brings it (None: always needed), and what it is for."""


@dataclass(frozen=True)
class Finding:
    """One package: its version, or how to get it."""

    package: str
    version: str | None
    purpose: str
    remedy: str | None


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser("doctor", help="show what is installed and what is missing", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the findings; 1 when a package that is always needed is missing."""
    found = findings()
    if arguments.json:
        print(json.dumps([asdict(finding) for finding in found], indent=2))
    else:
        print(f"python {platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores")
        for finding in found:
            state = finding.version or "missing"
            remedy = f"; install it with: {finding.remedy}" if finding.remedy else ""
            mark = "ok     " if finding.version else "MISSING"
            print(f"{mark} {finding.package:18} {state:10} {finding.purpose}{remedy}")
    needed = {package for package, extra, _ in PACKAGES if extra is None}
    return 1 if any(finding.version is None and finding.package in needed for finding in found) else 0


def findings() -> list[Finding]:
    """Version of each package that hdapbench can use, or the command that installs it."""
    from hdapbench.run.environment import package_version

    result = []
    for package, extra, purpose in PACKAGES:
        version = package_version(package)
        install = f"pip install 'hdapbench[{extra}]'" if extra else "pip install hdapbench"
        result.append(Finding(package, version, purpose, None if version else install))
    return result
