"""Accuracy of rows: how sure it is from seeds and test images together, and rows compared on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import inf, isnan, nan, sqrt

import numpy as np
from numpy.typing import NDArray

from hdapbench.arrays import Booleans, Floats
from hdapbench.leaderboard.statistics.interval import CONFIDENCE, Interval
from hdapbench.leaderboard.statistics.simultaneous import (
    Evidence,
    errors_of,
    satterthwaite,
    tukey_critical,
    tukey_p,
)
from hdapbench.leaderboard.statistics.two_way import row_variances, two_way
from hdapbench.leaderboard.statistics.variances import moderated, set_apart


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
    _pairs: dict[int, tuple[Outcomes, _Paired]] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def present(self) -> Booleans:
        """Shape (n_seeds,): seeds that the row has."""
        return ~np.isnan(self.by_seed)

    @cached_property
    def variance(self) -> float:
        """Variance between the seeds that the row has, of which there are at least two."""
        return float(np.nanvar(self.by_seed, ddof=1))

    @cached_property
    def flips(self) -> float:
        """Variance of a seed's mean by flips of single images alone; 0 where images are unknown."""
        return 0.0 if self.per_image is None else _interaction(self.per_image[self.present])

    @cached_property
    def by_image(self) -> tuple[float, float]:
        """Variance by the choice of test images, where they are known, and its degrees of freedom."""
        assert self.per_image is not None  # noqa: S101 - whoever asks has looked
        means = self.per_image[self.present].mean(axis=0)
        if self.is_binary:  # Wilson's interval takes the variance at the true accuracy: it is no estimate
            return float(means.var()) / len(means), inf
        return float(means.var(ddof=1)) / len(means), len(means) - 1

    def against(self, base: Outcomes) -> _Paired:
        """What this row and another differ by, on the seeds and images that both have; found once."""
        known = self._pairs.get(id(base))
        if known is None:
            known = self._pairs[id(base)] = (base, _pair_of(self, base))  # held, so that its id stays its own
        return known[1]

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
    """Variance of accuracy between seeds of a row, pooled over the rows of a table that may have the same.

    Attributes
    ----------
    variance
        Between seeds, of the accuracy on the same test images.
    images
        The part of it that is answers flipping on single images, which more images average out.
    degrees
        Sum over these rows of their seeds less one; 0 where no row has two seeds, and then nothing is known of the
        spread.
    is_own
        Whether the row varies clearly more than the others do, so that nothing is pooled with it.
    """

    variance: float
    images: float
    degrees: float
    is_own: bool = False

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
    evidence
        That the accuracies are not equal.
    """

    value: float
    low: float
    high: float
    evidence: Evidence

    @property
    def p(self) -> float:
        """P value of equal accuracies, adjusted for the table; less than 0.05 just where the interval leaves out 0."""
        return self.evidence.p

    @property
    def differs(self) -> bool:
        """Whether the table shows the row to be more or less accurate than the reference."""
        return self.low > 0 or self.high < 0


def seed_spreads(rows: Sequence[Outcomes]) -> list[Spread]:
    """Variance between seeds of each row, pooled over a table's rows: two seeds alone have one degree of freedom.

    A row that varies clearly more than the others says nothing of them. As of latencies (see `row_variances`), its
    variance is compared by F test with that of the others, rows are set apart one by one, at 1 % for the whole table,
    and what is set apart has its own variance, moderated by that of the whole table.
    """
    degrees = np.array([max(0, int(row.present.sum()) - 1) for row in rows], dtype=np.float64)
    variance, flips = np.zeros(len(rows)), np.zeros(len(rows))
    for place in np.flatnonzero(degrees).tolist():
        variance[place], flips[place] = rows[place].variance, rows[place].flips
    is_own = set_apart(degrees * variance, degrees)
    pooled = _pooled(degrees, variance, flips, ~is_own)
    whole = _pooled(degrees, variance, flips, np.ones(len(rows), dtype=bool))
    spreads = [pooled] * len(rows)
    for place in np.flatnonzero(is_own).tolist():
        own, of = moderated(float(variance[place]), float(degrees[place]), whole.variance)
        spreads[place] = Spread(own, float(flips[place]), of, is_own=True)
    return spreads


def _pooled(degrees: Floats, variance: Floats, flips: Floats, rows: Booleans) -> Spread:
    total = float(degrees[rows].sum())
    if not total:
        return Spread(0.0, 0.0, 0.0)
    shares = degrees[rows]
    return Spread(float(shares @ variance[rows]) / total, float(shares @ flips[rows]) / total, total)


def _interaction(each: NDArray[np.bool_ | np.int8] | Floats) -> float:
    """Variance of a seed's mean by flips alone: mean square of the interaction with images, over the images.

    Parameters
    ----------
    each
        Shape (n_seeds, n_images): numbers, whether answers were right, or differences of such (-1, 0 and 1).
    """
    n_seeds, n = each.shape
    if each.dtype in (np.bool_, np.int8):
        of_seeds, of_images = (each.sum(axis=axis, dtype=np.int64).astype(np.float64) for axis in (1, 0))
        square = float(np.count_nonzero(each)) + of_seeds.sum() ** 2 / (n_seeds * n)
        square = max(0.0, square - float(of_seeds @ of_seeds) / n - float(of_images @ of_images) / n_seeds)
    else:
        left = each - each.mean(axis=0) - each.mean(axis=1, keepdims=True) + each.mean()
        square = float((left**2).sum())
    return float(square / ((n_seeds - 1) * (n - 1) * n))


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
        The row's of `seed_spreads` over the table. Without degrees, the interval is that of the test images alone.

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
    return row.by_image


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
    values = np.array([row.by_seed for row in rows])
    effects = two_way(values)
    variances = row_variances(values, effects)
    base = rows[reference]
    pairs = [row.against(base) for row in rows]
    is_pooled = ~variances.is_own | variances.is_own[reference]
    flips = _pooled_flips([pair for place, pair in enumerate(pairs) if place != reference and is_pooled[place]])
    found = []
    for place, pair in enumerate(pairs):
        if place == reference or not pair.n_seeds:
            reach = 0.0 if place == reference else 1.0
            found.append(Difference(pair.value, -reach, reach, Evidence(nan, len(rows), inf)))
            continue
        which = sorted({place, reference}, key=lambda row: bool(variances.is_own[row]))
        own = variances.is_own[which]
        parts = [(float(variances.variance[row]), float(variances.degrees[row])) for row in which]
        if not own.any():
            parts = [(2 * parts[0][0], parts[0][1])]
        found.append(_difference(pair, parts, flips if is_pooled[place] else pair.flips or 0.0, len(rows)))
    return found


@dataclass(frozen=True)
class _Paired:
    """A row against another on the seeds and images that both have.

    Attributes
    ----------
    n_seeds
        That both have.
    value
        Difference of their accuracies; over all seeds of each where they have none in common.
    images, image_degrees
        Variance of the difference by the choice of test images, NaN where it is unknown, and its degrees of freedom.
    flips
        Variance of a seed's difference by flips of single images alone; None where images are unknown.
    only
        Images of one seed that the row alone has right, and that the other alone has right, where bits are known.
    """

    n_seeds: int
    value: float
    images: float
    image_degrees: float
    flips: float | None
    only: tuple[int, int] | None


def _pair_of(row: Outcomes, base: Outcomes) -> _Paired:
    common = row.present & base.present
    n_seeds = int(common.sum())
    if not n_seeds:
        return _Paired(0, float(np.nanmean(row.by_seed) - np.nanmean(base.by_seed)), nan, inf, None, None)
    value = float(row.by_seed[common].mean() - base.by_seed[common].mean())
    if row.per_image is None or base.per_image is None:
        images = nan
        if row.n is not None and base.n is not None:
            shares = [(float(np.nanmean(of.by_seed)) * of.n + 2) / (of.n + 4) for of in (row, base) if of.n]
            images = shares[0] * (1 - shares[0]) / row.n + shares[1] * (1 - shares[1]) / base.n
        return _Paired(n_seeds, value, images, inf, None, None)
    if row.is_binary:
        each = row.per_image[common].view(np.int8) - base.per_image[common].view(np.int8)
        padded = np.append(each.sum(axis=0) / n_seeds, [1.0, -1.0])
        images, degrees = float(padded.var()) / len(padded), inf
        only = (int((each[0] > 0).sum()), int((each[0] < 0).sum()))
        flips = _interaction(each) if n_seeds > 1 else 0.0
    else:
        parts = np.asarray(row.per_image[common] - base.per_image[common], np.float64)
        by_image = parts.mean(axis=0)
        images, degrees, only = float(by_image.var(ddof=1)) / len(by_image), len(by_image) - 1, None
        flips = _interaction(parts) if n_seeds > 1 else 0.0
    return _Paired(n_seeds, value, images, degrees, flips, only)


def _pooled_flips(pairs: Sequence[_Paired]) -> float:
    """Variance of a seed's difference by flips of single images alone, pooled over rows; 0 if unknown."""
    known = [(pair.flips, pair.n_seeds - 1) for pair in pairs if pair.flips is not None]
    degrees = sum(of for _, of in known)
    return sum(flips * of for flips, of in known) / degrees if degrees else 0.0


def _difference(pair: _Paired, seeds: list[tuple[float, float]], flips: float, n_rows: int) -> Difference:
    """One row against the reference; `seeds` are the parts of the variance of a seed's difference, with degrees."""
    between, degrees = sum(part for part, _ in seeds), sum(of for _, of in seeds)
    if isnan(pair.images) and not degrees:
        return Difference(pair.value, -1.0, 1.0, Evidence(nan, n_rows, inf))
    images = 0.0 if isnan(pair.images) else pair.images
    excess = max(0.0, between - (0.0 if pair.flips is None else flips)) / pair.n_seeds
    error = sqrt(images + excess)
    parts = [(images, pair.image_degrees), *((part / pair.n_seeds if excess else 0.0, of) for part, of in seeds)]
    freedom = satterthwaite(error**2, parts)
    least = 0.0 if degrees or pair.only is None else _mcnemar_p(*pair.only, n_rows)
    evidence = Evidence(errors_of(pair.value, error), n_rows, freedom, least)
    reach = tukey_critical(n_rows, freedom) * error
    low, high = max(-1.0, pair.value - reach), min(1.0, pair.value + reach)
    if least >= 1 - CONFIDENCE:
        low, high = min(low, 0.0), max(high, 0.0)
    return Difference(pair.value, low, high, evidence)


def _mcnemar_p(better: int, worse: int, n_rows: int) -> float:
    """McNemar's exact two-sided p value of images on which one row alone is right, adjusted for a table after Tukey."""
    from scipy.special import bdtr, ndtri

    p = min(1.0, 2 * float(bdtr(min(better, worse), better + worse, 0.5))) if better + worse else 1.0
    return tukey_p(float(ndtri(p / 2)), n_rows, inf)
