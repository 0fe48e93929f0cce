"""What nobody asks for any more: results, artifacts and caches of a workspace, and how much they take."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hdapbench.files import sweep_leftovers
from hdapbench.run.workspace import Workspace
from hdapbench.store.sqlite import Registered, Store
from hdapbench.trial import DENSE

FRESH_SECONDS = 3600.0
"""Artifacts and caches without a result that are younger may belong to a trial that still runs."""

ENDED_SECONDS = 30 * 24 * 3600.0
"""Checkpoints of base models that are older are nobody's any more."""

MADE_AGAIN = ("data", "exports", "inspection", "contents")
"""Caches that no benchmark names, and that are made again where they are missed."""


@dataclass(frozen=True)
class Removal:
    """What is to be removed.

    Attributes
    ----------
    trial_ids
        Trials whose results are.
    specs
        Registered specs.
    paths
        Files and folders.
    """

    trial_ids: set[str]
    specs: list[Registered]
    paths: list[Path]

    @property
    def n_bytes(self) -> int:
        """Size of the files."""
        return sum(_size(path) for path in self.paths)

    def carry_out(self, store: Store) -> None:
        """Remove it all; the results first, so that no result is left without its files."""
        store.remove(self.trial_ids, self.specs)
        for path in self.paths:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def of_names(store: Store, workspace: Workspace, names: Sequence[str]) -> Removal:
    """Benchmarks and trials of these names or ids, but for results that another benchmark names too.

    Raises
    ------
    StoreError
        When there is none of such a name, and no trial whose id begins so.
    """
    registered = store.registered()
    known = {spec.name for spec in registered}
    trials = {store.get(name).trial.id for name in names if name not in known}
    specs = [spec for spec in registered if spec.name in names]
    theirs = _trials(specs) & store.trial_ids()
    others = _trials(spec for spec in registered if spec.name not in names)
    return _removal(workspace, trials | (theirs - others), specs)


def unnamed(store: Store, workspace: Workspace, *, former: bool, caches: bool) -> Removal:
    """What no registered benchmark names: explorations of one that is, and what is left of what was removed.

    Parameters
    ----------
    former
        Whether specs name trials that were registered before the one shown under their name.
    caches
        Whether to remove caches of data, exports and inspections too, which are made again where they are missed.
    """
    sweep_leftovers(workspace.root)
    shown: dict[str, Registered] = {}
    kept_specs: list[Registered] = []
    dropped: list[Registered] = []
    for spec in store.registered():
        is_kept = shown.setdefault(spec.name, spec) is spec or (former and not spec.explores)
        (kept_specs if is_kept else dropped).append(spec)
    stored, named = store.trial_ids(), _trials(kept_specs)
    found = _removal(workspace, stored - named, dropped)
    results = store.results(trial_ids=list(store.finished(sorted(named & stored), include_failed=True)))
    plans = [result.plan for result in results if result.plan is not None]
    handles = {handle for plan in plans for handle in (plan.weights, plan.file) if handle}
    bases = {str(result.notes.get("base_hash")) for result in results if result.trial.method == DENSE}
    is_named: dict[Path, Callable[[Path], bool]] = {
        workspace.artifacts: lambda path: path.name in stored,
        workspace.cache / "weights": lambda path: path.stem in handles,
        workspace.cache / "base": lambda path: _base_hash(path) in bases,
        workspace.checkpoints: lambda path: _goes_on(path, named - stored),
    }
    for folder, is_kept_here in is_named.items():
        entries = sorted(folder.iterdir()) if folder.is_dir() else []
        found.paths.extend(path for path in entries if _is_old(path) and not is_kept_here(path))
    if caches:
        found.paths.extend(path for name in MADE_AGAIN if (path := workspace.cache / name).is_dir())
    return found


def _removal(workspace: Workspace, trial_ids: set[str], specs: list[Registered]) -> Removal:
    folders = [workspace.artifacts / trial_id for trial_id in sorted(trial_ids)]
    return Removal(trial_ids, specs, [folder for folder in folders if folder.is_dir()])


def _trials(specs: Iterable[Registered]) -> set[str]:
    return {trial_id for spec in specs for trial_id in spec.trial_ids}


def _base_hash(path: Path) -> str | None:
    """Hash of a kept base model's weights; None where it is damaged."""
    from hdapbench.models import kept_state, state_hash

    state = kept_state(path)
    return None if state is None else state_hash(state)


def _goes_on(path: Path, waiting: set[str]) -> bool:
    """Whether a training that was ended may go on: that of a trial without a result, or of a base model."""
    return path.name in waiting or (path.name.startswith("base-") and _age(path) < ENDED_SECONDS)


def _age(path: Path) -> float:
    return time.time() - path.stat().st_mtime


def _is_old(path: Path) -> bool:
    return _age(path) > FRESH_SECONDS


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [inner for inner in path.rglob("*") if inner.is_file()]
    return sum(file.stat().st_size for file in files)
