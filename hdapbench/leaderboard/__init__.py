"""Stored results to ranked boards, with all statistics.

- build: rows, ranks, gaps and provenance of a board, from stored results
- statistics: intervals over seeds, overlap, dominance and the Pareto front
- bits: costs of quantised models, averaged over seeds
"""
