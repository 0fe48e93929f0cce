"""NNI 3.0's structural pruners through the common contract."""

from methods.nni.method import Nni

__all__ = ["Nni"]
