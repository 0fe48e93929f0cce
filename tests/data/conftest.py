from __future__ import annotations

import os
from pathlib import Path

import pytest

BESIDE_CHECKOUT = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture
def data_root() -> Path:
    """Folder of the real data sets: $HDAPBENCH_DATA, or shared/data beside the checkout."""
    root = Path(os.environ.get("HDAPBENCH_DATA") or BESIDE_CHECKOUT)
    if not root.is_dir():
        pytest.skip("real data is absent; set HDAPBENCH_DATA to the folder that holds cifar10/")
    return root
