"""Measures that every run has: accuracy, SalUn's four numbers, agreement with gold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean

import numpy as np
import numpy.typing as npt
from sklearn.svm import SVC

from unlearnbench.api import NoParams
from unlearnbench.api.runtime import Better, Component, Evidence, Reading, Rows, jensen_shannon, rows_of, status_of
from unlearnbench.builtin.plugin import MembershipParams

_BETTER: dict[str, Better] = {"retain": "higher", "test": "higher"}


class Accuracy(Component[NoParams]):
    """The task's own metrics on every split. On the forget set and the hold-out, gold's value is the aim."""

    def measure(self, evidence: Evidence) -> Iterable[Reading]:
        for split in evidence.splits:
            view, outputs = evidence.view(split), evidence.outputs(split)
            metrics = evidence.task.metrics(outputs, evidence.y(split), view.outputs)
            # An argmax over NaN is a class like any other, so counts over such outputs mean nothing.
            status = "ok" if bool(outputs.isfinite().all()) else "non-finite"
            better = _BETTER.get(split, "gold")
            for m in metrics:
                direction: Better = "lower" if m.name == "loss" and better == "higher" else better
                value = m.value if status == "ok" else None
                yield Reading(m.name, value, m.n, better=direction, split=split, at=m.at, status=status)


class UaRaTaMia(Component[MembershipParams]):
    """SalUn's evaluation in percent: UA = 100 - accuracy on D_f, RA and TA accuracies on D_r and D_t, MIA-efficacy.

    MIA-efficacy is the share of D_f that an attack takes for non-members: an RBF support vector classifier (C = 3,
    gamma = auto) on the confidence in the true class, trained on retain rows (members) against test rows. None of the
    four has a good direction of its own; gold's value is the aim, and the average gap says how far it is.
    """

    def measure(self, evidence: Evidence) -> Iterable[Reading]:
        forget, retain, test = (rows_of(evidence, split) for split in ("forget", "retain", "test"))
        for name, rows in (("UA", forget), ("RA", retain), ("TA", test)):
            value = None
            if rows.status == "ok":
                share = 100 * int((rows.outputs.argmax(1) == rows.y).sum()) / len(rows)
                value = 100 - share if name == "UA" else share
            yield Reading(name, value, len(rows), unit="%", status=rows.status)
        yield self._efficacy(evidence, forget, retain, test)

    def _efficacy(self, evidence: Evidence, forget: Rows, retain: Rows, test: Rows) -> Reading:
        status = status_of(forget, retain, test)
        if status != "ok":
            return Reading("MIA", None, 0 if status == "empty split" else len(forget), unit="%", status=status)
        n = min(len(retain), len(test), self.p.limit or len(test))
        rng = evidence.rng("members")
        members, others = (_true_class_confidence(evidence, rows.drawn(n, rng)) for rows in (retain, test))
        attack = SVC(C=3, gamma="auto", kernel="rbf", random_state=0)
        attack.fit(np.concatenate([members, others])[:, None], np.repeat([1, 0], n))
        taken = attack.predict(_true_class_confidence(evidence, forget)[:, None])
        return Reading("MIA", 100 * float((taken == 0).mean()), len(taken), unit="%")

    def summarise(self, readings: Sequence[Reading]) -> Iterable[Reading]:
        """The mean over UA, RA, TA and MIA of the absolute difference to gold, per subject and request."""
        steps = sorted({(r.subject, r.at.get("request", "")) for r in readings})
        for subject, step in steps:
            mine = {r.name: r.value for r in readings if (r.subject, r.at.get("request", "")) == (subject, step)}
            gold = {r.name: r.value for r in readings if (r.subject, r.at.get("request", "")) == ("gold", step)}
            gaps = [
                abs(value - aim)
                for name, value in mine.items()
                if value is not None and (aim := gold.get(name)) is not None
            ]
            complete = len(gaps) == len(mine) == 4
            at = {"request": step} if step else {}
            value = fmean(gaps) if complete else None
            status = "ok" if complete else "a part is undefined"
            yield Reading(
                "average-gap", value, len(gaps), better="lower", unit="%", at=at, status=status, subject=subject
            )


def _true_class_confidence(evidence: Evidence, rows: Rows) -> npt.NDArray[np.float64]:
    p = evidence.task.probabilities(rows.outputs)
    picked: npt.NDArray[np.float64] = p.gather(1, rows.y[:, None])[:, 0].numpy()
    return picked


class Agreement(Component[NoParams]):
    """How far the predicted probabilities are from gold's on the same rows.

    ``js`` is the mean Jensen-Shannon divergence in base 2, in [0, 1]; ``activation-distance`` the mean Euclidean
    distance of the probability vectors, in [0, sqrt 2].
    """

    def measure(self, evidence: Evidence) -> Iterable[Reading]:
        for split in ("forget", "retain", "test"):
            p = evidence.task.probabilities(evidence.outputs(split).double())
            q = evidence.task.probabilities(evidence.outputs(split, "gold").double())
            n = len(p)
            js = float(jensen_shannon(p, q).mean()) if n else None
            distance = float((p - q).norm(dim=1).mean()) if n else None
            yield Reading("js", js, n, better="lower", split=split)
            yield Reading("activation-distance", distance, n, better="lower", split=split)
