"""Attack list: what is tried against the program, and what came of it, as a table.

python -m tests.faults [--share 1.0] [--jobs 2] [--seed 0] [--only plugin ...] [--write]
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before torch and numpy are imported
os.environ.setdefault("HDAPBENCH_EXECUTOR", "inline")  # what one process withstands

from tests.faults.listed import run

raise SystemExit(run())
