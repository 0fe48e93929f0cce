"""A spec of a tiny network, whose trials take a second."""

from __future__ import annotations

from pathlib import Path

import pytest

NET = """\
from torch import nn


def build(n_classes):
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 12, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, n_classes)
    )
"""


@pytest.fixture
def spec(tiny_spec: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Spec of a network in a file beside it; the current folder is the spec's."""
    monkeypatch.chdir(tiny_spec.parent)
    Path("net.py").write_text(NET)
    text = tiny_spec.read_text().replace("name: resnet20", 'name: "./net.py:build"')
    tiny_spec.write_text(text.replace("epochs: 1,", "epochs: 0.2,").replace("{flops: 0.3x}", "{flops: 0.8x}"))
    return tiny_spec
