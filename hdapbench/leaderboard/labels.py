"""Labels of rows: a method, with the fewest of its first parameters that tell its variants apart."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from hdapbench.trial import Trial


def labels_of(trials: Sequence[Trial]) -> dict[str, str]:
    """Trial id -> method, with the fewest of its first parameters that tell its variants apart."""
    variants: dict[str, list[dict[str, Any]]] = {}
    for trial in trials:
        variants.setdefault(trial.method, []).append(trial.parameters)
    told = {method: _telling(parameters) for method, parameters in variants.items()}
    labels = {}
    for trial in trials:
        keys = [key for key in told[trial.method] if key in trial.parameters]
        detail = ", ".join(_short(key, trial.parameters[key]) for key in keys)
        labels[trial.id] = f"{trial.method} ({detail})" if detail else trial.method
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
