"""What is looked at before a release: known vulnerabilities and licences of everything that is installed.

python -m tests.release: 0 when all is well, 1 when something is wrong, 3 when it could not be found out.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

OWN = "hdapbench"
FREE = re.compile(
    r"\b(MIT|MIT-CMU|BSD|0BSD|Apache|ISC|PSF|Python Software Foundation|Unlicense|Zlib|CC0|MPL|Mozilla Public|LGPL)\b",
    re.IGNORECASE,
)
"""Licences under which a package may be imported by one under Apache-2.0."""

KNOWN = {
    "ultralytics": "AGPL-3.0: in an extra of its own, which README names, and imported by nothing else",
    "atheris": "Apache-2.0, which its metadata do not say; for tests alone",
    "cuda": "of NVIDIA: what torch's wheels for GPUs bring; not ours to pass on",
    "nvidia": "of NVIDIA: what torch's wheels for GPUs bring; not ours to pass on",
}
"""First word of a package's name -> why its licence is none of those and it may be there."""


def vulnerable(report: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Lines on vulnerabilities, and packages that were not looked up, in the JSON of pip-audit."""
    found, unknown = [], []
    for package in report["dependencies"]:
        if "skip_reason" in package:
            unknown += [] if package["name"] == OWN else [package["name"]]
            continue
        for flaw in package["vulns"]:
            fix = ", ".join(flaw["fix_versions"]) or "none yet"
            found.append(f"{package['name']} {package['version']}: {flaw['id']}; fixed in: {fix}")
    return found, unknown


def unfit(packages: Sequence[dict[str, str]]) -> list[str]:
    """Lines on licences that are not free enough, in the JSON of pip-licenses."""
    return [
        f"{package['Name']} {package['Version']}: licence {package['License']}"
        for package in packages
        if not FREE.search(package["License"]) and re.split(r"[-_]", package["Name"].lower())[0] not in KNOWN
    ]


def _output(*command: str) -> tuple[str, str]:
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True)
    return done.stdout, done.stderr


def main() -> int:
    """Exit code."""
    output, said = _output("pip_audit", "--format", "json", "--progress-spinner", "off", "--skip-editable")
    try:
        report = json.loads(output)
    except ValueError:
        last = (said.strip().splitlines() or ["it said nothing"])[-1]
        print(f"vulnerabilities: pip-audit could not reach its source: {last[:300]}")
        found, unknown = [], ["all"]
    else:
        found, unknown = vulnerable(report)
        n_all = sum(package["name"] != OWN for package in report["dependencies"])
        print(f"vulnerabilities: {n_all - len(unknown)} of {n_all} packages were looked up, {len(found)} known flaws")
        if unknown:
            print(f"  not looked up ({len(unknown)}), for want of a network or an index that knows them: {unknown[:5]}")
    output, said = _output("piplicenses", "--format=json", "--from=mixed")
    licences = json.loads(output)
    wrong = unfit(licences)
    print(f"licences: {len(licences)} packages, {len(wrong)} unfit; {len(KNOWN)} kinds of exceptions are known")
    for line in [*found, *wrong]:
        print(f"  {line}")
    if found or wrong:
        return 1
    return 3 if unknown else 0


if __name__ == "__main__":
    raise SystemExit(main())
