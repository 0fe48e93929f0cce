"""Derivative-free searchers over widths, under an exact FLOPs constraint. Pure numpy."""

from hdapbench.search.exact import solve_exact, why_not_exact
from hdapbench.search.minimise import minimise
from hdapbench.search.objective import AdditiveImportance, NominalBoard, TableObjective, WeightedSum
from hdapbench.search.space import SearchResult, SearchSpace

__all__ = [
    "AdditiveImportance",
    "NominalBoard",
    "SearchResult",
    "SearchSpace",
    "TableObjective",
    "WeightedSum",
    "minimise",
    "solve_exact",
    "why_not_exact",
]
