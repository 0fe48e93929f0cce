"""CommandFleet: boards that commands reach; a visit is one command, models are pushed by another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hdapbench.fleet.command.boards import RUNNER, BoardFleet
from hdapbench.fleet.command.calls import Said, call
from hdapbench.fleet.command.commands import fields_of, words_of
from hdapbench.spec import CommandFleetSpec


class CommandFleet(BoardFleet):
    """Boards of a spec or an inventory, each reached by the spec's commands.

    Parameters
    ----------
    spec
        The boards, and how they are reached.
    cache_dir
        Where exported models are kept; None: in a folder that goes with this process.
    on_progress
        Told what is being done, often.

    Raises
    ------
    FleetError
        When the inventory cannot be used, or this is Windows.
    """

    def __init__(
        self,
        spec: CommandFleetSpec,
        *,
        cache_dir: Path | None = None,
        on_progress: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(spec, cache_dir=cache_dir, on_progress=on_progress)
        self.spec = spec
        self._pushed: dict[str, set[Path]] = {name: set() for name in self.device_ids}

    def _restarted(self, device: int) -> None:
        self._pushed[self.device_ids[device]].clear()

    def _run(self, device: int, files: list[Path], runs: int) -> Said:
        """Output of the command, after the files that the board lacks were pushed."""
        pushed = self._pushed[self.device_ids[device]]
        needed = {*files, *([RUNNER] if "runner" in fields_of(self.spec.run) else [])}
        for file in sorted(needed - pushed):
            if self.spec.push is not None:
                self._call(self.spec.push, device, {"file": str(file), "remote": self._place(file)})
            pushed.add(file)
        models = [self._place(file) for file in files]
        return self._call(self.spec.run, device, {"models": models, "runs": str(runs), "runner": self._place(RUNNER)})

    def _call(self, template: str, device: int, values: dict[str, str | list[str]]) -> Said:
        board = self._boards[device]
        words = words_of(template, values | {"name": board.name, "at": board.at or board.name}, shell=self.spec.shell)
        return call(words, timeout=self.spec.timeout_seconds)

    def _place(self, file: Path) -> str:
        """Where a board finds a file."""
        return str(file) if self.spec.push is None else f"{self.spec.remote_dir.rstrip('/')}/{file.name}"
