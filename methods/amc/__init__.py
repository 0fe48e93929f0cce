"""AMC (He et al. 2018): an agent decides group by group what share of channels stays, and learns from the accuracy."""

from .bits import AmcBits
from .method import Amc

__all__ = ["Amc", "AmcBits"]
