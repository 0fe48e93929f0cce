"""``hdapbench init``: a commented spec to begin with; it runs as it is, and every block says what to put instead."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from hdapbench.cli.output import write_output
from hdapbench.errors import HdapbenchError

TEMPLATE = """\
# What is compared here: ways to compress one network, on one fleet of devices, at limits on FLOPs.
#   hdapbench check {file}   what would run, and what is wrong; spends nothing
#   hdapbench run {file}     the trials and the board; can be interrupted and resumed
# All keys: docs/spec.md, or `hdapbench schema`. Paths start from the folder of this file.
schema_version: 1
name: {name}                    # the board is leaderboards/{name}.md

model:
{model}
data:
{data}
base:                           # how the dense network is trained where model.weights is not given
  epochs: 10
  learning_rate: 0.05
  schedule: onecycle
fine_tune:                      # the same for every method
  epochs: 2
  learning_rate: 0.02

fleets:
  # Simulated boards, until yours are measured: `hdapbench fleet calibrate` fits a profile to latencies that you bring.
  # This machine, measured under different loads (needs the extra onnx):
  # - {{name: here, kind: local, n_devices: 4, mix: [{{name: slowed, share: 1.0, cpu_share: [0.4, 1.0]}}]}}
  - name: nano-mixed
    kind: simulated
    sku: nano                   # or xavier_nx, or a YAML file of your board's profile
    scenario: mixed             # power modes, heat, ageing and load differ from board to board
    n_devices: 60
    seed: 7

targets:
  - flops: 0.5x                 # of the dense network; or 100M, or {{latency: 0.8x}}, {{size: 0.25x}}

# plugins: [./mine.py]          # files with methods of your own, to be named below
methods:                        # `hdapbench methods` lists them
  - uniform
  - magnitude
  - hdap
budget:                         # what one method may spend before it proposes its plan
  device_queries: 2000
  accuracy_evals: 20
  train_epochs: 5
seeds: [0]                      # two or more: then intervals cover training too
ranking:
  accuracy_within: 1.0          # points: rows that lose more are shown, not ranked
"""

SHIPPED_MODEL = """\
  name: vgg7                    # yours: ./net.py:build, where build(n_classes) returns a torch module
  input_shape: [1, 16, 16]      # channels, height, width
  # weights: net.pt             # a state_dict of yours; without it the network is trained as under base
"""

OWN_MODEL = """\
  name: {model}                 # called with n_classes; returns a torch module
  input_shape: {shape}          # channels, height, width
  # weights: net.pt             # a state_dict of yours; without it the network is trained as under base
"""

SHIPPED_DATA = """\
  name: digits                  # ships with scikit-learn; yours: imagefolder with path: FOLDER (a folder per class)
"""

OWN_DATA = """\
  name: imagefolder             # a folder per class
  path: {path}
"""


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser("init", help="write a commented spec to begin with", description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, default=Path("bench.yaml"), help="default: %(default)s")
    parser.add_argument("--model", metavar="FILE.py:CALLABLE", help="a network of yours")
    parser.add_argument(
        "--shape", type=int, nargs=3, default=(3, 32, 32), metavar=("C", "H", "W"), help="its input; default: 3 32 32"
    )
    parser.add_argument("--data", metavar="FOLDER", help="your images, a folder per class")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the spec and say what to do with it.

    Raises
    ------
    HdapbenchError
        When the file is there already.
    """
    file: Path = arguments.file
    if file.exists():
        raise HdapbenchError(f"'{file}' is there already; name another file: hdapbench init OTHER.yaml")
    name = re.sub(r"[^a-z0-9]+", "-", file.stem.lower()).strip("-") or "bench"
    model, data = SHIPPED_MODEL, SHIPPED_DATA
    if arguments.model is not None:
        model = OWN_MODEL.format(model=arguments.model, shape=list(arguments.shape))
    if arguments.data is not None:
        data = OWN_DATA.format(path=arguments.data)
    write_output(file, TEMPLATE.format(file=file, name=name, model=model, data=data))
    print(f"wrote {file}; next: hdapbench check {file}")
    return 0
