"""What a comparison says, as frozen data that goes into JSON as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from unlearnbench.statistics import Components, Estimate

Test = Literal["permutation", "wilcoxon"]
Subject = Literal["original", "gold", "unlearned"]


@dataclass(frozen=True)
class Row:
    """One subject under one reading: ``original``, ``gold``, or an unlearner by its label.

    ``values`` and ``gaps`` are those per training seed, in the order of ``seeds``; None where there is none. Gaps are
    signed (value minus that of the gold model of the same training seed); ``gap`` is their estimate, ``distance`` that
    of their absolute values. ``missing`` counts the readings without a value by their status, ``verdicts`` those that
    the host called above, below or like gold. ``spread`` says where the variance of ``values`` enters.
    """

    label: str
    subject: Subject
    trainer: str
    seeds: tuple[int, ...]
    values: tuple[float | None, ...]
    gaps: tuple[float | None, ...]
    value: Estimate
    gap: Estimate
    distance: Estimate
    missing: Mapping[str, int]
    verdicts: Mapping[str, int]
    spread: Components


@dataclass(frozen=True)
class Pair:
    """Two unlearners on the training seeds that they share.

    ``difference`` is the score of ``first`` minus that of ``second``, seed by seed (negative: first is better);
    ``p`` the two-sided p-value of the paired test, ``holm`` the same after Holm's correction for all pairs of the
    reading, ``smallest`` the smallest p that so few seeds can reach before correction. ``differs``: holm <= alpha.
    ``apart``: the interval of the difference leaves out 0, which is an indication and not corrected for many pairs.
    """

    first: str
    second: str
    n: int
    difference: Estimate
    p: float | None
    holm: float | None
    smallest: float | None
    differs: bool
    apart: bool


@dataclass(frozen=True)
class Ranks:
    """Friedman's test over training seeds: average ranks by label (1 is best) and Nemenyi's critical difference.

    ``ties`` are the groups of labels, best first, whose ranks lie within the critical difference of each other.
    """

    n: int
    average: Mapping[str, float]
    statistic: float | None
    p: float | None
    critical_difference: float
    ties: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Floor:
    """What the reading cannot tell from forgetting: gold against another gold.

    ``kind`` is ``retrain`` (the control that trains gold again with another seed: ``distance`` is how far apart two
    golds read) or ``gold`` (gold's own ``value``, without a distance).
    """

    kind: Literal["retrain", "gold"]
    value: Estimate
    distance: Estimate | None


@dataclass(frozen=True)
class ReadingComparison:
    """One reading of all subjects.

    ``key`` is its flat name; ``variant`` says the parameters of its measure where they differ between records (each
    variant is compared on its own). ``basis`` is what unlearners are scored by, lower being better: ``gap`` (absolute
    gap to gold) or ``value`` (times and what gold has no value of; negated where higher is better). ``order`` are the
    labels of the unlearners, best mean score first; ``ties`` the groups, in that order, in which no pair differs by
    the test. Where there are too few seeds for any pair to differ (not ``decidable``), the intervals of the paired
    differences stand in for the test, and where there are too few for these, ``ties`` is empty: ``ties_by`` says which.
    ``conclusion`` is the finding in a sentence or two.
    """

    measure: str
    key: str
    name: str
    split: str
    variant: str
    better: str
    unit: str
    timed: bool
    basis: Literal["gap", "value"]
    rows: tuple[Row, ...]
    floor: Floor | None
    pairs: tuple[Pair, ...]
    ranks: Ranks | None
    order: tuple[str, ...]
    ties: tuple[tuple[str, ...], ...]
    ties_by: Literal["test", "interval", "none"]
    decidable: bool
    conclusion: str
    notes: tuple[str, ...]

    def row(self, label: str) -> Row:
        """The row of a subject.

        Raises:
            KeyError: there is none.
        """
        for row in self.rows:
            if row.label == label:
                return row
        raise KeyError(label)


@dataclass(frozen=True)
class Contender:
    """An unlearner of a group: its label, the runs that count, their distinct seeds, and runs that came to nothing.

    The label is the unlearner's name; where runs of one name differ in parameters or version, it says in which.
    """

    label: str
    name: str
    trainer: str
    params: Mapping[str, Any]
    runs: tuple[str, ...]
    train_seeds: tuple[int, ...]
    unlearn_seeds: tuple[int, ...]
    measure_seeds: tuple[int, ...]
    lost: Mapping[str, int]


@dataclass(frozen=True)
class LeftOut:
    """A record that is not compared, and why."""

    path: str
    run: str
    reason: str


@dataclass(frozen=True)
class Comparison:
    """All records of one scenario: the same data, model, recipe and requests."""

    title: str
    scenario: str | None
    dataset: str
    model: str
    confidence: float
    test: Test
    train_seeds: tuple[int, ...]
    contenders: tuple[Contender, ...]
    readings: tuple[ReadingComparison, ...]
    notes: tuple[str, ...]
    left_out: tuple[LeftOut, ...]

    def to_json(self) -> dict[str, Any]:
        """The comparison as plain JSON values."""
        return asdict(self)
