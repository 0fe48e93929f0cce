"""NNI 3.0's structural pruners through the common contract."""

from .method import Nni

__all__ = ["Nni"]
