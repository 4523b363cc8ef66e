"""How stable the choice of channels is: what two instances select, of one target and of two.

The graph of the paper is taken from a single instance for each target. That is sound only as far as another instance of
the target would have selected the same channels, and one of another target different ones (Xu et al. 2024, figure 8).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations, product
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from unlearnbench.api import CheckFailed
from unlearnbench.api.runtime import Batch, Component, Evidence, Reading, bootstrap_interval, numpy_rng, seed_from
from unlearnbench_essential_graph.importance import live_layers, row_importances
from unlearnbench_essential_graph.layers import refusal, window
from unlearnbench_essential_graph.plugin import StabilityParams
from unlearnbench_essential_graph.votes import top

ROWS = 16
"""Instances whose gradients are taken at once."""
READINGS = ("same-target-jaccard", "other-target-jaccard")
SPLITS = ("test", "holdout")
"""What no model saw; of a class that is forgotten all such rows are in the hold-out."""


class Instance(NamedTuple):
    """A row, by its id, as an instance of a target."""

    target: int
    row: int


Pair = tuple[Instance, Instance]


class GraphStability(Component[StabilityParams]):
    """Jaccard overlap of the channels that two instances select, each a set over the layers of the window.

    Random sets of a share delta would have about delta / (2 - delta). Intervals are percentile bootstraps over pairs.
    """

    def measure(self, evidence: Evidence) -> Iterable[Reading]:
        """Mean overlap over pairs of one target and over pairs of two."""
        model = evidence.model().eval()
        rows = instances(evidence)
        layers: tuple[str, ...] = ()
        status = "no convolution" if refusal(model) else "" if any(rows) else "no pairs"
        if not status:
            try:
                layers = live_layers(model, evidence.task, list(_shown(evidence, rows)))
            except CheckFailed:
                status = "non-finite"
        sigma = min(self.p.sigma, len(layers) - self.p.skip_last)
        if not status and sigma < 1:
            status = "too few layers"
        if status:
            yield from (Reading(name, None, 0, status=status) for name in READINGS)
            return
        rng = evidence.rng("pairs")
        pairs = [draw(rows, self.p.pairs, np.random.default_rng(seed_from(rng))) for draw in (same_target, two_targets)]
        wanted = {instance for group in pairs for pair in group for instance in pair}
        try:
            chosen = selections(evidence, model, window(layers, sigma, self.p.skip_last), wanted, self.p.delta)
        except CheckFailed:
            yield from (Reading(name, None, 0, status="non-finite") for name in READINGS)
            return
        for name, group in zip(READINGS, pairs, strict=True):
            values = np.array([jaccard(chosen[one], chosen[other]) for one, other in group], dtype=np.float64)
            values = values[~np.isnan(values)]
            if not len(values):
                yield Reading(name, None, 0, status="no selected channels" if group else "no pairs")
                continue
            low, high = bootstrap_interval(values, numpy_rng(evidence.rng("bootstrap")))
            yield Reading(name, float(values.mean()), len(values), low=low, high=high)


def _shown(evidence: Evidence, rows: Sequence[Sequence[int]]) -> Iterator[tuple[int, Batch]]:
    """A row of each target that has any."""
    for target, ids in enumerate(rows):
        for split, some in _in_splits(evidence, ids[:1]):
            if some:
                view = evidence.view(split)
                yield target, view.take((view.ids == some[0]).nonzero()[:, 0])


def instances(evidence: Evidence) -> list[list[int]]:
    """Ids of the unseen rows that carry each target, in order."""
    found: list[list[int]] = []
    for split in SPLITS:
        if split not in evidence.splits:
            continue
        ids, y = evidence.view(split).ids, evidence.y(split)
        for target in range(len(evidence.view(split).outputs)):
            if len(found) <= target:
                found.append([])
            found[target] += ids[evidence.task.split_target(y, target)[0]].tolist()
    return [sorted(set(ids)) for ids in found]  # a test row may be in the hold-out too


def same_target(rows: Sequence[Sequence[int]], n: int, rng: np.random.Generator) -> list[Pair]:
    """At most ``n`` different pairs of rows of one target; each target that has two rows is as likely."""
    able = [target for target, ids in enumerate(rows) if len(ids) >= 2]
    if sum(len(rows[target]) * (len(rows[target]) - 1) // 2 for target in able) <= n:
        return [(Instance(t, one), Instance(t, other)) for t in able for one, other in combinations(sorted(rows[t]), 2)]

    def draw() -> Pair:
        target = able[int(rng.integers(len(able)))]
        one, other = sorted(rng.choice(len(rows[target]), 2, replace=False).tolist())
        return Instance(target, rows[target][one]), Instance(target, rows[target][other])

    return _different(draw, n)


def two_targets(rows: Sequence[Sequence[int]], n: int, rng: np.random.Generator) -> list[Pair]:
    """At most ``n`` different pairs of two rows of two targets; each two targets that have rows are as likely."""
    able = [target for target, ids in enumerate(rows) if len(ids)]
    total = sum(len(rows[s]) * len(rows[t]) for s, t in combinations(able, 2))
    if total <= n or len({row for ids in rows for row in ids}) < 2:
        every = (product(((s, a) for a in rows[s]), ((t, b) for b in rows[t])) for s, t in combinations(able, 2))
        return [(Instance(*one), Instance(*other)) for found in every for one, other in found if one[1] != other[1]][:n]

    def draw() -> Pair:
        targets = sorted(rng.choice(len(able), 2, replace=False).tolist())
        one, other = (able[t] for t in targets)
        return tuple(Instance(t, rows[t][int(rng.integers(len(rows[t])))]) for t in (one, other))  # type: ignore[return-value]

    return _different(draw, n)


def _different(draw: Callable[[], Pair], n: int) -> list[Pair]:
    """Up to ``n`` pairs of two rows, in order of drawing; gives up on pairs that are hard to come by."""
    found: dict[Pair, None] = {}
    for _ in range(100 * n):
        pair = draw()
        if pair[0].row != pair[1].row:
            found[pair] = None
        if len(found) == n:
            break
    return list(found)


def selections(
    evidence: Evidence, model: nn.Module, layers: Sequence[str], wanted: Iterable[Instance], delta: float
) -> dict[Instance, Tensor]:
    """What each instance selects: [channels of all layers] bool, the layers one after the other."""
    found: dict[Instance, Tensor] = {}
    by_target: dict[int, list[int]] = {}
    for instance in sorted(wanted):
        by_target.setdefault(instance.target, []).append(instance.row)
    for target, rows in by_target.items():
        for split, some in _in_splits(evidence, rows):
            view = evidence.view(split)
            at = {row: place for place, row in enumerate(view.ids.tolist())}
            for first in range(0, len(some), ROWS):
                part = some[first : first + ROWS]
                batch = view.take(torch.tensor([at[row] for row in part]))
                alpha = row_importances(model, evidence.task, batch, target, layers)
                marks = _marks(alpha, model, layers, len(part), delta)
                found |= {Instance(target, row): mark for row, mark in zip(part, marks, strict=True)}
    return found


def _in_splits(evidence: Evidence, rows: Sequence[int]) -> Iterator[tuple[str, list[int]]]:
    """The rows by the first split that has them."""
    left = list(rows)
    for split in SPLITS:
        if split in evidence.splits:
            there = set(evidence.view(split).ids.tolist())
            yield split, [row for row in left if row in there]
            left = [row for row in left if row not in there]


def _marks(
    alpha: Mapping[str, Tensor], model: nn.Module, layers: Sequence[str], rows: int, delta: float
) -> Tensor:  # fmt: skip
    """What rows select [rows, channels of all layers]; nothing in a layer that the target does not depend on."""
    found = []
    for layer in layers:
        channels = int(model.get_submodule(layer).out_channels)  # type: ignore[arg-type]
        found.append(top(alpha[layer], delta) if layer in alpha else torch.zeros(rows, channels, dtype=torch.bool))
    return torch.cat(found, 1)


def jaccard(one: Tensor, other: Tensor) -> float:
    """Size of the intersection over that of the union of two sets [n] bool; NaN where both are empty."""
    union = int((one | other).sum())
    return int((one & other).sum()) / union if union else float("nan")
