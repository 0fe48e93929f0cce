"""Write docs/parity.md: what our methods give beside what their originals give.

    python tests/parity/write_tables.py [--check]

Needs the extras nni and yolo, and ten minutes. ``--check`` writes nothing and fails on a difference.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from tests.parity.against_amc import PUBLISHED, clip_random_policies, count
from tests.parity.against_nni import PRUNERS, compare_masks, compare_speedup
from tests.parity.against_sparse_training import GROWTH_STEPS, STEPS, compare_penalty
from tests.parity.against_sparse_training import PRUNERS as PENALTIES
from tests.parity.against_torch_pruning import LEFT_OUT, SETTINGS, compare
from tests.parity.subjects import SUBJECTS

DOCS = Path(__file__).parents[2] / "docs" / "parity.md"
MASKED = (("MobileNetV1", 32), ("ResNet56", 32))
COMPACTED = (*MASKED, ("VGG16", 32))

INTRODUCTION = """\
# Parity with the originals

Each table holds our number and theirs. Models have random weights from a fixed seed and small images (channels do not
depend on their size), so that anybody gets the same numbers without a download.
`python tests/parity/write_tables.py` writes this page, and `tests/parity` checks the fast part of it in every test run.
"""

PLINIO = """\
## PLiNIO

Joint search by the authors' library, PLiNIO, beside `joint-mpq` on handwritten digits: the network, data and epochs of
`specs/resnet6-digits-joint.yaml`, one seed, PLiNIO of May 2026. Sizes are weights without removed inputs; what PLiNIO reports
is smaller, by up to 56 %. `python -m tests.parity.against_plinio` repeats its side where it is installed. PLiNIO is on no package index,
and the script, written from its documentation, has not been run yet.

| search                 | weights (B) | test accuracy (%) | seconds of search |
| ---------------------- | ----------- | ----------------- | ----------------- |
| PLiNIO, strength 4e-5  | 5,616       | 98.61             | 57                |
| joint-mpq              | 5,486       | 99.16             | 56                |
"""
"""Measured once by the project; `against_plinio` repeats it."""


def main() -> int:
    """Write the page, or compare with it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    page = "\n".join([INTRODUCTION, torch_pruning_table(), penalty_table(), nni_tables(), amc_tables(), PLINIO])
    if arguments.check:
        return int(page != DOCS.read_text())
    DOCS.write_text(page)
    return 0


def torch_pruning_table() -> str:
    """The method torch-pruning beside a script that calls torch-pruning."""
    rows = []
    for name in SUBJECTS:
        for setting in SETTINGS:
            if name in LEFT_OUT.get(setting["importance"], ()):
                continue
            found = compare(name, setting)
            print(found, file=sys.stderr, flush=True)
            rows.append(
                [
                    found.model,
                    found.setting,
                    str(found.n_groups),
                    f"{found.kept:,} of {found.n_channels:,}",
                    f"{found.kept_directly:,} of {found.n_channels:,}",
                    str(found.differing),
                    "yes" if found.weights_equal else "no",
                ]
            )
    return """\
## torch-pruning 1.6.1

The method `torch-pruning` with `pruning_ratio`, and a script of a dozen lines that calls `tp.pruner.BasePruner` with the
same settings. Kept channels are compared group by group, one by one; the last column compares all tensors of the two
pruned models. The C2f blocks of YOLOv8n are split, for both, as torch-pruning cannot follow them whole.

Left out is what the script cannot do in 1.6.1: its OBD-C stops at depthwise layers (and looks for groups with attention
alone, which the script works around), and its activations give four scores to each channel that YOLOv8n's SPPF joins
with itself four times; gradients of YOLOv8n's loss need boxes. Hessian sees one image, OBD-C and activation
one batch: of more, 1.6.1 keeps the last, ours averages over all.

""" + table(["model", "setting", "groups", "kept, ours", "kept, theirs", "channels that differ", "tensors equal"], rows)


def penalty_table() -> str:
    """Sparse training of the method torch-pruning beside torch-pruning's own."""
    rows = []
    for name in SUBJECTS:
        for pruner in PENALTIES:
            found = compare_penalty(name, pruner)
            print(found, file=sys.stderr, flush=True)
            rows.append(
                [
                    found.model,
                    found.pruner,
                    str(found.n_penalised),
                    str(found.n_penalised_directly),
                    f"{found.largest:.1e}",
                    f"{found.largest_difference:.1e}",
                ]
            )
    return f"""\
Gradients that {STEPS} steps of a sparse training's penalty add up to, without a loss, through the method and from a script that
calls torch-pruning's pruners (growing-reg grows every {GROWTH_STEPS} steps): parameters that have one, its largest entry, and the
largest difference between both.

""" + table(["model", "pruner", "parameters, ours", "theirs", "largest", "largest difference"], rows)


def nni_tables() -> str:
    """NNI's masks and its ModelSpeedup."""
    rows = []
    for name, side in MASKED:
        for pruner in PRUNERS:
            found = compare_masks(name, pruner, side)
            print(found, file=sys.stderr, flush=True)
            rows.append(
                [
                    name,
                    pruner,
                    str(found.n_layers),
                    f"{found.masked:,}",
                    f"{found.masked_directly:,}",
                    str(found.differing),
                ]
            )
    compact = []
    for name, side in COMPACTED:
        facts = compare_speedup(name, side)
        print(facts, file=sys.stderr, flush=True)
        compact.append(
            [name, "equal" if facts["same_parameters"] else "different", f"{facts['largest_difference']:.1e}"]
            if facts["traced"]
            else [name, "not traced", str(facts["reason"]).split(":", maxsplit=1)[0]]
        )
    return (
        """\
## NNI 3.0

Masks through the method `nni` and from a script that calls NNI's pruners with the same sparsity (0.4), batches and
steps.

"""
        + table(["model", "pruner", "layers", "masked filters, ours", "theirs", "mask entries that differ"], rows)
        + """
Plans that keep half of every group, made compact by our path and by NNI's ModelSpeedup on masks of the same channels; the
difference is the largest of any output.

"""
        + table(["model", "parameters", "largest difference"], compact)
    )


def amc_tables() -> str:
    """AMC's published models in our counter, and clipping."""
    rows = []
    for published in PUBLISHED:
        ours = count(published)
        rows.append(
            [published.model, f"{ours / 1e6:.1f}", f"{published.macs / 1e6:.0f}", f"{ours / published.macs - 1:+.1%}"]
        )
    clipped = []
    for name in ("MobileNetV1", "ResNet56"):
        for round_to in (1, 8):
            found = clip_random_policies(name, 32, round_to=round_to)
            print(found, file=sys.stderr, flush=True)
            clipped.append(
                [
                    name,
                    str(round_to),
                    f"{found.n_policies:,}",
                    str(found.above_target),
                    str(found.below_floor),
                    f"{found.least_used:.1%} to {found.most_used:.1%}",
                ]
            )
    return (
        """\
## AMC

Channels of the MobileNetV1 models that AMC reports (released in mit-han-lab/amc-models), in our counter, at 224 x 224,
beside the MACs that AMC's table gives. Three agree within 1 %. The fourth does not, by any counter: 285M is half of 569M,
the constraint of that search; its released channels, each rounded up to a multiple of 8, need 293.9M, 51.7 %.

"""
        + table(["MobileNetV1", "ours (MMACs)", "published (MMACs)", "difference"], rows)
        + """
Random policies through our action clipping at half the FLOPs, with a floor of 0.2 of every group.

"""
        + table(["model", "round to", "policies", "above the target", "below the floor", "of the target used"], clipped)
    )


def table(head: list[str], rows: list[list[str]]) -> str:
    """Markdown table, columns padded."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = [head, ["-" * width for width in widths], *rows]
    return "".join(
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |\n" for line in lines
    )


if __name__ == "__main__":
    raise SystemExit(main())
