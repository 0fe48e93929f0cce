"""Kinds of fleet: those of this package, and those that other packages offer by entry point."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    ConfigDict,
    Field,
    SerializeAsAny,
    TypeAdapter,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticKnownError

from hdapbench.errors import PluginError
from hdapbench.spec.command_fleet import CommandFleetSpec
from hdapbench.spec.fleets import FleetSpec, RecordedFleetSpec, SimulatedFleetSpec
from hdapbench.spec.local_fleet import LocalFleetSpec
from hdapbench.spec.plugins import load_plugin, plugin_names
from hdapbench.spec.ray_fleet import RayFleetSpec

GROUP = "hdapbench.fleets"
"""Entry point group under which packages offer kinds of fleet."""

BUILT_IN: dict[str, type[FleetSpec]] = {
    "simulated": SimulatedFleetSpec,
    "recorded": RecordedFleetSpec,
    "local": LocalFleetSpec,
    "command": CommandFleetSpec,
    "ray": RayFleetSpec,
}
"""Kind -> spec; what reads a spec knows these without looking for entry points."""


@dataclass(frozen=True)
class Opening:
    """What whoever opens a fleet gives it.

    Attributes
    ----------
    cache_dir
        Where fleets that run models keep the exported ones; None: nowhere for longer than the fleet.
    on_progress
        Told what fleets that run models are doing.
    on_lacking
        Told name and widths of plans that a fleet was asked for and cannot time now, though others can measure them.
    """

    cache_dir: Path | None = None
    on_progress: Callable[[str], None] | None = None
    on_lacking: Callable[[dict[str, tuple[int, ...]]], None] | None = None


@dataclass(frozen=True)
class FleetKind:
    """What an entry point of the group ``hdapbench.fleets`` names; its name is the kind.

    Attributes
    ----------
    spec
        Keys of such a fleet; its ``kind`` is a Literal of the name.
    open
        Makes the `hdapbench.fleet.base.Fleet` of such a spec.
    """

    spec: type[FleetSpec]
    open: Callable[[Any, Opening], Any]


def fleet_kind(name: str) -> FleetKind:
    """Kind of fleet of a name.

    Raises
    ------
    PluginError
        When no installed package offers it, or what it offers is no `FleetKind`.
    """
    found = load_plugin(GROUP, name)
    if not isinstance(found, FleetKind):
        raise PluginError(f"'{name}' in {GROUP} is {found!r}; offer a hdapbench.spec.FleetKind")
    return found


class _StoredFleetSpec(FleetSpec):
    """Stored spec of a kind that no installed package offers: boards can be built, and nothing can be measured."""

    model_config = ConfigDict(extra="allow")


def _of_any_kind(value: object, validate_built_in: ValidatorFunctionWrapHandler, info: ValidationInfo) -> object:
    kind = value.get("kind") if isinstance(value, dict) else None
    if isinstance(value, FleetSpec):
        return value
    if not isinstance(kind, str) or kind in BUILT_IN:
        return validate_built_in(value)
    others = [name for name in plugin_names(GROUP) if name not in BUILT_IN]
    if kind not in others and info.mode == "json":
        return _StoredFleetSpec.model_validate(value)
    if kind not in others:
        tags = ", ".join(map(repr, (*BUILT_IN, *others)))
        raise PydanticKnownError("union_tag_invalid", {"discriminator": "'kind'", "tag": kind, "expected_tags": tags})
    # With the other kinds beside it errors name the branch, as those of built-in kinds do.
    union: Any = SimulatedFleetSpec | fleet_kind(kind).spec
    return TypeAdapter(Annotated[union, Field(discriminator="kind")]).validate_python(value)


AnyFleetSpec = Annotated[
    SerializeAsAny[
        Annotated[
            SimulatedFleetSpec | RecordedFleetSpec | LocalFleetSpec | CommandFleetSpec | RayFleetSpec,
            Field(discriminator="kind"),
        ]
    ],
    WrapValidator(_of_any_kind),
]
"""Spec of any kind of fleet, told apart by ``kind``; the schema for editors shows the built-in ones.

JSON is taken for stored: its kind need not be installed.
"""
