"""SkuProfile: what a board is, as data. Adding a board is adding a file."""

from __future__ import annotations

from functools import cache
from importlib import resources

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hdapbench.errors import FleetError, SpecError
from hdapbench.files import expand_path
from hdapbench.spec import did_you_mean
from hdapbench.spec.document import parse_document, path_text
from hdapbench.spec.messages import message

FOLDER = "fleet/simulated/skus"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PowerModel(_Part):
    """Power and heat: ``base + leakage + dynamic * f * v(f)**2`` in watts, throttled at a temperature."""

    base_watts: float = Field(ge=0)
    leakage_watts: float = Field(ge=0)
    dynamic_watts: float = Field(gt=0)
    voltage_floor: float = Field(ge=0, le=1)
    reference_mhz: float = Field(gt=0)
    minimum_mhz: float = Field(gt=0)
    throttle_celsius: float
    resistance_kelvin_per_watt: float = Field(gt=0)
    time_constant_seconds: float = Field(gt=0)


class PowerMode(_Part):
    """Clocks in MHz and the cap in watts of a power mode."""

    gpu_mhz: float = Field(gt=0)
    memory_mhz: float = Field(gt=0)
    cpu_mhz: float = Field(gt=0)
    watts: float = Field(gt=0)


class Calibration(_Part):
    """How far a profile may be trusted whose constants were fitted to measurements; errors are of plans left out.

    ``mape`` is the mean absolute relative error, ``within_10_share`` the share of plans within 10 %. ``mape_before`` is
    that of the profile it started from, ``mape_new_models`` that on models left out whole, where there were several.
    """

    source: str
    precision: str
    n_devices: int = Field(ge=1)
    n_plans: int = Field(ge=1)
    models: tuple[str, ...]
    mape: float = Field(ge=0)
    within_10_share: float = Field(ge=0, le=1)
    rank_correlation: float = Field(ge=-1, le=1)
    mape_before: float = Field(ge=0)
    mape_new_models: float | None = None
    fitted: dict[str, float]

    @property
    def text(self) -> str:
        """One line for boards."""
        return f"held-out error {self.mape:.1%}, {self.within_10_share:.0%} of {self.n_plans} plans within 10 %"


class SkuProfile(_Part):
    """Constants of a board; units are in the names. ``calibration`` is there where they were fitted to measurements."""

    name: str
    nominal_mode: str
    n_multiprocessors: int = Field(ge=1)
    fma_per_cycle: dict[str, int]
    gpu_mhz: float = Field(gt=0)
    memory_mhz: float = Field(gt=0)
    memory_bytes_per_cycle: float = Field(gt=0)
    memory_efficiency: float = Field(gt=0, le=1)
    cpu_mhz: float = Field(gt=0)
    efficiency: dict[str, float]
    depthwise_efficiency: float = Field(gt=0, le=1)
    launch_us: float = Field(ge=0)
    prologue_cycles: float = Field(ge=0)
    winograd_gain: float = Field(gt=0)
    power: PowerModel
    modes: dict[str, PowerMode]
    scenario_modes: dict[str, dict[str, float]]
    calibration: Calibration | None = None

    @model_validator(mode="after")
    def _consistent(self) -> SkuProfile:
        if set(self.fma_per_cycle) != set(self.efficiency):
            raise ValueError("fma_per_cycle and efficiency must name the same precisions")
        for scenario, shares in self.scenario_modes.items():
            if unknown := set(shares) - set(self.modes):
                raise ValueError(f"scenario_modes.{scenario} names unknown modes {sorted(unknown)}")
            if abs(sum(shares.values()) - 1) > 1e-9:
                raise ValueError(f"scenario_modes.{scenario} sums to {sum(shares.values())}, not 1")
        if self.nominal_mode not in self.modes:
            raise ValueError(f"nominal_mode '{self.nominal_mode}' is no mode")
        return self

    @property
    def cycles_per_ms(self) -> float:
        """GPU cycles per millisecond on the nominal board."""
        return self.gpu_mhz * 1000

    @property
    def bytes_per_ms(self) -> float:
        """Bytes from and to DRAM per millisecond on the nominal board."""
        return self.memory_mhz * 1000 * self.memory_bytes_per_cycle * self.memory_efficiency

    def check_precision(self, precision: str) -> None:
        """Raise `FleetError` unless the board computes in this precision."""
        if precision not in self.efficiency:
            raise FleetError(f"'{self.name}' does not compute in {precision}. Known: {', '.join(self.efficiency)}")


def known_skus() -> tuple[str, ...]:
    """Names of the boards that ship."""
    folder = resources.files("hdapbench").joinpath(FOLDER)
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")))


def load_profile(name: str) -> SkuProfile:
    """Profile of a board that ships, or of a YAML file of your own.

    Parameters
    ----------
    name
        Name of a board, or a path that ends in ``.yaml``.

    Raises
    ------
    FleetError
        When there is no such board or file, or the file is not a profile.
    """
    if name.endswith((".yaml", ".yml")):
        path = expand_path(name)
        if not path.is_file():
            raise FleetError(f"there is no SKU profile '{name}'; name a file, or one of: {', '.join(known_skus())}")
        return parse_profile(path.read_text(), name)
    return _shipped_profile(name)


@cache
def _shipped_profile(name: str) -> SkuProfile:
    if name not in known_skus():
        raise FleetError(
            f"unknown SKU '{name}'{did_you_mean(name, known_skus())}; for a board of your own, name its YAML file"
        )
    text = resources.files("hdapbench").joinpath(f"{FOLDER}/{name}.yaml").read_text()
    return parse_profile(text, f"{name}.yaml")


def parse_profile(text: str, source: str) -> SkuProfile:
    """Profile of YAML text; ``source`` names it in errors.

    Raises
    ------
    FleetError
        With every problem, one per line.
    """
    try:
        document = parse_document(text, source)
    except SpecError as error:
        raise FleetError(str(error)) from None
    problems = [(path, "not a finite number") for path in document.infinite()]
    try:
        found = SkuProfile.model_validate(document.values)
    except ValidationError as error:
        for details in error.errors():
            path = details["loc"]
            written = document.texts.get(path, repr(details["input"])[:60])
            problems.append((path, message(details, path, (SkuProfile,), written)))
    if problems:
        raise FleetError(
            "\n".join(f"{source} {path_text(path)}".strip() + f": {problem}" for path, problem in problems)
        )
    return found
