"""Names of devices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload


@dataclass(frozen=True)
class NumberedIds(Sequence[str]):
    """Names ``prefix-0000``, ``prefix-0001``, ... made when asked for: a million of them take no memory."""

    prefix: str
    n: int

    def __len__(self) -> int:
        return self.n

    @overload
    def __getitem__(self, position: int) -> str: ...

    @overload
    def __getitem__(self, position: slice) -> Sequence[str]: ...

    def __getitem__(self, position: int | slice) -> str | Sequence[str]:
        if isinstance(position, slice):
            return tuple(f"{self.prefix}-{number:04d}" for number in range(self.n)[position])
        return f"{self.prefix}-{range(self.n)[position]:04d}"
