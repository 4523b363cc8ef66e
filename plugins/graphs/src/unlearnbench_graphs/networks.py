"""Networks of nodes that propagate before they learn: ``forward(x, edges)`` is head(sum over l of w_l P^l x), [n, k].

P = D^-1/2 (A + I) D^-1/2; ``x`` [n, f] are the features of all nodes, ``edges`` [2, m] hold each undirected edge once.
The host seeds torch's global random state, from which layers draw their first weights.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from unlearnbench.api import UsageError
from unlearnbench.api.runtime import BuildJob, Component, propagated
from unlearnbench_graphs.plugin import SgcMlpParams, SgcParams

Weights = tuple[float, ...]


def level_weights(p: SgcParams) -> Weights:
    """w_0, ..., w_L of a schedule (Wu et al. 2019; Gasteiger et al. 2019; Chien et al. 2021)."""
    levels = range(p.steps + 1)
    if p.schedule == "sgc":
        return tuple(float(level == p.steps) for level in levels)
    if p.schedule == "decay":
        return tuple(p.decay * (1 - p.decay) ** level for level in levels)
    if p.schedule == "average":
        return (1 / (p.steps + 1),) * (p.steps + 1)
    return tuple((-1.0) ** level for level in levels)


class SgcNet(nn.Module):
    """Propagated features and a line without an offset."""

    def __init__(self, features: int, outputs: int, weights: Weights) -> None:
        super().__init__()
        self.level_weights = weights
        self.head = nn.Linear(features, outputs, bias=False)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        # P (X W) = (P X) W, and a few columns of classes cost less than a thousand of features.
        return propagated(self.head(x.to(self.head.weight.dtype)), edges, self.level_weights)


class Memory:
    """The propagated features of the last graph, so that a training run propagates once and not in every epoch.

    It belongs to no state: copies and pickles of a network start with an empty one.
    """

    def __init__(self) -> None:
        self._key: tuple[Tensor, int, Tensor, int] | None = None
        self._found: Tensor | None = None

    def __reduce__(self) -> tuple[type[Memory], tuple[()]]:
        return Memory, ()

    def propagated(self, x: Tensor, edges: Tensor, weights: Weights, dtype: torch.dtype) -> Tensor:
        """What ``propagated`` gives in this type; computed again once either tensor is another or was written to."""
        if x.requires_grad:
            return propagated(x.to(dtype), edges, weights)
        key = (x, x._version, edges, edges._version)
        if self._found is None or self._found.dtype != dtype or not _same(self._key, key):
            self._key, self._found = key, propagated(x.to(dtype), edges, weights)
        return self._found


def _same(old: tuple[Tensor, int, Tensor, int] | None, new: tuple[Tensor, int, Tensor, int]) -> bool:
    return old is not None and old[0] is new[0] and old[2] is new[2] and (old[1], old[3]) == (new[1], new[3])


class SgcMlpNet(nn.Module):
    """Propagated features; hidden lines without offset, each with batch normalisation, ReLU, dropout; a line."""

    def __init__(self, features: int, outputs: int, weights: Weights, p: SgcMlpParams) -> None:
        super().__init__()
        self.level_weights = weights
        layers: list[nn.Module] = []
        for width, units in pairwise((features, *p.hidden)):
            layers += [nn.Linear(width, units, bias=False), nn.BatchNorm1d(units), nn.ReLU(), nn.Dropout(p.dropout)]
        self.head = nn.Sequential(*layers, nn.Linear((features, *p.hidden)[-1], outputs))
        self._memory = Memory()

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        dtype = next(self.head.parameters()).dtype
        out: Tensor = self.head(self._memory.propagated(x, edges, self.level_weights, dtype))
        return out


class Sgc(Component[SgcParams]):
    """Simple graph convolution (Wu et al. 2019) and other generalised PageRank with one line."""

    def build(self, job: BuildJob) -> nn.Module:
        return SgcNet(_features(job, "sgc"), job.outputs, level_weights(self.p))


class SgcMlp(Component[SgcMlpParams]):
    """The same propagation with a perceptron."""

    def build(self, job: BuildJob) -> nn.Module:
        return SgcMlpNet(_features(job, "sgc-mlp"), job.outputs, level_weights(self.p), self.p)


def _features(job: BuildJob, name: str) -> int:
    if len(job.inputs) != 1:
        raise UsageError("bad-model", f"{name} needs nodes with a row of features each, not {list(job.inputs)}",
                         where="$.model.name")  # fmt: skip
    return job.inputs[0]
