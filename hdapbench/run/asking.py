"""Ask and tell: plans that a recorded fleet lacks, as a job for boards that nothing reaches, and what they answered."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hdapbench.cost.kernel_file import kernels_from_dict, kernels_to_dict
from hdapbench.errors import FleetError
from hdapbench.files import replacing
from hdapbench.fleet.command.answers import AnswerError, References
from hdapbench.fleet.command.jobs import Job, read_result
from hdapbench.fleet.estimate.probes import choose_probes
from hdapbench.fleet.exports import ExportedModels
from hdapbench.fleet.recorded.matrix import LatencyMatrix, name_of_model
from hdapbench.plan import name_of_widths
from hdapbench.run.grid import base_directory, resolve_path
from hdapbench.run.inspection import count_classes
from hdapbench.run.waiting import read_wanted
from hdapbench.run.workspace import Workspace
from hdapbench.spec import LoadedSpec, RecordedFleetSpec, RuntimeSpec, did_you_mean


@dataclass(frozen=True)
class Told:
    """What results of a job brought.

    Attributes
    ----------
    recording
        The file that was filled.
    spec
        The spec that the job was asked for.
    plans
        Plans of the job.
    devices
        Boards whose samples were taken.
    known
        Boards that had these plans already: nothing was changed.
    refused
        Board -> why its result was not taken.
    """

    recording: str
    spec: str
    plans: tuple[str, ...]
    devices: tuple[str, ...]
    known: tuple[str, ...]
    refused: dict[str, str]


def recorded_fleet(loaded: LoadedSpec, name: str | None) -> RecordedFleetSpec:
    """The recorded fleet of a spec, or the one of that name.

    Raises
    ------
    FleetError
        When there is none, or several and no name was given.
    """
    fleets = {fleet.name: fleet for fleet in loaded.spec.fleets if isinstance(fleet, RecordedFleetSpec)}
    if not fleets:
        raise FleetError(f"{loaded.source} has no recorded fleet; write one with: kind: recorded, path: latencies.csv")
    if name is None and len(fleets) > 1:
        raise FleetError(f"{loaded.source} has {len(fleets)} recorded fleets; choose with --fleet: {', '.join(fleets)}")
    if name is not None and name not in fleets:
        raise FleetError(f"{loaded.source} has no recorded fleet '{name}'{did_you_mean(name, fleets)}")
    return fleets[name or next(iter(fleets))]


def ask(
    loaded: LoadedSpec, fleet: RecordedFleetSpec, workspace: Workspace, output: Path, *, rounds: int, whole: bool
) -> Job | None:
    """Job with the dense model, the probes and what the latest run waits for, as far as they are not recorded.

    None where nothing lacks.

    Parameters
    ----------
    output
        The zip archive to write.
    rounds
        Rounds over which the fleet's ``runs`` are spread.
    whole
        Whether to ask for recorded plans too: for boards that are new, or another day.

    Raises
    ------
    FleetError
        When the recording is of another layout than that which is filled here, or what a run noted is of another model.
    """
    from hdapbench.bench.network import trace
    from hdapbench.models import build_model

    matrix = LatencyMatrix(resolve_path(loaded, fleet.path))
    if matrix.path.suffix != ".csv":
        raise FleetError(f"'{matrix.path}': ask and tell fill .csv files; name one as path of fleet '{fleet.name}'")
    recorded = {plan for _, plan in matrix.measured()}
    model = loaded.spec.model.model_copy(update={"weights": None})
    n_classes = count_classes(loaded, cache_dir=workspace.cache)[0]
    network = trace(
        build_model(model, n_classes=n_classes, base_dir=base_directory(loaded)).eval(), loaded.spec.model.input_shape
    )
    probes = {name_of_widths(row): tuple(map(int, row)) for row in choose_probes(network.kernels)}
    wanted = probes | read_wanted(workspace.wanted / f"{loaded.spec.name}.json").get(fleet.name, {})
    if whole and recorded:
        of_model = matrix.known_plans().items()
        wanted |= {n: tuple(w.tolist()) for n, (k, w) in of_model if k.digest == network.kernels.digest}
    elif not whole:
        wanted = {plan: widths for plan, widths in wanted.items() if plan not in recorded}
    if not wanted:
        return None
    widths = np.array(list(wanted.values()), dtype=np.int64)
    if widths.shape[1] != len(network.cost.groups) or (widths > network.cost.sizes).any():
        raise FleetError(f"what the latest run waits for is of another model; run {loaded.source} again")
    exports, runtime = ExportedModels(workspace.cache / "exports"), RuntimeSpec()
    workloads = network.workloads(widths, tuple(wanted))
    files = [exports.reference(runtime), *(exports.file(workloads, i, runtime) for i in range(len(wanted)))]
    job = Job.of(tuple(wanted), files, runs=fleet.runs, rounds=rounds, seed=0)
    job.write(output, files, {} if whole else matrix.references)
    facts = model.model_dump(mode="json") | {"n_classes": n_classes}
    about = {
        "recording": str(matrix.path.resolve()),
        "spec": loaded.source,
        "model": name_of_model(model),
        "facts": facts,
        "kernels": kernels_to_dict(network.kernels, with_blocks=True),
        "widths": {name: list(widths) for name, widths in wanted.items()},
        "probes": list(probes),
    }
    with replacing(_noted(workspace, job.id)) as partial:
        partial.write_text(json.dumps({"job": asdict(job), "about": about}))
    return job


def tell(paths: Sequence[Path], workspace: Workspace, *, replace: bool) -> list[Told]:
    """What results of jobs brought, one for each job; each recording is written once for each job, whole.

    Parameters
    ----------
    replace
        Whether samples take the place of those that the same boards gave of the same plans before.

    Raises
    ------
    FleetError
        When a file is no result, or the job was asked from another workspace; nothing is written then.
    """
    results = [read_result(path) for path in paths]
    noted = {result.job: _asked(workspace, result.job) for result in results}
    found = []
    for job_id, (job, about) in noted.items():
        matrix = LatencyMatrix(Path(about["recording"]))
        before, references = matrix.measured(), References({} if replace else matrix.references)
        samples: dict[str, Any] = {}
        known, refused = [], {}
        for result in [result for result in results if result.job == job_id]:
            if not replace and all((result.device, plan) in before for plan in job.plans):
                known.append(result.device)
                continue
            try:
                samples[result.device] = job.samples(result.device, result.answers, references)
            except AnswerError as error:
                refused[result.device] = str(error)
        if samples:
            widths = {name: np.array(row, dtype=np.int64) for name, row in about["widths"].items()}
            matrix.describe(
                about["model"],
                about["facts"],
                kernels_from_dict(about["kernels"]),
                widths,
                probes=about["probes"],
                references={name: references.first_ms[name] for name in samples},
            )
            matrix.append(list(samples), job.plans, np.stack(list(samples.values())), replaces=True)
        found.append(Told(str(matrix.path), about["spec"], job.plans, tuple(samples), tuple(known), refused))
    return found


def _noted(workspace: Workspace, job_id: str) -> Path:
    return workspace.root / "jobs" / f"{job_id}.json"


def _asked(workspace: Workspace, job_id: str) -> tuple[Job, dict[str, Any]]:
    """A job that was asked from a workspace, and what it is about."""
    if not job_id.isalnum() or not _noted(workspace, job_id).exists():
        raise FleetError(
            f"job '{job_id[:40]}' was not asked from the workspace '{workspace.root}'; name the one where it was with "
            f"--workspace"
        )
    try:
        content = json.loads(_noted(workspace, job_id).read_text())
        job = content["job"]
        return Job(tuple(job["plans"]), job["runs"], tuple(job["visits"]), tuple(job["files"])), dict(content["about"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise FleetError(f"'{_noted(workspace, job_id)}' is damaged; ask again") from None
