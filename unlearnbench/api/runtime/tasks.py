"""The tasks: what an output, a loss and a metric mean. No other module asks which task is at hand."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from unlearnbench.api.errors import IncompatibleError
from unlearnbench.api.runtime.data import Batch
from unlearnbench.api.runtime.detection import Detection
from unlearnbench.api.runtime.task import MISSING, Axis, Erasure, Fault, Metric, Task


def _per_class(correct: Tensor, y: Tensor, names: tuple[str, ...]) -> list[Metric]:
    found = []
    for k, name in enumerate(names):
        of_class = y == k
        n = int(of_class.sum())
        if n:
            found.append(Metric("accuracy", float(correct[of_class].double().mean()), n, {"class": name}))
    return found


def _macro_f1(guess: Tensor, true: Tensor, known: Tensor) -> float:
    """F1 of each label over its annotated cells, averaged over the labels that have any.

    A label that is neither there nor predicted counts 0, as in scikit-learn by default (``zero_division``).
    """
    right = (guess & true & known).sum(0).double()
    claimed = ((guess & known).sum(0) + (true & known).sum(0)).double()
    return float((2 * right / claimed.clamp(min=1))[known.any(0)].mean())


def _softmax_divergence(out: Tensor, reference: Tensor, temperature: float) -> Tensor:
    """KL(p_reference || p_out) * T^2 over dimension 1; torch's default would divide by the classes too."""
    p, q = (logits.div(temperature).log_softmax(1) for logits in (reference, out))
    return F.kl_div(q, p, reduction="none", log_target=True).sum(1) * temperature**2


class Classification(Task):
    """One class per row; cross-entropy."""

    name = "classification"

    def losses(self, out: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(out, y, reduction="none", ignore_index=MISSING)

    def loss(self, out: Tensor, y: Tensor, smoothing: float = 0.0) -> Tensor:
        return F.cross_entropy(out, y, ignore_index=MISSING, label_smoothing=smoothing)

    def divergence(self, out: Tensor, reference: Tensor, temperature: float = 1.0) -> Tensor:
        return _softmax_divergence(out, reference, temperature)

    def expected(self, out: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        log_p = out.log_softmax(1)
        return -log_p, log_p.detach().exp() * (y != MISSING)[:, None]

    def probabilities(self, out: Tensor) -> Tensor:
        return out.softmax(1)

    def metrics(self, out: Tensor, y: Tensor, names: tuple[str, ...]) -> list[Metric]:
        known = y != MISSING
        out, y = out[known], y[known]
        n = len(y)
        if not n:
            return [Metric("accuracy", None, 0), Metric("loss", None, 0)]
        correct = out.argmax(1) == y
        return [
            Metric("accuracy", float(correct.double().mean()), n),
            Metric("loss", float(self.losses(out, y).double().mean()), n),
            *_per_class(correct, y, names),
        ]

    def other(self, y: Tensor, n: int, rng: Generator, *, wrong: bool = True) -> Tensor:
        if wrong:
            shift = torch.randint(1, n, y.shape, generator=rng).to(y.device)
            drawn = (y + shift) % n
        else:
            drawn = torch.randint(n, y.shape, generator=rng).to(y.device)
        return torch.where(y == MISSING, y, drawn)

    def split_target(self, y: Tensor, target: int) -> tuple[Tensor, Tensor]:
        carries = y == target
        return carries, y[carries]

    def erase(self, y: Tensor, target: int, how: Erasure) -> Tensor:
        # A class label cannot be "absent" without a class for "nothing": the row stays, its label goes.
        return y.masked_fill(y == target, MISSING)

    def target_score(self, model: nn.Module, batch: Batch, target: int) -> Tensor:
        return self.outputs(model, batch)[:, target].sum()


class NodeClassification(Classification):
    """One class per annotated node of a graph; the model sees all nodes and edges."""

    name = "node-classification"

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        out: Tensor = model(batch.x, batch.edges)
        return out if batch.rows is None else out[batch.rows]


class MultiLabel(Task):
    """Several independent labels per row; binary cross-entropy over the annotated cells, NaN where not annotated."""

    name = "multi-label"

    def losses(self, out: Tensor, y: Tensor) -> Tensor:
        known = ~y.isnan()
        cells = F.binary_cross_entropy_with_logits(out, y.nan_to_num(), reduction="none") * known
        return cells.sum(1) / known.sum(1).clamp(min=1)

    def loss(self, out: Tensor, y: Tensor, smoothing: float = 0.0) -> Tensor:
        known = ~y.isnan()
        smooth = y.nan_to_num() * (1 - smoothing) + smoothing / 2
        cells = F.binary_cross_entropy_with_logits(out, smooth, reduction="none") * known
        return cells.sum() / known.sum().clamp(min=1)

    def divergence(self, out: Tensor, reference: Tensor, temperature: float = 1.0) -> Tensor:
        out, reference = out / temperature, reference / temperature
        p = reference.sigmoid()
        present = p * (F.logsigmoid(reference) - F.logsigmoid(out))
        absent = (1 - p) * (F.logsigmoid(-reference) - F.logsigmoid(-out))
        return (present + absent).mean(1) * temperature**2

    def expected(self, out: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        # Labels are independent coins with p = sigmoid(z), so the cross terms of the squared gradient of their mean
        # loss have expectation 0, and E[(p - y)^2] = p (1 - p) is left as the weight of the gradient of z.
        known = ~y.isnan()
        variance = (out.sigmoid() * (-out).sigmoid()).detach()
        return out, variance * known / known.sum(1, keepdim=True).clamp(min=1) ** 2

    def probabilities(self, out: Tensor) -> Tensor:
        return out.sigmoid()

    def metrics(self, out: Tensor, y: Tensor, names: tuple[str, ...]) -> list[Metric]:
        known = ~y.isnan()
        cells = int(known.sum())
        if not cells:
            return [Metric("accuracy", None, 0), Metric("loss", None, 0)]
        agree = ((out > 0) == (y > 0.5)) & known
        complete = known.all(1)
        rows = int(complete.sum())
        subset = float(agree[complete].all(1).double().mean()) if rows else None
        found = [
            Metric("accuracy", float(agree.sum() / known.sum()), cells),
            Metric("loss", float(self.loss(out, y)), cells),
            Metric("subset-accuracy", subset, rows),
            Metric("macro-f1", _macro_f1(out > 0, y > 0.5, known), cells),
        ]
        for t, name in enumerate(names):
            positive = known[:, t] & (y[:, t] > 0.5)
            n = int(positive.sum())
            if n:
                found.append(Metric("recall", float(agree[positive, t].double().mean()), n, {"target": name}))
            if int(known[:, t].sum()):
                value = float(agree[known[:, t], t].double().mean())
                found.append(Metric("accuracy", value, int(known[:, t].sum()), {"target": name}))
        return found

    def other(self, y: Tensor, n: int, rng: Generator, *, wrong: bool = True) -> Tensor:
        if wrong:
            return 1 - y  # NaN stays NaN
        bits = torch.randint(2, y.shape, generator=rng).to(y.device, y.dtype)
        return torch.where(y.isnan(), y, bits)

    def split_target(self, y: Tensor, target: int) -> tuple[Tensor, Tensor]:
        carries = y[:, target] == 1
        only = torch.full_like(y[carries], torch.nan)
        only[:, target] = y[carries, target]
        return carries, only

    def erase(self, y: Tensor, target: int, how: Erasure) -> Tensor:
        erased = y.clone()
        erased[:, target] = y[:, target] * 0 if how == "absent" else torch.nan  # what was missing stays so
        return erased

    def find_fault(self, x: Tensor, y: Tensor, outputs: int) -> Fault | None:
        if y.shape[1:] != (outputs,):
            return Fault(0, f"labels of shape {list(y.shape[1:])}, and there are {outputs} targets")
        wrong = ~(y.isnan() | (y == 0) | (y == 1))
        if not bool(wrong.any()):
            return None
        row = int(wrong.any(1).nonzero()[0])
        return Fault(row, f"a label is {float(y[row][wrong[row]][0]):g}, which is neither 0 nor 1 nor missing")

    def target_score(self, model: nn.Module, batch: Batch, target: int) -> Tensor:
        return self.outputs(model, batch)[:, target].sum()


class Segmentation(Task):
    """One class per pixel: outputs [n, classes, h, w], annotations [n, h, w] with class 0 as background.

    Predictions are maps of the predicted class [n, h, w], floating-point so that NaN can say that the outputs were no
    numbers: the outputs themselves would be as many numbers again for every class.
    """

    name = "segmentation"
    places = True

    def predictions(self, model: nn.Module, batch: Batch) -> Tensor:
        out = self.outputs(model, batch)
        return out.argmax(1).float().masked_fill(~out.isfinite().all(1), torch.nan)

    def losses(self, out: Tensor, y: Tensor) -> Tensor:
        cells = F.cross_entropy(out, y, reduction="none", ignore_index=MISSING).flatten(1)
        return cells.sum(1) / (y != MISSING).flatten(1).sum(1).clamp(min=1)

    def loss(self, out: Tensor, y: Tensor, smoothing: float = 0.0) -> Tensor:
        known = (y != MISSING).sum().clamp(min=1)
        total = F.cross_entropy(out, y, reduction="sum", ignore_index=MISSING, label_smoothing=smoothing)
        return total / known

    def divergence(self, out: Tensor, reference: Tensor, temperature: float = 1.0) -> Tensor:
        return _softmax_divergence(out, reference, temperature).flatten(1).mean(1)

    def probabilities(self, out: Tensor) -> Tensor:
        return out.softmax(1)

    def metrics(self, out: Tensor, y: Tensor, names: tuple[str, ...]) -> list[Metric]:
        known = y != MISSING
        n = int(known.sum())
        if not n:
            return [Metric("accuracy", None, 0)]
        found = [Metric("accuracy", float((out == y)[known].double().mean()), n)]
        for k, name in enumerate(names):
            either = known & ((out == k) | (y == k))
            union = int(either.sum())
            if union:
                both = known & (out == k) & (y == k)
                found.append(Metric("iou", int(both.sum()) / union, union, {"target": name}))
        return found

    def other(self, y: Tensor, n: int, rng: Generator, *, wrong: bool = True) -> Tensor:
        return Classification().other(y, n, rng, wrong=wrong)

    def split_target(self, y: Tensor, target: int) -> tuple[Tensor, Tensor]:
        carries = (y == target).flatten(1).any(1)
        only = y[carries].clone()
        return carries, only.masked_fill(only != target, MISSING)

    def erase(self, y: Tensor, target: int, how: Erasure) -> Tensor:
        if target == 0 and how == "absent":
            raise IncompatibleError(
                "unsupported-task", "pixels without their class become background, so the background cannot be absent",
                where="$.request.targets", hint="name another class",
            )  # fmt: skip
        return y.masked_fill(y == target, 0 if how == "absent" else MISSING)

    def target_score(self, model: nn.Module, batch: Batch, target: int) -> Tensor:
        return (self.outputs(model, batch).softmax(1)[:, target] * (batch.y == target)).sum()

    def mirrored(self, y: Tensor, size: int, axis: Axis) -> Tensor:
        return y.flip(-1 if axis == "horizontal" else -2)

    def find_fault(self, x: Tensor, y: Tensor, outputs: int) -> Fault | None:
        if y.shape[1:] != x.shape[2:]:
            return Fault(0, f"a mask of {list(y.shape[1:])} pixels for an image of {list(x.shape[2:])}")
        wrong = (y != MISSING) & ((y < 0) | (y >= outputs))
        if not bool(wrong.any()):
            return None
        row = int(wrong.flatten(1).any(1).nonzero()[0])
        return Fault(row, f"a pixel has the id {int(y[row][wrong[row]][0])}, and there are {outputs} classes")


TASKS: Mapping[str, Task] = {
    task.name: task for task in (Classification(), NodeClassification(), MultiLabel(), Segmentation(), Detection())
}
"""The tasks by name."""
