"""Stored results to ranked boards, with all statistics.

- build: rows, ranks, gaps and provenance of a board, from stored results
- statistics: how sure a number is, whether rows differ, Pareto fronts and leads at equal accuracy
- bits: costs of quantised models, averaged over seeds
"""
