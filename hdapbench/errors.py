"""The exception tree. Every error says what is wrong, where, and what to do about it.

A user sees ``str(error)`` on one line and an exit code; a traceback only with ``--debug``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


def printable(text: str) -> str:
    """Text that anybody may have written, in one line for any terminal or file: what is no character is escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def said(error: BaseException) -> str:
    """What an exception says, in one printable line, whatever its class does when it is asked."""
    try:
        text = str(error)
    except BaseException as failure:  # noqa: BLE001 - a plug-in's class may raise anything here too
        text = f"its text cannot be made ({type(failure).__name__})"
    return printable(" ".join(text.split())) or "no message"


class HdapbenchError(Exception):
    """Base of all errors that hdapbench raises on purpose."""


@dataclass(frozen=True)
class SpecProblem:
    """One thing that is wrong in a spec: where it stands, and what to write instead.

    ``line`` and ``column`` start at 1; both are 0 for a value that came from ``--set``.
    """

    source: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        place = f"{self.source}:{self.line}:{self.column}" if self.line else self.source
        return f"{place} {self.path}: {self.message}" if self.path else f"{place} {self.message}"


class SpecError(HdapbenchError):
    """A spec cannot be used; carries every problem found, not only the first."""

    def __init__(self, problems: Sequence[SpecProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class MissingExtraError(HdapbenchError):
    """An optional package is needed and not installed."""

    def __init__(self, package: str, extra: str, needed_for: str) -> None:
        self.package, self.extra = package, extra
        super().__init__(
            f"{needed_for} needs the package '{package}', which is not installed; "
            f"install it with: pip install 'hdapbench[{extra}]'"
        )


class PluginError(HdapbenchError):
    """A plug-in of an installed package is not there, is offered twice, or cannot be imported."""


class ModelError(HdapbenchError):
    """A model cannot be built, loaded or traced."""


class UnknownLayerError(ModelError):
    """A layer has parameters or arithmetic that the cost model has no rule for."""


class DataError(HdapbenchError):
    """A data set is absent, empty or not laid out as expected."""


class DamagedCacheError(DataError):
    """Cached data are not what was stored."""


class PlanError(HdapbenchError):
    """A plan does not fit its model: unknown group, missing group, index out of range, empty group."""


class SurgeryError(HdapbenchError):
    """A physically pruned model does not compute what its masked model computes."""


class TargetUnreachableError(HdapbenchError):
    """No plan of this model meets the target."""


class BudgetExceededError(HdapbenchError):
    """A method asked for more than its budget allows."""


class TimeLimitError(BaseException):
    """A method was stopped a while after its time was up. No Exception: ``except Exception`` must not swallow it."""


class FleetError(HdapbenchError):
    """A fleet cannot be made, read, clustered or measured."""


class SurrogateError(HdapbenchError):
    """A latency surrogate cannot be fitted, saved or loaded."""


class SearchError(HdapbenchError):
    """A search is asked for something that makes no sense: no evaluations, plans of another model, an empty band."""


class MethodError(HdapbenchError):
    """A method plug-in cannot be found, imported or configured."""


class BrokenMethodError(MethodError):
    """A method plug-in is there, and its code cannot be used."""


class OutputError(HdapbenchError):
    """A file that was asked for, or standard output, cannot be written."""


class StoreError(HdapbenchError):
    """The results database cannot be read or written."""


class ExecutorError(HdapbenchError):
    """Trials cannot be carried out where they should be: no such executor, no cluster, workers that do not start."""


class RuntimeRefusedError(HdapbenchError):
    """A runtime is not installed, or does not take a model."""


class RuntimeLostError(HdapbenchError):
    """A worker process died, or does not answer.

    Attributes
    ----------
    name
        The worker.
    exit_code
        Of the process; negative: the signal that ended it. None when it was closed before.
    last_lines
        What it last wrote to standard error.
    """

    def __init__(self, name: str, what: str, *, exit_code: int | None = None, last_lines: Sequence[str] = ()) -> None:
        self.name, self.exit_code, self.last_lines = name, exit_code, tuple(last_lines)
        code = "" if exit_code is None else f" (exit code {exit_code})"
        said = f"; it last said: {' | '.join(last_lines)}" if last_lines else ""
        super().__init__(f"worker '{name}' {what}{code}{said}")
