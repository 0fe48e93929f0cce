"""Progress on stderr: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TimeElapsedColumn,
)
from rich.text import Text

from hdapbench.cli.output import raw
from hdapbench.cli.pace import Pace
from hdapbench.errors import printable
from hdapbench.leaderboard.labels import labels_of
from hdapbench.run.listener import duration
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

    def step(self, trial: Trial, text: str) -> None:
        """Ignore a step."""

    def finished(self, result: Result) -> None:
        """Ignore a result."""


class PlainProgress:
    """One line per event on stderr, for logs and pipes; steps inside a trial at most every ten seconds."""

    def __init__(self, trials: tuple[Trial, ...], *, n_done: int) -> None:
        self._labels = labels_of(trials)
        self._n_trials, self._n_done = len(trials), n_done
        self._pace = Pace(trials, self._labels, n_done=n_done)
        self._last_step = time.monotonic()
        self._running: list[str] = []
        self._current: str | None = None

    def phase(self, text: str) -> None:
        """Print a phase."""
        self._line(text)

    def started(self, trial: Trial) -> None:
        """Print a start."""
        self._pace.started(trial)
        self._running.append(trial.id)
        self._current = trial.id
        self._line(f"[{self._n_done + len(self._running)}/{self._n_trials}] {self._named(trial)}")

    def progress(self, text: str) -> None:
        """Print a step now and then."""
        if time.monotonic() - self._last_step > 10.0:
            self._line(f"    {text}")

    def step(self, trial: Trial, text: str) -> None:
        """Print a step of one of several trials now and then."""
        self.progress(f"{self._named(trial)}: {text}")

    def finished(self, result: Result) -> None:
        """Print a result, the time left and who leads so far; of which trial, unless it is the one named last."""
        self._n_done += 1
        self._pace.finished(result)
        trial = result.trial
        if trial.id in self._running:
            self._running.remove(trial.id)
        name = "" if trial.id == self._current else f"{self._named(trial)}: "
        self._current = None
        self._line(f"    {name}{outcome(result)} ({result.seconds:.0f} s{time_left(self._pace, before='; ')})")
        if leaders := self._pace.leaders(result.trial):
            self._line(f"    so far at {result.trial.target}: {'; '.join(leaders)}")

    def _named(self, trial: Trial) -> str:
        return f"{trial.named(self._labels[trial.id])} [{trial.id}]"

    def _line(self, text: str) -> None:
        self._last_step = time.monotonic()
        print(printable(text), file=sys.stderr, flush=True)


class TimeLeftColumn(ProgressColumn):
    """Time left of a run, as of now."""

    def __init__(self, pace: Pace) -> None:
        super().__init__()
        self._pace = pace

    def render(self, task: Task) -> Text:  # noqa: ARG002 - the pace knows more than rich's task
        """``about 12 min left``, once a trial has ended."""
        return Text(time_left(self._pace))


class Display(Progress):
    """A line that fits into 80 columns - bar, counter, clock, time left - and lines under it that are cut where not."""

    lines: tuple[str, ...] = ()

    def get_renderables(self) -> Iterable[RenderableType]:
        """The line of the bar, then the others."""
        yield self.make_tasks_table(self.tasks)
        for line in self.lines:
            yield Text(printable(line), style="dim", no_wrap=True, overflow="ellipsis")


class LiveProgress:
    """The grid of trials as a bar, a line per trial that runs and who leads so far under it, results above."""

    def __init__(self, trials: tuple[Trial, ...], *, n_done: int) -> None:
        self._labels = labels_of(trials)
        self._pace = Pace(trials, self._labels, n_done=n_done)
        self._running: dict[str, Trial] = {}
        self._steps: dict[str, str] = {}
        self._latest: Trial | None = None
        self._step = ""
        self._console = Console(file=raw(sys.stderr))
        self._bar = Display(
            SpinnerColumn(),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeLeftColumn(self._pace),
            console=self._console,
        )
        self._task: TaskID = self._bar.add_task("trials", total=len(trials), completed=n_done)

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
        """Show a trial that runs now."""
        self._pace.started(trial)
        self._running[trial.id] = self._latest = trial
        self._step = ""
        self._show()

    def progress(self, text: str) -> None:
        """Show the current step: of the trial that runs, or of what all need."""
        if len(self._running) == 1:
            self._steps = dict.fromkeys(self._running, text)
        else:
            self._step = text
        self._show()

    def step(self, trial: Trial, text: str) -> None:
        """Show the current step of one of several trials."""
        self._running.setdefault(trial.id, trial)  # of one that has not begun: what is prepared for it
        self._steps[trial.id] = text
        self._show()

    def finished(self, result: Result) -> None:
        """Print the result above the bar, and move it on."""
        self._pace.finished(result)
        trial = result.trial
        name = f"{trial.named(self._labels[trial.id])} [{trial.id}]"
        self._bar.console.print(printable(f"{name}: {outcome(result)}"), highlight=False, markup=False)
        self._bar.update(self._task, advance=1)
        self._latest = trial
        self._running.pop(trial.id, None)
        self._steps.pop(trial.id, None)
        self._show()

    def _show(self) -> None:
        """Lines under the bar."""
        lines = [self._step] if self._step else []
        for trial in self._running.values():
            label = f"{self._labels[trial.id]} @ {trial.target or 'dense'}, seed {trial.seed}"
            lines.append(f"{label}  {self._steps.get(trial.id, '')}")
        if self._latest is not None and (leaders := self._pace.leaders(self._latest)):
            lines.append(f"so far at {self._latest.target}: {'; '.join(leaders)}")
        self._bar.lines = tuple(lines)


def outcome(result: Result) -> str:
    """One line that says how a trial ended."""
    if result.metrics is None or result.status is not Status.COMPLETE:
        return f"{_MARKS.get(result.status, result.status.value)}: {result.reason}"
    metrics = result.metrics
    score = f"accuracy {metrics.accuracy:.2%}"
    if metrics.map50 is not None:
        score = f"mAP50-95 {metrics.accuracy:.2%}, mAP50 {metrics.map50:.2%}"
    if metrics.bits is not None:
        stored = metrics.bits.stored_bytes or metrics.bits.packed_bytes
        score += f", {stored / 1000:.4g} kB stored"
    return f"{score}, {metrics.latency_ms:.3g} ms ({metrics.latency_source})"


def time_left(pace: Pace, *, before: str = "") -> str:
    """``about 12 min left``; nothing as long as no trial has ended."""
    left = pace.left()
    return "" if left is None else f"{before}about {duration(left)} left"
