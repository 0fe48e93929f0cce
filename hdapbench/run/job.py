"""Job: what the trials of a run are carried out with, and the interface of whoever carries them out."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from hdapbench.method.registry import MethodRegistry
from hdapbench.run.earlier import EarlierResults
from hdapbench.run.listener import Listener
from hdapbench.run.supply import Supply
from hdapbench.run.waiting import Waits
from hdapbench.run.workspace import Workspace
from hdapbench.spec import LoadedSpec
from hdapbench.trial import Result


@dataclass(frozen=True)
class Job:
    """What the trials of a run are carried out with.

    Attributes
    ----------
    loaded
        The spec and where it came from.
    registry
        The methods, those of the spec's plug-ins included.
    workspace
        Where caches and artifacts go.
    bases
        Hash of base models that stored results began from -> torch that trained them.
    earlier
        Results on earlier recordings of the fleets.
    """

    loaded: LoadedSpec
    registry: MethodRegistry
    workspace: Workspace
    bases: Mapping[str, str]
    earlier: EarlierResults


def bases_of(stored: Sequence[Result]) -> dict[str, str]:
    """`Job.bases` of stored results."""
    return {str(found): result.environment.torch for result in stored if (found := result.notes.get("base_hash"))}


class Executor(Protocol):
    """Whoever carries out trials, here or elsewhere; the numbers are the same."""

    def ended(self, job: Job, supply: Supply, listener: Listener) -> Generator[Result | Waits, None, None]:
        """What came of each trial of a supply, as it ends.

        Raises
        ------
        HdapbenchError
            When no trial can be carried out: of what all of them need, something fails.
        """
