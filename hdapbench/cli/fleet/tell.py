"""``hdapbench fleet tell``: add what boards made of a job to the recording; the run then goes on."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hdapbench.cli.options import DEFAULT_WORKSPACE
from hdapbench.errors import printable

if TYPE_CHECKING:
    from hdapbench.run.asking import Told


def add_parser(actions: Any) -> None:
    """Add the action to the parser."""
    parser = actions.add_parser("tell", help="add what boards made of a job to the recording", description=__doc__)
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULT", help="JSON files that the runner wrote")
    parser.add_argument(
        "--replace", action="store_true", help="in place of what the same boards gave of the same plans before"
    )
    parser.add_argument(
        "--workspace",
        type=Path,
        default=DEFAULT_WORKSPACE,
        metavar="DIR",
        help="where the job was asked (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Fill recordings; 1 when a result was refused."""
    from hdapbench.run.asking import tell
    from hdapbench.run.workspace import Workspace

    found = tell(arguments.results, Workspace(arguments.workspace), replace=arguments.replace)
    text = "\n".join(line for told in found for line in _lines(told))
    print(json.dumps([asdict(told) for told in found], indent=2) if arguments.json else text)
    return 1 if any(told.refused for told in found) else 0


def _lines(told: Told) -> list[str]:
    lines = [f"{told.recording}: {len(told.plans)} plans of {len(told.devices)} boards were added"]
    if told.known:
        lines.append(f"known already, replaced with --replace: {', '.join(told.known)}")
    lines += [f"refused: {device}: {reason}" for device, reason in told.refused.items()]
    lines.append(f"next: hdapbench run {told.spec}")
    return [printable(line) for line in lines]
