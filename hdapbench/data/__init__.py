"""Data sets, split into disjoint train, search and test images."""

from hdapbench.data.images import DataSplits, ImageSet
from hdapbench.data.load import load_data

__all__ = ["DataSplits", "ImageSet", "load_data"]
