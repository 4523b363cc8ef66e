"""The code behind the kit's data sets and networks. Small enough that a check takes a fraction of a second."""

from __future__ import annotations

from itertools import pairwise
from math import prod

import torch
from torch import Tensor, nn

from unlearnbench.api import NoParams
from unlearnbench.api.runtime import MISSING, BuildJob, Component, Data, DataJob, Graphs, Splits, propagated

OUTPUTS = ("a", "b", "c")
TRAIN, TEST, VALIDATION = 60, 30, 18
VOCABULARY = 20


def people(n: int) -> dict[str, Tensor]:
    """A column of five persons, whose rows come in turn."""
    return {"person": torch.arange(n) % 5}


class Rows(Component[NoParams]):
    """Points around three centres that lie well apart."""

    def load(self, job: DataJob) -> Splits:
        rng = job.rng("rows")
        centres = 3 * torch.eye(3, 4)

        def part(n: int, first: int) -> Data:
            y = torch.arange(n) % 3
            x = centres[y] + 0.7 * torch.randn(n, 4, generator=rng)
            return Data(x=x, y=y, ids=torch.arange(n) + first, outputs=OUTPUTS, columns=people(n))

        return Splits(train=part(TRAIN, 100), test=part(TEST, 900), validation=part(VALIDATION, 500))


class Images(Component[NoParams]):
    """Three 8x8 patterns, one of them with two channels' worth of noise."""

    def load(self, job: DataJob) -> Splits:
        rng = job.rng("images")
        patterns = torch.randn(3, 2, 8, 8, generator=rng)

        def part(n: int, first: int) -> Data:
            y = torch.arange(n) % 3
            x = patterns[y] + 0.5 * torch.randn(n, 2, 8, 8, generator=rng)
            return Data(x=x, y=y, ids=torch.arange(n) + first, outputs=OUTPUTS, columns=people(n))

        return Splits(train=part(TRAIN, 100), test=part(TEST, 900), validation=part(VALIDATION, 500))


class Labels(Component[NoParams]):
    """Each mark is on in half of the images and brightens its own corner."""

    def load(self, job: DataJob) -> Splits:
        rng = job.rng("labels")

        def part(n: int, first: int) -> Data:
            y = (torch.rand(n, 3, generator=rng) < 0.5).float()
            x = 0.3 * torch.randn(n, 2, 8, 8, generator=rng)
            for mark, (top, left) in enumerate(((0, 0), (0, 4), (4, 0))):
                x[:, 0, top : top + 4, left : left + 4] += 2 * y[:, mark, None, None]
            return Data(x=x, y=y, ids=torch.arange(n) + first, outputs=OUTPUTS, columns=people(n))

        return Splits(train=part(TRAIN, 100), test=part(TEST, 900), validation=part(VALIDATION, 500))


class Pixels(Component[NoParams]):
    """A square of colour b or c on a ground of a."""

    def load(self, job: DataJob) -> Splits:
        rng = job.rng("pixels")

        def part(n: int, first: int) -> Data:
            colour = torch.arange(n) % 2 + 1
            y = torch.zeros(n, 8, 8, dtype=torch.int64)
            corner = torch.randint(5, (n, 2), generator=rng)
            for row, (top, left) in enumerate(corner.tolist()):
                y[row, top : top + 4, left : left + 4] = colour[row]
            x = torch.stack([y == 1, y == 2], 1).float() + 0.3 * torch.randn(n, 2, 8, 8, generator=rng)
            return Data(x=x, y=y, ids=torch.arange(n) + first, outputs=OUTPUTS, columns=people(n))

        return Splits(train=part(TRAIN, 100), test=part(TEST, 900), validation=part(VALIDATION, 500))


class Graph(Component[NoParams]):
    """Three communities; the annotations of test nodes are not in the training data."""

    def load(self, job: DataJob) -> Splits:
        rng = job.rng("graph")
        n = TRAIN + TEST
        y = torch.arange(n) % 3
        x = torch.eye(3)[y].repeat(1, 2) + 0.5 * torch.randn(n, 6, generator=rng)
        chance = torch.where(y[:, None] == y[None], 0.12, 0.02)
        edges = (torch.rand(n, n, generator=rng) < chance).triu(1).nonzero().T.contiguous()
        test = torch.arange(n) % 9 < 3

        def part(mine: Tensor) -> Data:
            return Data(x=x, y=y.masked_fill(~mine, MISSING), ids=torch.arange(n), outputs=OUTPUTS, edges=edges)

        return Splits(train=part(~test), test=part(test))


class Tokens(Component[NoParams]):
    """Texts of up to eight tokens; every class has two of its own, and the ends are padded with 0."""

    def load(self, job: DataJob) -> Splits:
        rng = job.rng("tokens")

        def part(n: int, first: int) -> Data:
            y = torch.arange(n) % 3
            telling = 1 + 2 * y[:, None] + torch.randint(2, (n, 8), generator=rng)
            common = torch.randint(7, VOCABULARY, (n, 8), generator=rng)
            x = torch.where(torch.rand(n, 8, generator=rng) < 0.5, telling, common)
            length = torch.randint(4, 9, (n, 1), generator=rng)
            x = x.masked_fill(torch.arange(8) >= length, 0)
            return Data(x=x, y=y, ids=torch.arange(n) + first, outputs=OUTPUTS, columns=people(n))

        return Splits(train=part(TRAIN, 100), test=part(TEST, 900), validation=part(VALIDATION, 500))


class SmallGraphs(Component[NoParams]):
    """Rings, stars and nodes without any edge, of three to six nodes that have noise for features."""

    def load(self, job: DataJob) -> Splits:
        rng = job.rng("graphs")
        n = TRAIN + TEST + VALIDATION
        y = torch.arange(n) % 3
        counts = torch.randint(3, 7, (n,), generator=rng)
        drawn = [_edges(int(kind), int(count)) for kind, count in zip(y, counts, strict=True)]
        graphs = Graphs(
            nodes=1 + 0.2 * torch.randn(int(counts.sum()), 4, generator=rng),
            edges=torch.cat([torch.cat([edges, edges.flip(0)], 1) for edges in drawn], 1),
            node_counts=counts,
            edge_counts=torch.tensor([2 * edges.shape[1] for edges in drawn]),
        )

        def part(at: Tensor) -> Data:
            return Data(x=at, y=y[at], ids=at, outputs=OUTPUTS, columns=people(len(at)), graphs=graphs)

        train, test, validation = torch.arange(n).split([TRAIN, TEST, VALIDATION])
        return Splits(train=part(train), test=part(test), validation=part(validation))


def _edges(kind: int, nodes: int) -> Tensor:
    every = torch.arange(nodes)
    if kind == 0:
        return torch.stack([every, (every + 1) % nodes])
    if kind == 1:
        return torch.stack([torch.zeros_like(every[1:]), every[1:]])
    return torch.zeros(2, 0, dtype=torch.int64)


class Mlp(Component[NoParams]):
    """One hidden layer of 16 units."""

    def build(self, job: BuildJob) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(prod(job.inputs), 16), nn.ReLU(), nn.Linear(16, job.outputs))


class ConvNet(Component[NoParams]):
    """Convolution, BatchNorm, dropout, line."""

    def build(self, job: BuildJob) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(job.inputs[0], 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(6 * (job.inputs[1] // 2) * (job.inputs[2] // 2), job.outputs),
        )


def convolutions(channels: int, depth: int, width: int = 8) -> list[nn.Module]:
    """Convolutions with BatchNorm and ReLU."""
    widths = [channels, *[width] * depth]
    return [
        layer for a, b in pairwise(widths) for layer in (nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU())
    ]


class DeepNet(Component[NoParams]):
    """Six convolutions with BatchNorm, the maximum over all places, a line."""

    def build(self, job: BuildJob) -> nn.Module:
        body = convolutions(job.inputs[0], 6)
        return nn.Sequential(*body, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(8, job.outputs))


class DeepSegNet(Component[NoParams]):
    """Six convolutions with BatchNorm, and a 1x1 convolution."""

    def build(self, job: BuildJob) -> nn.Module:
        return nn.Sequential(*convolutions(job.inputs[0], 6), nn.Conv2d(8, job.outputs, 1))


class SegNet(Component[NoParams]):
    """Two convolutions with BatchNorm between them."""

    def build(self, job: BuildJob) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(job.inputs[0], 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, job.outputs, 1)
        )


class Propagated(nn.Module):
    """Features averaged over the neighbourhood, then a line."""

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        self.line = nn.Linear(features, outputs)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        both = torch.cat([edges, edges.flip(0), torch.arange(len(x)).expand(2, -1)], 1)
        degree = torch.zeros(len(x)).index_add(0, both[0], torch.ones(both.shape[1]))
        mean = torch.zeros_like(x).index_add(0, both[0], x[both[1]]) / degree[:, None]
        out: Tensor = self.line(mean)
        return out


class Sgc(Component[NoParams]):
    """Simple graph convolution with one step."""

    def build(self, job: BuildJob) -> nn.Module:
        return Propagated(job.inputs[0], job.outputs)


class Line(nn.Module):
    """Features propagated twice, then a line without an offset: what methods for decoupled networks serve."""

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        self.level_weights = (0.0, 0.0, 1.0)
        self.head = nn.Linear(features, outputs, bias=False)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        return propagated(self.head(x.to(self.head.weight.dtype)), edges, self.level_weights)


class Decoupled(Component[NoParams]):
    """Simple graph convolution with two steps, all of them before the line."""

    def build(self, job: BuildJob) -> nn.Module:
        return Line(job.inputs[0], job.outputs)


class Bag(nn.Module):
    """The mean of the tokens' embeddings, padding left out, then a line."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 8)
        self.line = nn.Linear(8, outputs)

    def forward(self, x: Tensor) -> Tensor:
        known = (x != 0).float()[..., None]
        mean = (self.embedding(x) * known).sum(1) / known.sum(1).clamp(min=1)
        out: Tensor = self.line(mean)
        return out


class BagOfTokens(Component[NoParams]):
    """An embedding and a line."""

    def build(self, job: BuildJob) -> nn.Module:
        return Bag(job.outputs)


class Summed(nn.Module):
    """Each node takes up the sum of its neighbours; a graph is the mean of its nodes."""

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        self.own, self.others = nn.Linear(features, 8), nn.Linear(features, 8)
        self.line = nn.Linear(8, outputs)

    def forward(self, nodes: Tensor, edges: Tensor, owner: Tensor) -> Tensor:
        sums = torch.zeros_like(nodes).index_add(0, edges[1], nodes[edges[0]])
        hidden = (self.own(nodes) + self.others(sums)).relu()
        counts = owner.bincount()
        total = hidden.new_zeros(len(counts), hidden.shape[1]).index_add(0, owner, hidden)
        out: Tensor = self.line(total / counts[:, None])
        return out


class GraphNet(Component[NoParams]):
    """One step of propagation, the mean over a graph, a line."""

    def build(self, job: BuildJob) -> nn.Module:
        return Summed(job.inputs[0], job.outputs)
