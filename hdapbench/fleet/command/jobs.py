"""Jobs: models and the orders in which to time them, as one file for boards that nothing reaches; and their results."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hdapbench.arrays import Floats
from hdapbench.errors import FleetError
from hdapbench.files import file_hash, replacing
from hdapbench.fleet.command.answers import AnswerError, References, checked_samples
from hdapbench.fleet.command.board_runner import FORMAT
from hdapbench.fleet.command.boards import RUNNER
from hdapbench.fleet.visits import MODELS_PER_VISIT

RUNNER_NAME = "__main__.py"
"""So that ``python3 job.zip`` runs it."""
_REFERENCE = 0
_DATE = (1980, 1, 1, 0, 0, 0)
"""Of all files in a job: equal jobs are equal bytes."""


@dataclass(frozen=True)
class Job:
    """What boards are asked for.

    Attributes
    ----------
    plans
        Names of the plans, in the order of the models after the reference network.
    runs
        Timed runs of each plan in all rounds together.
    visits
        Models of each visit by number, the reference network (0) first and last, and runs of each.
    files
        Hashes of the models, the reference network first.
    """

    plans: tuple[str, ...]
    runs: int
    visits: tuple[dict[str, Any], ...]
    files: tuple[str, ...]

    @property
    def id(self) -> str:
        """Sixteen hexadecimal digits that depend on the content alone."""
        return hashlib.sha256(json.dumps([self.plans, self.visits, self.files]).encode()).hexdigest()[:16]

    @classmethod
    def of(cls, plans: Sequence[str], files: Sequence[Path], *, runs: int, rounds: int, seed: int) -> Job:
        """Job of some plans, each round in an order of its own.

        Parameters
        ----------
        files
            Models, shape (1 + n_plans,), the reference network first.
        """
        rng = np.random.default_rng([seed, len(plans)])
        visits = []
        parts = np.diff(np.linspace(0, runs, min(rounds, runs) + 1).astype(int))
        for n_runs in parts.tolist():
            order = (1 + rng.permutation(len(plans))).tolist()
            for start in range(0, len(order), MODELS_PER_VISIT):
                models = [_REFERENCE, *order[start : start + MODELS_PER_VISIT], _REFERENCE]
                visits.append({"models": models, "runs": n_runs})
        return cls(tuple(plans), runs, tuple(visits), tuple(map(file_hash, files)))

    def write(self, path: Path, files: Sequence[Path], references: Mapping[str, float]) -> None:
        """Write the job with its models and the runner as a zip archive.

        Parameters
        ----------
        references
            What the reference network took on boards of earlier jobs in ms: a board repeats what it times while slower.
        """
        manifest = {
            "format": FORMAT,
            "job": self.id,
            "models": [{"file": f"models/{number}.onnx", "sha256": known} for number, known in enumerate(self.files)],
            "plans": self.plans,
            "references": dict(references),
            "runs": self.runs,
            "visits": self.visits,
        }
        with replacing(path) as partial, zipfile.ZipFile(partial, "w") as archive:
            contents = {"job.json": json.dumps(manifest, indent=1).encode(), RUNNER_NAME: RUNNER.read_bytes()}
            for name, content in contents.items():
                archive.writestr(zipfile.ZipInfo(name, _DATE), content, zipfile.ZIP_DEFLATED)
            for number, file in enumerate(files):
                entry = zipfile.ZipInfo(f"models/{number}.onnx", _DATE)
                archive.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED)

    def samples(self, device: str, answers: Sequence[Any], references: References) -> Floats:
        """Samples of each plan on a board in ms, shape (n_plans, runs), drift divided out.

        Parameters
        ----------
        references
            What the reference network took on boards of earlier jobs; this board's is added where it is new.

        Raises
        ------
        AnswerError
            When an answer is missing or cannot be used.
        """
        if len(answers) < len(self.visits):
            raise AnswerError(
                f"it has {len(answers)} of {len(self.visits)} visits; start the runner again on the board, it goes on"
            )
        found: list[list[float]] = [[] for _ in self.plans]
        for visit, answer in zip(self.visits, answers, strict=True):
            if not isinstance(answer, dict):
                raise AnswerError("an answer is no mapping")
            seconds = answer.get("seconds")
            known = float(seconds) if isinstance(seconds, int | float) else None
            timed = checked_samples(answer, n_models=len(visit["models"]), runs=visit["runs"], seconds=known)
            factor = references.slowdown(device, timed)
            for model, values in zip(visit["models"][1:-1], timed[1:-1], strict=True):
                found[model - 1] += (values / factor).tolist()
        return np.array(found)


@dataclass(frozen=True)
class JobResult:
    """What a board made of a job: its id, the board's name, and an answer for each visit."""

    job: str
    device: str
    answers: tuple[Any, ...]


def read_result(path: Path) -> JobResult:
    """Result that the runner wrote.

    Raises
    ------
    FleetError
        When the file is none.
    """
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        job, device, answers = content["job"], content["device"], content["answers"]
        known = isinstance(job, str) and isinstance(device, str) and isinstance(answers, list)
    except OSError as error:
        raise FleetError(f"'{path}' cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        known = False
    if not known or not device.strip():
        raise FleetError(f"'{path}' is no result of a job; boards write them with: python3 job.zip --device NAME")
    return JobResult(job, device, tuple(answers))
