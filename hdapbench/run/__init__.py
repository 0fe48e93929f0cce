"""From a spec to stored results: the grid of trials, and every plan's way to its numbers.

- ``grid``: a spec and the known methods -> trials
- ``inspection``: what a spec's model allows, without training
- ``dry_pass``: a network on a run's whole way with one batch, before anything is spent
- ``whole``: a spec's run as a whole, the same from a shell and from Python
- ``runner``: trials -> results; any exception of a trial becomes a row with a reason
- ``supply``: trials that are left, each claimed before it begins; ``sharding``: a part of them
- ``job``: what trials are carried out with, and the interface of executors
- ``prepare``: data, base model, trace and workbenches, made when the first trial needs them
- ``attempt``: one trial: a method's plan, evaluated, and its artifact written
- ``evaluate``: Compacted -> Quantized -> FineTuned -> Measured; the only module that sees the test split
- ``stages``: the values between these steps
- ``earlier``, ``rescoring``: plans found on an earlier recording of a fleet, scored on the present one
- ``waiting``, ``asking``: plans that a recorded fleet lacks, and jobs for boards that fill them in
- ``artifact``: compressed models on disk
- ``environment``, ``workspace``, ``listener``: where a result was obtained, what a run leaves behind, who watches
"""

import inspect
import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class _Room(ModuleType):
    """Type of the room, whose name ``hdapbench.run(...)`` has too: called, the room is `hdapbench.api.run`."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return import_module("hdapbench.api").run(*arguments, **options)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(import_module("hdapbench.api").run)


sys.modules[__name__].__class__ = _Room
