"""BitCosts: the costs of quantised models that a board shows, averaged over seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from hdapbench.store.brief import Numbers
from hdapbench.trial import BitMetrics


@dataclass(frozen=True)
class BitCosts:
    """Means over seeds of what bit-widths cost, for one row.

    ``stored_bytes`` is what a device stores, ``weight_bytes`` the weights' part of it; None where results of before it
    was counted do not say. ``integer_accuracy`` is that of the whole-number form; ``difference_share`` the share of
    test inputs on which it names another class than the network that was trained. Cycles are None where a processor
    cannot run the model, flash and RAM where there is no C code, or where results are older than they are.
    ``channels`` maps bits to the mean number of output channels, over all layers.
    """

    weight_bytes: float
    packed_bytes: float
    mpic_cycles: float | None
    ne16_cycles: float | None
    channels: dict[int, float]
    integer_accuracy: float
    difference_share: float
    stored_bytes: float | None = None
    flash_bytes: float | None = None
    ram_bytes: float | None = None


def bit_costs(seeds: Sequence[Numbers]) -> BitCosts | None:
    """Costs of one row's seeds, or None for float models."""
    found = [numbers.bits for numbers in seeds if numbers.bits is not None]
    if not found:
        return None

    def mean(value: Callable[[BitMetrics], float | None]) -> float | None:
        values = [value(bits) for bits in found]
        known = [number for number in values if number is not None]
        return fmean(known) if len(known) == len(values) else None

    widths = sorted({width for bits in found for width in bits.channels_at_bits})
    return BitCosts(
        stored_bytes=mean(lambda bits: bits.stored_bytes),
        weight_bytes=fmean(bits.weight_bytes for bits in found),
        packed_bytes=fmean(bits.packed_bytes for bits in found),
        mpic_cycles=mean(lambda bits: bits.mpic_cycles),
        ne16_cycles=mean(lambda bits: bits.ne16_cycles),
        channels={width: fmean(bits.channels_at_bits.get(width, 0) for bits in found) for width in widths},
        integer_accuracy=fmean(bits.integer_accuracy for bits in found),
        flash_bytes=mean(lambda bits: bits.flash_bytes),
        ram_bytes=mean(lambda bits: bits.ram_bytes),
        difference_share=sum(b.argmax_differences for b in found) / sum(b.n_compared for b in found),
    )
