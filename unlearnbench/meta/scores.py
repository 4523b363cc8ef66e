"""How good a reading is: what it says of the models of the bank, held against what is true of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from statistics import fmean, stdev
from typing import Any, Literal

from unlearnbench.meta.bank import Entry

LEVEL = 0.95


@dataclass(frozen=True)
class Point:
    """A reading of one model of the bank with one seed, its signed gap to gold, and its interval if it has one.

    ``like_gold`` is what the intervals of reading and gold say; None where there are none.
    """

    value: float
    gap: float
    low: float | None = None
    high: float | None = None
    like_gold: bool | None = None


Points = Mapping[str, Mapping[int, Point]]
"""Points by the entry's label and the seed."""


@dataclass(frozen=True)
class Apart:
    """How many steps from one kept share to the next are in the right order with intervals that do not overlap.

    Intervals are the reading's own (``rows``; a step counts once for each seed), or Student's over seeds (``seeds``).
    """

    steps: int
    of: int
    intervals: Literal["rows", "seeds"]


@dataclass(frozen=True)
class Score:
    """What a reading is worth.

    ``tau`` is Kendall's tau between the distance from gold and the share that was kept, mean over seeds. ``told`` says
    of each entry whether it is farther from gold, with every seed, than another gold model is with any, and not like
    gold by the intervals of the readings where they have any; None where one seed without intervals says nothing of
    noise. ``finds`` is the smallest kept share that is told. ``noise`` is the standard deviation over seeds, pooled
    over the kept shares, as a part of the distance between original and gold.
    """

    measure: str
    key: str
    values: Mapping[str, float | None]
    tau: float | None
    apart: Apart | None
    told: Mapping[str, bool | None]
    finds: float | None
    noise: float | None
    cpu_s: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def rank(self) -> tuple[float, ...]:
        """Order of the table: what catches most, then what orders best, then what is quiet."""
        caught = sum(told is True for told in self.told.values())
        return (
            -caught,
            -(self.tau if self.tau is not None else -2),
            self.noise if self.noise is not None else math.inf,
        )


def score(measure: str, key: str, points: Points, bank: Sequence[Entry], cpu_s: float) -> Score:
    """Score one reading by its points; entries without any are left out of what needs them."""
    ladder = sorted((e for e in bank if e.kept is not None), key=lambda e: -(e.kept or 0.0))
    gold = next(e for e in ladder if e.kept == 0)
    told = {e.label: _told(points.get(e.label, {}), points.get(gold.label, {})) for e in bank if e is not gold}
    found = [e.kept for e in ladder if e.kept is not None and told.get(e.label)]
    return Score(
        measure=measure,
        key=key,
        values={e.label: _mean([p.value for p in points.get(e.label, {}).values()]) for e in bank},
        tau=_tau(points, ladder),
        apart=_apart(points, ladder),
        told=told,
        finds=min(found, default=None),
        noise=_noise(points, ladder),
        cpu_s=cpu_s,
    )


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _tau(points: Points, ladder: Sequence[Entry]) -> float | None:
    """Kendall's tau (b) for each seed that has every entry; None where a reading is the same for all of them."""
    from scipy.stats import kendalltau

    found = []
    for seed in _common_seeds(points, ladder):
        distances = [abs(points[entry.label][seed].gap) for entry in ladder]
        if len(set(distances)) > 1:
            found.append(float(kendalltau(distances, [entry.kept for entry in ladder]).statistic))
    return _mean(found)


def _common_seeds(points: Points, ladder: Sequence[Entry]) -> list[int]:
    return sorted(set.intersection(*(set(points.get(entry.label, {})) for entry in ladder)))


def _apart(points: Points, ladder: Sequence[Entry]) -> Apart | None:
    seeds = _common_seeds(points, ladder)
    if not seeds:
        return None
    # Which side the original lies on: far below gold is as far as far above.
    side = math.copysign(1, fmean(points[ladder[0].label][seed].gap for seed in seeds))
    ends: list[list[tuple[float, float]]] = []
    for seed in seeds:
        own = [points[entry.label][seed] for entry in ladder]
        ends.append([(p.low, p.high) for p in own if p.low is not None and p.high is not None])
    kind: Literal["rows", "seeds"] = "rows"
    if any(len(own) < len(ladder) for own in ends):
        if len(seeds) < 2:
            return None
        kind = "seeds"
        ends = [[_student([points[entry.label][seed].value for seed in seeds]) for entry in ladder]]
    right = sum(_above(more, less, side) for own in ends for more, less in pairwise(own))
    return Apart(right, len(ends) * (len(ladder) - 1), kind)


def _above(more: tuple[float, float], less: tuple[float, float], side: float) -> bool:
    return more[0] > less[1] if side > 0 else more[1] < less[0]


def _student(values: Sequence[float]) -> tuple[float, float]:
    """Student's interval of the mean."""
    from scipy.stats import t

    half = float(t.ppf((1 + LEVEL) / 2, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return fmean(values) - half, fmean(values) + half


def _told(mine: Mapping[int, Point], gold: Mapping[int, Point]) -> bool | None:
    known = [point.like_gold for point in mine.values() if point.like_gold is not None]
    if not mine or not gold or (len(gold) < 2 and not known):
        return None
    farther = min(abs(p.gap) for p in mine.values()) > max(abs(p.gap) for p in gold.values())
    return farther and not any(known)


def _noise(points: Points, ladder: Sequence[Entry]) -> float | None:
    seeds = _common_seeds(points, ladder)
    if len(seeds) < 2:
        return None
    span = abs(fmean(points[ladder[0].label][seed].gap for seed in seeds))
    spread = fmean(stdev(points[entry.label][seed].value for seed in seeds) ** 2 for entry in ladder)
    return math.sqrt(spread) / span if span > 0 else None
