"""Listener: whoever shows a run's progress."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from hdapbench.trial import Result, Trial


class Listener(Protocol):
    """Whoever shows a run's progress. Every method may be called often and must return quickly."""

    def phase(self, text: str) -> None:
        """A step before the trials: reading data, training the base model, tracing."""

    def started(self, trial: Trial) -> None:
        """A trial begins."""

    def progress(self, text: str) -> None:
        """A line about the current trial or phase."""

    def finished(self, result: Result) -> None:
        """A trial has ended and is stored."""


@runtime_checkable
class ManyListener(Listener, Protocol):
    """A listener that tells the steps of trials apart which run at once."""

    def step(self, trial: Trial, text: str) -> None:
        """A line about one of the trials that run now."""


def tell_step(listener: Listener, trial: Trial, text: str) -> None:
    """Tell a listener about one of several trials that run at once."""
    if isinstance(listener, ManyListener):
        listener.step(trial, text)
    else:
        listener.progress(f"{trial}: {text}")


def duration(seconds: float) -> str:
    """Seconds as ``45 s``, ``12 min`` or ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
