"""Plans that a recording lacks, or holds of another network."""

from __future__ import annotations

from collections.abc import Callable, Collection

from hdapbench.errors import FleetError
from hdapbench.fleet.base import Workloads
from hdapbench.fleet.recorded.matrix import LatencyMatrix
from hdapbench.plan import name_of_widths

OnLacking = Callable[[dict[str, tuple[int, ...]]], None]


def require_recorded(
    workloads: Workloads, recorded: Collection[str], matrix: LatencyMatrix, *, on_lacking: OnLacking | None
) -> None:
    """Raise `FleetError` unless plans that are named after their widths are recorded, and of this network.

    Parameters
    ----------
    recorded
        Names of all recorded plans.
    matrix
        The recording; beside it may stand which network its plans are of.
    on_lacking
        Told name and widths of all plans that lack.
    """
    named = [plan == name_of_widths(widths) for plan, widths in zip(workloads.ids, workloads.widths, strict=True)]
    known = set(recorded)
    lacking = [i for i, plan in enumerate(workloads.ids) if named[i] and plan not in known]
    if lacking:
        if on_lacking is not None:
            on_lacking({workloads.ids[i]: tuple(map(int, workloads.widths[i])) for i in lacking})
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        raise FleetError(
            f"{matrix.path}: not recorded yet: '{workloads.ids[lacking[0]]}'{more}; "
            f"have them measured with: hdapbench fleet ask SPEC -o job.zip"
        )
    for plan in [plan for i, plan in enumerate(workloads.ids) if named[i]]:
        if matrix.digest_of(plan) not in (None, workloads.kernels.digest):
            raise FleetError(
                f"{matrix.path}: plan '{plan}' was recorded of another network ({matrix.model_of(plan)}); "
                f"name a file of its own for each network"
            )
