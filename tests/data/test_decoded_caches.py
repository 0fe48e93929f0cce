from __future__ import annotations

import json
from pathlib import Path

import pytest

from hdapbench.data.cache import DamagedCacheError, read_part


@pytest.mark.parametrize("header", [b"{'descr': '|u1', 'shape': (3,", b"{", b"\xff\xfe", b"(" * 400])
def test_an_array_whose_header_is_damaged_is_a_damaged_cache(tmp_path: Path, header: bytes) -> None:
    layout = {"classes": ["a"], "labels": [0], "shape": [1, 1, 1], "extras": [], "digest": "0" * 16}
    (tmp_path / "layout.json").write_text(json.dumps(layout))
    (tmp_path / "images.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)

    with pytest.raises(DamagedCacheError, match="is damaged"):
        read_part(tmp_path)
