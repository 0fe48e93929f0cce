"""torch-pruning 1.6 (Fang et al. 2023, DepGraph) through the common contract."""

from .method import TorchPruning

__all__ = ["TorchPruning"]
