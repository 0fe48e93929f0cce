"""Tiling: what a fleet's runtimes pad channels to, and which counts they have a slower path for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tiling:
    """What surrogates should look for, as a fleet knows its runtimes.

    Attributes
    ----------
    tiles
        Output channels that kernels compute at a time; the work of a part of a tile is that of a whole one.
    block
        Both consumed and produced channels are padded to this by blocked kernels; 0: there are none.
    divisor
        Blocked kernels consume only counts divisible by this; others take another, slower path.
    n_multiprocessors
        Multiprocessors of a GPU, which computes its tiles in waves of so many; a part of a wave takes as long as a
        whole one.
    """

    tiles: tuple[int, ...] = ()
    block: int = 0
    divisor: int = 1
    n_multiprocessors: int = 1


GPU_TILES = Tiling((32, 64, 128))
"""Columns of the output tiles that GPU kernels commonly compute at a time."""

BLOCKS_OF_16 = Tiling(block=16, divisor=4)
"""onnxruntime's convolutions on AVX-512: blocks of 16 channels. 52, 56, 60 and 64 channels take the same time; kernels
that consume a count that 4 does not divide leave the blocked path and take up to 1.4 times as long, depthwise ones six
times. On CPU times of 80 random ResNet50s this takes the cross-validated error of nnls from 11.0 % to 6.6 %."""

BLOCKS_OF_8 = Tiling(block=8, divisor=4)
"""The same with registers of eight values."""
