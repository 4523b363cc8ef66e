"""Training a subject again, step by step, and looking at it in between: the same for every subject.

A relearn time tells something about a model only if nothing but its weights can change it. So the optimiser is the
measure's, not the unlearner's; every layer is trainable, whatever a method froze; all subjects see the same rows in the
same order; and the count is in optimiser steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from torch import Generator, Tensor, nn

from unlearnbench.api import Recipe
from unlearnbench.api.runtime import Batch, Stepper, Task, View, finish, local_rng, predict


@dataclass(frozen=True)
class Score:
    """How well a model knows some rows. NaN where its outputs are not finite."""

    accuracy: float
    loss: float

    @property
    def finite(self) -> bool:
        return math.isfinite(self.loss)


NOT_FINITE = Score(math.nan, math.nan)


@dataclass(frozen=True)
class Time:
    """After how many steps or epochs a goal was reached; ``value`` None: it was not, and ``status`` says why."""

    value: int | None
    status: str = "ok"


def score(task: Task, outputs: Tensor, y: Tensor) -> Score:
    """Accuracy and mean loss of outputs [n, c] for annotations [n]."""
    if not bool(outputs.isfinite().all()):
        return NOT_FINITE
    found = {m.name: m.value for m in task.metrics(outputs.double(), y, ()) if not m.at}
    accuracy, loss = found["accuracy"], found["loss"]
    return NOT_FINITE if accuracy is None or loss is None else Score(accuracy, loss)


def look(model: nn.Module, task: Task, view: View, y: Tensor) -> Score:
    """The score of a model in evaluation mode on a view with annotations ``y``; its mode is restored."""
    return score(task, predict(model, task, view).cpu(), y)


def by_id(view: View) -> View:
    """The same rows in the order of their ids, so that no draw and no sum depends on how they were stored."""
    return view.where(view.ids.argsort())


def steps(
    model: nn.Module, task: Task, recipe: Recipe, epochs: Iterable[Iterable[Batch]], rng: Generator
) -> Iterator[int]:
    """Train ``model`` in place on the batches of one epoch after another; yield the steps taken, after each.

    All parameters are trained, also those that came without gradients. ``rng`` drives what layers draw, such as
    dropout; the model is in training mode whenever a step begins.
    """
    stepper = Stepper(finish(model), recipe, 1)
    for epoch in epochs:
        for batch in epoch:
            model.train()
            with local_rng(rng):
                stepper.step(partial(_loss, model, task, batch), rows=len(batch.y))
            yield stepper.steps


def _loss(model: nn.Module, task: Task, batch: Batch) -> Tensor:
    return task.loss(task.outputs(model, batch), batch.y)


def course(
    start: Score, taken: Iterable[int], watch: Callable[[], Score], enough: Callable[[Sequence[Score]], bool]
) -> list[Score]:
    """Scores from the start on, one after each item of ``taken``, until they are ``enough`` or no longer finite."""
    scores = [start]
    if not start.finite or enough(scores):
        return scores
    for _ in taken:
        scores.append(watch())
        if not scores[-1].finite or enough(scores):
            break
    return scores


def time_until(scores: Sequence[Score], reached: Callable[[Score], bool]) -> Time:
    """Position of the first score at which the goal is reached, 0 if that is the start.

    If there is none the time is censored: it is longer than the training that was allowed. A model whose outputs are
    no longer finite will not come back.
    """
    for position, now in enumerate(scores):
        if reached(now):
            return Time(position)
    return Time(None, "censored" if scores[-1].finite else "non-finite")
