"""One subject that is trained again, beside the original that it is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice

from unlearnbench.api import Recipe
from unlearnbench.api.recipe import Optimizer
from unlearnbench.api.runtime import Batch, Evidence, Reading, rows_of
from unlearnbench_relearning.training import Score, Time, by_id, course, look, score, steps, time_until

ROUNDING = 1e-9
"""(1 - 0.05) * 0.8 is not 0.76 in floating point."""


class Watched:
    """The rows of a split by id, what the original scores on them, and what the subject scores before training."""

    def __init__(self, evidence: Evidence, split: str) -> None:
        before, now = (rows_of(evidence, split, s, labelled=False) for s in ("original", evidence.subject))
        self.evidence, self.split, self.n = evidence, split, len(now)
        self.view, self.y = by_id(evidence.view(split)), now.y
        self.original, self.start = (score(evidence.task, rows.outputs, self.y) for rows in (before, now))

    @property
    def status(self) -> str:
        """Why there can be no relearn time, or ok."""
        if not self.n:
            return "empty split"
        return "ok" if self.original.finite and self.start.finite else "non-finite"

    def knows_as_much(self, margin: float, now: Score) -> bool:
        """Accuracy at least (1 - margin) times the original's."""
        return now.accuracy >= (1 - margin) * self.original.accuracy - ROUNDING

    def fits_as_well(self, margin: float, now: Score) -> bool:
        """Loss at most (1 + margin) times the original's."""
        return now.loss <= (1 + margin) * self.original.loss

    def course(
        self,
        recipe: Recipe,
        epochs: Iterable[Iterable[Batch]],
        enough: Callable[[Sequence[Score]], bool],
        every: int = 1,
    ) -> list[Score]:
        """Scores of a copy of the subject before training and after ``every`` so many steps of it."""
        if self.status != "ok":
            return [self.start]
        evidence, model = self.evidence, self.evidence.model()
        taken = steps(model, evidence.task, recipe, epochs, evidence.rng("layers"))
        watch = partial(look, model, evidence.task, self.view, self.y)
        return course(self.start, islice(taken, every - 1, None, every), watch, enough)

    def time(self, scores: Sequence[Score], reached: Callable[[Score], bool]) -> Time:
        """When the goal was reached. An original that knows none of the rows leaves nothing to come back to."""
        if self.status != "ok":
            return Time(None, self.status)
        if not self.original.accuracy:
            return Time(None, "nothing to relearn")
        return time_until(scores, reached)

    def reading(self, name: str, time: Time, unit: str, per: int = 1) -> Reading:
        """A time in units of ``per`` steps."""
        value = None if time.value is None else time.value / per
        return Reading(name, value, self.n, split=self.split, unit=unit, status=time.status)

    def curve(self, scores: Sequence[Score], places: Iterable[int]) -> Iterable[Reading]:
        """Accuracy and loss after these numbers of steps."""
        for step in sorted(set(places)):
            now = scores[step] if step < len(scores) else scores[-1]  # shorter only where it ended in no numbers
            status = self.status if self.status != "ok" or now.finite else "non-finite"
            at = {"step": str(step)}
            for name, value, unit in (("accuracy", now.accuracy, ""), ("loss", now.loss, "nats")):
                known = value if status == "ok" else None
                yield Reading(f"relearn-{name}", known, self.n, split=self.split, unit=unit, at=at, status=status)


def fixed(optimizer: Optimizer, lr: float) -> Recipe:
    """The one recipe of all subjects: a constant learning rate, no weight decay, nothing else."""
    return Recipe(optimizer=optimizer, lr=lr, momentum=0.9, weight_decay=0.0)
