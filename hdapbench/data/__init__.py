"""Data sets, split into disjoint train, search and test images.

dataset: what an entry point offers; `load_data`, the door. shipped: the data sets that ship.
images, boxes: batches of images with one class each, and with boxes. labelled, split: how images are held out.
folder, imagenet, speech, cifar: how sets of labelled images are laid out.
yolo, box_layout, box_labels, mosaic, scenes: the same of images with boxes, their augmentation, generated pictures.
source, reading, decode: files in folders and archives, decoded to pixels. cache, cached, live: kept decoded, or not.
"""

from hdapbench.data.boxes import BoxSet
from hdapbench.data.dataset import DataRequest, DataSet, count_classes, load_data
from hdapbench.data.images import DataSplits, ImageSet, Samples
from hdapbench.data.labelled import Labelled, split_labelled

__all__ = [
    "BoxSet",
    "DataRequest",
    "DataSet",
    "DataSplits",
    "ImageSet",
    "Labelled",
    "Samples",
    "count_classes",
    "load_data",
    "split_labelled",
]
