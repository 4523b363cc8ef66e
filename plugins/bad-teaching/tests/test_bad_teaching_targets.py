"""Bad Teaching and requests for targets: whole rows, and none on both sides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hand_jobs import Momentum, Problem, Weights, backward, bits, logits, perceptron, stream, tiny, weights
from hand_targets import WAYS, carrying, images, pixelwise, target_job
from torch import Tensor, nn

from unlearnbench.api import DataError
from unlearnbench_bad_teaching import method
from unlearnbench_bad_teaching.method import BadTeaching
from unlearnbench_bad_teaching.plugin import BadTeachingParams

BAD, TARGET = 3, 1
SGD = BadTeachingParams(optimizer="sgd", lr=0.3, weight_decay=0.01, epochs=2, batch_size=4, retain_fraction=0.6)


def labels() -> Problem:
    problem = tiny(5, 12, multi_label=True)
    problem.builder = lambda: perceptron(BAD)
    return problem


def masks() -> Problem:
    problem = images()
    problem.builder = lambda: pixelwise(BAD)
    return problem


def np_bad_teaching(problem: Problem, p: BadTeachingParams, seed: int) -> Weights:
    """By hand: rows that carry the target follow the bad teacher, of the others some follow the good one.

    The gradient of the mean over three labels of KL(p || q) of Bernoulli distributions is (q - p) / 3 by each logit.
    """
    x, carries = problem.x.numpy(), problem.y[:, TARGET].numpy() == 1
    sigmoid = lambda z: 1 / (1 + np.exp(-z))  # noqa: E731
    good, bad = (sigmoid(logits(weights(teacher), x)) for teacher in (perceptron(), perceptron(BAD)))
    forget, others = np.flatnonzero(carries), np.flatnonzero(~carries)
    drawn = torch.randperm(len(others), generator=stream(seed, "subset")).numpy()
    rows = np.concatenate([forget, others[np.sort(drawn[: int(np.ceil(p.retain_fraction * len(others)))])]])
    reference, order, sgd = (
        np.where(carries[:, None], bad, good),
        stream(seed, "order"),
        Momentum(weights(perceptron()), p),
    )
    for _ in range(p.epochs):
        mixed = rows[torch.randperm(len(rows), generator=order).numpy()]
        for batch in (mixed[i : i + p.batch_size] for i in range(0, len(mixed), p.batch_size)):
            delta = (sigmoid(logits(sgd.w, x[batch])) - reference[batch]) / (3 * len(batch))
            sgd.step(backward(sgd.w, x[batch], delta))
    return sgd.w


@pytest.mark.parametrize("how", WAYS)
def test_it_equals_the_derivation_in_numpy(how: str) -> None:
    problem = labels()
    found = BadTeaching(SGD).unlearn(target_job(problem, perceptron(), TARGET, how, seed=11)).model
    for value, wanted in zip(weights(found), np_bad_teaching(problem, SGD, 11), strict=True):
        np.testing.assert_allclose(value, wanted, rtol=0, atol=1e-10)
    assert bits(found) != bits(perceptron())


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("make", [(labels, perceptron), (masks, pixelwise)], ids=["multi-label", "segmentation"])
def test_no_row_that_carries_the_target_is_taught_by_the_good_teacher(
    make: tuple[object, object], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where annotations alone go, the retain view holds these rows too, and the original still knows the target."""
    problem: Problem = make[0]()  # type: ignore[operator]
    model: nn.Module = make[1]()  # type: ignore[operator]
    seen: dict[str, set[int]] = {"bad": set(), "good": set()}
    real = method.taught_loss

    def noted(student: nn.Module, teachers: object, task: object, batch: object, forgotten: int, t: float) -> Tensor:
        ids = batch.ids.tolist()  # type: ignore[attr-defined]
        seen["bad"] |= set(ids[:forgotten])
        seen["good"] |= set(ids[forgotten:])
        return real(student, teachers, task, batch, forgotten, t)  # type: ignore[arg-type]

    monkeypatch.setattr(method, "taught_loss", noted)
    job = target_job(problem, model, TARGET, how)
    shared = set(job.forget.ids.tolist()) & set(job.retain.ids.tolist())
    assert bool(shared) == (how != "images")
    BadTeaching(replace(SGD, retain_fraction=1.0)).unlearn(job)
    rows, every = set((carrying(problem, TARGET) + 100).tolist()), set(range(100, 100 + len(problem.x)))
    assert seen == {"bad": rows, "good": every - rows}


@pytest.mark.parametrize("how", WAYS)
def test_a_target_of_pixels_is_forgotten_as_the_images_that_show_it(how: str) -> None:
    """Nothing of the masks is read, so every way of taking a target away is the same as a request for these images."""
    problem, rows = masks(), masks()
    rows.forget = carrying(rows, TARGET)
    as_target = BadTeaching(SGD).unlearn(target_job(problem, pixelwise(), TARGET, how, seed=4)).model
    as_samples = BadTeaching(SGD).unlearn(rows.job(pixelwise(), seed=4)).model
    assert bits(as_target) == bits(as_samples) != bits(pixelwise())
    x = problem.x[carrying(problem, TARGET)]
    with torch.no_grad():
        before, after = (
            float(problem.task.divergence(net(x), pixelwise(BAD)(x)).mean()) for net in (pixelwise(), as_target)
        )
    assert after < before


@pytest.mark.parametrize("how", ["absent", "unknown"])
def test_a_target_that_every_row_shows_is_refused_in_one_line(how: str) -> None:
    problem = labels()
    problem.y[:, TARGET] = 1
    with pytest.raises(DataError, match=r"\[empty-retain-set\] \$.request: every retain row is a forget row as well"):
        BadTeaching(SGD).unlearn(target_job(problem, perceptron(), TARGET, how))
