from __future__ import annotations

import numpy as np

from hdapbench.cost.tiling import BLOCKS_OF_16, GPU_TILES, Tiling
from hdapbench.surrogate.features import WAVE_TILES, KernelFeatures, aggregates, kept_shares
from hdapbench.surrogate.fit import fit_surrogate
from hdapbench.surrogate.measured import MeasuredPlans
from tests.surrogate.surrogate_worlds import random_widths, small_model
from tests.zoo import traced


def test_terms_of_a_convolution_are_its_work_traffic_and_padded_work():
    _, kernels = small_model()
    features = KernelFeatures(kernels, Tiling((32,)))
    number = [kernel.name for kernel in kernels.kernels].index("conv5")  # its epilogue reads the residual

    terms = features.pair_terms(number, [[5, 40]])

    assert features.term_names == ("work", "input", "weights", "output", "tile32")
    assert terms[:, 0].tolist() == [5 * 40 * 64, 5 * 64, 5 * 40, 2 * 40 * 64, 5 * 64 * 64]


def test_waves_pad_tiles_to_whole_rounds_over_the_multiprocessors():
    _, kernels = small_model()
    features = KernelFeatures(kernels, Tiling((32,), n_multiprocessors=6))
    number = [kernel.name for kernel in kernels.kernels].index("conv1")  # 3x3, 16 by 16 positions

    terms = features.pair_terms(number, [[3, 40]])[:, 0]

    assert features.term_names[5:] == ("wave128x64", "wave64x32", "wave32x32", "wave")
    depth = 3 * 9
    blocks = (2 * 1, 4 * 2, 8 * 2)
    padded = [-(-n // 6) * 6 * rows * columns * depth for n, (rows, columns) in zip(blocks, WAVE_TILES, strict=True)]
    assert terms[5:].tolist() == [*padded, min(padded)]


def test_a_board_of_one_multiprocessor_has_no_waves():
    _, kernels = small_model()

    assert KernelFeatures(kernels, Tiling((32,))).term_names == ("work", "input", "weights", "output", "tile32")


def test_depthwise_work_does_not_grow_with_what_it_reads():
    _, kernels = small_model()
    features = KernelFeatures(kernels, Tiling((32,)))
    number = [kernel.name for kernel in kernels.kernels].index("dw")

    assert features.pair_terms(number, [[5, 5]])[0, 0] == 5 * 9 * 64


def test_pooling_has_no_weights_and_no_tiles():
    _, kernels = small_model()
    features = KernelFeatures(kernels, Tiling((32, 64)))
    number = [kernel.kind for kernel in kernels.kernels].index("gap")

    assert features.pair_terms(number, [[7, 7]])[:, 0].tolist() == [7 * 64, 7 * 64, 0, 7, 0, 0]


def test_kernels_of_one_shape_share_their_columns():
    _, kernels = small_model()
    shape_of = KernelFeatures(kernels).shape_of
    at = {kernel.name: shape for kernel, shape in zip(kernels.kernels, shape_of, strict=True)}

    assert at["conv4"] == at["conv6"]
    assert len({at[name] for name in ("conv1", "conv3", "conv4", "conv5", "dw", "fc")}) == 6  # conv5 has a residual
    assert at["conv1"] == at["conv2"]


def test_columns_are_terms_summed_over_shapes_whatever_the_coefficients():
    kernels = traced("resnet56").kernels
    features = KernelFeatures(kernels)
    rng = np.random.default_rng(0)
    widths = np.maximum(1, (kernels.sizes * rng.uniform(0.1, 1, size=(7, len(kernels.sizes)))).astype(int))
    columns = features.columns(widths)
    coefficients = rng.standard_normal((columns.shape[1], 3))

    per_kernel = features.per_kernel(coefficients)

    by_terms = np.einsum("tpk,tkc->pc", features.terms(widths), per_kernel)
    np.testing.assert_allclose(columns @ coefficients, by_terms, rtol=1e-12, atol=1e-12)


def test_the_dense_models_columns_are_shares_that_sum_to_one_in_each_family():
    features = KernelFeatures(traced("resnet56").kernels)

    dense = features.columns(features.kernels.sizes)[0]

    np.testing.assert_allclose(np.bincount(features.column_family, weights=dense), 1.0)


def test_columns_are_finite_and_fall_with_widths():
    kernels = traced("resnet56").kernels
    widths = np.stack([kernels.sizes, np.maximum(kernels.sizes // 2, 1), np.ones_like(kernels.sizes)])

    columns = KernelFeatures(kernels).columns(widths)

    assert np.isfinite(columns).all()
    assert (columns > 0).any(axis=0).all()
    assert (np.diff(columns, axis=0) <= 1e-12).all()


def test_aggregates_are_kept_shares_and_totals_relative_to_the_dense_model():
    _, kernels = small_model()
    widths = random_widths(6, seed=1)

    inputs = aggregates(kernels, widths)

    np.testing.assert_allclose(inputs[:, : len(kernels.groups)], kept_shares(kernels, widths))
    np.testing.assert_allclose(aggregates(kernels, kernels.sizes), 1.0)
    assert (inputs <= 1.0).all()
    assert inputs.shape[1] > len(kernels.groups)


def test_blocked_kernels_pad_both_sides_and_refuse_odd_inputs():
    _, kernels = small_model()
    features = KernelFeatures(kernels, BLOCKS_OF_16)
    number = [kernel.name for kernel in kernels.kernels].index("conv5")

    fits, odd, few = (
        dict(zip(features.term_names, column, strict=True))
        for column in features.pair_terms(number, [[20, 37], [21, 48], [3, 48]]).T
    )

    assert fits["pad_work"] == (32 * 48 - 20 * 37) * 64
    assert fits["pad_output"] == 2 * (48 - 37) * 64
    assert fits["plain_work"] == fits["plain_input"] == fits["plain_output"] == 0
    assert odd["pad_work"] == odd["pad_output"] == 0
    assert (odd["plain_work"], odd["plain_input"], odd["plain_output"]) == (21 * 48 * 64, 21 * 64, 2 * 48 * 64)
    assert few["pad_work"] == few["plain_work"] == 0


def test_columns_of_a_path_that_the_dense_model_does_not_take_are_there():
    _, kernels = small_model()
    features = KernelFeatures(kernels, BLOCKS_OF_16)
    terms = {features.term_names[term] for term in features.column_term}

    dense = features.columns(kernels.sizes)[0]

    assert set(features.term_names) == terms
    assert (dense[features.column_term >= 4] == 0).all()  # multiples of 16: nothing is padded or plain


def test_a_surrogate_that_knows_the_blocks_predicts_a_runtime_that_pads_to_them():
    _, kernels = small_model()
    features = KernelFeatures(kernels, BLOCKS_OF_16)
    names = features.term_names
    rng = np.random.default_rng(0)

    def latency(widths: np.ndarray) -> np.ndarray:
        terms = features.terms(widths).sum(axis=2)
        work, pad, plain = (terms[names.index(name)] for name in ("work", "pad_work", "plain_work"))
        return (0.2 + (work + pad + 0.4 * plain) / 1e6)[:, None]

    train, test = (rng.integers(1, kernels.sizes + 1, size=(160, len(kernels.sizes))) for _ in range(2))
    train[::2] = np.maximum(train[::2] // 4 * 4, 4)
    errors = {}
    for tiling in (GPU_TILES, BLOCKS_OF_16):
        plans = MeasuredPlans(kernels, train, latency(train), np.ones(1), tiling)
        predicted = fit_surrogate("nnls", plans).predict(test)
        errors[tiling] = float(np.abs(predicted / latency(test) - 1).mean())

    assert errors[BLOCKS_OF_16] < 0.2 * errors[GPU_TILES]
