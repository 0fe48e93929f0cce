"""What a data set offers to be named in a spec, and the door through which the data of a spec are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hdapbench.data.decode import check_channels
from hdapbench.data.images import DataSplits
from hdapbench.data.reading import Reading
from hdapbench.data.source import Progress
from hdapbench.errors import DataError, PluginError
from hdapbench.files import expand_path
from hdapbench.spec import dataset_group
from hdapbench.spec.plugins import load_plugin

if TYPE_CHECKING:
    from hdapbench.spec import DataSpec


@dataclass(frozen=True)
class DataRequest:
    """What a data set is asked for.

    Attributes
    ----------
    spec
        Name, path, shares and augmentation.
    input_shape
        Channels, 1 or 3, height and width of one image.
    base_dir
        Folder that a relative ``spec.path`` starts from.
    cache_dir
        Where decoded images may be kept.
    on_progress
        Called with a line of text now and then, where it is given.
    """

    spec: DataSpec
    input_shape: tuple[int, int, int]
    base_dir: Path
    cache_dir: Path
    on_progress: Progress | None = None

    def reading(self, advice: str) -> Reading:
        """Reading of the files that the spec names.

        Raises
        ------
        DataError
            When it names none; ``advice`` says where to get the set and how to lay it out.
        """
        if self.spec.path is None:
            raise DataError(f"data.path is missing: {self.spec.name} needs to know where the images are; {advice}")
        source = self.base_dir / expand_path(self.spec.path)
        return Reading(source, self.input_shape, self.spec.corrupt, self.on_progress, decode=self.spec.decode)


@dataclass(frozen=True)
class DataSet:
    """What an entry point of the groups ``hdapbench.datasets`` and ``hdapbench.datasets.boxes`` names.

    Attributes
    ----------
    load
        Makes train, search and test images at the size and channels asked for: the same on every machine and in every
        call, and disjoint. It raises `DataError` where the set is absent, damaged or laid out otherwise.
    count_classes
        Counts the classes of the set at a path without decoding images; None where that is not possible.
    """

    load: Callable[[DataRequest], DataSplits]
    count_classes: Callable[[Path], int] | None = None


def load_data(
    spec: DataSpec,
    input_shape: tuple[int, int, int],
    *,
    base_dir: Path,
    cache_dir: Path,
    on_progress: Progress | None = None,
) -> DataSplits:
    """Train, search and test images of a spec, at the size and channels that the network takes.

    Parameters are those of `DataRequest`.

    Raises
    ------
    DataError
        When the data set is absent, damaged, or not laid out as expected.
    PluginError
        When no installed package offers the data set, or it cannot be used.
    """
    check_channels(input_shape)
    found = _data_set(spec.name).load(DataRequest(spec, input_shape, base_dir, cache_dir, on_progress))
    if not isinstance(found, DataSplits):
        raise PluginError(f"the data set '{spec.name}' returned {found!r:.60}; return a hdapbench.data.DataSplits")
    return found


def count_classes(name: str, source: Path) -> int | None:
    """Classes of a set, found without decoding images; None of a set that knows them only once it is loaded.

    Parameters
    ----------
    name
        Set as in the spec.
    source
        Folder, archive or data yaml.

    Raises
    ------
    DataError
        When there is no such set at ``source``.
    PluginError
        When no installed package offers the data set, or it cannot be used.
    """
    count = _data_set(name).count_classes
    return None if count is None else count(source)


def _data_set(name: str) -> DataSet:
    group = dataset_group(name)
    found = load_plugin(group, name)
    if not isinstance(found, DataSet):
        raise PluginError(f"'{name}' in {group} is {found!r}; offer a hdapbench.data.DataSet")
    return found
