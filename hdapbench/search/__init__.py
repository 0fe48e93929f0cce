"""Searchers over widths, under exact FLOPs limits: one with a certificate, and heuristics. Pure numpy but for cma.

- ``space``: SearchSpace, the problem; Archive and SearchResult, what a search remembers and returns
- ``objective``: objectives and importances that are sums of tables
- ``minimise``: an algorithm by name, within a number of evaluations
- ``repair``: plans brought within all limits
- ``exact``: the search with a bound, from the modules ``levels`` to ``branch``
- ``levels``: the widths that groups may take
- ``graph``: objective, FLOPs and importance as tables over levels
- ``eliminate``: exact minimum of a sum of tables
- ``dual``, ``cutting_planes``: the best lower bound that prices on the limits give, and its linear program
- ``refine``: local refinement on tables
- ``enumerate``: all plans that could still be better
- ``branch``: branch and bound
- ``genetic``, ``cma_es``, ``ncs``, ``greedy``, ``random``: heuristics
- ``exchange``: their local refinement
- ``knapsack``: multiple-choice knapsack
"""

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
