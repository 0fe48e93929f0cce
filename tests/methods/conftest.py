"""What tests of all methods share."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _busy_machines_take_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A method may take longer than users wait for; one that never ends is pytest's affair."""
    monkeypatch.setattr("hdapbench.testing.attempt.LONGEST_SECONDS", 1500.0)
