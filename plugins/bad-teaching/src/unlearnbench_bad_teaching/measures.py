"""ZRF and the entropy attack of Bad Teaching's paper. Differences are the ``deviations`` in ``plugin.py``."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean

import numpy as np
import torch
from torch import Tensor

from unlearnbench.api.runtime import Component, Evidence, Reading, drawn_rows, predict
from unlearnbench_bad_teaching.plugin import EntropyAttackParams, ZrfParams
from unlearnbench_bad_teaching.scores import (
    Floats,
    entropy,
    exact_interval,
    mean_interval,
    taken_for_members,
    zrf,
)


class Zrf(Component[ZrfParams]):
    """1 - mean Jensen-Shannon divergence of the subject from random networks on the forget set.

    1 says that the subject predicts as an untrained network does. That is no aim of its own: a gold model knows the
    other rows and says so, and its value is the aim. The interval is Student's, over the random networks; all subjects
    are compared with the same ones.
    """

    def measure(self, evidence: Evidence) -> Iterable[Reading]:
        view = evidence.view("forget")
        by_id, n = view.ids.argsort(), len(view)
        outputs = evidence.outputs("forget")[by_id]
        status = "ok" if bool(outputs.isfinite().all()) else "non-finite"
        values: list[float] = []
        if n and status == "ok":
            nets = (evidence.fresh(f"net-{i}") for i in range(self.p.nets))
            values = [zrf(outputs, predict(net, evidence.task, view)[by_id].cpu()) for net in nets]
        low, high = mean_interval(values) or (None, None)
        yield Reading(
            "zrf", fmean(values) if values else None, n, split="forget", low=low, high=high,
            status=status if n else "empty split",
        )  # fmt: skip


class EntropyAttack(Component[EntropyAttackParams]):
    """An attack learns from the entropy of predictions which rows are members: retain rows are, test rows are not.

    The reading is the share of the forget set that it takes for members; gold's value is the aim. The interval is
    Clopper and Pearson's for the rows of the forget set, given the attack.
    """

    def measure(self, evidence: Evidence) -> Iterable[Reading]:
        found = {split: _entropies(evidence, split) for split in ("forget", "retain", "test")}
        n = len(found["forget"])
        status = _status(found)
        if status != "ok":
            yield Reading("bad-teaching-mia", None, n, split="forget", status=status)
            return
        each = min(len(found["retain"]), len(found["test"]), self.p.limit or len(found["test"]))
        members, others = (_drawn(evidence, split, found[split], each) for split in ("retain", "test"))
        if np.ptp(np.concatenate([members, others])) == 0:
            yield Reading("bad-teaching-mia", None, n, split="forget", status="zero variance")
            return
        count = taken_for_members(members, others, found["forget"].numpy(), self.p.classifier)
        low, high = exact_interval(count, n)
        yield Reading("bad-teaching-mia", count / n, n, split="forget", low=low, high=high)


def _entropies(evidence: Evidence, split: str) -> Tensor:
    return entropy(evidence.outputs(split))


def _status(found: dict[str, Tensor]) -> str:
    if not all(len(values) for values in found.values()):
        return "empty split"
    return "ok" if all(bool(values.isfinite().all()) for values in found.values()) else "non-finite"


def _drawn(evidence: Evidence, split: str, values: Tensor, n: int) -> Floats:
    drawn = drawn_rows(evidence.view(split).ids, n, evidence.rng(split))
    found: Floats = torch.take(values, drawn).numpy()
    return found
