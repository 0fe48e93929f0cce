"""Labels of rows: a method, with the fewest of its first parameters that tell its variants apart."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from hdapbench.store.brief import Brief
from hdapbench.trial import Trial


def labels_of(trials: Iterable[Trial]) -> dict[str, str]:
    """Trial id -> method, with the fewest of its first parameters that tell its variants apart."""
    return _labels((trial.id, trial.method, trial.parameters) for trial in trials)


def labels_of_briefs(briefs: Iterable[Brief]) -> dict[str, str]:
    """As `labels_of`."""
    return _labels((brief.id, brief.method, brief.parameters) for brief in briefs)


def _labels(trials: Iterable[tuple[str, str, dict[str, Any]]]) -> dict[str, str]:
    ids: dict[tuple[str, int], list[str]] = {}
    variants: dict[str, dict[int, dict[str, Any]]] = {}
    for trial_id, method, parameters in trials:  # briefs of equal parameters have the same object
        variants.setdefault(method, {})[id(parameters)] = parameters
        ids.setdefault((method, id(parameters)), []).append(trial_id)
    told = {method: _telling(list(found.values())) for method, found in variants.items()}
    labels: dict[str, str] = {}
    for (method, which), trial_ids in ids.items():
        parameters = variants[method][which]
        detail = ", ".join(_short(key, parameters[key]) for key in told[method] if key in parameters)
        labels |= dict.fromkeys(trial_ids, f"{method} ({detail})" if detail else method)
    return labels


def _telling(variants: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """The first parameters, in their order, that tell all variants apart: a preset alone, where it sets the others."""
    told: list[str] = []
    classes = 1
    n_distinct = len({json.dumps(parameters, sort_keys=True) for parameters in variants})
    for key in dict.fromkeys(name for parameters in variants for name in parameters):
        if classes == n_distinct:
            break
        split = len({json.dumps([parameters.get(name) for name in (*told, key)]) for parameters in variants})
        if split > classes:
            told.append(key)
            classes = split
    return tuple(told)


def _short(key: str, value: object) -> str:
    """``taylor`` for a word, ``steps=3`` for anything else."""
    return value if isinstance(value, str) else f"{key}={json.dumps(value)}"
