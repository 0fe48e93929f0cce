"""Searchers over widths, under exact FLOPs limits: one with a certificate, and heuristics. Pure numpy but for cma."""

from hdapbench.search.exact import solve_exact, why_not_exact
from hdapbench.search.minimise import FALLBACK, Algorithm, minimise
from hdapbench.search.objective import AdditiveImportance, TableObjective
from hdapbench.search.space import SearchResult, SearchSpace

__all__ = [
    "FALLBACK",
    "AdditiveImportance",
    "Algorithm",
    "SearchResult",
    "SearchSpace",
    "TableObjective",
    "minimise",
    "solve_exact",
    "why_not_exact",
]
