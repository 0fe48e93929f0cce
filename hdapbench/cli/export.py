"""``hdapbench export TRIAL --format onnx|packed|c``: the deployable model of a trial."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from hdapbench.cli.options import add_trust_option, add_workspace_options, existing_database, whole_number, workspace_of
from hdapbench.cli.output import check_output, write_output
from hdapbench.errors import OutputError, PlanError

SUFFIXES = {"onnx": ".onnx", "packed": ".hdpq", "c": ".c"}


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser("export", help="write the deployable model of a trial", description=__doc__)
    parser.add_argument("trial", metavar="TRIAL", help="id of a trial, or its beginning (hdapbench show lists them)")
    parser.add_argument(
        "--format",
        choices=sorted(SUFFIXES),
        help="onnx: checked against torch, of trials with bit-widths QDQ and checked against the integer executor; "
        "packed: integers alone, weights at their bits, for trials with bit-widths and their default (default of "
        "others: onnx); c: the same as a C99 source and its header",
    )
    parser.add_argument("--output", "-o", type=Path, metavar="FILE", help="default: TRIAL.hdpq, TRIAL.onnx or TRIAL.c")
    parser.add_argument(
        "--batch",
        type=whole_number,
        default=1,
        metavar="N",
        help="inputs per run of onnx (default: 1; of trials with bit-widths any number)",
    )
    parser.add_argument(
        "--small",
        action="store_true",
        help="onnx of trials with bit-widths: weights of at most 4 bits take 4, of 2 take 2, for runtimes of opset 21 "
        "and 25",
    )
    parser.add_argument(
        "--portable",
        action="store_true",
        help="onnx of trials with bit-widths: weights that are exact on x86 without VNNI too, and slower with it",
    )
    add_workspace_options(parser)
    parser.add_argument("--force", action="store_true", help="overwrite the file")
    add_trust_option(parser)
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the file, and say how large it is and how far it agrees."""
    from hdapbench.quant.deploy.packed import PACKED
    from hdapbench.run.artifact import ONNX, metadata
    from hdapbench.runtimes.onnx_file import describe
    from hdapbench.store.sqlite import open_store

    with open_store(existing_database(workspace_of(arguments))) as store:
        result = store.get(arguments.trial)
    trial_id = result.trial.id
    directory = workspace_of(arguments).artifacts / trial_id
    has_bits = (directory / PACKED).is_file()
    chosen = arguments.format or ("packed" if has_bits else "onnx")
    if chosen in {"packed", "c"} and not has_bits:
        raise PlanError(
            f"trial {trial_id} has no bit-widths to {'pack' if chosen == 'packed' else 'write as C'}; choose one of a "
            "method such as joint-mpq, or --format onnx"
        )
    if not directory.is_dir():
        reason = result.reason or "its artifact was removed"
        raise PlanError(f"trial {trial_id} ({result.status.value}) left no model to export: {reason}")
    target = arguments.output or Path(f"{trial_id}{SUFFIXES[chosen]}")
    target = target.with_suffix(".c") if chosen == "c" else target  # a header goes with it
    if target.is_file() and not arguments.force:
        raise OutputError(f"'{target}' exists; overwrite it with --force")
    check_output(target)
    finished = directory / ONNX
    if chosen == "c":
        _export_c(directory, trial_id, target, overwrite=arguments.force)
    elif finished.is_file():
        write_output(target, finished.read_bytes())
    elif has_bits:
        _export_bits(directory / PACKED, target, chosen, small=arguments.small, portable=arguments.portable)
    else:
        _export_float(directory, target, batch=arguments.batch, trusted=arguments.trust)
    if chosen == "onnx":
        describe(target, metadata(directory, trial_id))
    print(f"{target}: {target.stat().st_size:,} bytes")
    return 0


def _export_c(directory: Path, trial_id: str, target: Path, *, overwrite: bool) -> None:
    from hdapbench.quant.deploy.c99 import About, c_code, footprint
    from hdapbench.quant.deploy.packed import PACKED, load_packed
    from hdapbench.run.artifact import metadata

    header = target.with_suffix(".h")
    if header.is_file() and not overwrite:
        raise OutputError(f"'{header}' exists; overwrite it with --force")
    known = metadata(directory, trial_id)
    classes = json.loads(known.get("class_names", "[]"))
    notes = tuple(f"{key}: {known[key]}" for key in ("pixels", "mean", "std") if key in known)
    about = About(f"trial {trial_id}", tuple(map(str, classes)), notes)
    code = c_code(load_packed(directory / PACKED), target.stem, about, header_name=header.name)
    write_output(target, code.source.encode())
    write_output(header, code.header.encode())
    found = footprint(code)
    print(f"{target}, {header}: int {code.name}_run(const int8_t *in, {code.name}_score *out)")
    print(
        f"flash about {found.flash:,} bytes, {found.constants:,} of them constants; RAM {found.ram:,} bytes: arena "
        f"{found.arena:,}, input and output {found.caller:,}, stack below {found.stack:,}"
    )


def _export_bits(source: Path, target: Path, chosen: str, *, small: bool, portable: bool) -> None:
    from hdapbench.quant.deploy.packed import constant_bytes, load_packed, save_packed

    model = load_packed(source)
    if chosen == "packed":
        save_packed(model, target)
        print(f"weights: {model.n_weight_bits / 8:,.0f} bytes; all constants: {constant_bytes(model):,} bytes")
    else:
        from hdapbench.quant.deploy.onnx_export import export_onnx

        print(export_onnx(model, target, small=small, portable=portable))


def _export_float(directory: Path, target: Path, *, batch: int, trusted: bool) -> None:
    from tempfile import TemporaryDirectory

    from hdapbench.run.artifact import open_saved
    from hdapbench.runtimes.onnx_file import write_onnx

    saved = open_saved(directory, trusted=trusted)
    written = write_onnx(saved.compact, saved.input_shape, target, batch=batch)
    with TemporaryDirectory(prefix="hdapbench-") as folder:
        dense = write_onnx(saved.dense, saved.input_shape, Path(folder) / "dense.onnx", batch=batch)
    print(f"{written.n_bytes / dense.n_bytes:.3f} of the dense model's {dense.n_bytes:,} bytes")
    print(
        f"onnxruntime differs from torch by {written.difference:.2g} at most, where outputs reach {written.largest:.2g}"
    )
