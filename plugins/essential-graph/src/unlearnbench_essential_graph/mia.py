"""The paper's membership attack: a network learns from shadow models, and says which forgotten rows were seen.

Xu et al. 2024 cite Yeom et al. and describe the attack of Shokri et al. 2017: 20 shadow models, and an attack network
of 256 and 128 units with ReLU and a sigmoid. They report its recall, the share of the forget set that is taken for
members. Recall alone says little: an attack that takes every row for a member has recall 1 and one that takes none
recall 0, whatever the model knows. So the false positives, the area and the advantage stand beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from unlearnbench.api.runtime import (
    Component,
    Ensemble,
    Evidence,
    Interval,
    Reading,
    Shadows,
    Task,
    local_rng,
    order_by_id,
    rows_of,
    share_interval,
    status_of,
    tensors_digest,
)
from unlearnbench_essential_graph.plugin import TargetMiaParams

Array = npt.NDArray[np.float64]

HIDDEN = (256, 128)
Z = 1.959964
"""The 97.5 % point of the standard normal distribution."""


class TargetMia(Component[TargetMiaParams]):
    """The attack network judges the subject's probabilities for the forget set and for unseen rows like it.

    It is trained on what the shadows' originals put out for rows that they were and were not trained on: the forget set
    and the hold-out, which for classes and targets are rows of them; unseen rows are those of the hold-out that the
    shadows audit. Rows are taken for members from 1/2 on. Intervals are exact for shares and DeLong's for areas; the
    network is taken as given.
    """

    def __init__(self, params: TargetMiaParams) -> None:
        super().__init__(params)
        self._trained: tuple[str, nn.Module] | None = None

    def ensembles(self) -> Sequence[Ensemble]:
        """The shadows' originals."""
        return (Ensemble(kind="shadows", originals=self.p.shadows),)

    def measure(self, evidence: Evidence) -> Iterable[Reading]:
        """Recall, false positive rate, area one- and two-sided, advantage."""
        forget, holdout = rows_of(evidence, "forget"), rows_of(evidence, "holdout")
        status = status_of(forget, holdout)
        if status == "ok":
            shadows = evidence.shadows(self.p.shadows)
            holdout = holdout.at(torch.isin(holdout.ids, shadows.ids[~shadows.forgotten]).nonzero()[:, 0])
            outputs = shadows.outputs("original")
            status = "ok" if bool(outputs.isfinite().all()) else "non-finite"
        if status != "ok":
            yield from undefined(len(forget), len(holdout), status)
            return
        network = self._network(outputs, shadows, evidence)
        yield from readings(
            *(scored(network, features(evidence.task, rows.outputs, self.p.top)) for rows in (forget, holdout))
        )

    def _network(self, outputs: Tensor, shadows: Shadows, evidence: Evidence) -> nn.Module:
        """The attack network, which is the same for every subject of a run and trained once."""
        order = order_by_id(shadows.ids)
        x = features(evidence.task, outputs[:, order].flatten(0, 1), self.p.top)
        members = shadows.members[:, order].flatten()
        key = tensors_digest({"x": x, "members": members})
        if self._trained is None or self._trained[0] != key:
            self._trained = key, attack_network(x, members, self.p, evidence.rng("network"))
        return self._trained[1]


def features(task: Task, outputs: Tensor, top: int | None) -> Tensor:
    """Probabilities [n, c] that the attack sees, or the ``top`` largest of each row, falling, float32."""
    p = task.probabilities(outputs.double())
    return (p if top is None else p.sort(1, descending=True).values[:, :top]).float()


def attack_network(x: Tensor, members: Tensor, p: TargetMiaParams, rng: Generator) -> nn.Module:
    """A network that tells members [n] bool by features [n, d]: 256, 128 and 1 units; its output is the log-odds."""
    with local_rng(rng):
        network = nn.Sequential(
            nn.Linear(x.shape[1], HIDDEN[0]), nn.ReLU(), nn.Linear(*HIDDEN), nn.ReLU(), nn.Linear(HIDDEN[1], 1)
        )
    optimiser = torch.optim.Adam(network.parameters(), lr=p.lr)
    target = members.float()
    with torch.enable_grad():
        for _ in range(p.epochs):
            for rows in torch.randperm(len(x), generator=rng).split(p.batch_size):
                loss = binary_cross_entropy_with_logits(network(x[rows])[:, 0], target[rows])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
    return network.eval().requires_grad_(False)


def scored(network: nn.Module, x: Tensor) -> Array:
    """Probabilities of membership [n]."""
    with torch.no_grad():
        found: Array = network(x)[:, 0].double().sigmoid().numpy()
    return found


def readings(forget: Array, unseen: Array) -> Iterator[Reading]:
    """What an attack's scores say."""
    n, m = len(forget), len(unseen)
    hits, false = int((forget >= 0.5).sum()), int((unseen >= 0.5).sum())
    low, high = share_interval(hits, n)
    yield Reading("target-mia-recall", hits / n, n, low=low, high=high)
    low, high = share_interval(false, m)
    yield Reading("target-mia-fpr", false / m, m, low=low, high=high)
    area, ends = auc(forget, unseen)
    yield Reading("target-mia-auc", area, n + m, low=ends[0], high=ends[1])
    folded = fold(ends)
    yield Reading("target-mia-two-sided-auc", 0.5 + abs(area - 0.5), n + m, low=folded[0], high=folded[1])
    yield Reading("target-mia-advantage", abs(hits / n - false / m), n + m)


def undefined(n: int, m: int, status: str) -> Iterator[Reading]:
    """The readings that say why they have no value."""
    yield Reading("target-mia-recall", None, n, status=status)
    yield Reading("target-mia-fpr", None, m, status=status)
    for name in ("auc", "two-sided-auc", "advantage"):
        yield Reading(f"target-mia-{name}", None, n + m, status=status)


def auc(members: Array, others: Array) -> tuple[float, Interval]:
    """P(member's score > other's) + P(equal) / 2, and its 95 % interval by DeLong et al. 1988.

    The interval is cut to [0, 1]; there is none with fewer than two rows of a kind.
    """
    n, m = len(members), len(others)
    of_members = _below(members, others)
    of_others = 1 - _below(others, members)
    area = float(of_members.mean())
    if min(n, m) < 2:
        return area, (None, None)
    half = Z * math.sqrt(of_members.var(ddof=1) / n + of_others.var(ddof=1) / m)
    return area, (max(0.0, area - half), min(1.0, area + half))


def _below(scores: Array, others: Array) -> Array:
    """For each score [n] the share of the others [m] below it, equal ones counting half."""
    ordered = np.sort(others)
    left, right = (np.searchsorted(ordered, scores, side) for side in ("left", "right"))
    found: Array = (left + right) / (2 * len(others))
    return found


def fold(ends: Interval) -> Interval:
    """The interval of max(AUC, 1 - AUC) from that of the AUC."""
    low, high = ends
    if low is None or high is None:
        return None, None
    nearest = 0.0 if low <= 0.5 <= high else min(abs(low - 0.5), abs(high - 0.5))
    return 0.5 + nearest, 0.5 + max(abs(low - 0.5), abs(high - 0.5))
