"""Progress on stderr: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from hdapbench.cli.output import raw
from hdapbench.errors import printable
from hdapbench.leaderboard.labels import labels_of
from hdapbench.trial import Result, Status, Trial

_MARKS = {Status.COMPLETE: "done", Status.SKIPPED: "skipped", Status.INFEASIBLE: "infeasible"}


class Silence:
    """Shows nothing."""

    def phase(self, text: str) -> None:
        """Ignore a phase."""

    def started(self, trial: Trial) -> None:
        """Ignore a start."""

    def progress(self, text: str) -> None:
        """Ignore a step."""

    def finished(self, result: Result) -> None:
        """Ignore a result."""


class PlainProgress:
    """One line per event on stderr, for logs and pipes; steps inside a trial at most every ten seconds."""

    def __init__(self, trials: tuple[Trial, ...], *, n_done: int) -> None:
        self._labels = labels_of(trials)
        self._n_trials, self._n_done = len(trials), n_done
        self._started = self._last_step = time.monotonic()
        self._n_run = 0

    def phase(self, text: str) -> None:
        """Print a phase."""
        self._line(text)

    def started(self, trial: Trial) -> None:
        """Print a start."""
        self._line(f"[{self._n_done + 1}/{self._n_trials}] {trial.named(self._labels[trial.id])} [{trial.id}]")

    def progress(self, text: str) -> None:
        """Print a step now and then."""
        if time.monotonic() - self._last_step > 10.0:
            self._line(f"    {text}")

    def finished(self, result: Result) -> None:
        """Print a result and the time left."""
        self._n_done += 1
        self._n_run += 1
        pace = (time.monotonic() - self._started) / self._n_run
        left = pace * (self._n_trials - self._n_done)
        self._line(f"    {outcome(result)} ({result.seconds:.0f} s; about {duration(left)} left)")

    def _line(self, text: str) -> None:
        self._last_step = time.monotonic()
        print(printable(text), file=sys.stderr, flush=True)


class LiveProgress:
    """The grid of trials as a bar, the current trial and step under it, results scrolling above."""

    def __init__(self, trials: tuple[Trial, ...], *, n_done: int) -> None:
        self._labels = labels_of(trials)
        self._console = Console(file=raw(sys.stderr))
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            TextColumn("[dim]{task.fields[step]}"),
            console=self._console,
        )
        self._task: TaskID = self._bar.add_task("trials", total=len(trials), completed=n_done, step="", left="")
        self._n_left = len(trials) - n_done
        self._n_run, self._started = 0, time.monotonic()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, error_class: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def phase(self, text: str) -> None:
        """Show a phase."""
        self._bar.console.print(printable(text), style="dim", highlight=False, markup=False)

    def started(self, trial: Trial) -> None:
        """Show the trial that runs now."""
        label = f"{self._labels[trial.id]} @ {trial.target or 'dense'}, seed {trial.seed}"
        self._bar.update(self._task, description=escape(printable(label)), step="")

    def progress(self, text: str) -> None:
        """Show the current step."""
        self._bar.update(self._task, step=escape(printable(text)))

    def finished(self, result: Result) -> None:
        """Print the result above the bar, and move it on."""
        self._n_run += 1
        self._n_left -= 1
        left = (time.monotonic() - self._started) / self._n_run * self._n_left
        trial = result.trial
        name = f"{trial.named(self._labels[trial.id])} [{trial.id}]"
        self._bar.console.print(printable(f"{name}: {outcome(result)}"), highlight=False, markup=False)
        self._bar.update(self._task, advance=1, step="", left=f"about {duration(left)} left")


def outcome(result: Result) -> str:
    """One line that says how a trial ended."""
    if result.metrics is None or result.status is not Status.COMPLETE:
        return f"{_MARKS.get(result.status, result.status.value)}: {result.reason}"
    metrics = result.metrics
    score = f"accuracy {metrics.accuracy:.2%}"
    if metrics.map50 is not None:
        score = f"mAP50-95 {metrics.accuracy:.2%}, mAP50 {metrics.map50:.2%}"
    if metrics.bits is not None:
        score += f", {metrics.bits.weight_bytes / 1000:.4g} kB of weights"
    return f"{score}, {metrics.latency_ms:.3g} ms ({metrics.latency_source})"


def duration(seconds: float) -> str:
    """Seconds as ``45 s``, ``12 min`` or ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
