"""The measures of a WF-Net: what each row of gates does, what its gates mean, and how many of them are closed.

Only what an unlearner left gates for has any: other unlearners, the original and gold have a status instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from statistics import fmean

import torch
from torch import Tensor

from unlearnbench.api.runtime import (
    Better,
    Component,
    Evidence,
    Reading,
    View,
    order_by_id,
    predict,
    share_interval,
)
from unlearnbench_wfnet.artifact import gates_of, network_from
from unlearnbench_wfnet.contents import checked
from unlearnbench_wfnet.insertion import Undefined, areas, at_random, by_closedness, mean_confidence
from unlearnbench_wfnet.network import Gates, WFNet
from unlearnbench_wfnet.plugin import GatesParams, InsertionParams, RowsParams
from unlearnbench_wfnet.rows import Counts, chosen_ids, counted

PARTS = {"": ("test", "holdout"), "-train": ("retain", "forget")}
"""Splits that together hold rows of every class, the forgotten one among them, by the ending of their readings."""
CURVES: dict[str, Better] = {
    "insertion": "higher",
    "deletion": "lower",
    "insertion-random": "lower",
    "deletion-random": "higher",
}
SUMMARIES: dict[str, tuple[Better, str, Callable[[list[float]], float]]] = {
    "rows-acc-r": ("higher", "acc_r", fmean),
    "rows-acc-r-min": ("higher", "acc_r", min),
    "rows-acc-f": ("lower", "acc_f", fmean),
    "rows-acc-f-max": ("lower", "acc_f", max),
}
BATCH = 1024
_interval = lru_cache(maxsize=None)(share_interval)
"""Many cells of a matrix have the same counts."""


def has_gates(evidence: Evidence) -> bool:
    """Whether the subject is what an unlearner left together with the gates of a WF-Net."""
    kind = evidence.artifacts.get("format") if evidence.subject == "unlearned" else None
    return isinstance(kind, str) and kind.startswith("wf-net/")


def network_of(evidence: Evidence) -> WFNet:
    """The WF-Net of the original and the gates that the unlearner left.

    Raises:
        DataError: they do not belong together.
    """
    return network_from(evidence.model("original"), evidence.artifacts)


class WfNetRows(Component[RowsParams]):
    """Accuracy on every class under every row of gates, on unseen and on training rows, with one pass for each row.

    A row is tried as the unlearner would hand it back, hardened if it hardens. For row c, Acc_r is the accuracy over
    the data of all other classes together and Acc_f the accuracy on class c; the summaries are over rows. For the
    original they say the same of the network as it is. Cells have exact intervals (Clopper and Pearson); classes
    without data have no cells, and their rows no Acc_f.
    """

    def measure(self, evidence: Evidence) -> Iterable[Reading]:
        gated = has_gates(evidence)
        net = network_of(evidence) if gated else None
        for part, splits in PARTS.items():
            if evidence.subject == "gold":
                yield from _without_rows(part, "gold has no rows", summaries=True)
                continue
            if not gated:
                yield from _without_rows(part, "no gates", summaries=False)
            if gated or evidence.subject == "original":
                counts = self._counts(evidence, net, part, splits)
                if gated and self.p.matrix:
                    yield from _cells(f"row-accuracy{part}", counts, evidence.view(splits[0]).outputs)
                yield from _summaries(part, counts)

    def _counts(self, evidence: Evidence, net: WFNet | None, part: str, splits: Sequence[str]) -> Counts:
        """Counts for each row of gates, or of the original alone."""
        views = [evidence.view(split) for split in splits]
        ids, y = torch.cat([v.ids for v in views]), torch.cat([evidence.y(split) for split in splits])
        kept = chosen_ids(ids, y, self.p.per_class, evidence.rng(f"rows{part}"))
        places = [_sorted_places(view, kept) for view in views]
        y = torch.cat([evidence.y(split)[place] for split, place in zip(splits, places, strict=True)])
        classes = len(views[0].outputs)
        if net is None:
            plain = [evidence.outputs(split)[place] for split, place in zip(splits, places, strict=True)]
            return counted([torch.cat(plain)], y, classes).for_every_row()
        chosen = [view.where(place) for view, place in zip(views, places, strict=True)]
        return counted((_outputs_of_row(evidence, net, c, chosen) for c in range(classes)), y, classes)


def _sorted_places(view: View, kept: Tensor) -> Tensor:
    """Positions of the rows of a view whose ids are kept, in the order of the ids."""
    order = order_by_id(view.ids)
    return order[torch.isin(view.ids[order], kept)]


def _outputs_of_row(evidence: Evidence, net: WFNet, c: int, views: Sequence[View]) -> Tensor:
    model = net.bake(c, evidence.artifacts["harden"])
    return torch.cat([predict(model, evidence.task, view).cpu() for view in views])


def _cells(name: str, counts: Counts, classes: Sequence[str]) -> Iterator[Reading]:
    for row, hits, finite in zip(classes, counts.hits.tolist(), counts.finite, strict=True):
        for known, right, n in zip(classes, hits, counts.totals.tolist(), strict=True):
            at = {"row": row, "class": known}
            if n and finite:
                low, high = _interval(right, n)
                yield Reading(name, right / n, n, at=at, low=low, high=high)
            elif n:
                yield Reading(name, None, n, at=at, status="non-finite")


def _summaries(part: str, counts: Counts) -> Iterator[Reading]:
    shares = {"acc_r": counts.acc_r(), "acc_f": counts.acc_f()}
    for name, (better, which, of_many) in SUMMARIES.items():
        known = [share for share in shares[which] if share is not None]
        status = "empty split" if not known else "ok" if all(counts.finite) else "non-finite"
        yield Reading(
            f"{name}{part}", of_many(known) if status == "ok" else None, len(known), better=better, status=status
        )


def _without_rows(part: str, status: str, *, summaries: bool) -> Iterator[Reading]:
    """Why there is no matrix, told once for all of its cells.

    What has no gates has no summaries either, except the original: theirs would not be over rows.
    """
    yield Reading(f"row-accuracy{part}", None, 0, at={"row": "any"}, status=status)
    for name, (better, *_) in SUMMARIES.items() if summaries else ():
        yield Reading(f"{name}{part}", None, 0, better=better, status=status)


class InsertionDeletion(Component[InsertionParams]):
    """Areas under the confidence in the forgotten class while its gates are opened, and while they are closed.

    The gates are those of the class's own row, as they were learned: not hardened, and not multiplied with those of
    further classes of the request, over which the areas are averaged. Rows of data are the hold-out's of the class, or
    those of the forget set unless every class of the request has some in the hold-out; the split of the readings says
    which. Their mean softmax confidence in the class is divided by the original's. The controls are means over random
    orders, the same ones for insertion and deletion.
    """

    def measure(self, evidence: Evidence) -> Iterable[Reading]:
        if not has_gates(evidence):
            return [Reading(name, None, 0, better=better, status="no gates") for name, better in CURVES.items()]
        classes = evidence.request.classes
        unseen = all(bool((evidence.y("holdout") == c).any()) for c in classes)
        split = "holdout" if unseen else "forget"
        places = {c: _rows_of_class(evidence, split, c) for c in classes}
        n = sum(map(len, places.values()))
        try:
            found = self._areas(evidence, split, places)
        except Undefined as reason:
            return [
                Reading(name, None, n, better=better, split=split, status=str(reason))
                for name, better in CURVES.items()
            ]
        return [
            Reading(name, value, n, better=CURVES[name], split=split) for name, value in zip(CURVES, found, strict=True)
        ]

    def _areas(self, evidence: Evidence, split: str, places: Mapping[int, Tensor]) -> list[float]:
        """Insertion, deletion and their controls, each the mean over classes."""
        net, view = network_of(evidence), evidence.view(split)
        each = []
        for c, place in places.items():
            if not len(place):
                raise Undefined("empty split")
            row, rng = net.gates(c), evidence.rng(f"orders/{c}")
            confidence = partial(_confidence, evidence, net, view.where(place), c)
            learned = areas(confidence, row, by_closedness(row), self.p.step)
            drawn = [areas(confidence, row, at_random(row, rng), self.p.step) for _ in range(self.p.random_orders)]
            each.append((*learned, *map(fmean, zip(*drawn, strict=True))))
        return [fmean(values) for values in zip(*each, strict=True)]


def _rows_of_class(evidence: Evidence, split: str, c: int) -> Tensor:
    """Positions of the rows of a class in a split, in the order of their ids."""
    y, order = evidence.y(split), order_by_id(evidence.view(split).ids)
    return order[y[order] == c]


def _confidence(evidence: Evidence, net: WFNet, view: View, c: int, gates: Sequence[Gates]) -> float:
    batches = (batch.x for batch in view.batches(BATCH))
    return mean_confidence(net, gates, batches, evidence.task.probabilities, c)


class ClosedGates(Component[GatesParams]):
    """Share of the gates, of weights and biases in all layers together, that are strictly below a threshold.

    Of the row in use, which for several classes is the product of theirs, and of the rows of all classes. The gates are
    those that were learned, before any hardening.
    """

    def measure(self, evidence: Evidence) -> Iterable[Reading]:
        names = ("closed-gates", "closed-gates-all")
        if not has_gates(evidence):
            return [
                Reading(name, None, 0, at={"below": str(t)}, status="no gates") for name in names for t in self._below
            ]
        checked(evidence.artifacts)
        ours = gates_of(evidence.artifacts, evidence.artifacts["rows"])
        every = [gates_of(evidence.artifacts, [c]) for c in range(len(evidence.artifacts["classes"]))]
        return [
            Reading(name, float((gates < t).double().mean()), len(gates), at={"below": str(t)})
            for name, gates in zip(names, (_pooled([ours]), _pooled(every)), strict=True)
            for t in self._below
        ]

    @property
    def _below(self) -> tuple[float, ...]:
        """The thresholds, each once."""
        return tuple(dict.fromkeys(self.p.below))


def _pooled(rows: Iterable[Iterable[Gates]]) -> Tensor:
    """All gates of these rows in double precision, in which a threshold is what it says."""
    parts = [part for row in rows for gate in row for part in (gate.weight, gate.bias) if part is not None]
    return torch.cat(parts).double()
