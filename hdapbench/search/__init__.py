"""Derivative-free searchers over widths, under an exact FLOPs constraint. Pure numpy."""

from hdapbench.search.space import SearchResult, SearchSpace, minimise

__all__ = ["SearchResult", "SearchSpace", "minimise"]
