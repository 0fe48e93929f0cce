"""The door for method authors: what a method is, what it may ask, how it is found, described and isolated.

- ``base``: the base class of all methods
- ``problem``: what most methods ask; its parts ``devices``, ``training`` and ``quantization``: what few ask
- ``plans``: plans made from other plans, scores and knobs
- ``learned_latency``: latency of widths, learned from measured plans
- ``budget``: what a method may use up
- ``registry``: names -> classes, from entry points and files
- ``card``: what a method's docstring says of it
- ``isolation``: settings of the process that a method could spoil for others
"""

from hdapbench.method.base import Method
from hdapbench.method.budget import Budget
from hdapbench.method.problem import Problem
from hdapbench.plan import Plan
from hdapbench.tasks.regularizer import ResumableRegularizer

__all__ = ["Budget", "Method", "Plan", "Problem", "ResumableRegularizer"]
