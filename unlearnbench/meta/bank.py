"""The bank: models of which it is known what they have forgotten, and the search that hides some from a weak attack."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Flaw = Literal["", "damaged", "hidden"]


@dataclass(frozen=True)
class Entry:
    """A model of the bank: how it is made and what is true of it.

    ``kept`` is the share of the forget set whose influence is left, where one can say. Others are ``damaged``, so that
    they show what they were asked to forget by being wrong on it, or ``hidden``: they know it still and do not show it.
    The learning rate of ``tuned`` ones is searched until a threshold on the loss tells forgotten rows from unseen ones
    no longer.
    """

    label: str
    unlearner: str
    params: Mapping[str, Any] = field(default_factory=dict)
    kept: float | None = None
    flaw: Flaw = ""
    tuned: bool = False

    def choice(self, **params: Any) -> dict[str, Any]:
        """The unlearner as an experiment names it."""
        return {"name": self.unlearner, "params": {**self.params, **params}}


BANK = (
    Entry("kept 100 %", "identity", kept=1.0),
    Entry("kept 75 %", "partial-retrain", {"kept": 0.75}, kept=0.75),
    Entry("kept 50 %", "partial-retrain", {"kept": 0.5}, kept=0.5),
    Entry("kept 25 %", "partial-retrain", {"kept": 0.25}, kept=0.25),
    Entry("kept 0 %", "retrain", kept=0.0),
    Entry("wrong labels", "wrong-labels", flaw="damaged"),
    Entry("scrambled head", "scrambled-head", {"lr": 0.01}, flaw="hidden"),
    Entry("tuned random labels", "random-labels", flaw="hidden", tuned=True),
    Entry("tuned salun", "salun", flaw="hidden", tuned=True),
)
"""From everything left to nothing left, then what should not pass."""

PLUGINS = ("unlearnbench-controls", "unlearnbench-membership", "unlearnbench-salun")
"""Distributions that bring the bank's unlearners and the attack that some are tuned against."""

ATTACK = "loss-attack"
ATTACK_KEY = "loss-attack-auc"
CHANCE = 0.5
"""What the attack reads where it tells nothing."""


@dataclass(frozen=True)
class Tuned:
    """Where the search ended: the learning rate, and what the attack reads there (mean over seeds)."""

    lr: float
    reading: float


def tune(
    read: Callable[[float], float | None],
    start: float,
    *,
    aim: float = CHANCE,
    close: float = 0.01,
    doublings: int = 6,
    halvings: int = 4,
) -> Tuned | None:
    """The value at which a reading that falls with it comes closest to ``aim``, of those that the search tries.

    It doubles or halves the start until the aim is passed and then goes on between the last two, on a scale of
    ratios; a reading within ``close`` ends it. None where nothing can be read.
    """
    tried: dict[float, float] = {}

    def away(value: float) -> float | None:
        found = read(value)
        if found is not None:
            tried[value] = found
        return None if found is None else found - aim

    here, gap = start, away(start)
    if gap is not None and abs(gap) > close:
        factor = 2.0 if gap > 0 else 0.5
        for _ in range(doublings):
            there = here * factor
            next_gap = away(there)
            if next_gap is None or abs(next_gap) <= close:
                break
            if next_gap * gap < 0:
                _bisect(away, here, there, gap > 0, close, halvings)
                break
            here = there
    if not tried:
        return None
    best = min(tried, key=lambda value: (abs(tried[value] - aim), value))
    return Tuned(best, tried[best])


def _bisect(
    away: Callable[[float], float | None], here: float, there: float, above: bool, close: float, halvings: int
) -> None:
    """Try values between two on either side of the aim; ``above`` says that the first is above it."""
    for _ in range(halvings):
        middle = (here * there) ** 0.5
        gap = away(middle)
        if gap is None or abs(gap) <= close:
            return
        if (gap > 0) == above:
            here = middle
        else:
            there = middle
