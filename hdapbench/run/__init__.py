"""Specs to stored results: the grid of trials, the runner, and the evaluation of every plan."""
