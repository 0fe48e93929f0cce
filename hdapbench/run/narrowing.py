"""A spec narrowed to some of its methods, targets and seeds: the trials are those of the whole spec, only fewer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hdapbench.errors import SpecError, SpecProblem
from hdapbench.spec import LoadedSpec, did_you_mean, parse_target


def narrowed(
    loaded: LoadedSpec, *, methods: Sequence[str] = (), targets: Sequence[str] = (), seeds: Sequence[int] = ()
) -> LoadedSpec:
    """Spec of those methods, targets and seeds alone; what is empty is not narrowed, and the spec itself if all is.

    Raises
    ------
    SpecError
        With everything that the spec does not have.
    """
    if not (methods or targets or seeds):
        return loaded
    spec = loaded.spec
    known_targets = [target.text for target in spec.targets]
    texts = [_target_text(text) for text in targets]
    problems = _unknown("--only", methods, [method.name for method in spec.methods])
    problems += _unknown("--target", texts, known_targets)
    problems += _unknown("--seeds", [str(seed) for seed in seeds], [str(seed) for seed in spec.seeds])
    if problems:
        raise SpecError(problems)
    kept_targets = tuple(target for target in spec.targets if not texts or target.text in texts)
    kept_texts = {target.text for target in kept_targets}
    kept_methods = []
    for method in spec.methods:
        at = method.targets and tuple(target for target in method.targets if target.text in kept_texts)
        using = method.seeds and tuple(seed for seed in method.seeds if not seeds or seed in seeds)
        if (not methods or method.name in methods) and at != () and using != ():
            kept_methods.append(method.model_copy(update={"targets": at, "seeds": using}))
    if not kept_methods:
        parts = " with ".join(name for name, given in (("targets", targets), ("seeds", seeds)) if given)
        none = f"{', '.join(methods) or 'every method'} is run at none of these {parts}"
        raise SpecError([SpecProblem("--target" if targets else "--seeds", 0, 0, "", none)])
    narrow = {
        "targets": kept_targets,
        "methods": tuple(kept_methods),
        "seeds": tuple(seed for seed in spec.seeds if not seeds or seed in seeds),
    }
    return replace(loaded, spec=spec.model_copy(update=narrow))


def _target_text(text: str) -> str:
    """The one text of a target, whatever way it was written; text that is none as it is: it is unknown."""
    try:
        return str(parse_target(text))
    except ValueError:
        return text


def _unknown(option: str, values: Sequence[str], known: Sequence[str]) -> list[SpecProblem]:
    known = list(dict.fromkeys(known))
    return [
        SpecProblem(f"{option} {value}", 0, 0, "", f"is not in the spec{did_you_mean(value, known)}")
        for value in values
        if value not in known
    ]
