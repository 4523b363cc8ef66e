"""Attack networks: one hidden layer on the outputs for a row, one network per class, all trained at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

HIDDEN = 64
STEPS = 200
RATE = 0.01
DECAY = 0.001


@dataclass(frozen=True)
class AttackNetworks:
    """``weights`` [k, ...] of k networks; ``of_class`` [c] says which one attacks a class, ``common`` is the last."""

    weights: tuple[Tensor, ...]
    of_class: Tensor
    common: int

    @property
    def own(self) -> int:
        """Number of classes that have a network of their own."""
        return int((self.of_class != self.common).sum())

    def logit(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Log-odds [n] that rows with these outputs [n, c] and classes [n] are members."""
        which = self.of_class[y]
        own, ordered = _probabilities(outputs), _ordered_probabilities(outputs, y)
        x = torch.where((which == self.common)[:, None], ordered, own)
        w1, b1, w2, b2 = (w[which].double() for w in self.weights)
        hidden = (torch.einsum("nd,ndh->nh", x, w1) + b1).relu()
        return (hidden * w2).sum(1) + b2


def _probabilities(outputs: Tensor) -> Tensor:
    return outputs.double().softmax(1)


def _ordered_probabilities(outputs: Tensor, y: Tensor) -> Tensor:
    """The true class's probability first, the others in descending order: the same for every class."""
    p = _probabilities(outputs)
    rest = p.scatter(1, y[:, None], -1.0).sort(dim=1, descending=True).values[:, :-1]
    return torch.cat([p.gather(1, y[:, None]), rest], 1)


def attack_networks(outputs: Tensor, y: Tensor, members: Tensor, least: int, rng: Generator) -> AttackNetworks:
    """Networks trained to tell members (Shokri et al. 2017, section V) by their outputs [n, c] and classes [n].

    A class has a network of its own if it has at least ``least`` rows that are members and as many that are not; the
    other classes share one that is trained on all rows.
    """
    classes = outputs.shape[1]
    inside, outside = (torch.bincount(y[rows], minlength=classes) for rows in (members, ~members))
    enough = (inside >= least) & (outside >= least)
    common = int(enough.sum())
    trained = [
        _trained(*_stacked(_probabilities(outputs), members, [y == c for c in range(classes) if enough[c]]), rng)
    ]
    if common < classes:
        everything = torch.ones_like(members)
        trained.append(_trained(*_stacked(_ordered_probabilities(outputs, y), members, [everything]), rng))
    weights = tuple(torch.cat(parts) for parts in zip(*trained, strict=True))
    return AttackNetworks(weights, torch.where(enough, enough.cumsum(0) - 1, common), common)


def _stacked(x: Tensor, members: Tensor, groups: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs [k, n, c], targets and weights [k, n] of k groups of rows, padded with rows of weight 0."""
    n = max((int(rows.sum()) for rows in groups), default=0)
    inputs = torch.zeros(len(groups), n, x.shape[1])
    target, weight = torch.zeros(len(groups), n), torch.zeros(len(groups), n)
    for k, rows in enumerate(groups):
        size = int(rows.sum())
        inputs[k, :size], target[k, :size] = x[rows].float(), members[rows].float()
        weight[k, :size] = 1 / size
    return inputs, target, weight


def _trained(x: Tensor, target: Tensor, weight: Tensor, rng: Generator) -> tuple[Tensor, ...]:
    """Adam with decoupled weight decay on all rows of a network in every step."""
    k, _, inputs = x.shape
    shapes = (((inputs, HIDDEN), inputs), ((HIDDEN,), inputs), ((HIDDEN,), HIDDEN), ((), HIDDEN))
    weights = []
    for shape, fan_in in shapes:
        start = (2 * torch.rand((k, *shape), generator=rng) - 1) / math.sqrt(fan_in)
        weights.append(start.requires_grad_())
    optimiser = torch.optim.AdamW(weights, lr=RATE, weight_decay=DECAY)
    w1, b1, w2, b2 = weights
    with torch.enable_grad():
        for _ in range(STEPS):
            hidden = (x @ w1 + b1[:, None]).relu()
            logit = (hidden @ w2[..., None])[..., 0] + b2[:, None]
            loss = (weight * binary_cross_entropy_with_logits(logit, target, reduction="none")).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return tuple(w.detach() for w in weights)
