"""Contracts for plug-in authors: as pytest suites, and of methods also as one call.

Subclass `MethodContract` and return the method from a fixture::

    class TestMine(MethodContract):
        @pytest.fixture
        def method(self):
            return Mine()

- ``contract``, ``checking``, ``rules``: the rules of methods as a suite and as one call, and how breaking one reads
- ``attempt``, ``problems``, ``models``: one call of a method on a tiny problem
- ``watch``, ``state``, ``divergence``, ``source_line``: what it did beside, and at which of its lines
- ``importing``, ``in_subprocess``: what its code does while it is imported, and in another process
- ``store_contract``: the rules of results stores
"""

from hdapbench.testing.checking import check_method, skipped_kinds
from hdapbench.testing.contract import MethodContract
from hdapbench.testing.problems import (
    KINDS,
    N_CLASSES,
    SIDE,
    ModelKind,
    RecordingProblem,
    tiny_data,
    tiny_model,
    tiny_problem,
    tiny_workbench,
)
from hdapbench.testing.rules import RULES, Violation
from hdapbench.testing.source_line import SourceLine, torch_import

__all__ = [
    "KINDS",
    "N_CLASSES",
    "RULES",
    "SIDE",
    "MethodContract",
    "ModelKind",
    "RecordingProblem",
    "SourceLine",
    "Violation",
    "check_method",
    "skipped_kinds",
    "tiny_data",
    "tiny_model",
    "tiny_problem",
    "tiny_workbench",
    "torch_import",
]
