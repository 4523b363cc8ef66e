"""What levels, divisions and kinds of access mean, in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from unlearnbench.leaderboard.board import Division
from unlearnbench.leaderboard.submission import Level


@dataclass(frozen=True)
class LevelWords:
    """A level with a sign, so that colour is never the only one."""

    sign: str
    word: str
    meaning: str


@dataclass(frozen=True)
class DivisionWords:
    """A division as a heading, within a sentence, and explained."""

    title: str
    word: str
    meaning: str


LEVEL_WORDS: Mapping[Level, LevelWords] = {
    "self-reported": LevelWords(
        "○", "self-reported", "The numbers are those of the submitters; nobody else made them."
    ),
    "recomputed-metrics": LevelWords(
        "◔",
        "metrics recomputed",
        "Every reading that outputs give was computed again from the submitted outputs and the data of the verifier.",
    ),
    "recomputed-from-weights": LevelWords(
        "◑",
        "recomputed from weights",
        "The outputs themselves were made again with the submitted models, and so were readings that need models.",
    ),
    "rerun": LevelWords(
        "●", "rerun", "Runs, all or a sample, were made again from their specs and agree within the suite's tolerance."
    ),
}

DIVISIONS: Mapping[Division, DivisionWords] = {
    "oracle-free": DivisionWords(
        "Oracle-free",
        "oracle-free",
        "Parameters were chosen without readings on test data and without the gold model.",
    ),
    "oracle-tuned": DivisionWords(
        "Oracle-tuned",
        "oracle-tuned",
        "Readings on test data or of the gold model were looked at when parameters were chosen, which nobody has who "
        "really has to forget. Ranked among themselves.",
    ),
    "control": DivisionWords(
        "Controls",
        "a control without a rank",
        "What should do well or badly for known reasons: they bound the board and have no rank.",
    ),
}

ACCESSES = {
    "none": "nothing",
    "validation": "a validation split of the training data",
    "test": "test data",
    "gold": "the gold model",
}
