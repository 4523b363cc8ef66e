"""A challenge for whoever serves a model that predicts a class nowhere: points of the box that nobody knew before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from unlearnbench_verifier.challenge import ANSWER_ROUNDING
from unlearnbench_verifier.findings import Refusal

if TYPE_CHECKING:
    from unlearnbench_verifier.answers import Answers
    from unlearnbench_verifier.form import Never

    Points = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


def draw_in_box(features: int, certificate: Never, k: int, seed: int) -> Points:
    """``k`` points [k, features], uniform in the box that a certificate speaks of.

    Args:
        features: How many numbers an input of the network has.
        certificate: Its box is the place.
        k: How many, at least 1.
        seed: The same seed gives the same points; who serves the model must not know it.
    """
    drawn = np.random.default_rng(seed).uniform(certificate.low, certificate.high, (k, features))
    return drawn.astype(np.float32)


def judge_class(points: Points, answers: Answers, certificate: Never) -> int:
    """How many answers break the claim.

    Args:
        points: [k, features]
        answers: Outputs [k, outputs] or labels [k], as ``ask`` returns them. Labels say nothing about the margin, and
            outputs may lack of it what ``judge`` allows for float32.
        certificate: Which class is predicted nowhere, and what is ahead of it.

    Raises:
        Refusal: there are not as many answers as points, or no output for one of the classes (bad-answers).
    """
    label, other = certificate.label, certificate.beaten_by
    if len(answers) != len(points):
        raise Refusal("bad-answers", f"{len(answers)} answers to {len(points)} points", where="--challenge",
                      hint="answer every point, in order")  # fmt: skip
    if answers.ndim == 1:
        return int((answers == label).sum())
    if answers.shape[1] <= max(label, other):
        raise Refusal("bad-answers", f"{answers.shape[1]} outputs for a point, and the classes are {label} and {other}",
                      where="--challenge", hint="answer with all outputs of the model")  # fmt: skip
    lead = answers[:, other] - answers[:, label]
    allowed = certificate.margin - ANSWER_ROUNDING * np.abs(answers).max(axis=1)
    return int((~((lead > 0) & (lead >= allowed))).sum())  # so that NaN is a violation
