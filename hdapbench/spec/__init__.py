"""The spec: what a benchmark is, read strictly from YAML. Imports no torch."""

from hdapbench.spec.base import did_you_mean
from hdapbench.spec.clustering import ClusteringSpec
from hdapbench.spec.document import path_text
from hdapbench.spec.fleet_kinds import AnyFleetSpec, FleetKind, Opening
from hdapbench.spec.fleets import (
    FleetSpec,
    NoiseSpec,
    RecordedFleetSpec,
    ScenarioSpec,
    SimulatedFleetSpec,
)
from hdapbench.spec.loader import (
    LoadedSpec,
    canonical_json,
    context_hash,
    load,
    load_fleets,
    load_spec,
    problem_at,
    schema_json,
    spec_hash,
)
from hdapbench.spec.local_fleet import ConditionsSpec, LocalDeviceSpec, LocalFleetSpec, LocalKindSpec
from hdapbench.spec.runtime import RuntimeSpec
from hdapbench.spec.schema import (
    BaseRecipe,
    BudgetSpec,
    DataSpec,
    DistillationSpec,
    MethodSpec,
    ModelSpec,
    NormalizeSpec,
    Recipe,
    Spec,
    TargetSpec,
)
from hdapbench.spec.units import CostTarget, FlopsTarget, TargetKind, parse_flops, parse_target

__all__ = [
    "AnyFleetSpec",
    "BaseRecipe",
    "BudgetSpec",
    "ClusteringSpec",
    "ConditionsSpec",
    "CostTarget",
    "DataSpec",
    "DistillationSpec",
    "FleetKind",
    "FleetSpec",
    "FlopsTarget",
    "LoadedSpec",
    "LocalDeviceSpec",
    "LocalFleetSpec",
    "LocalKindSpec",
    "MethodSpec",
    "ModelSpec",
    "NoiseSpec",
    "NormalizeSpec",
    "Opening",
    "Recipe",
    "RecordedFleetSpec",
    "RuntimeSpec",
    "ScenarioSpec",
    "SimulatedFleetSpec",
    "Spec",
    "TargetKind",
    "TargetSpec",
    "canonical_json",
    "context_hash",
    "did_you_mean",
    "load",
    "load_fleets",
    "load_spec",
    "parse_flops",
    "parse_target",
    "path_text",
    "problem_at",
    "schema_json",
    "spec_hash",
]
