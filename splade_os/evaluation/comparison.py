"""Two runs side by side: is the difference more than luck, and on which queries?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from splade_os.errors import SettingsError
from splade_os.evaluation.measures import Scores

RESAMPLES = 10_000
_SEED = 1
_BATCH = 500  # resamples at a time: bounds the memory
_EQUAL = 1e-12


@dataclass(frozen=True)
class Comparison:
    """A measure of two runs over the same queries.

    Attributes:
        measure: its name.
        a, b: labels of the runs.
        mean_a, mean_b: the measure of each.
        p: of Fisher's paired randomisation test, two-sided: how often chance alone makes a
            difference of the means at least as large.
        low, high: 95 % of bootstrap samples of queries have a mean difference between these.
        differences: query id → b − a, largest gain of ``b`` first.
        p_corrected: ``p`` corrected for having asked several questions, where there were (`holm`).
    """

    measure: str
    a: str
    b: str
    mean_a: float
    mean_b: float
    p: float
    low: float
    high: float
    differences: Mapping[str, float] = field(repr=False)
    p_corrected: float | None = None

    @property
    def difference(self) -> float:
        """Mean of ``b`` − mean of ``a``."""
        return self.mean_b - self.mean_a

    @property
    def better(self) -> int:
        """Queries on which ``b`` is better."""
        return sum(value > _EQUAL for value in self.differences.values())

    @property
    def worse(self) -> int:
        """Queries on which ``b`` is worse."""
        return sum(value < -_EQUAL for value in self.differences.values())

    @property
    def equal(self) -> int:
        """Queries on which both are the same."""
        return len(self.differences) - self.better - self.worse

    @property
    def decisive(self) -> float:
        """The p value to judge by: corrected, where several questions were asked."""
        return self.p if self.p_corrected is None else self.p_corrected

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "measure": self.measure,
            "a": self.a,
            "b": self.b,
            "mean_a": self.mean_a,
            "mean_b": self.mean_b,
            "difference": self.difference,
            "p": self.p,
            "p_corrected": self.p_corrected,
            "confidence_interval_95": [self.low, self.high],
            "better": self.better,
            "equal": self.equal,
            "worse": self.worse,
            "differences": dict(self.differences),
        }


def compare(a: str, scores_a: Scores, b: str, scores_b: Scores, measure: str) -> Comparison:
    """Compare two runs by a measure.

    Raises:
        SettingsError: the measure has no value per query, or the runs were not scored over the
            same queries.
    """
    mine, theirs = scores_a.per_query.get(measure), scores_b.per_query.get(measure)
    if mine is None or theirs is None:
        have = [m for m in scores_a.per_query if m in scores_b.per_query]
        raise SettingsError(
            f"There is no {measure!r} per query to compare by.", hint=f"One of {', '.join(have)}."
        )
    if set(mine) != set(theirs):
        raise SettingsError(f"{a} and {b} were scored over different queries.")
    values_a = np.array(list(mine.values()))
    values_b = np.array([theirs[query] for query in mine])
    gains = values_b - values_a
    low, high = confidence_interval(gains)
    return Comparison(
        measure,
        a,
        b,
        float(values_a.mean()),
        float(values_b.mean()),
        randomisation_test(gains),
        low,
        high,
        dict(sorted(zip(mine, map(float, gains), strict=True), key=lambda pair: -pair[1])),
    )


def compare_all(runs: Mapping[str, Scores], measure: str) -> list[Comparison]:
    """The first run against each of the others; p values corrected by `holm`."""
    (baseline, own), *others = runs.items()
    found = [compare(baseline, own, label, scores, measure) for label, scores in others]
    corrected = holm([c.p for c in found])
    return [replace(c, p_corrected=p) for c, p in zip(found, corrected, strict=True)]


def randomisation_test(differences: npt.NDArray[np.float64]) -> float:
    """Fisher's paired randomisation test of the mean, two-sided.

    Under the null hypothesis each query's difference is as likely with the other sign. All
    ``2^n`` assignments are tried if they are few, else 10,000 at random (with a fixed seed).
    Source: Smucker, Allan, Carterette 2007, "A comparison of statistical significance tests for
    information retrieval evaluation".
    """
    if len(differences) < 2 or not np.abs(differences).max() > _EQUAL:
        return 1.0  # of one query both signs are as far from zero
    result = stats.permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=_BATCH,
        rng=np.random.default_rng(_SEED),
    )
    return float(result.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """p values corrected for having asked several questions (Holm 1979), in the same order."""
    order = np.argsort(p_values, kind="stable")
    corrected = np.array(p_values, np.float64)[order] * np.arange(len(p_values), 0, -1)
    corrected = np.minimum(np.maximum.accumulate(corrected), 1.0)
    result = np.empty(len(p_values))
    result[order] = corrected
    return [float(p) for p in result]


def confidence_interval(values: Iterable[float]) -> tuple[float, float]:
    """Where 95 % of the means of bootstrap samples lie (10,000 samples, a fixed seed)."""
    sample = np.fromiter(values, np.float64)
    if len(sample) < 2 or np.ptp(sample) <= _EQUAL:
        return float(sample.mean()), float(sample.mean())
    interval = stats.bootstrap(
        (sample,),
        np.mean,
        method="percentile",
        n_resamples=RESAMPLES,
        batch=_BATCH,
        vectorized=True,
        rng=np.random.default_rng(_SEED),
    ).confidence_interval
    return float(interval.low), float(interval.high)
