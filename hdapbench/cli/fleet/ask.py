"""``hdapbench fleet ask``: what a spec's recorded fleet lacks, as a job that boards carry out without a network.

The archive holds models, the orders in which to time them, and a runner. On each board, which needs numpy and
onnxruntime alone: python3 job.zip --device NAME. Then, here: hdapbench fleet tell job-*.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from hdapbench.cli.options import add_spec_options, load_with_methods, whole_number


def add_parser(actions: Any) -> None:
    """Add the action to the parser."""
    parser = actions.add_parser("ask", help="write what a recorded fleet lacks as a job", description=__doc__)
    add_spec_options(parser)
    parser.add_argument("--fleet", metavar="NAME", help="which recorded fleet of a spec with several")
    parser.add_argument(
        "--all", dest="whole", action="store_true", help="ask for recorded plans too: for new boards, or another day"
    )
    parser.add_argument(
        "--rounds", type=whole_number, default=3, metavar="N", help="rounds of the repeats (default: %(default)s)"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="zip archive to write")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the job, unless nothing lacks."""
    from hdapbench.cli.output import check_output
    from hdapbench.errors import FleetError
    from hdapbench.run.asking import ask, recorded_fleet
    from hdapbench.run.workspace import Workspace

    if arguments.output.suffix != ".zip":
        raise FleetError(f"-o {arguments.output}: name a .zip file")
    loaded, _ = load_with_methods(arguments)
    fleet = recorded_fleet(loaded, arguments.fleet)
    check_output(arguments.output)
    workspace = Workspace(arguments.workspace)
    job = ask(loaded, fleet, workspace, arguments.output, rounds=arguments.rounds, whole=arguments.whole)
    if arguments.json:
        content: dict[str, Any] = {"file": None, "plans": []}
        if job is not None:
            content = {"file": str(arguments.output), "job": job.id, "plans": list(job.plans), "runs": job.runs}
        print(json.dumps(content, indent=2))
    elif job is None:
        print(f"fleet '{fleet.name}' lacks nothing that is wanted; go on with: hdapbench run {arguments.spec}")
    else:
        print(
            f"{arguments.output}: {len(job.plans)} plans, {job.runs} repeats each\n"
            f"on each board: python3 {arguments.output.name} --device NAME\n"
            f"then, here: hdapbench fleet tell {arguments.output.stem}-*.json"
        )
    return 0
