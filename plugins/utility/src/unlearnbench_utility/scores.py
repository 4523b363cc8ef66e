"""Scores in one number from papers: ToW, AUS and NoMUS. What they hide is in the README."""

from __future__ import annotations

import math
from collections.abc import Iterable

from torch import Generator

from unlearnbench.api import NoParams
from unlearnbench.api.runtime import (
    Component,
    Evidence,
    Reading,
    Rows,
    Subject,
    rows_of,
    seed_from,
    share_interval,
    status_of,
)
from unlearnbench_utility.attacks import FEWEST, best_threshold, bootstrap_interval, loss_attack
from unlearnbench_utility.rows import accuracy, log_p


class TugOfWar(Component[NoParams]):
    """Tug of war (Zhao et al. 2024, section 3): (1 - |dA_f|) (1 - |dA_r|) (1 - |dA_t|) with differences to gold.

    ToW-MIA has the success of an attack in the place of A_f: the share of the forget set that is taken for non-members.
    The attack is a threshold on the confidence in the true class, the one that tells retain rows (members) from test
    rows best by the mean of the two rates. The share itself is told as ``threshold-mia`` with its exact (Clopper-
    Pearson) interval, which takes the threshold as given.
    """

    def measure(self, evidence: Evidence) -> Iterable[Reading]:
        mine, gold = _three(evidence), _three(evidence, "gold")
        status, n = status_of(*mine, *gold), sum(len(part) for part in mine)
        tow = mia = None
        if status == "ok":
            a_f, a_r, a_t = (accuracy(part) - accuracy(aim) for part, aim in zip(mine, gold, strict=True))
            tow = tug_of_war(a_f, a_r, a_t)
            mia = tug_of_war((taken(*mine) - taken(*gold)) / len(mine[0]), a_r, a_t)
        yield Reading("tow", tow, n, better="higher", status=status)
        yield Reading("tow-mia", mia, n, better="higher", status=status)
        yield self._attack(mine)

    def _attack(self, parts: tuple[Rows, Rows, Rows]) -> Reading:
        status, n = status_of(*parts), len(parts[0])
        if status != "ok":
            return Reading("threshold-mia", None, n, split="forget", status=status)
        hits = taken(*parts)
        low, high = share_interval(hits, n)
        return Reading("threshold-mia", hits / n, n, split="forget", low=low, high=high)


def _three(evidence: Evidence, subject: Subject | None = None) -> tuple[Rows, Rows, Rows]:
    forget, retain, test = (rows_of(evidence, split, subject) for split in ("forget", "retain", "test"))
    return forget, retain, test


def tug_of_war(*differences: float) -> float:
    """The product of 1 - |d|."""
    return math.prod(1 - abs(d) for d in differences)


def taken(forget: Rows, retain: Rows, test: Rows) -> int:
    """Forget rows less confident than the threshold between retain and test rows, so taken for non-members.

    The logarithm orders as the confidence does and keeps small confidences apart.
    """
    threshold = best_threshold(log_p(retain).numpy(), log_p(test).numpy())
    return int((log_p(forget) < threshold).sum())


class AdaptiveUnlearningScore(Component[NoParams]):
    """AUS (Cotogni et al. 2023): (1 - (A_original - A_t)) / (1 + D), accuracies on test rows.

    D is the accuracy A_f on the forget set where a class is removed, for which 0 is the aim, and |A_t - A_f| for other
    requests (homogeneous removal), whose rows should be as hard as test rows.
    """

    def measure(self, evidence: Evidence) -> Iterable[Reading]:
        test, forget = rows_of(evidence, "test"), rows_of(evidence, "forget")
        original = rows_of(evidence, "test", "original")
        status, value = status_of(test, forget, original), None
        if status == "ok":
            form = class_removal if evidence.request.kind == "class" else homogeneous_removal
            value = form(accuracy(original), accuracy(test), accuracy(forget))
        yield Reading("aus", value, len(test) + len(forget), better="higher", status=status)


def class_removal(original: float, test: float, forget: float) -> float:
    """AUS where a class is removed; accuracies as shares."""
    return (1 - (original - test)) / (1 + forget)


def homogeneous_removal(original: float, test: float, forget: float) -> float:
    """AUS where rows of all classes are removed; accuracies as shares."""
    return (1 - (original - test)) / (1 + abs(test - forget))


class Nomus(Component[NoParams]):
    """NoMUS (Choi and Na 2023): A_t / 2 + (1 - 2 |M - 1/2|) / 2, M the accuracy of an attack.

    The attack tells forget rows from as many hold-out rows by a logistic regression on the loss, 10 stratified splits
    with a tenth held out. M is told as ``loss-mia`` with a bootstrap interval over rows that keeps the attack's fits.
    """

    def measure(self, evidence: Evidence) -> Iterable[Reading]:
        test, forget, unseen = (rows_of(evidence, split) for split in ("test", "forget", "holdout"))
        attack = self._attack(evidence.rng("attack"), forget, unseen)
        status, value = status_of(test), None
        if status == "ok":
            status = attack.status
            value = None if attack.value is None else nomus(accuracy(test), attack.value)
        yield Reading("nomus", value, len(test) + attack.n, better="higher", status=status)
        yield attack

    def _attack(self, rng: Generator, forget: Rows, unseen: Rows) -> Reading:
        n, status = min(len(forget), len(unseen)), status_of(forget, unseen)
        if status == "ok" and n < FEWEST:
            status = f"fewer than {FEWEST} rows"
        if status != "ok":
            return Reading("loss-mia", None, 2 * n, split="forget", status=status)
        forgotten, others = ((-log_p(part.drawn(n, rng))).numpy() for part in (forget, unseen))
        tested = loss_attack(forgotten, others, seed_from(rng))
        low, high = bootstrap_interval(tested, seed_from(rng))
        return Reading("loss-mia", tested.accuracy, 2 * n, split="forget", low=low, high=high)


def nomus(accuracy: float, attack: float) -> float:
    """Half the accuracy and half the forgetting score, both in [0, 1]."""
    return accuracy / 2 + (1 - 2 * abs(attack - 0.5)) / 2
