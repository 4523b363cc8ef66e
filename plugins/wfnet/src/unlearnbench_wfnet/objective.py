"""What untraining minimises: label expansion and equation 3 (Poppi et al. 2024, section "Untraining")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from unlearnbench.api.runtime import MultiLabel, Task
from unlearnbench_wfnet.network import WFNet
from unlearnbench_wfnet.plugin import WfNetParams


class Expanded(NamedTuple):
    """A batch after label expansion: inputs [m, ...], labels [m, ...] and the row of gates [m] that each is seen under.

    The first ``forgotten`` samples are to be forgotten under their row, the others to be retained.
    """

    x: Tensor
    y: Tensor
    rows: Tensor
    forgotten: int


class Terms(NamedTuple):
    """The three terms of equation 3, unweighted: retain loss, forget term and closed share."""

    retain: Tensor
    forget: Tensor
    closed: Tensor


def expand(task: Task, x: Tensor, y: Tensor, classes: int, copies: int, rng: Generator) -> Expanded:
    """The first half of a batch is seen under its own rows; each of the second ``copies`` times, under other rows.

    Rows of the second half are uniform over the classes that are not the sample's own, each copy drawn apart. Where
    samples have several labels, the first half gets the row of a random label that it has, the second those of labels
    that it does not have; samples without such a label are left out.
    """
    half = len(x) // 2
    retained, kept = x[half:].repeat(copies, *[1] * (x.ndim - 1)), y[half:].repeat(copies, *[1] * (y.ndim - 1))
    if not isinstance(task, MultiLabel):
        rows = torch.cat([y[:half], task.other(kept, classes, rng)])
        return Expanded(torch.cat([x[:half], retained]), torch.cat([y[:half], kept]), rows, half)
    own, has_own = drawn_label(y[:half] == 1, rng)
    foreign, has_foreign = drawn_label(kept == 0, rng)
    return Expanded(
        torch.cat([x[:half][has_own], retained[has_foreign]]),
        torch.cat([y[:half][has_own], kept[has_foreign]]),
        torch.cat([own, foreign]),
        len(own),
    )


def drawn_label(able: Tensor, rng: Generator) -> tuple[Tensor, Tensor]:
    """One label of each sample, uniform over those that ``able`` [n, labels] allows; and which samples have any [n]."""
    some = able.any(1)
    weights = able[some].double().cpu()
    if not len(weights):
        return torch.empty(0, dtype=torch.int64, device=able.device), some
    return torch.multinomial(weights, 1, generator=rng)[:, 0].to(able.device), some


def terms(net: WFNet, task: Task, batch: Expanded, p: WfNetParams) -> Terms:
    """Retain loss, forget term and closed share of one expanded batch; a half without samples adds nothing."""
    closed = closed_share([*net.alpha_weight, *net.alpha_bias], p)
    nothing = torch.zeros_like(closed)
    if not len(batch.rows):
        return Terms(nothing, nothing, closed)
    out, n = net(batch.x, batch.rows), batch.forgotten
    retain = task.losses(out[n:], batch.y[n:])
    return Terms(
        retain=retain.mean() if len(retain) else nothing,
        forget=forget_term(forget_losses(task, out[:n], batch.y[:n], batch.rows[:n]), p) if n else nothing,
        closed=closed,
    )


def forget_losses(task: Task, out: Tensor, y: Tensor, rows: Tensor) -> Tensor:
    """Loss [n] of what each sample is to be forgotten as: its class, or of several labels the drawn one alone."""
    if not isinstance(task, MultiLabel):
        return task.losses(out, y)
    drawn = rows[:, None]
    return task.losses(out.gather(1, drawn), y.gather(1, drawn))


def forget_term(losses: Tensor, p: WfNetParams) -> Tensor:
    """Mean of 1 / (loss + epsilon): small where losses are large, so that nothing is to be gained beyond that."""
    losses = losses + (0.0 if p.strict_paper else p.epsilon)
    if p.forget_term == "reciprocal-of-mean":
        return 1 / losses.mean()
    return (1 / losses).mean() if p.forget_term == "reciprocal" else (1 + 1 / losses).log().mean()


def closed_share(alphas: Sequence[Tensor], p: WfNetParams) -> Tensor:
    """Mean of 1 - sigmoid(alpha) over all gates, or over layers of each layer's mean."""
    if p.regulariser == "layer-mean":
        return torch.stack([(1 - alpha.sigmoid()).mean() for alpha in alphas]).mean()
    return torch.cat([(1 - alpha.sigmoid()).flatten() for alpha in alphas]).mean()


def weighted(found: Terms, p: WfNetParams, forget_weight: float) -> Tensor:
    """L = lambda 0 * retain + lambda 1 * forget + lambda 2 * closed (equation 3)."""
    return p.retain_weight * found.retain + forget_weight * found.forget + p.open_weight * found.closed
