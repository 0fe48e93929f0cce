"""What of the whole process one method could spoil for the others, or for who reads results. Imports no torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

STDOUT, STDERR = 1, 2


@dataclass(frozen=True)
class Settings:
    """Working directory, numpy's error handling, and torch's settings, as it starts where it is not imported."""

    directory: str
    errors: Any
    dtype: Any
    gradients: bool
    threads: int | None

    @classmethod
    def now(cls) -> Settings:
        """Settings at this moment."""
        directory = str(os.getcwd())  # noqa: PTH109 - as it is, not resolved
        torch = sys.modules.get("torch")
        if torch is None:
            return cls(directory, np.geterr(), None, True, None)
        return cls(
            directory,
            np.geterr(),
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
            torch.get_num_threads(),
        )

    def restore(self) -> None:
        """Bring them back."""
        os.chdir(self.directory)
        np.seterr(**self.errors)
        torch = sys.modules.get("torch")
        if torch is None:
            return
        torch.set_default_dtype(self.dtype or torch.float32)
        torch.set_grad_enabled(self.gradients)
        if self.threads is not None and torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)

    def snapshot(self) -> dict[str, object]:
        """Name of each setting -> its value."""
        return {
            "the working directory": self.directory,
            "torch's default dtype": self.dtype,
            "torch's gradient mode": self.gradients,
            "torch's number of threads": self.threads,
            "numpy's error handling": self.errors,
        }


@contextmanager
def kept_settings() -> Iterator[None]:
    """Whatever a method's code changes, it is as before afterwards."""
    settings = Settings.now()
    try:
        yield
    finally:
        settings.restore()


@contextmanager
def stdout_kept_free() -> Iterator[None]:
    """Whatever prints goes to stderr, other processes and C code included: stdout is for results."""
    with ExitStack() as stack:
        with suppress(OSError):  # where there is no file behind either
            sys.stdout.flush()
            kept = os.dup(STDOUT)
            stack.callback(os.close, kept)
            os.dup2(STDERR, STDOUT)
            stack.callback(os.dup2, kept, STDOUT)
        stack.enter_context(redirect_stdout(sys.stderr))
        yield
