"""Data sets, split into disjoint train, search and test images.

load: what an entry point offers, and `load_data`, the door.
shipped: the data sets that ship.
images: batches of images of one class each.
boxes: batches of images with boxes.
labelled: images of one class each, held out and normalised.
split: stratified orders, of which parts are slices.
folder: images in folders named by class.
imagenet: ImageNet and Tiny ImageNet as they are published.
speech: Speech Commands, and cepstral coefficients of a recording.
cifar: CIFAR-10's pickled batches.
yolo: detection sets in ultralytics' layout.
box_layout: their data yamls.
box_labels: their label files.
mosaic: augmentation of images with boxes.
scenes: generated pictures of digits.
source: files in folders and tar archives, links followed.
archive: tar archives read in place, with limits.
kinds: kinds of files by their names, and names as they are shown.
reading: files decoded in parallel.
decode: pixels of one file, at the size and channels of the network.
cache: decoded images on disk.
cached: parts from the cache, written first where they are missing.
live: images decoded whenever they are needed.
"""

from hdapbench.data.boxes import BoxSet
from hdapbench.data.images import DataSplits, ImageSet, Samples, training_batches
from hdapbench.data.labelled import Labelled, split_labelled
from hdapbench.data.load import DataRequest, DataSet, count_classes, load_data

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
    "training_batches",
]
