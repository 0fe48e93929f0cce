"""RayFleet: boards that joined a Ray cluster; a visit is a task that needs a board's resource."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from pathlib import Path

from hdapbench.errors import FleetError
from hdapbench.fleet.command.boards import RUNNER, BoardFleet
from hdapbench.fleet.command.calls import Said
from hdapbench.fleet.command.commands import fields_of, words_of
from hdapbench.fleet.ray.link import Link
from hdapbench.spec import RayFleetSpec
from hdapbench.spec.ray_fleet import PREFIX


class RayFleet(BoardFleet):
    """Boards of a spec or an inventory, each a node of a cluster. Two runs that ask for one board take turns.

    Parameters
    ----------
    spec
        The cluster and the boards.
    cache_dir
        Where exported models are kept; None: in a folder that goes with this process.
    on_progress
        Told what is being done, often.

    Raises
    ------
    FleetError
        When the inventory cannot be used, the cluster cannot be joined, no board is in it, or this is Windows.
    MissingExtraError
        When Ray is not installed.
    """

    def __init__(
        self, spec: RayFleetSpec, *, cache_dir: Path | None = None, on_progress: Callable[[str], None] | None = None
    ) -> None:
        super().__init__(spec, cache_dir=cache_dir, on_progress=on_progress)
        self.spec = spec
        self._link = Link(spec.address)
        weakref.finalize(self, self._link.close)
        there = self._link.resources()
        absent = [board.name for board in self._boards if spec.resource(board) not in there]
        if len(absent) == len(self._boards):
            known = boards_among(there)
            raise FleetError(
                f"none of the boards of fleet '{spec.name}' is in the Ray cluster at {spec.address}; there are: "
                f"{', '.join(known) or 'none'}; join with: ray start --address HOST:PORT --num-cpus 0 --resources "
                f"'{{\"{spec.resource(self._boards[0])}\": 1}}'"
            )

    def close(self) -> None:
        """Leave the cluster; the next measurement joins it again."""
        self._link.close()

    def _run(self, device: int, files: list[Path], runs: int) -> Said:
        board = self._boards[device]
        resource = self.spec.resource(board)
        values = {"models": [file.name for file in files], "runs": str(runs), "runner": RUNNER.name}
        about = {"name": board.name, "at": resource, "python": "{python}"}
        words = words_of(self.spec.run, values | about, shell=False)
        needed = {*files, *([RUNNER] if "runner" in fields_of(self.spec.run) else [])}
        return self._link.visit(
            resource, words, {file.name: file for file in sorted(needed)}, self.spec.timeout_seconds
        )


def boards_among(resources: Sequence[str], prefix: str = PREFIX) -> tuple[str, ...]:
    """Names of the boards among the resources of a cluster."""
    return tuple(sorted(name.removeprefix(prefix) for name in resources if name.startswith(prefix)))
