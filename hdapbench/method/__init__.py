"""The door for method authors: what a method is, what it may ask, and how it is found, described and isolated."""

from hdapbench.method.base import Method
from hdapbench.method.budget import Budget
from hdapbench.method.problem import Problem
from hdapbench.plan import Plan

__all__ = ["Budget", "Method", "Plan", "Problem"]
