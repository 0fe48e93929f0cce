"""The environment that results are obtained in, and what is missing from it."""

from __future__ import annotations

import platform
from functools import cache
from importlib import metadata

from hdapbench import __version__
from hdapbench.trial import Environment


def package_version(name: str) -> str | None:
    """Installed version of a distribution, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


@cache
def _processor() -> str:
    return f"{platform.system()} {platform.machine()}"


def current_environment() -> Environment:
    """Versions and threads of this process; imports torch."""
    import torch

    return Environment(
        hdapbench=__version__,
        python=platform.python_version(),
        platform=_processor(),
        torch=torch.__version__,
        torchvision=package_version("torchvision") or "absent",
        torch_pruning=package_version("torch-pruning") or "absent",
        numpy=package_version("numpy") or "absent",
        threads=torch.get_num_threads(),
    )
