"""Templates of commands -> the words of a command."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence

from hdapbench.spec.board_fleet import FIELD


def words_of(template: str, values: Mapping[str, str | Sequence[str]], *, shell: bool) -> list[str]:
    """Words of a command; ``{models}``, a list, becomes a word for each.

    Parameters
    ----------
    template
        As the spec writes it, with fields such as ``{file}``.
    values
        Field -> what stands there. Values are never taken for more than one word, in a shell neither.
    shell
        Whether the template is a line for ``/bin/sh``.
    """
    if shell:
        return ["/bin/sh", "-c", FIELD.sub(lambda field: shlex.join(_listed(values[field[1]])), template)]
    words: list[str] = []
    for word in shlex.split(template):
        whole = FIELD.fullmatch(word)
        if whole is not None:
            words += _listed(values[whole[1]])
        else:
            words.append(FIELD.sub(lambda field: _quoted(values[field[1]]), word))
    return words


def _listed(value: str | Sequence[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _quoted(value: str | Sequence[str]) -> str:
    """Value inside a word: a list is joined as a shell would read it, for commands that hand a line on."""
    return value if isinstance(value, str) else shlex.join(value)


def fields_of(template: str) -> set[str]:
    """Names of the fields of a template."""
    return {match[1] for match in re.finditer(FIELD, template)}
