"""Accuracy of rows: how sure it is from seeds and test images together, and rows compared on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isnan, sqrt

import numpy as np
from numpy.typing import NDArray

from hdapbench.arrays import Booleans, Floats
from hdapbench.leaderboard.statistics.interval import CONFIDENCE, Interval
from hdapbench.leaderboard.statistics.simultaneous import satterthwaite, tukey_critical, tukey_p
from hdapbench.leaderboard.statistics.two_way import two_way


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What is known of one row's accuracy.

    Attributes
    ----------
    by_seed
        Shape (n_seeds,): share of right answers, or mAP, in [0, 1]; NaN for a seed that the row misses. Rows of a table
        have the same seeds in the same order.
    per_image
        Shape (n_seeds, n_images), the same images in all rows: whether each answer was right (bool), or numbers whose
        mean over images is the accuracy (float), such as jackknife pseudo-values of the mAP of groups of images. Rows
        of missing seeds are not looked at. None where only totals were kept.
    n_images
        Test images, where `per_image` is None; None if not even that is known.
    """

    by_seed: Floats
    per_image: NDArray[np.bool_] | Floats | None = None
    n_images: int | None = None

    @property
    def present(self) -> Booleans:
        """Shape (n_seeds,): seeds that the row has."""
        return ~np.isnan(self.by_seed)

    @property
    def is_binary(self) -> bool:
        """Whether images are right or wrong; totals without images count as such."""
        return self.per_image is None or self.per_image.dtype == np.bool_

    @property
    def n(self) -> int | None:
        """Test images, or groups of them."""
        return self.n_images if self.per_image is None else self.per_image.shape[1]


@dataclass(frozen=True)
class Spread:
    """Variance of accuracy between seeds of a row, pooled over the rows of a table.

    Attributes
    ----------
    variance
        Between seeds, of the accuracy on the same test images.
    images
        The part of it that is answers flipping on single images, which more images average out.
    degrees
        Sum over rows of their seeds less one; 0 where no row has two seeds, and then nothing is known of the spread.
    """

    variance: float
    images: float
    degrees: int

    @property
    def excess(self) -> float:
        """Variance between seeds that more test images would not remove."""
        return max(0.0, self.variance - self.images)


@dataclass(frozen=True)
class Difference:
    """Accuracy of a row minus that of the reference, on the same images.

    Attributes
    ----------
    value, low, high
        The difference, in shares of 1, and its interval; 95 % for all rows of the table together.
    p
        p value of equal accuracies, adjusted for all rows of the table. It is less than 0.05 just where the interval
        leaves out zero.
    """

    value: float
    low: float
    high: float
    p: float

    @property
    def differs(self) -> bool:
        """Whether the table shows the row to be more or less accurate than the reference."""
        return self.low > 0 or self.high < 0


def seed_spread(rows: Sequence[Outcomes]) -> Spread:
    """Variance between seeds, pooled over a table's rows: a row of two seeds alone would have one degree of freedom."""
    counts = np.array([max(0, int(row.present.sum()) - 1) for row in rows], dtype=np.float64)
    degrees = int(counts.sum())
    if not degrees:
        return Spread(0.0, 0.0, 0)
    several = [(row, count) for row, count in zip(rows, counts, strict=True) if count]
    variance = sum(count * float(np.nanvar(row.by_seed, ddof=1)) for row, count in several) / degrees
    images = sum(count * _interaction(row.per_image, row.present) for row, count in several) / degrees
    return Spread(float(variance), float(images), degrees)


def _interaction(per_image: NDArray[np.bool_] | Floats | None, seeds: Booleans) -> float:
    """Variance of a seed's mean by flips alone: mean square of the interaction with images, over the images."""
    if per_image is None:
        return 0.0
    each = per_image[seeds].astype(np.float64)
    n_seeds, n = each.shape
    left = each - each.mean(axis=0) - each.mean(axis=1, keepdims=True) + each.mean()
    return float((left**2).sum() / ((n_seeds - 1) * (n - 1) * n))


def accuracy_interval(row: Outcomes, spread: Spread) -> Interval | None:
    """95 % interval of a row's accuracy over seeds and test images, within [0, 1].

    Seeds and images are crossed random effects. The variance of the mean is that of the image means over the images,
    plus that between seeds over the seeds, less their interaction, which both contain (Owen, "The pigeonhole
    bootstrap", Annals of Applied Statistics 1, 2007; Cameron, Gelbach and Miller, "Robust inference with multiway
    clustering", Journal of Business & Economic Statistics 29, 2011). The interval is Wilson's (JASA 22, 1927) for so
    many images as would have that variance under simple random sampling, with Student's quantile (Korn and Graubard,
    Survey Methodology 24, 1998, who put the effective number into Clopper and Pearson's interval); degrees are
    Satterthwaite's. It encloses the mean of all seeds where the table knows their spread, and of those that were run
    where it does not.

    Parameters
    ----------
    row
        At least one seed.
    spread
        From `seed_spread` over the table. Without degrees, the interval is that of the test images alone.

    Returns
    -------
    Interval or None
        None where neither images nor spread are known.
    """
    from scipy.special import stdtrit

    p = float(np.nanmean(row.by_seed))
    if row.n is None and not spread.degrees:
        return None
    images, image_degrees = _image_variance(row, p)
    n_seeds = int(row.present.sum())
    variance = images + spread.excess / n_seeds
    proportion = p * (1 - p)
    if row.n is not None and (proportion == 0 or images == 0):  # no image tells; the middle of Wilson's interval does
        middle = (p * row.n + 2) / (row.n + 4)
        proportion = middle * (1 - middle)
        variance = proportion / row.n + spread.excess / n_seeds
    parts = [(images, image_degrees)]
    parts += [(spread.variance / n_seeds, spread.degrees)] if spread.excess else []
    t = float(stdtrit(min(satterthwaite(variance, parts), 1e9), (1 + CONFIDENCE) / 2))
    return _wilson(p, variance / proportion if proportion else 1.0, t)


def _image_variance(row: Outcomes, p: float) -> tuple[float, float]:
    """Variance of a row's accuracy by its choice of test images, and the degrees of freedom of this variance."""
    if row.per_image is None:
        return (p * (1 - p) / row.n if row.n else 0.0), inf
    by_image = row.per_image[row.present].mean(axis=0)
    if row.is_binary:  # Wilson's interval takes the variance at the true accuracy: it is no estimate
        return float(by_image.var()) / len(by_image), inf
    return float(by_image.var(ddof=1)) / len(by_image), len(by_image) - 1


def _wilson(p: float, relative_variance: float, t: float) -> Interval:
    """Wilson's interval of a share p; the relative variance is one over the effective number of images."""
    excess = t**2 * relative_variance
    centre = (p + excess / 2) / (1 + excess)
    reach = sqrt(excess * p * (1 - p) + excess**2 / 4) / (1 + excess)
    return Interval(p, max(0.0, min(p, float(centre - reach))), min(1.0, max(p, float(centre + reach))))


def accuracy_differences(rows: Sequence[Outcomes], reference: int) -> list[Difference]:
    """Accuracy of each row minus that of one row, paired by image and seed; intervals hold for the whole table at once.

    The variance of a difference has two parts. That of the images is the variance of the differences per image,
    averaged over the seeds that both rows have, over the number of images; of bits, one image is added in favour of
    each row (Bonett and Price, "Adjusted Wald confidence interval for a difference of binomial proportions based on
    paired data", Journal of Educational and Behavioral Statistics 37, 2012), so that equal answers on few images prove
    little. That of the seeds is the residual variance of the table's two-way layout, pooled over rows, less what the
    images already contain (see `accuracy_interval`). Quantiles and p values are Tukey's (see `simultaneous`), with
    Satterthwaite's degrees. Where one seed and bits are all there is, the p value is not below that of McNemar's exact
    test (Psychometrika 12, 1947), adjusted alike.

    Parameters
    ----------
    rows
        All rows of the table that are compared.
    reference
        Row to which the others are compared; it gets zeros.

    Returns
    -------
    list of Difference
        In the order of the rows. Rows without a common seed, or of which too little is known, get the interval from -1
        to 1.
    """
    effects = two_way(np.array([row.by_seed for row in rows]))
    base = rows[reference]
    flips = _flips(rows, base)
    found = []
    for index, row in enumerate(rows):
        common = row.present & base.present
        if index == reference:
            found.append(Difference(0.0, 0.0, 0.0, 1.0))
        elif not common.any():
            found.append(Difference(float(np.nanmean(row.by_seed) - np.nanmean(base.by_seed)), -1.0, 1.0, 1.0))
        else:
            seeds = (2 * effects.residual_variance, flips, effects.degrees)
            found.append(_difference(row, base, common, seeds, len(rows)))
    return found


def _per_image_differences(row: Outcomes, base: Outcomes, seeds: Booleans) -> Floats | None:
    """Outcome of a row minus that of another, shape (n_seeds, n_images) for some seeds; None where they are unknown."""
    if row.per_image is None or base.per_image is None:
        return None
    return row.per_image[seeds].astype(np.float64) - base.per_image[seeds]


def _flips(rows: Sequence[Outcomes], base: Outcomes) -> float:
    """Variance of a seed's difference by flips of single images alone, pooled over rows; 0 if unknown."""
    total, degrees = 0.0, 0
    for row in rows:
        common = row.present & base.present
        each = None if row is base else _per_image_differences(row, base, common)
        if each is not None and len(each) > 1:
            total += (len(each) - 1) * _interaction(each, np.ones(len(each), dtype=bool))
            degrees += len(each) - 1
    return total / degrees if degrees else 0.0


def _difference(
    row: Outcomes, base: Outcomes, common: Booleans, seeds: tuple[float, float, int], n_rows: int
) -> Difference:
    """One row against the reference; `seeds` is the variance of a seed's difference, its flips, and its degrees."""
    between, flips, degrees = seeds
    n_seeds = int(common.sum())
    value = float(row.by_seed[common].mean() - base.by_seed[common].mean())
    each = _per_image_differences(row, base, common)
    images, image_degrees = _difference_by_images(row, base, each)
    if isnan(images) and not degrees:
        return Difference(value, -1.0, 1.0, 1.0)
    images = 0.0 if isnan(images) else images
    excess = max(0.0, between - (0.0 if each is None else flips)) / n_seeds
    parts = [(images, image_degrees), (between / n_seeds if excess else 0.0, degrees)]
    error = sqrt(images + excess)
    if not error:
        return Difference(value, value, value, float(value == 0))
    freedom = satterthwaite(error**2, parts)
    p = tukey_p(value / error, n_rows, freedom)
    if each is not None and row.is_binary and not degrees:
        p = max(p, _mcnemar_p(each[0], n_rows))
    reach = tukey_critical(n_rows, freedom) * error
    low, high = max(-1.0, value - reach), min(1.0, value + reach)
    if p >= 1 - CONFIDENCE:
        low, high = min(low, 0.0), max(high, 0.0)
    return Difference(value, low, high, p)


def _difference_by_images(row: Outcomes, base: Outcomes, each: Floats | None) -> tuple[float, float]:
    """Variance of a difference by the choice of test images, and its degrees of freedom; NaN where it is unknown."""
    if each is None:
        if row.n is None or base.n is None:
            return float("nan"), inf
        shares = [(float(np.nanmean(of.by_seed)) * of.n + 2) / (of.n + 4) for of in (row, base) if of.n]
        return shares[0] * (1 - shares[0]) / row.n + shares[1] * (1 - shares[1]) / base.n, inf
    by_image = each.mean(axis=0)
    if row.is_binary:
        padded = np.append(by_image, [1.0, -1.0])
        return float(padded.var()) / len(padded), inf
    return float(by_image.var(ddof=1)) / len(by_image), len(by_image) - 1


def _mcnemar_p(differences: Floats, n_rows: int) -> float:
    """McNemar's exact two-sided p value of images on which one row alone is right, adjusted for a table after Tukey."""
    from scipy.special import bdtr, ndtri

    better, worse = int((differences > 0).sum()), int((differences < 0).sum())
    p = min(1.0, 2 * float(bdtr(min(better, worse), better + worse, 0.5))) if better + worse else 1.0
    return tukey_p(float(ndtri(p / 2)), n_rows, inf)
