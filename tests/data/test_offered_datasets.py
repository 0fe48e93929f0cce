"""Data sets that installed packages offer."""

from __future__ import annotations

from pathlib import Path

import pytest

from hdapbench.data import DataSet, count_classes, load_data
from hdapbench.errors import PluginError, SpecError
from hdapbench.spec import DataSpec, Spec, canonical_json, load_spec
from hdapbench.spec.plugins import load_plugin
from hdapbench.testing.dataset_contract import DatasetContract


class TestDigits(DatasetContract):
    @pytest.fixture
    def dataset(self) -> DataSet:
        return load_plugin("hdapbench.datasets", "digits")


class TestADataSetThatPipInstalled(DatasetContract):
    @pytest.fixture
    def dataset(self, installed: Path) -> DataSet:
        return load_plugin("hdapbench.datasets", "leading-halves")


def test_a_spec_names_a_data_set_of_another_package(installed: Path, tiny_spec: Path) -> None:
    tiny_spec.write_text(tiny_spec.read_text().replace("name: digits", "name: leading-halves, augment: shift"))

    spec = load_spec(tiny_spec)
    data = load_data(spec.data, spec.model.input_shape, base_dir=tiny_spec.parent, cache_dir=tiny_spec.parent)

    assert (data.n_classes, len(data.train), len(data.search), len(data.test)) == (2, 90, 10, 20)
    with pytest.raises(SpecError, match=r"data\.name: leading-halves is not for task: detection; it needs digit-scene"):
        load_spec(tiny_spec, ["task=detection", "data.augment=none"])


def test_a_stored_spec_is_read_without_the_package_and_a_file_is_refused(tiny_spec: Path) -> None:
    stored = canonical_json(load_spec(tiny_spec)).replace('"name":"digits"', '"name":"leading-halves"')
    tiny_spec.write_text(tiny_spec.read_text().replace("name: digits", "name: leading-halves"))

    assert Spec.model_validate_json(stored).data.name == "leading-halves"
    with pytest.raises(SpecError, match=r"data\.name: unknown value 'leading-halves'"):
        load_spec(tiny_spec)
    with pytest.raises(PluginError, match=r"no installed package offers 'leading-halves' in hdapbench\.datasets"):
        count_classes("leading-halves", tiny_spec)


def test_what_is_no_data_set_says_what_to_offer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "wrong-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: wrong\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[hdapbench.datasets]\nwrong = hdapbench.data:load_data\n")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(PluginError, match=r"'wrong' in hdapbench\.datasets is .*; offer a hdapbench\.data\.DataSet"):
        load_data(DataSpec(name="wrong"), (1, 8, 8), base_dir=tmp_path, cache_dir=tmp_path)
