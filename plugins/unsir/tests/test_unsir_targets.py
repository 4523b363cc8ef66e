"""UNSIR and requests for targets: noise against whole rows, training on the others alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hand_jobs import Problem, bits, perceptron, tiny, weights
from hand_targets import WAYS, carrying, images, pixelwise, target_job
from torch import Tensor, nn

from unlearnbench.api import DataError
from unlearnbench.api.runtime import Batch, MultiLabel, UnlearnJob
from unlearnbench_unsir import method
from unlearnbench_unsir.method import Unsir, far_from
from unlearnbench_unsir.plugin import UnsirParams

TARGET = 1
SGD = UnsirParams(optimizer="sgd", lr=0.1, epochs=2, batch_size=4, repair_lr=0.05, repair_epochs=2)
Make = tuple[Callable[[], Problem], Callable[[], nn.Module]]
PROBLEMS: dict[str, Make] = {
    "multi-label": (lambda: tiny(5, 12, multi_label=True), perceptron),
    "segmentation": (images, pixelwise),
}


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("make", PROBLEMS.values(), ids=PROBLEMS)
def test_a_target_is_forgotten_as_the_rows_that_carry_it(make: Make, how: str) -> None:
    """The form for samples is derived in numpy elsewhere; here it forgets these rows and retains the others.

    Labels that are unknown to the request are unknown to the training too.
    """
    problem, rows = make[0](), make[0]()
    rows.forget = carrying(problem, TARGET)
    if how == "unknown":
        rows.y = rows.task.erase(rows.y, TARGET, "unknown")
    as_target = Unsir(SGD).unlearn(target_job(problem, make[1](), TARGET, how, seed=4)).model
    as_samples = Unsir(SGD).unlearn(rows.job(make[1](), seed=4)).model
    assert bits(as_target) == bits(as_samples) != bits(make[1]())
    assert all(np.isfinite(value).all() for value in weights(as_target))


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("make", PROBLEMS.values(), ids=PROBLEMS)
def test_no_row_that_carries_the_target_is_trained_on(make: Make, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Impair and repair see other rows and noise; noise is made against all rows that carry the target."""
    problem, model = make[0](), make[1]()
    inputs: list[Tensor] = []
    against: set[int] = set()
    real = far_from

    def noted(job: UnlearnJob, forget: Batch, retain: Batch, p: UnsirParams) -> Batch:
        against.update(forget.ids.tolist())
        assert not set(retain.ids.tolist()) & set(job.forget.ids.tolist())
        return real(job, forget, retain, p)

    monkeypatch.setattr(method, "far_from", noted)
    model.register_forward_pre_hook(lambda m, args: inputs.append(args[0].detach()) if m.training else None)
    Unsir(SGD).unlearn(target_job(problem, model, TARGET, how))
    rows = carrying(problem, TARGET)
    assert against == set((rows + 100).tolist())
    trained = {tuple(row.flatten().tolist()) for batch in inputs for row in batch}
    carrying_rows = {tuple(row.flatten().tolist()) for row in problem.x[rows]}
    others = {tuple(row.flatten().tolist()) for i, row in enumerate(problem.x) if i not in set(rows.tolist())}
    assert not trained & carrying_rows
    assert trained >= others


def test_the_labels_beside_noise_are_complete_where_the_target_is_said_to_be_absent() -> None:
    problem = tiny(5, 12, multi_label=True)
    seen: list[Tensor] = []

    class Seen(MultiLabel):
        def loss(self, out: Tensor, y: Tensor, smoothing: float = 0.0) -> Tensor:
            seen.append(y[:, TARGET].clone())
            return super().loss(out, y, smoothing)

    problem.task = Seen()
    for how, wanted in (("absent", 0.0), ("images", 0.0), ("unknown", torch.nan)):
        seen.clear()
        Unsir(SGD).unlearn(target_job(problem, perceptron(), TARGET, how))
        found = torch.cat(seen)
        assert bool(found.isnan().all()) if wanted != wanted else bool((found == wanted).all())


@pytest.mark.parametrize("how", ["absent", "unknown"])
def test_a_target_that_every_row_shows_is_refused_in_one_line(how: str) -> None:
    problem = tiny(5, 12, multi_label=True)
    problem.y[:, TARGET] = 1
    with pytest.raises(DataError, match=r"\[empty-retain-set\] \$.request: every retain row is a forget row as well"):
        Unsir(SGD).unlearn(target_job(problem, perceptron(), TARGET, how))
