"""Where the commands of this folder's tests run."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def in_the_folder_of_the_spec(tiny_spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A current directory that holds tiny.yaml and nothing else."""
    monkeypatch.chdir(tiny_spec.parent)
