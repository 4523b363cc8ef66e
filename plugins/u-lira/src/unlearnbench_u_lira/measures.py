"""U-LiRA and its form for vulnerable rows: shadow models in, readings out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from unlearnbench.api import UsageError
from unlearnbench.api.runtime import Component, Ensemble, Evidence, Reading, Shadows, Subject, numpy_rng, order_by_id
from unlearnbench_u_lira.curves import Estimate, accuracy_at_zero, area, attack_curve, permutation_null, two_sided_p
from unlearnbench_u_lira.likelihood import (
    Bools,
    Floats,
    Undefined,
    defined_log_odds,
    exposure,
    log_ratios,
    most_exposed,
    rows_taken,
)
from unlearnbench_u_lira.plugin import ShadowParams, ULiraParams, VulnerableParams

LEVELS = np.array([10 ** (k / 5 - 3) for k in range(15)])
"""False positive rates from 0.001 to 0.63, five a decade."""
FEWEST_ROWS = 4
"""With fewer rows an interval over rows says nothing."""


@dataclass(frozen=True)
class Audit:
    """What the attack reads: log-odds [n, m], who saw which row, and which entries count. Rows are in order of id."""

    phi: Floats
    members: Bools
    used: Bools


class AuditRows:
    """The labelled audit rows of an ensemble by id, so that nothing depends on the order of the data."""

    def __init__(self, shadows: Shadows) -> None:
        self._shadows, self._order = shadows, order_by_id(shadows.ids, shadows.y)
        self._y = shadows.y[self._order]
        self.members: Bools = shadows.members[:, self._order].cpu().numpy()

    def __len__(self) -> int:
        return len(self._order)

    def log_odds(self, subject: Subject) -> Floats:
        """Log-odds [n, m] of a subject of all shadows."""
        return defined_log_odds(self._shadows.outputs(subject)[:, self._order], self._y)


class ULira(Component[ULiraParams]):
    """Tells, for each row, models that learned and forgot it from models that never saw it (Hayes et al., 2024).

    Intervals are percentile bootstraps over rows. The original's reading is what doing nothing would read, gold's the
    floor: 0.5 up to chance.
    """

    def ensembles(self) -> Sequence[Ensemble]:
        """Every subject is attacked, and independent gold models are as many again."""
        n = even(self.p, "u-lira")
        golds = 2 * n if self.p.reference == "golds" else n
        return [Ensemble("shadows", originals=n, golds=golds, unlearned=n)]

    def measure(self, evidence: Evidence) -> Iterable[Reading]:
        rows = AuditRows(evidence.shadows(self.p.shadows))
        try:
            yield from self._readings(evidence, self._audit(evidence, rows))
        except Undefined as found:
            names = ("u-lira-auc", "u-lira-accuracy", "u-lira-uncalibrated-auc", "u-lira-null-auc")
            for name in names:
                yield Reading(name, None, len(rows), status=str(found))
            yield Reading("u-lira-p-value", None, len(rows), better="higher", status=str(found))
            yield from tpr_readings("u-lira-tpr", [None] * len(LEVELS), LEVELS, len(rows), str(found))

    def _audit(self, evidence: Evidence, rows: AuditRows) -> Audit:
        if len(rows) < FEWEST_ROWS:
            raise Undefined("too few rows")
        phi, members = rows.log_odds(evidence.subject), rows.members
        if self.p.reference == "never-members":
            return Audit(phi, members, np.ones_like(members))
        references = AuditRows(evidence.shadows(2 * self.p.shadows)).log_odds("gold")[self.p.shadows :]
        return against_golds(phi, members, references)

    def _readings(self, evidence: Evidence, audit: Audit) -> Iterable[Reading]:
        phi, members, used = audit.phi, audit.members, audit.used
        m, draws = phi.shape[1], self.p.bootstrap_draws
        scores = log_ratios(phi, members, used, self.p.pseudo_observations)
        auc, rates = attack_curve(scores, members, used, LEVELS, draws, numpy_rng(evidence.rng("rows")))
        accuracy = accuracy_at_zero(scores, members, used, draws, numpy_rng(evidence.rng("rows")))
        plain, _ = attack_curve(phi, members, used, LEVELS[:0], draws, numpy_rng(evidence.rng("rows")))

        def attacked(swapped: Bools) -> float:
            return area(log_ratios(phi, swapped, used, self.p.pseudo_observations), swapped, used)

        null = permutation_null(attacked, members, self.p.permutations, numpy_rng(evidence.rng("null")))
        low, high = np.quantile(null, [0.025, 0.975])
        yield interval_reading("u-lira-auc", auc, m)
        yield interval_reading("u-lira-accuracy", accuracy, m)
        yield interval_reading("u-lira-uncalibrated-auc", plain, m)
        yield Reading("u-lira-null-auc", float(null.mean()), m, low=float(low), high=float(high))
        yield Reading("u-lira-p-value", two_sided_p(auc.value, null), m, better="higher")
        negatives = int((used & ~members).sum())
        yield from tpr_readings("u-lira-tpr", resolved(rates, LEVELS, negatives), LEVELS, m, "too few negatives")


class VulnerableSamples(Component[VulnerableParams]):
    """U-LiRA on the rows that the original models expose most, and on the others (after Naderloui et al., 2025).

    Which rows those are is read from original models alone, for each pair of shadows from the other pairs. Intervals
    are percentile bootstraps over rows.
    """

    def ensembles(self) -> Sequence[Ensemble]:
        n = even(self.p, "vulnerable-samples")
        return [Ensemble("shadows", originals=n, golds=n, unlearned=n)]

    def measure(self, evidence: Evidence) -> Iterable[Reading]:
        rows = AuditRows(evidence.shadows(self.p.shadows))
        vulnerable = rows_taken(len(rows), self.p.share)
        for group, n in (("vulnerable", vulnerable), ("others", len(rows) - vulnerable)):
            at = {"rows": group}
            levels = LEVELS[LEVELS.searchsorted(0.01 - 1e-9)][None]
            try:
                if n < FEWEST_ROWS:
                    raise Undefined("too few rows")
                auc, rates, negatives = self._attack(evidence, rows, group == "vulnerable", levels)
            except Undefined as found:
                yield Reading("vulnerable-auc", None, n, at=at, status=str(found))
                yield from tpr_readings("vulnerable-tpr", [None], levels, n, str(found), at)
                continue
            yield interval_reading("vulnerable-auc", auc, n, at)
            rates = resolved(rates, levels, negatives)
            yield from tpr_readings("vulnerable-tpr", rates, levels, n, "too few negatives", at)

    def _attack(
        self, evidence: Evidence, rows: AuditRows, vulnerable: bool, levels: Floats
    ) -> tuple[Estimate, Sequence[Estimate | None], int]:
        pseudo = self.p.pseudo_observations
        phi, members = rows.log_odds(evidence.subject), rows.members
        scores = log_ratios(phi, members, np.ones_like(members), pseudo)
        picked = most_exposed(exposure(rows.log_odds("original"), members, pseudo), self.p.share)
        used = picked if vulnerable else ~picked
        rng = numpy_rng(evidence.rng("rows"))
        auc, rates = attack_curve(scores, members, used, levels, self.p.bootstrap_draws, rng)
        return auc, rates, int((used & ~members).sum())


def against_golds(phi: Floats, members: Bools, references: Floats) -> Audit:
    """Models that unlearned a row against gold models: ``2 n`` models, each beside the gold model of its number.

    A row counts where the model saw it: there its log-odds and those of the gold model beside it make a pair, one that
    saw the row and one that did not, as in the other form.
    """
    pairs = np.stack([phi, references], axis=1).reshape(-1, phi.shape[1])
    saw = np.tile([[True], [False]], (len(phi), phi.shape[1]))
    return Audit(pairs, saw, np.repeat(members, 2, axis=0))


def even(params: ShadowParams, measure: str) -> int:
    """The number of shadows of a measure.

    Raises:
        UsageError: an odd number.
    """
    if params.shadows % 2:
        raise UsageError(
            "bad-parameter",
            f"{params.shadows} shadow models are no pairs",
            where=f"{measure}.shadows",
            hint=f"take {params.shadows + 1}",
        )
    return params.shadows


def resolved(rates: Sequence[Estimate | None], levels: Floats, negatives: int) -> list[Estimate | None]:
    """The rates at levels at which at least one false alarm is allowed."""
    return [rate if level * negatives >= 1 - 1e-9 else None for rate, level in zip(rates, levels, strict=True)]


def interval_reading(name: str, found: Estimate, n: int, at: dict[str, str] | None = None) -> Reading:
    """A value with the ends of its interval."""
    return Reading(name, found.value, n, low=found.low, high=found.high, at=at or {})


def tpr_readings(
    name: str, rates: Sequence[Estimate | None], levels: Floats, n: int, status: str, at: dict[str, str] | None = None
) -> Iterable[Reading]:
    """A reading for each level; those without a rate say why."""
    for rate, level in zip(rates, levels, strict=True):
        place = {**(at or {}), "fpr": f"{level:.3g}"}
        yield interval_reading(name, rate, n, place) if rate else Reading(name, None, n, at=place, status=status)
