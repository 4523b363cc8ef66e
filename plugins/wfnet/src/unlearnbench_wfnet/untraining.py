"""Untraining: the gates of all classes are learned at once, the network behind them never changes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction

import torch
from torch import Generator, Tensor

from unlearnbench.api import UsageError
from unlearnbench.api.runtime import PrepareJob, Task, View, drawn_rows, generator
from unlearnbench_wfnet.network import WFNet
from unlearnbench_wfnet.objective import Terms, expand, terms, weighted
from unlearnbench_wfnet.plugin import WfNetParams

NON_FINITE = "non-finite loss"
"""How a course ends whose loss is no finite number."""


@dataclass
class Course:
    """How untraining goes: the best gates so far, the looks at the validation loss, and why it ended early, if so.

    ``start`` is the accuracy on the validation rows of the base, and of the gates as they are at first under the rows
    of other classes: gates of 0.95 are no base yet.
    """

    best: dict[str, Tensor]
    patience: int | None
    min_delta: float
    best_loss: float = math.inf
    idle: int = 0
    log: list[dict[str, float]] = field(default_factory=list)
    start: dict[str, float] = field(default_factory=dict)
    ended: str = ""

    def look(self, step: int, net: WFNet, loss: float, found: Terms) -> None:
        """Note a validation loss, keep the gates if it is better than all before, end when patience is over.

        A loss that is no finite number ends it at once: what is behind it cannot be told better from worse.
        """
        told = {"loss": loss, **{name: float(value) for name, value in found._asdict().items()}}
        self.log.append({"step": step, **{name: value for name, value in told.items() if math.isfinite(value)}})
        if not math.isfinite(loss):
            self.ended = NON_FINITE
            return
        if loss < self.best_loss - self.min_delta:
            self.best, self.best_loss, self.idle = net.tensors(), loss, 0
            return
        self.idle += 1
        if self.patience is not None and self.idle >= self.patience:
            self.ended = "patience"


def untrain(net: WFNet, job: PrepareJob, p: WfNetParams, forget_weight: float) -> Course:
    """Minimise equation 3 over the gates; they are left as they were when the validation loss was least.

    A loss that is no finite number ends it, with the best gates so far, or the first ones where none were looked at.
    """
    rows, held = divided(job.data, p.validation, job.rng("validation"))
    optimizer = torch.optim.SGD([*net.alpha_weight, *net.alpha_bias], lr=p.lr)
    looks = places_of_looks(len(rows), p.batch_size, p.evaluations)
    course, step = Course(net.tensors(), p.patience, p.min_delta), 0
    course.start = accuracies(net, job.task, held, p, generator(job.seed("look")))
    for _ in range(p.epochs):
        for place, (x, y, *_) in enumerate(rows.batches(p.batch_size, job.rng("order")), start=1):
            if len(y) < 2:  # no half to forget; it is the last one, behind the last look
                continue
            batch = expand(job.task, x, y, net.classes, p.copies, job.rng("rows"))
            loss = weighted(terms(net, job.task, batch, p), p, forget_weight)
            if not bool(loss.isfinite()):
                course.ended = NON_FINITE
                break
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if p.clip_value is not None and not p.strict_paper:
                torch.nn.utils.clip_grad_value_(net.parameters(), p.clip_value)
            optimizer.step()
            step += 1
            if place in looks:
                found = validated(net, job.task, held, p, generator(job.seed("look")))
                course.look(step, net, float(weighted(found, p, forget_weight)), found)
                if course.ended:
                    break
        if course.ended:
            break
    net.load_tensors(course.best)
    return course


def places_of_looks(rows: int, batch_size: int, looks: int) -> frozenset[int]:
    """After which steps of an epoch (from 1) the validation loss is looked at: evenly spread, the last step too.

    An epoch of fewer steps has a look after each: a second look at the same gates would tell nothing.
    """
    full, rest = divmod(rows, batch_size)
    steps = full + (rest >= 2)
    return frozenset(math.ceil(steps * k / looks) for k in range(1, looks + 1))


def divided(view: View, share: float, rng: Generator) -> tuple[View, View]:
    """The rows that gates are learned on, and the share of them that the validation loss is taken of.

    Raises:
        UsageError: one of the two would be empty.
    """
    held = round(Fraction(str(share)) * len(view))
    if not 0 < held < len(view) - 1:
        raise UsageError(
            "empty-validation", f"a share of {share:g} of {len(view)} rows leaves {held} for validation and "
            f"{len(view) - held} to learn from", where="wfnet.validation", hint="choose another share",
        )  # fmt: skip
    chosen = torch.zeros(len(view), dtype=torch.bool)
    chosen[drawn_rows(view.ids, held, rng)] = True
    return view.where(~chosen), view.where(chosen)


@torch.no_grad()
def validated(net: WFNet, task: Task, held: View, p: WfNetParams, rng: Generator) -> Terms:
    """The three terms on the validation rows; the same ``rng`` from its beginning draws the same rows of gates.

    It also shuffles: where rows come class by class, the halves that forget would lack some of the classes.
    """
    found, weights = [], []
    for x, y, *_ in held.batches(p.batch_size, rng):
        if len(y) >= 2 or len(held) < 2:
            found.append(terms(net, task, expand(task, x, y, net.classes, p.copies, rng), p))
            weights.append(float(len(y)))
    share = torch.tensor(weights, dtype=found[0].closed.dtype, device=found[0].closed.device) / sum(weights)
    return Terms(*(torch.stack(each) @ share for each in zip(*found, strict=True)))


@torch.no_grad()
def accuracies(net: WFNet, task: Task, held: View, p: WfNetParams, rng: Generator) -> dict[str, float]:
    """Accuracy on the validation rows of the base, and of its gates under rows that are not those of the samples."""
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for x, y, *_ in held.batches(p.batch_size):
        # All samples are in the second half of their doubles, which is the one that is seen under other rows.
        batch = expand(task, x.repeat(2, *[1] * (x.ndim - 1)), y.repeat(2, *[1] * (y.ndim - 1)), net.classes, 1, rng)
        seen, labels, rows = (part[batch.forgotten :] for part in (batch.x, batch.y, batch.rows))
        if len(seen):
            found.append((net(seen), net(seen, rows), labels))
    if not found:
        return {}
    base, init, labels = (torch.cat(parts) for parts in zip(*found, strict=True))
    metrics = {"base": task.metrics(base, labels, held.outputs), "init": task.metrics(init, labels, held.outputs)}
    return {name: of_all.value or 0.0 for name, (of_all, *_) in metrics.items()}
