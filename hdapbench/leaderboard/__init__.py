"""Stored results to ranked boards.

- board: the values that a board is made of
- build: stored results to a board
- cells: what the seeds of a row measured, as arrays
- rows: rows of a section, compared and in order
- leads: methods against a reference at equal accuracy, over all targets
- comparing: two trials, rows or boards against each other
- warnings: what to know before a board is read
- labels: what rows are called
- bits: costs of quantised models, averaged over seeds
- statistics: intervals, comparisons and fronts, pure
"""
