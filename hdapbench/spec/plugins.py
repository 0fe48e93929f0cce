"""What installed packages offer by entry point: data sets, kinds of fleet, runtimes. Imported only when it is named."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

from hdapbench.errors import PluginError
from hdapbench.spec.base import did_you_mean


def plugin_names(group: str) -> tuple[str, ...]:
    """Names of all plug-ins of an entry point group such as ``hdapbench.fleets``, sorted; nothing is imported."""
    return tuple(sorted(entry_points(group=group).names))


def load_plugin(group: str, name: str) -> Any:
    """Object that a plug-in's entry point names; whoever loads it checks what it is.

    Raises
    ------
    PluginError
        When no installed package offers the name, two packages do, or the import fails.
    """
    found = {point.value: point for point in entry_points(group=group, name=name)}
    if not found:
        raise PluginError(f"no installed package offers '{name}' in {group}{did_you_mean(name, plugin_names(group))}")
    if len(found) > 1:
        offers = " and ".join(sorted(map(_offer, found.values())))
        raise PluginError(f"two packages offer '{name}' in {group}: {offers}; uninstall one")
    (point,) = found.values()
    try:
        return point.load()
    except Exception as error:
        told = " ".join(str(error).split())
        raise PluginError(f"'{name}' of {_offer(point)} cannot be imported: {type(error).__name__}: {told}") from error


def _offer(point: EntryPoint) -> str:
    """Package, version and object of an entry point."""
    return f"{point.dist.name} {point.dist.version} ({point.value})" if point.dist is not None else point.value
