"""Networks that classify the nodes of one graph: ``forward(x, edges)`` gives logits [n, outputs] of all its nodes.

``x`` [n, f] are the features of all nodes, ``edges`` [2, m] hold each undirected edge once; both directions are made
here. Layers draw their first weights from torch's global random state, which the host seeds.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from unlearnbench.api.runtime import BuildJob, Component
from unlearnbench_pyg.library import GATConv, GCNConv
from unlearnbench_pyg.models import features_of
from unlearnbench_pyg.plugin import NodeGatParams, NodeGcnParams


class NodeGcnNet(nn.Module):
    """Convolutions D^-1/2 (A + I) D^-1/2 X W + b with ReLU between them; dropout before each."""

    def __init__(self, features: int, outputs: int, p: NodeGcnParams) -> None:
        super().__init__()
        widths = [features] + [p.hidden] * (p.layers - 1) + [outputs]
        self.convolutions = nn.ModuleList(GCNConv(a, b) for a, b in pairwise(widths))
        self.dropout = nn.Dropout(p.dropout)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        both = torch.cat([edges, edges.flip(0)], 1)
        for convolution in self.convolutions[:-1]:
            x = convolution(self.dropout(x), both).relu()
        out: Tensor = self.convolutions[-1](self.dropout(x), both)
        return out


class NodeGatNet(nn.Module):
    """Attention over a node's neighbours and itself; heads side by side with ELU, in the last layer their mean."""

    def __init__(self, features: int, outputs: int, p: NodeGatParams) -> None:
        super().__init__()
        widths = [features] + [p.hidden * p.heads] * (p.layers - 1)
        self.convolutions = nn.ModuleList(
            GATConv(a, p.hidden, heads=p.heads, dropout=p.dropout) for a in widths[:-1]
        )  # fmt: skip
        self.convolutions.append(
            GATConv(widths[-1], outputs, heads=p.last_heads, concat=False, dropout=p.dropout)
        )  # fmt: skip
        self.dropout = nn.Dropout(p.dropout)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        both = torch.cat([edges, edges.flip(0)], 1)
        for convolution in self.convolutions[:-1]:
            x = nn.functional.elu(convolution(self.dropout(x), both))
        out: Tensor = self.convolutions[-1](self.dropout(x), both)
        return out


class NodeGcn(Component[NodeGcnParams]):
    """Graph convolutional network for nodes (Kipf and Welling 2017)."""

    def build(self, job: BuildJob) -> nn.Module:
        return NodeGcnNet(features_of(job, "node-gcn"), job.outputs, self.p)


class NodeGat(Component[NodeGatParams]):
    """Graph attention network for nodes (Veličković et al. 2018)."""

    def build(self, job: BuildJob) -> nn.Module:
        return NodeGatNet(features_of(job, "node-gat"), job.outputs, self.p)
