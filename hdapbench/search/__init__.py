"""Derivative-free searchers over widths, under an exact FLOPs constraint. Pure numpy."""

from hdapbench.search.minimise import minimise
from hdapbench.search.space import SearchResult, SearchSpace

__all__ = ["SearchResult", "SearchSpace", "minimise"]
