"""Entry point: finds the command, runs it, and turns errors into one line and an exit code.

Exit codes: 0 fine, 1 some trial failed or a check did not hold, 2 bad input, 130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from hdapbench import __version__
from hdapbench.cli.output import check_output, standard_streams
from hdapbench.errors import HdapbenchError, said

COMMANDS = {
    "init": "write a commented spec to begin with",
    "run": "run a spec's trials and show the leaderboard; picks up where it stopped",
    "check": "validate a spec, list its trials and what is done, spending nothing",
    "inspect": "show what can be pruned of a network, and where its FLOPs are",
    "board": "render a leaderboard: markdown, page, picture, CSV, LaTeX or JSON",
    "results": "export, import, merge, check, verify and remove results",
    "store": "check, vacuum, export and import the whole database",
    "compare": "compare two trials, rows or boards: a sentence with numbers, then a table",
    "show": "show one trial, or the trials of a benchmark",
    "explain": "say what a method decided for a trial, and why",
    "export": "write the deployable model of a trial: ONNX, or packed integers",
    "measure": "time models on this machine, against each other, with intervals",
    "methods": "list, describe and test pruning methods",
    "fleet": "make, measure, fingerprint and cluster a fleet, and estimate its average latency",
    "schema": "print the JSON Schema of specs, or of boards as JSON",
    "completion": "print what a shell needs to complete commands",
    "doctor": "show what is installed, what is missing, and why it matters",
}
"""Command -> one line of help. Only the named command's module is imported."""


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code of the command line ``argv``, by default the process's own."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = _parser(arguments)
    parsed = parser.parse_args(arguments)
    if parsed.handler is None:
        parser.print_help()
        return 0
    try:
        with standard_streams():
            for option in ("output", "html", "plot"):
                if (path := vars(parsed).get(option)) is not None and not vars(parsed).get("check"):
                    check_output(path)
            return int(parsed.handler(parsed))
    except KeyboardInterrupt:
        return _told("interrupted; nothing that was finished is lost", code=130)
    except Exception as error:
        if parsed.debug:
            raise
        return _told(_line(error), code=2)


def _line(error: Exception) -> str:
    """What the user reads of an error."""
    if isinstance(error, HdapbenchError):
        text = str(error)
        return text if "\n" in text else f"hdapbench: {text}"
    if isinstance(error, OSError) and error.strerror:
        return f"hdapbench: {error.strerror}" + (f": '{error.filename}'" if error.filename else "")
    *_, place = traceback.extract_tb(error.__traceback__)
    where = f"{Path(place.filename).name}:{place.lineno}"
    return f"hdapbench: {type(error).__name__} at {where}: {said(error)[:300]}; all of it with: hdapbench --debug ..."


def _told(text: str, *, code: int) -> int:
    """The exit code, after a line on standard error."""
    with standard_streams():
        print(text, file=sys.stderr)
    return code


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """Parser that imports the module of the named command alone, so that help answers fast."""
    return _with_commands([argument for argument in arguments if argument in COMMANDS][:1])


def whole_parser() -> argparse.ArgumentParser:
    """Parser of all commands, with all of their options."""
    return _with_commands(tuple(COMMANDS))


def _with_commands(named: Sequence[str]) -> argparse.ArgumentParser:
    """Parser that knows the options of the named commands."""
    parser = argparse.ArgumentParser(
        prog="hdapbench",
        description="Which compressed model is fastest on average over a fleet of devices, at this FLOPs budget?",
        epilog="Start with: hdapbench run quickstart",
    )
    parser.add_argument("--version", action="version", version=f"hdapbench {__version__}")
    parser.add_argument("--debug", action="store_true", help="show tracebacks of errors")
    parser.set_defaults(handler=None)
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, help_text in COMMANDS.items():
        if name in named:
            importlib.import_module(f"hdapbench.cli.{name}").add_parser(subparsers)
        else:
            subparsers.add_parser(name, help=help_text)
    return parser
