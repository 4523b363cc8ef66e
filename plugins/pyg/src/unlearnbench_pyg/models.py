"""Networks that classify whole graphs: ``forward(nodes, edges, owner)`` gives logits [graphs, outputs].

``nodes`` [n, f] are those of all graphs of a batch, ``edges`` [2, m] go from the first to the second, ``owner`` [n] is
the graph of each node. Layers draw their first weights from torch's global random state, which the host seeds.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from unlearnbench.api import UsageError
from unlearnbench.api.runtime import BuildJob, Component
from unlearnbench_pyg.library import GCNConv, GINConv, global_add_pool, global_mean_pool
from unlearnbench_pyg.plugin import GcnParams, GinParams


class GcnNet(nn.Module):
    """Convolutions D^-1/2 (A + I) D^-1/2 X W + b with ReLU, the mean over the nodes of a graph, a line."""

    def __init__(self, features: int, outputs: int, p: GcnParams) -> None:
        super().__init__()
        widths = [features] + [p.hidden] * p.layers
        self.convolutions = nn.ModuleList(GCNConv(a, b) for a, b in pairwise(widths))
        self.dropout = nn.Dropout(p.dropout)
        self.line = nn.Linear(p.hidden, outputs)

    def forward(self, nodes: Tensor, edges: Tensor, owner: Tensor) -> Tensor:
        for convolution in self.convolutions:
            nodes = convolution(nodes, edges).relu()
        out: Tensor = self.line(self.dropout(global_mean_pool(nodes, owner)))
        return out


class GinNet(nn.Module):
    """Each step: a node and its neighbours, summed, go through two layers. The sums over a graph of every step vote."""

    def __init__(self, features: int, outputs: int, p: GinParams) -> None:
        super().__init__()
        widths = [features] + [p.hidden] * p.layers
        self.steps = nn.ModuleList(GINConv(_perceptron(a, b), train_eps=p.train_eps) for a, b in pairwise(widths))
        self.votes = nn.ModuleList(nn.Linear(width, outputs) for width in widths)
        self.dropout = nn.Dropout(p.dropout)

    def forward(self, nodes: Tensor, edges: Tensor, owner: Tensor) -> Tensor:
        out: Tensor = self.dropout(self.votes[0](global_add_pool(nodes, owner)))
        for step, vote in zip(self.steps, self.votes[1:], strict=True):
            nodes = step(nodes, edges)
            out = out + self.dropout(vote(global_add_pool(nodes, owner)))
        return out


def _perceptron(inputs: int, width: int) -> nn.Module:
    layers = []
    for size in (inputs, width):
        layers += [nn.Linear(size, width), nn.BatchNorm1d(width), nn.ReLU()]
    return nn.Sequential(*layers)


class Gcn(Component[GcnParams]):
    """Graph convolutional network (Kipf and Welling 2017)."""

    def build(self, job: BuildJob) -> nn.Module:
        return GcnNet(features_of(job, "gcn"), job.outputs, self.p)


class Gin(Component[GinParams]):
    """Graph isomorphism network (Xu et al. 2019)."""

    def build(self, job: BuildJob) -> nn.Module:
        return GinNet(features_of(job, "gin"), job.outputs, self.p)


def features_of(job: BuildJob, name: str) -> int:
    """Features of a node.

    Raises:
        UsageError: rows are not nodes with numbers.
    """
    if len(job.inputs) != 1:
        raise UsageError("bad-model", f"{name} needs nodes with a row of features each, not {list(job.inputs)}",
                         where="$.model.name")  # fmt: skip
    return job.inputs[0]
