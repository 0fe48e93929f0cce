"""The base weights of the quickstart: trained by its spec's base recipe, stored in half precision.

    python -m studies.quickstart_base

Writes specs/weights/vgg7-digits.pt: about a minute on two cores. Another machine or another torch trains other weights,
of about the same accuracy; the file is shipped so that everybody starts from the same model.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from hdapbench.data import load_data
from hdapbench.spec import load
from hdapbench.tasks.base import prepare_base
from hdapbench.tasks.classification import rightly_named

SPEC = Path("specs/quickstart.yaml")
WEIGHTS = Path("specs/weights/vgg7-digits.pt")


def main() -> None:
    """Train, store and test."""
    spec = load(str(SPEC), []).spec
    data = load_data(spec.data, spec.model.input_shape, base_dir=SPEC.parent, cache_dir=Path("cache"))
    with TemporaryDirectory() as cache:
        untrained = spec.model.model_copy(update={"weights": None})
        base = prepare_base(untrained, spec.base, data, base_dir=SPEC.parent, cache_dir=Path(cache))
    state = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in base.model.state_dict().items()
    }
    WEIGHTS.parent.mkdir(exist_ok=True)
    torch.save(state, WEIGHTS)
    base.model.load_state_dict(state)
    print(
        f"wrote {WEIGHTS}: {WEIGHTS.stat().st_size / 1e6:.1f} MB, {rightly_named(base.model, data.test).mean():.2%} right on test"
    )


if __name__ == "__main__":
    main()
