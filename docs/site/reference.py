"""Pages that are made: references (commands, spec keys, methods, Python, plug-ins), boards, the notebook."""

from __future__ import annotations

import argparse
import html
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hdapbench.cli.main import whole_parser
from hdapbench.method.card import Card, card_of
from hdapbench.method.registry import MethodRegistry
from hdapbench.spec import schema_json

ROOT = Path(__file__).parents[2]
LIMITS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
NOTEBOOK = "docs/notebooks/first-board.ipynb"
TYPES = {"object": "mapping", "string": "text", "null": "`null`"}


def commands() -> str:
    """Every command with its options, from the parsers."""
    about = "What `--help` says of each. `python -m hdapbench` is the same as `hdapbench`."
    return _page("Commands", about, _command(whole_parser(), level=2))


def spec_keys() -> str:
    """Every key of a spec, from the schema that checks it."""
    schema = json.loads(schema_json())
    parts = ["## Top level", *_keys(schema, schema["$defs"])]
    for name, place in _places(schema).items():
        parts += [f"## `{place}` {{#{name}}}", *_keys(schema["$defs"][name], schema["$defs"])]
    return _page("Spec keys", "What a spec may say. [Write a spec](../docs/spec.md) explains it.", parts)


def methods() -> str:
    """The cards of all methods that ship."""
    registry = MethodRegistry()
    shipped = [registry.get(name) for name in registry.names() if registry.package(name) == "hdapbench"]
    about = "As `hdapbench methods NAME` shows them. [Write a method](../docs/writing-a-method.md) adds one of yours."
    return _page("Methods", about, [_method(card_of(method), method.extra) for method in shipped])


def python() -> str:
    """What `hdapbench` offers to notebooks and scripts."""
    homes = {"run": "running", "board": "boards", "results": "boards", "Board": "boards"}
    parts = [_documented(f"hdapbench.api.{home}.{name}", heading=f"hdapbench.{name}") for name, home in homes.items()]
    return _page("Python", "[Work from Python](../docs/python.md) shows these at work.", parts)


def plugins() -> str:
    """What plug-ins are written against."""
    about = "[Write a method](../docs/writing-a-method.md) and [Contributing](../CONTRIBUTING.md) show these at work."
    parts = []
    for title, names in PLUG_INS.items():
        parts += [f"## {title}", *(_documented(f"hdapbench.{name}") for name in names)]
    return _page("Plug-ins", about, parts)


def boards() -> str:
    """All committed boards, with their pages."""
    rows = []
    for path in sorted((ROOT / "leaderboards").glob("*.md")):
        what = path.read_text().split("\n\n")[1].partition(". ")[0]
        page = f"[page](leaderboards/{path.stem}.html)" if path.with_suffix(".html").exists() else ""
        has_results = (path.parent / "results" / f"{path.stem}.jsonl.zst").exists()
        results = "kept" if has_results else "from before they were kept"
        rows.append((f"[{path.stem}](leaderboards/{path.name})", what, page, results))
    about = (
        "[How a board compares](docs/comparing.md) explains rankings and intervals. Pages have tables to sort and "
        "filter, and charts; [one page](leaderboards/index.html) is over all of them. A board whose results are kept "
        "can be checked and rendered anew: [Keep and host boards](docs/hosting.md)."
    )
    return _page("Boards", about, [_table(("board", "what", "page", "results"), rows)])


def notebook() -> str:
    """The notebook, as text."""
    cells = json.loads((ROOT / NOTEBOOK).read_text())["cells"]
    texts = [(cell["cell_type"] == "code", "".join(cell["source"])) for cell in cells]
    heading, *parts = [f"```python\n{text}\n```" if is_code else text for is_code, text in texts]
    title, _, about = heading.removeprefix("# ").partition("\n\n")
    return _page(title, f"{about} [The notebook itself]({NOTEBOOK}).", parts)


PAGES = {
    "reference/commands.md": commands,
    "reference/spec.md": spec_keys,
    "reference/methods.md": methods,
    "reference/python.md": python,
    "reference/plugins.md": plugins,
    "boards.md": boards,
    "first-board.md": notebook,
}
"""Page -> function that writes it."""

PLUG_INS = {
    "Methods": ("method.Method", "method.Plan", "method.Problem", "method.Budget"),
    "What a problem's parts offer": ("method.devices", "method.training", "method.quantization", "method.plans"),
    "Data sets": ("data.DataSet", "data.DataRequest", "data.DataSplits", "data.split_labelled"),
    "Fleets": ("spec.FleetKind", "fleet.base.Fleet"),
    "Runtimes": ("runtimes.base.Runtime",),
    "Contracts": (
        "testing.MethodContract",
        "testing.check_method",
        "testing.dataset_contract.DatasetContract",
        "testing.fleet_contract.FleetContract",
        "testing.runtime_contract.RuntimeContract",
    ),
}
"""Kind of plug-in -> what it is written against and tested with."""


def _page(title: str, about: str, parts: Iterable[str]) -> str:
    """A page of markdown."""
    return "\n\n".join([f"# {title}", about, *parts]) + "\n"


def _command(parser: argparse.ArgumentParser, *, level: int) -> Iterator[str]:
    """A parser's description, usage and options, then its commands'."""
    formatter = argparse.HelpFormatter(parser.prog, width=100)
    commands = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if level > 2 or not commands:
        yield f"{'#' * (level - 1)} `{parser.prog}` {{#{parser.prog.removeprefix('hdapbench ').replace(' ', '-')}}}"
    yield (parser.description or "").replace("``", "`")
    usage = argparse.HelpFormatter(parser.prog, width=100)
    usage.add_usage(parser.usage, parser._actions, parser._mutually_exclusive_groups, prefix="")
    yield f"```text\n{usage.format_help().strip()}\n```"
    options = [action for action in parser._actions if action not in commands and action.help != argparse.SUPPRESS]
    yield "\n".join(
        f"- `{formatter._format_action_invocation(action)}`"
        + (f": {_plain(formatter._expand_help(action))}" if action.help else "")
        for action in options
        if not isinstance(action, argparse._HelpAction)
    )
    yield _plain(parser.epilog or "")
    for action in commands:
        for command in dict.fromkeys(action.choices.values()):
            yield from _command(command, level=level + 1)


def _places(schema: dict[str, Any]) -> dict[str, str]:
    """Name of every part of the schema -> the first key that it stands under, in the order of the keys."""
    places: dict[str, str] = {}

    def visit(part: dict[str, Any], above: str) -> None:
        for key, value in part.get("properties", {}).items():
            kinds = {}
            for name in re.findall(r'"#/\$defs/(\w+)"', json.dumps(value)):
                kind = _kind(schema["$defs"][name])
                kinds[name] = f"{above}{key}" + (f" ({kind})" if kind else "")
            new = {name: place for name, place in kinds.items() if name not in places}
            places.update(new)
            for name, place in new.items():
                visit(schema["$defs"][name], f"{place}.")

    visit(schema, "")
    return places


def _keys(part: dict[str, Any], definitions: dict[str, Any]) -> Iterator[str]:
    """What a part of the schema is, and a table of its keys."""
    yield _plain(part.get("description", "").replace("\n", " "))
    required = part.get("required", [])
    rows = []
    for key, value in part.get("properties", {}).items():
        default = f"`{json.dumps(value['default'])}`" if "default" in value else "required" if key in required else ""
        rows.append((f"`{key}`", _type(value, definitions), default, _plain(_description(value, definitions))))
    yield _table(("key", "type", "default", "meaning"), rows)


def _description(value: dict[str, Any], definitions: dict[str, Any]) -> str:
    """What a key says of itself, or else its mapping or one of its alternatives does."""
    mapping = definitions.get(_referred(value), {})
    parts = [value, mapping, *value.get("anyOf", ())]
    return next((part["description"] for part in parts if part.get("description")), "")


def _type(value: dict[str, Any], definitions: dict[str, Any]) -> str:
    """Type and range of a value in words; a mapping is a link to its keys."""
    if name := _referred(value):
        return f"[{_kind(definitions[name]) or 'mapping'}](#{name})"
    if "const" in value or "enum" in value:
        return ", ".join(f"`{one}`" for one in value.get("enum", [value.get("const")]))
    if alternatives := value.get("anyOf") or value.get("oneOf"):
        return " or ".join(dict.fromkeys(_type(one, definitions) for one in alternatives))
    limits = ", ".join(f"{word} {value[limit]:g}" for limit, word in LIMITS.items() if limit in value)
    if value.get("type") == "array":
        items = value.get("prefixItems") or [value.get("items", {})]
        return f"list of {f'{len(items)}: ' if 'prefixItems' in value else ''}{_type(items[0], definitions)}"
    type_name = str(value.get("type", "any"))
    return f"{TYPES.get(type_name, type_name)} {limits}".strip()


def _referred(value: dict[str, Any]) -> str:
    """Name of the mapping that a value is, or nothing."""
    return str(value.get("$ref", "")).rpartition("/")[2]


def _kind(part: dict[str, Any]) -> str:
    """Kind of fleet that a mapping describes, or nothing."""
    return str(part.get("properties", {}).get("kind", {}).get("const", ""))


def _method(card: Card, extra: str | None) -> str:
    """A method's card as a section."""
    facts = {"Source": card.source, "Needs": card.needs, "Never sees": ", ".join(card.never_sees)}
    if extra:
        facts["Extra"] = f"`pip install 'hdapbench[{extra}]'`"
    rows = [
        (
            f"`{one.name}`",
            _plain(f"{one.type} {one.range}"),
            f"`{one.default}`" if one.default else "required",
            _plain(one.description),
        )
        for one in card.parameters
    ]
    said = "\n".join(f"- **{label}**: {_plain(text)}" for label, text in facts.items() if text)
    table = _table(("parameter", "type", "default", "meaning"), rows) if rows else "No parameters."
    return "\n\n".join([f"## {card.name}", _plain(card.idea), *map(_plain, card.about.split("\n\n")), said, table])


def _documented(name: str, *, heading: str = "") -> str:
    """What mkdocstrings makes an object's documentation of."""
    level = 2 if heading else 3
    return f"::: {name}\n    options:\n      heading: {heading or name}\n      heading_level: {level}"


def _plain(text: str) -> str:
    """Text of a docstring or a help line, without what markdown would take for more; code stays code."""
    parts = re.split("(``?[^`]+``?)", " ".join(text.split()))
    return "".join(
        part.replace("``", "`")
        if part.startswith("`")
        else re.sub(r"[*_|\\\[\]]", r"\\\g<0>", html.escape(part, quote=False))
        for part in parts
    )


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (titles, ["---"] * len(titles), *rows))
