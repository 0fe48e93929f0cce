"""Exact costs of a plan in closed form, from one trace."""
