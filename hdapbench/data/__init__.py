"""Data sets, split into disjoint train, search and test images."""

from hdapbench.data.boxes import BoxSet
from hdapbench.data.images import DataSplits, ImageSet, Samples
from hdapbench.data.load import count_classes, load_data

__all__ = ["BoxSet", "DataSplits", "ImageSet", "Samples", "count_classes", "load_data"]
