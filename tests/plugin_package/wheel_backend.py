"""Build backend of a pure Python wheel, from pyproject.toml alone: pip finds all that it needs without a network."""

from __future__ import annotations

import tomllib
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
TAG = "py3-none-any"


def build_wheel(wheel_directory: str, config_settings: object = None, metadata_directory: object = None) -> str:
    pyproject = tomllib.loads((HERE / "pyproject.toml").read_text())
    project = pyproject["project"]
    stem = f"{project['name'].replace('-', '_')}-{project['version']}"
    requirements = [f"Requires-Dist: {line}" for line in project["dependencies"]]
    for extra, lines in project["optional-dependencies"].items():
        requirements += [f"Provides-Extra: {extra}", *(f'Requires-Dist: {line}; extra == "{extra}"' for line in lines)]
    entries = [
        line
        for group, points in project["entry-points"].items()
        for line in (f"[{group}]", *(f"{name} = {value}" for name, value in points.items()))
    ]
    head = [f"Name: {project['name']}", f"Version: {project['version']}"]
    information = {
        "METADATA": ["Metadata-Version: 2.1", *head, *requirements],
        "WHEEL": ["Wheel-Version: 1.0", "Generator: tests", "Root-Is-Purelib: true", f"Tag: {TAG}"],
        "entry_points.txt": entries,
    }
    name = f"{stem}-{TAG}.whl"
    with zipfile.ZipFile(Path(wheel_directory) / name, "w") as wheel:
        written = []
        for path in sorted((HERE / "leading_channels").glob("*.py")):
            written.append(f"leading_channels/{path.name}")
            wheel.write(path, written[-1])
        for file, lines in information.items():
            written.append(f"{stem}.dist-info/{file}")
            wheel.writestr(written[-1], "\n".join(lines) + "\n")
        record = f"{stem}.dist-info/RECORD"
        wheel.writestr(record, "".join(f"{file},,\n" for file in [*written, record]))
    return name
