"""Statistics of boards, pure: how sure a number is, whether rows differ, and leads at equal accuracy.

- interval: a value with its 95 % interval
- accuracy: intervals over seeds and test images, and rows compared on the same images
- latency: rows compared over the same sessions; intervals
- two_way: what seeds share and what rows have, by least squares
- variances: rows that vary more than the others
- simultaneous: comparisons of all rows of a table at once, after Tukey
- fronts: dominance, Pareto fronts and the lead at equal accuracy, with its bootstrap
"""

from hdapbench.leaderboard.statistics.accuracy import (
    Difference,
    Outcomes,
    Spread,
    accuracy_differences,
    accuracy_interval,
    seed_spreads,
)
from hdapbench.leaderboard.statistics.fronts import (
    Cell,
    Curves,
    Lead,
    bootstrap_fronts,
    dominates,
    equal_accuracy_lead,
    pareto_front,
)
from hdapbench.leaderboard.statistics.interval import Interval
from hdapbench.leaderboard.statistics.latency import (
    Ratio,
    TwoWay,
    fit_two_way,
    latency_interval,
    latency_ratios,
    measurement_variance_of,
    medians,
    variance_of_mean,
)

__all__ = [
    "Cell",
    "Curves",
    "Difference",
    "Interval",
    "Lead",
    "Outcomes",
    "Ratio",
    "Spread",
    "TwoWay",
    "accuracy_differences",
    "accuracy_interval",
    "bootstrap_fronts",
    "dominates",
    "equal_accuracy_lead",
    "fit_two_way",
    "latency_interval",
    "latency_ratios",
    "measurement_variance_of",
    "medians",
    "pareto_front",
    "seed_spreads",
    "variance_of_mean",
]
