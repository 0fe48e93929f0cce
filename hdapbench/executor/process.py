"""Trials in worker processes of this machine: a method that ends its process ends its own trial alone."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Generator, Sequence
from queue import Empty, SimpleQueue
from typing import Protocol

from hdapbench.errors import HdapbenchError
from hdapbench.executor.message import Task, order_of
from hdapbench.executor.slot import Began, Event, NotBegun, Said, Slot, Step
from hdapbench.run.job import Job
from hdapbench.run.listener import Listener, tell_step
from hdapbench.run.supply import POLL_SECONDS, Supply
from hdapbench.run.waiting import Waits
from hdapbench.trial import Result

GPUS = "CUDA_VISIBLE_DEVICES"


class Place(Protocol):
    """Where one trial at a time is carried out."""

    @property
    def is_idle(self) -> bool:
        """Whether a trial can be given to it."""

    def give(self, task: Task) -> None:
        """Let it carry out a trial; what comes of it is told as an event."""

    def end_overdue(self) -> None:
        """End a trial that goes on long after its method's time is up."""

    def close(self, *, at_once: bool) -> None:
        """End what goes on there."""


class Processes:
    """Carries out trials in worker processes of this machine.

    Parameters
    ----------
    n_workers
        How many run at once.
    gpus
        One for each of them, as CUDA_VISIBLE_DEVICES names it; none where workers see what this process sees.
    """

    def __init__(self, n_workers: int, gpus: Sequence[str] = ()) -> None:
        self.n_workers, self.gpus = n_workers, gpus

    def ended(self, job: Job, supply: Supply, listener: Listener) -> Generator[Result | Waits, None, None]:
        """What came of each trial of a supply, as it ends."""
        events: SimpleQueue[Event] = SimpleQueue()
        order = order_of(job, sys.path)
        seen = [{GPUS: gpu} for gpu in self.gpus] or [{}] * self.n_workers
        slots = [Slot(order, events.put, variables) for variables in seen[: min(self.n_workers, supply.n_left)]]
        yield from carried_out(slots, events, job, supply, listener)


def carried_out(
    places: Sequence[Place], events: SimpleQueue[Event], job: Job, supply: Supply, listener: Listener
) -> Generator[Result | Waits, None, None]:
    """What came of each trial of a supply that places carry out, which are closed in the end.

    An interrupt gives what has ended until then before it goes on its way.

    Raises
    ------
    HdapbenchError
        When no trial can be carried out.
    """
    desk = _Desk(places, events, job, supply)
    at_once, phases = True, set[str]()
    try:
        while desk.is_open:
            desk.give_out()
            shown = desk.next_event()
            if isinstance(shown, Result | Waits):
                yield shown
            elif shown is not None:
                _tell(shown, listener, phases)
        at_once = False
    except KeyboardInterrupt:
        _close(places, at_once=True)
        while not events.empty():
            if isinstance(event := events.get(), Result | Waits):
                yield event
        raise
    finally:
        _close(places, at_once=at_once)


class _Desk:
    """Gives trials to places, and takes in what they tell."""

    def __init__(self, places: Sequence[Place], events: SimpleQueue[Event], job: Job, supply: Supply) -> None:
        self._places, self._events, self._job, self._supply = places, events, job, supply
        self._given_back: deque[Task] = deque()
        self._n_out, self._ask_after, self._look_after = 0, 0.0, 0.0

    @property
    def is_open(self) -> bool:
        """Whether something is to come."""
        return bool(self._n_out or self._given_back or not self._supply.is_over)

    def give_out(self) -> None:
        """Give trials to all places that are idle, as far as there are any."""
        while (place := next((place for place in self._places if place.is_idle), None)) is not None:
            task = self._given_back.popleft() if self._given_back else self._next()
            if task is None:
                return
            self._n_out += 1
            place.give(task)

    def next_event(self) -> Said | Began | Step | Result | Waits | HdapbenchError | None:
        """What was told next; None after a while, and of what concerns the desk alone."""
        if time.monotonic() >= self._look_after:
            self._look_after = time.monotonic() + POLL_SECONDS
            for place in self._places:
                place.end_overdue()
        try:
            event = self._events.get(timeout=POLL_SECONDS)
        except Empty:
            return None
        if isinstance(event, Result | Waits | NotBegun):
            self._n_out -= 1
            self._ask_after = 0.0
        if isinstance(event, NotBegun):
            self._given_back.append(event.task)
            return None
        return event

    def _next(self) -> Task | None:
        if time.monotonic() < self._ask_after:  # others have what is left
            return None
        trial = self._supply.next()
        if trial is None:
            self._ask_after = time.monotonic() + POLL_SECONDS
            return None
        return Task(trial, self._job.earlier.of(trial))


def _tell(event: Said | Began | Step | HdapbenchError, listener: Listener, phases: set[str]) -> None:
    """Show an event, or raise it; phases that each worker goes through are shown once."""
    match event:
        case HdapbenchError():
            raise event
        case Said():
            if not event.is_phase or event.text not in phases:
                listener.phase(event.text)
            phases.add(event.text)
        case Began():
            listener.started(event.trial)
        case Step():
            tell_step(listener, event.trial, event.text)


def _close(places: Sequence[Place], *, at_once: bool) -> None:
    for place in places:
        place.close(at_once=at_once)
