"""``hdapbench completion SHELL``: what a shell needs to complete commands and options with the tabulator."""

from __future__ import annotations

import argparse
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "completion",
        help="print a shell's completion of commands and options",
        description=__doc__,
        epilog='bash: eval "$(hdapbench completion bash)" in ~/.bashrc; zsh: hdapbench completion zsh > '
        "~/.zfunc/_hdapbench; tcsh: hdapbench completion tcsh > ~/.hdapbench.csh",
    )
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the completion of every command."""
    import shtab

    from hdapbench.cli.main import whole_parser

    print(shtab.complete(whole_parser(), arguments.shell))
    return 0
