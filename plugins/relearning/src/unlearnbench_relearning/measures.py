"""Relearn time, the anamnesis index and WF-Net's relearn time. Sources and differences are in ``plugin.py``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import torch
from torch import Generator

from unlearnbench.api.runtime import Batch, Component, Evidence, Reading, View, drawn_rows, mixed, steps_per_epoch
from unlearnbench_relearning.plugin import AinParams, RelearnParams, WfnetRelearnParams
from unlearnbench_relearning.training import Score, by_id
from unlearnbench_relearning.watched import Watched, fixed


class Relearn(Component[RelearnParams]):
    """Train on the forget set alone: steps and epochs until the original's accuracy and loss are back, and the curve.

    A subject that knows the forget set as the original does needs 0 steps. A time beyond the cap has no value and the
    status ``censored``; ``relearn-cap`` says how long it was allowed to take.
    """

    def measure(self, evidence: Evidence) -> Iterable[Reading]:
        p, watched = self.p, Watched(evidence, "forget")
        per_epoch = max(1, steps_per_epoch(watched.view, p.batch_size))
        cap, last = p.epochs * per_epoch, max(p.curve, default=0)
        goals = {
            "relearn": partial(watched.knows_as_much, p.margin),
            "relearn-loss": partial(watched.fits_as_well, p.margin),
        }
        rng = evidence.rng("order")
        epochs = (watched.view.batches(p.batch_size, rng) for _ in range(-(-max(cap, last) // per_epoch)))
        scores = watched.course(fixed(p.optimizer, p.lr), epochs, _enough(cap, last, *goals.values()))
        for name, reached in goals.items():
            time = watched.time(scores[: cap + 1], reached)
            yield watched.reading(f"{name}-steps", time, unit="steps")
            yield watched.reading(f"{name}-epochs", time, unit="epochs", per=per_epoch)
        yield Reading("relearn-cap", float(cap), watched.n, split="forget", unit="steps")
        yield from watched.curve(scores, p.curve)


def _enough(cap: int, least: int, *goals: Callable[[Score], bool]) -> Callable[[Sequence[Score]], bool]:
    """Training ends when every goal was reached or the cap is, but not before ``least`` steps."""
    unmet = list(goals)

    def enough(scores: Sequence[Score]) -> bool:
        unmet[:] = [reached for reached in unmet if not reached(scores[-1])]
        taken = len(scores) - 1
        return taken >= least and (not unmet or taken >= cap)

    return enough


class Ain(Component[AinParams]):
    """Steps of training on all training rows until the original's accuracy on the forgotten is back, over gold's.

    AIN = r_t(subject) / r_t(gold), where r_t(model) is the number of mini-batches until the model's accuracy on the
    rows that are watched is within alpha of the original's (Chundawat et al. 2023, "Anamnesis Index"). Near 1 is good;
    far below 1, what was forgotten comes back too fast; far above 1, it was driven out so hard that this shows.
    """

    def measure(self, evidence: Evidence) -> Iterable[Reading]:
        p = self.p
        alike = evidence.request.kind == "class" if p.judged == "auto" else p.judged == "holdout"
        watched = Watched(evidence, "holdout" if alike else "forget")
        forget, retain = by_id(evidence.view("forget")), by_id(evidence.view("retain"))
        cap = p.epochs * -(-(len(forget) + len(retain)) // p.batch_size)
        reached, rng = partial(watched.knows_as_much, p.alpha), evidence.rng("order")
        epochs = (_batches(forget, retain, p.batch_size, rng) for _ in range(p.epochs))
        scores = watched.course(fixed("adam", p.lr), epochs, _enough(cap, 0, reached))
        yield watched.reading("ain-steps", watched.time(scores, reached), unit="steps")
        yield Reading("ain-cap", float(cap), watched.n, split=watched.split, unit="steps")

    def summarise(self, readings: Sequence[Reading]) -> Iterable[Reading]:
        """The index of each subject, from its steps and gold's."""
        times = [r for r in readings if r.name == "ain-steps"]
        gold = {r.at.get("request", ""): r for r in times if r.subject == "gold"}
        for mine in times:
            value, status = index(mine, gold[mine.at.get("request", "")])
            yield Reading("ain", value, mine.n, split=mine.split, at=mine.at, status=status, subject=mine.subject)


def index(mine: Reading, gold: Reading) -> tuple[float | None, str]:
    """The ratio of two times, or None and the reason why there is none."""
    if gold.value is None:
        return None, gold.status if gold.status != "censored" else "gold censored"
    if not gold.value:
        return None, "gold needs no steps"
    return (None, mine.status) if mine.value is None else (mine.value / gold.value, "ok")


def _batches(forget: View, retain: View, size: int, rng: Generator) -> Iterator[Batch]:
    return (batch for batch, _ in mixed(forget, retain, size, rng))


class WfnetRelearn(Component[WfnetRelearnParams]):
    """Epochs of 500 training rows, drawn anew for each, until the original's accuracy on the forget set is back."""

    def measure(self, evidence: Evidence) -> Iterable[Reading]:
        p, watched = self.p, Watched(evidence, "forget")
        forget, retain = evidence.view("forget"), evidence.view("retain")
        size = min(p.samples, len(forget) + len(retain))
        reached, rng = partial(watched.knows_as_much, p.margin), evidence.rng("rows")
        epochs = (_batches(*drawn_parts(forget, retain, size, rng), p.batch_size, rng) for _ in range(p.epochs))
        scores = watched.course(
            fixed(p.optimizer, p.lr), epochs, _enough(p.epochs, 0, reached), every=max(1, -(-size // p.batch_size))
        )
        yield watched.reading("wfnet-relearn-epochs", watched.time(scores, reached), unit="epochs")
        yield Reading("wfnet-relearn-cap", float(p.epochs), watched.n, split="forget", unit="epochs")


def drawn_parts(first: View, second: View, n: int, rng: Generator) -> tuple[View, View]:
    """Random rows of two views, ``n`` together, by id: the same rows however they are stored."""
    drawn = drawn_rows(torch.cat([first.ids, second.ids]), n, rng)
    return first.where(drawn[drawn < len(first)]), second.where(drawn[drawn >= len(first)] - len(first))
