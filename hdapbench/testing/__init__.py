"""The contract of methods, for plug-in authors: as a pytest suite, and as one call.

Subclass `MethodContract` and return the method from a fixture::

    class TestMine(MethodContract):
        @pytest.fixture
        def method(self):
            return Mine()
"""

from hdapbench.testing.checking import check_method, skipped_kinds
from hdapbench.testing.contract import MethodContract
from hdapbench.testing.place import Place, torch_import
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

__all__ = [
    "KINDS",
    "N_CLASSES",
    "RULES",
    "SIDE",
    "MethodContract",
    "ModelKind",
    "Place",
    "RecordingProblem",
    "Violation",
    "check_method",
    "skipped_kinds",
    "tiny_data",
    "tiny_model",
    "tiny_problem",
    "tiny_workbench",
    "torch_import",
]
