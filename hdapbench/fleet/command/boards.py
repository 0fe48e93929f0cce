"""BoardFleet: real boards visited in rounds, however they are reached; who fails, lies or vanishes is quarantined."""

from __future__ import annotations

import shutil
import weakref
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hdapbench.arrays import Floats
from hdapbench.errors import printable
from hdapbench.fleet.base import DeviceLostError
from hdapbench.fleet.command import board_runner
from hdapbench.fleet.command.answers import AnswerError, References, ThrottledError, checked_samples, parsed
from hdapbench.fleet.command.calls import CallError, Said
from hdapbench.fleet.visits import MODELS_PER_VISIT, VisitedFleet, refuse_windows
from hdapbench.spec import BoardFleetSpec, RuntimeSpec

RUNNER = Path(board_runner.__file__)
TOLD = ("power_mode", "governor")
"""What a board says of its state that a board of results repeats, with the number of boards."""


class BoardFleet(VisitedFleet):
    """Boards of a spec or an inventory. One visit times the reference network, models, and the reference again.

    A board that fails, is throttled or does not answer in time, even when asked again, or that lies is quarantined for
    as long as the fleet is open.

    Parameters
    ----------
    spec
        The boards, and how visits are judged.
    cache_dir
        Where exported models are kept; None: in a folder that goes with this process.
    on_progress
        Told what is being done, often.

    Raises
    ------
    FleetError
        When the inventory cannot be used, or this is Windows.
    """

    most_per_visit = MODELS_PER_VISIT

    def __init__(
        self, spec: BoardFleetSpec, *, cache_dir: Path | None, on_progress: Callable[[str], None] | None
    ) -> None:
        refuse_windows(spec.kind)
        self._rules, self._boards = spec, spec.boards()
        runtime = RuntimeSpec(batch=spec.batch)
        super().__init__(spec, {board.name: runtime for board in self._boards}, cache_dir, on_progress)
        self.quarantined: dict[str, str] = {}
        self._references = References()
        self._states: dict[str, dict[str, Any]] = {}
        if self._scratch is not None:
            weakref.finalize(self, shutil.rmtree, self._scratch, ignore_errors=True)

    @abstractmethod
    def _run(self, device: int, files: list[Path], runs: int) -> Said:
        """What a board says of a visit, its last line the JSON of the runner.

        Raises
        ------
        CallError
            When it fails or takes too long; it may be asked again.
        """

    def _restarted(self, device: int) -> None:
        """Told when a visit failed: the board may have started anew."""

    def describe(self) -> dict[str, str | int | float]:
        """Boards, their states as far as they tell, and who is quarantined for which reason."""
        spec = self._rules
        facts: dict[str, str | int | float] = {"kind": spec.kind, "n_devices": self.n_devices, "batch": spec.batch}
        for name in TOLD:
            told = [str(state[name]) for state in self._states.values() if name in state]
            if told:
                counts = {value: told.count(value) for value in sorted(set(told))}
                facts[name] = printable("; ".join(f"{count}x {value}" for value, count in counts.items()))
        hottest = [max(zones.values()) for state in self._states.values() if (zones := _temperatures(state))]
        if hottest:
            facts["temperature"] = f"hottest sensors from {min(hottest):.0f} to {max(hottest):.0f} C"
        facts["drift"] = "divided out by a reference network" if spec.drift == "divide" else "kept"
        if self.quarantined:
            facts["quarantined"] = "; ".join(f"{name}: {reason}" for name, reason in self.quarantined.items())
        return facts

    def describe_devices(self) -> dict[str, Any]:
        """What each board last said of its clocks, temperatures, power and energy."""
        return {"boards": self._states} if self._states else {}

    def _visit(self, device: int, files: dict[int, Path], runs: int) -> dict[int, Floats]:
        """Times of each model on a board in ms, shape (runs,) each, drift divided out."""
        name = self.device_ids[device]
        for attempt in range(1 + self._rules.retries):
            if name in self.quarantined:
                break
            try:
                reference = self._exports.reference(self._runtimes[device])
                samples = self._timed(device, [reference, *files.values(), reference], runs)
                factor = self._references.slowdown(name, samples) if self._rules.drift == "divide" else 1.0
                return dict(zip(files, samples[1:-1] / factor, strict=True))
            except (CallError, ThrottledError) as error:
                if isinstance(error, CallError):
                    self._restarted(device)
                self._say(f"{name}: {error}")
                if attempt == self._rules.retries:
                    self._quarantine(name, str(error))
            except AnswerError as error:
                self._quarantine(name, str(error))
        raise DeviceLostError(device, f"fleet '{self.name}': {name} is quarantined: {self.quarantined[name]}")

    def _quarantine(self, name: str, reason: str) -> None:
        self.quarantined[name] = printable(" ".join(reason.split()))
        self._say(f"{name} is quarantined: {self.quarantined[name]}")

    def _timed(self, device: int, files: list[Path], runs: int) -> Floats:
        """Samples of a visit, shape (n_files, runs)."""
        said = self._run(device, files, runs)
        answer = parsed(said.output)
        samples = checked_samples(answer, n_models=len(files), runs=runs, seconds=said.seconds)
        state = answer.get("board")
        if isinstance(state, dict):
            self._states[self.device_ids[device]] = _plain(state)
        return samples


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """What a board says of itself, without what is no finite number, short text, or a list or mapping of these."""
    found: dict[str, Any] = {}
    for key, value in list(state.items())[:50]:
        if isinstance(value, dict):
            found[key[:80]] = _plain({inner: one for inner, one in value.items() if not isinstance(one, dict | list)})
        elif isinstance(value, list):
            found[key[:80]] = [one for one in value[:100] if isinstance(one, int | float) and np.isfinite(one)]
        elif isinstance(value, str):
            found[key[:80]] = printable(value[:80])
        elif isinstance(value, int | float) and np.isfinite(value):
            found[key[:80]] = value
    return found


def _temperatures(state: dict[str, Any]) -> dict[str, float]:
    zones = state.get("temperature_celsius")
    known = zones if isinstance(zones, dict) else {}
    return {name: float(value) for name, value in known.items() if isinstance(value, int | float)}
