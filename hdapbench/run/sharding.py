"""Shards: parts of a spec's trials for machines that share no store."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from hdapbench.errors import ExecutorError
from hdapbench.trial import DENSE, Trial


@dataclass(frozen=True)
class Shard:
    """One of several parts of a spec's trials, by their position. ``number`` counts from 1."""

    number: int
    n_shards: int

    @classmethod
    def read(cls, text: str) -> Self:
        """Shard of a text such as ``2/5``.

        Raises
        ------
        ExecutorError
            When it is none.
        """
        found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise ExecutorError(f"'{text}' is no shard; write I/N with I from 1 to N, such as 1/3")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.n_shards}"

    @property
    def stem(self) -> str:
        """The shard as a part of a file's name."""
        return f"{self.number}-of-{self.n_shards}"

    def of(self, trials: Sequence[Trial]) -> list[Trial]:
        """Its part of all trials of a spec, and the dense model: by it shards are known to belong together."""
        others = [trial for trial in trials if trial.method != DENSE]
        own = {trial.id for trial in others[self.number - 1 :: self.n_shards]}
        return [trial for trial in trials if trial.method == DENSE or trial.id in own]
