"""Supply: the trials of a run that are left, handed out one by one, each claimed in the store before it begins."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice

from hdapbench.errors import StoreError
from hdapbench.run.listener import Listener
from hdapbench.store.claims import Claims, Owner
from hdapbench.store.sqlite import Store
from hdapbench.trial import Trial

POLL_SECONDS = 1.0
"""After which it is asked again whether what others have claimed is stored, or free."""

FIRST = 100
"""Trials that are tried first: to go through all of many for each takes long."""

BEATS = 4
"""Per lease: signs that this run is alive."""


class Supply:
    """Trials of a run that are left. Other runs of one store may do some of them; each is done once.

    Parameters
    ----------
    trials
        In the order in which they are handed out.
    store
        Where others store what they do.
    claims
        Of this run.
    listener
        Told of what others do and did.
    again
        Ids of trials that are done although they have a result.
    limit
        Trials to hand out at most.
    """

    def __init__(
        self,
        trials: Sequence[Trial],
        store: Store,
        claims: Claims,
        listener: Listener,
        *,
        again: Collection[str] = (),
        limit: int | None = None,
    ) -> None:
        self._left = {trial.id: trial for trial in trials}
        self._store, self._claims, self._listener = store, claims, listener
        self._again = frozenset(again)
        self._n_ahead = len(self._left) if limit is None else limit
        self._taken: list[str] = []
        self._said: set[str] = set()

    @property
    def owner(self) -> Owner:
        """Whose claims are taken."""
        return self._claims.owner

    @property
    def n_left(self) -> int:
        """Trials that may still be handed out."""
        return min(self._n_ahead, len(self._left))

    @property
    def is_over(self) -> bool:
        """Whether nothing is handed out any more."""
        return self.n_left == 0

    def next(self) -> Trial | None:
        """The next trial, claimed; None where none can be had now: others have what is left, or it is over."""
        if self.is_over:
            return None
        ids = list(islice(self._left, FIRST))
        taken = self._claims.take(ids, again=self._again)
        if not taken and len(ids) < len(self._left):
            ids = list(self._left)
            taken = self._claims.take(ids, again=self._again)
        for trial_id in taken:
            self._n_ahead -= 1
            self._taken.append(trial_id)
            return self._left.pop(trial_id)
        held = self._claims.held_by_others(ids)
        self._take_note([trial_id for trial_id in ids if trial_id not in held and trial_id not in self._again])
        owners = {owner for trial_id, owner in held.items() if trial_id in self._left}
        if owners - self._said:
            self._listener.phase(f"{len(held)} of the trials are done by {', '.join(sorted(owners))}; waiting for them")
            self._said |= owners
        return None

    def __iter__(self) -> Iterator[Trial]:
        """One trial after another, waiting for what others have claimed."""
        while not self.is_over:
            trial = self.next()
            if trial is not None:
                yield trial
            elif not self.is_over:
                time.sleep(POLL_SECONDS)

    def _take_note(self, trial_ids: list[str]) -> None:
        """Leave to others what they have stored meanwhile."""
        for trial_id in self._store.finished(trial_ids, include_failed=True):
            del self._left[trial_id]
            self._listener.finished(self._store.results(trial_ids=[trial_id])[0])

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Show that this run is alive; afterwards others may have what was handed out and has no result."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(self._claims.lease_seconds / BEATS):
                with suppress(Exception):  # a database that is busy: the next beat comes in time
                    self._claims.beat()

        thread = threading.Thread(target=beat, name="beat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            with suppress(StoreError):
                self._claims.release(self._taken)
