"""The spec: what a benchmark is, read strictly from YAML. Imports no torch.

document: YAML text, and where its values stand.
loader: a file as a checked spec, with all problems at once.
schema: the keys of a spec.
methods: keys of its targets and methods.
data: keys of its data, and names of data sets.
fleets: keys of simulated and recorded fleets.
fleet_kinds: kinds of fleet by entry point.
local_fleet: keys of a fleet of local processes.
board_fleet: keys that fleets of real boards share.
command_fleet: keys of a fleet of boards that commands reach.
ray_fleet: keys of a fleet of boards in a Ray cluster.
clustering: keys of a fleet's clustering.
runtime: keys of a runtime.
units: targets as people write them.
code: what names of code stand for, by content.
plugins: what installed packages offer by entry point.
messages: what is wrong, in the author's words.
base: what all parts are made of.
"""

from hdapbench.spec.base import as_name, did_you_mean
from hdapbench.spec.board_fleet import BoardFleetSpec, BoardSpec
from hdapbench.spec.clustering import ClusteringSpec
from hdapbench.spec.command_fleet import CommandFleetSpec
from hdapbench.spec.data import DataSpec, NormalizeSpec, dataset_group
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
from hdapbench.spec.methods import MethodSpec
from hdapbench.spec.ray_fleet import RayFleetSpec
from hdapbench.spec.runtime import RuntimeSpec
from hdapbench.spec.schema import (
    BaseRecipe,
    BudgetSpec,
    DistillationSpec,
    ModelSpec,
    RankingSpec,
    Recipe,
    Spec,
    TeacherSpec,
)
from hdapbench.spec.units import CostTarget, TargetKind, parse_flops, parse_target

__all__ = [
    "AnyFleetSpec",
    "BaseRecipe",
    "BoardFleetSpec",
    "BoardSpec",
    "BudgetSpec",
    "ClusteringSpec",
    "CommandFleetSpec",
    "ConditionsSpec",
    "CostTarget",
    "DataSpec",
    "DistillationSpec",
    "FleetKind",
    "FleetSpec",
    "LoadedSpec",
    "LocalDeviceSpec",
    "LocalFleetSpec",
    "LocalKindSpec",
    "MethodSpec",
    "ModelSpec",
    "NoiseSpec",
    "NormalizeSpec",
    "Opening",
    "RankingSpec",
    "RayFleetSpec",
    "Recipe",
    "RecordedFleetSpec",
    "RuntimeSpec",
    "ScenarioSpec",
    "SimulatedFleetSpec",
    "Spec",
    "TargetKind",
    "TeacherSpec",
    "as_name",
    "canonical_json",
    "context_hash",
    "dataset_group",
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
