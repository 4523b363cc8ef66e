"""ZRF and the entropy attack of Bad Teaching's paper. Differences are the ``deviations`` in ``plugin.py``."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean

import numpy as np

from unlearnbench.api.runtime import (
    Component,
    Evidence,
    Reading,
    order_by_id,
    predict,
    rows_of,
    share_interval,
    status_of,
)
from unlearnbench_bad_teaching.plugin import EntropyAttackParams, ZrfParams
from unlearnbench_bad_teaching.scores import entropy, mean_interval, taken_for_members, zrf


class Zrf(Component[ZrfParams]):
    """1 - mean Jensen-Shannon divergence of the subject from random networks on the forget set.

    1 says that the subject predicts as an untrained network does. That is no aim of its own: a gold model knows the
    other rows and says so, and its value is the aim. The interval is Student's, over the random networks; all subjects
    are compared with the same ones.
    """

    def measure(self, evidence: Evidence) -> Iterable[Reading]:
        view, forget = evidence.view("forget"), rows_of(evidence, "forget", labelled=False)
        values: list[float] = []
        if forget.status == "ok":
            by_id = order_by_id(view.ids)
            nets = (evidence.fresh(f"net-{i}") for i in range(self.p.nets))
            values = [zrf(forget.outputs, predict(net, evidence.task, view)[by_id].cpu()) for net in nets]
        low, high = mean_interval(values) or (None, None)
        value = fmean(values) if values else None
        yield Reading("zrf", value, len(forget), split="forget", low=low, high=high, status=forget.status)


class EntropyAttack(Component[EntropyAttackParams]):
    """An attack learns from the entropy of predictions which rows are members: retain rows are, test rows are not.

    The reading is the share of the forget set that it takes for members; gold's value is the aim. The interval is
    Clopper and Pearson's for the rows of the forget set, given the attack.
    """

    def measure(self, evidence: Evidence) -> Iterable[Reading]:
        forget, retain, test = (rows_of(evidence, split, labelled=False) for split in ("forget", "retain", "test"))
        n, status = len(forget), status_of(forget, retain, test)
        if status != "ok":
            yield Reading("bad-teaching-mia", None, n, split="forget", status=status)
            return
        each = min(len(retain), len(test), self.p.limit or len(test))
        drawn = retain.drawn(each, evidence.rng("retain")), test.drawn(each, evidence.rng("test"))
        members, others, asked = (entropy(rows.outputs).numpy() for rows in (*drawn, forget))
        if np.ptp(np.concatenate([members, others])) == 0:
            yield Reading("bad-teaching-mia", None, n, split="forget", status="zero variance")
            return
        count = taken_for_members(members, others, asked, self.p.classifier)
        low, high = share_interval(count, n)
        yield Reading("bad-teaching-mia", count / n, n, split="forget", low=low, high=high)
