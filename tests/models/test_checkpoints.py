from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

import pytest
from torch import nn

from hdapbench.errors import ModelError
from hdapbench.models.checkpoint import ultralytics_state
from hdapbench.models.weights import load_weights


def test_an_archive_of_pipes_that_ends_like_a_zip_is_refused_without_waiting_for_them(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    with tarfile.open(path, "w") as archive:
        for name in ("storages", "tensors", "pickle"):
            member = tarfile.TarInfo(name)
            member.type = tarfile.FIFOTYPE
            archive.addfile(member)
    with zipfile.ZipFile(path, "a") as behind:
        behind.writestr("name", "content")

    assert zipfile.is_zipfile(path)
    assert ultralytics_state(path) is None
    with pytest.raises(ModelError, match="is not a file of torch"):
        load_weights(nn.Linear(1, 1), path)
