"""Model inversion: steps in closed form on linear models, scores by their own formulas, and no silent nonsense."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from scenario_runs import CLASS, known
from scenario_runs import measured as run_measures
from sklearn.linear_model import LogisticRegression
from torch import Generator, Tensor, nn

from unlearnbench.api.runtime import TASKS, Data, Evidence, Reading, Request, View, derive_seed, generator
from unlearnbench.parameters import resolve_parameters
from unlearnbench_essential_graph.inversion import TargetInversion, invert, similarity
from unlearnbench_essential_graph.plugin import TargetInversionParams
from unlearnbench_essential_graph.probes import fit_probe

CLASSES, SIDE = 3, 8
WEIGHT = torch.randn(CLASSES, SIDE * SIDE, generator=generator(0)) / 4
PATTERNS = (torch.rand(CLASSES, 1, SIDE, SIDE, generator=generator(1)) > 0.6).float()


def params(**changes: object) -> TargetInversionParams:
    return cast(TargetInversionParams, resolve_parameters(TargetInversionParams, changes, where="test"))


def softmax_of(weight: Tensor, classes: Tensor) -> Callable[[Tensor], Tensor]:
    def probabilities(x: Tensor) -> Tensor:
        return (x.flatten(1).double() @ weight.double().T).softmax(1).gather(1, classes[:, None])[:, 0]

    return probabilities


# -- the descent -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cost", ["probability", "log"])
def test_each_step_follows_the_closed_form_of_a_linear_softmax_model(cost: str) -> None:
    """d(1 - p_c)/dx = -p_c (w_c - sum_k p_k w_k); of -ln p_c it is that over p_c."""
    x, lr = np.zeros(SIDE * SIDE), 0.3
    w = WEIGHT.double().numpy()
    for _ in range(25):
        p = np.exp(w @ x) / np.exp(w @ x).sum()
        toward = w[1] - p @ w
        x = np.clip(x + lr * (p[1] if cost == "probability" else 1.0) * toward, 0, 1)
    p = np.exp(w @ x) / np.exp(w @ x).sum()
    found = invert(softmax_of(WEIGHT, torch.tensor([1])), torch.zeros(1, 1, SIDE, SIDE),
                   params(steps=25, lr=lr, cost=cost))  # fmt: skip
    np.testing.assert_allclose(found.x.flatten().numpy(), x, atol=1e-5)
    assert float(found.reached) == pytest.approx(p[1], abs=1e-5)
    assert 0 < (x == 0).mean() < 1  # some pixels were cut off, others moved


def test_inputs_stay_in_the_range_of_the_data() -> None:
    found = invert(softmax_of(20 * WEIGHT, torch.tensor([0, 1, 2])), torch.zeros(3, 1, SIDE, SIDE), params(lr=5.0))
    assert float(found.x.min()) == 0
    assert float(found.x.max()) == 1


def test_targets_do_not_touch_each_other() -> None:
    together = invert(softmax_of(WEIGHT, torch.tensor([0, 2])), torch.zeros(2, 1, SIDE, SIDE), params(steps=20))
    alone = invert(softmax_of(WEIGHT, torch.tensor([2])), torch.zeros(1, 1, SIDE, SIDE), params(steps=20))
    assert torch.allclose(together.x[1], alone.x[0], atol=1e-7)


def test_the_best_input_on_the_way_is_kept() -> None:
    """p rises to x = 1/2 and falls again, and the steps jump over the top."""

    def bump(x: Tensor) -> Tensor:
        return torch.exp(-40 * (x.double()[:, 0] - 0.5).square())

    found = invert(bump, torch.full((1, 1), 0.3), params(steps=7, lr=0.2))
    seen, x = [], torch.full((1, 1), 0.3)
    for _ in range(8):
        x.requires_grad_(True)
        seen.append((float(bump(x).detach()), float(x.detach())))
        (gradient,) = torch.autograd.grad(bump(x).sum(), x)
        x = (x.detach() + 0.2 * gradient).clamp(0, 1)
    assert max(seen) != seen[-1]
    assert (float(found.reached), float(found.x)) == pytest.approx(max(seen))


def test_what_is_no_number_has_no_probability() -> None:
    found = invert(lambda x: x.double()[:, 0] * torch.nan, torch.zeros(2, 4), params(steps=3))
    assert bool(found.reached.isnan().all())


# -- the scores --------------------------------------------------------------------------------------------------------


def test_ssim_of_constant_images_is_the_formula_of_their_means() -> None:
    """Without variance the second factor of SSIM is 1: (2 a b + c1) / (a^2 + b^2 + c1), c1 = 0.01^2."""
    for a, b in ((0.2, 0.7), (0.0, 0.5), (0.4, 0.4)):
        one, other = torch.full((3, 12, 9), a).double(), torch.full((3, 12, 9), b).double()
        assert similarity(one, other) == pytest.approx((2 * a * b + 1e-4) / (a * a + b * b + 1e-4))


def test_ssim_of_images_is_the_formula_with_a_gaussian_window() -> None:
    """11 x 11 and sigma 1.5 (Wang et al. 2004), the borders mirrored; the mean over all places."""
    rng = np.random.default_rng(0)
    a = rng.random((14, 19))
    b = 0.6 * a + 0.4 * rng.random((14, 19))
    g = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    g /= g.sum()

    def mean(values: np.ndarray) -> np.ndarray:
        rows = np.apply_along_axis(lambda v: np.convolve(np.pad(v, 5, "reflect"), g, "valid"), 1, values)
        return np.apply_along_axis(lambda v: np.convolve(np.pad(v, 5, "reflect"), g, "valid"), 0, rows)

    ma, mb = mean(a), mean(b)
    va, vb, cov = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    c1, c2 = 0.01**2, 0.03**2
    expected = ((2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))).mean()
    assert similarity(torch.tensor(a)[None], torch.tensor(b)[None]) == pytest.approx(expected, abs=1e-9)
    assert 0 < expected < 0.95


def test_what_is_no_image_has_no_ssim() -> None:
    assert similarity(torch.zeros(12), torch.zeros(12)) is None
    assert similarity(torch.zeros(1, 5, 30), torch.zeros(1, 5, 30)) is None


def test_a_probe_is_scikit_learns_and_judged_on_rows_that_it_was_not_fitted_to() -> None:
    y = torch.arange(120) % 3
    x = PATTERNS[y] + 0.3 * torch.randn(120, 1, SIDE, SIDE, generator=generator(4))
    probe = fit_probe(x, y, 2, generator(7))
    assert (probe.rows, probe.judged, probe.status) == (60, 60, "ok")
    assert probe.auc is not None
    assert probe.auc > 0.95
    order = np.random.default_rng(int(torch.randint(2**31 - 1, (1,), generator=generator(7)))).permutation(120)
    kept = np.sort(order[::2])
    again = LogisticRegression(max_iter=300).fit(x.flatten(1).double().numpy()[kept], y.numpy()[kept])
    expected = again.predict_proba(PATTERNS[2].reshape(1, -1).double().numpy())[0, 2]
    assert probe.confidence(PATTERNS[2]) == pytest.approx(expected)
    assert expected > 0.9


def test_a_probe_of_labels_that_are_noise_says_so() -> None:
    x = torch.rand(400, 1, 4, 4, generator=generator(5))
    probe = fit_probe(x, (torch.rand(400, generator=generator(6)) > 0.5).float(), 1, generator(7))
    assert probe.auc is not None
    assert 0.35 < probe.auc < 0.65


def test_rows_without_a_label_teach_a_probe_nothing_and_one_class_is_no_probe() -> None:
    labels = torch.tensor([0.0, 1.0, torch.nan, 1.0, 0.0, torch.nan, 1.0, 0.0] * 4)
    probe = fit_probe(torch.rand(32, 5, generator=generator(1)), labels, 1, generator(0))
    assert probe.rows + probe.judged == 24
    for same in (torch.ones(9), torch.zeros(9), torch.full((9,), torch.nan)):
        none = fit_probe(torch.rand(9, 5), same, 1, generator(0))
        assert (none.status, none.confidence(torch.rand(5)), none.auc) == ("one class", None, None)


# -- the measure -------------------------------------------------------------------------------------------------------


@dataclass
class Shown:
    """Noisy patterns, whose values lie in [-1, 3], and a linear model that matches or does not match them."""

    network: nn.Module
    task_name: str = "classification"
    targets: tuple[int, ...] = (1,)
    order: Tensor | None = None
    flat: bool = False
    kept: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.task = TASKS[self.task_name]
        multi = self.task_name == "multi-label"
        self.request = Request("target" if multi else "class", "", **{"targets" if multi else "classes": self.targets})
        classes = torch.arange(180) % CLASSES
        noise = 0.05 * torch.randn(180, 1, SIDE, SIDE, generator=generator(9))
        x = (4 * (PATTERNS[classes] * 0.9 + 0.05 + noise).clamp(0, 1) - 1).double().float()
        x[0, 0, 0, 0], x[0, 0, 0, 1] = -1, 3
        if self.flat:
            x = x.flatten(1)
        y = torch.eye(CLASSES)[classes] if multi else classes
        order = torch.arange(180) if self.order is None else self.order
        data = Data(x=x[order], y=y[order], ids=order, outputs=("a", "b", "c"))
        at = {"forget": (order >= 90) & (classes[order] == 1), "test": order < 60, "holdout": (order < 90)}
        self.views = {split: View(data, rows.nonzero()[:, 0], name=split) for split, rows in at.items()}

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.views)

    def view(self, split: str) -> View:
        return self.views[split]

    def model(self, subject: str | None = None) -> nn.Module:
        return self.network

    def rng(self, purpose: str) -> Generator:
        return generator(derive_seed(4, purpose))

    def keep(self, name: str, value: Tensor) -> None:
        self.kept[name] = value


def linear(weight: Tensor, bias: float = 0.0) -> nn.Module:
    line = nn.Linear(SIDE * SIDE, CLASSES)
    with torch.no_grad():
        line.weight.copy_(weight)
        line.bias.fill_(0.0)
        line.bias[1] = bias
    return nn.Sequential(nn.Flatten(), line)


def knowing() -> nn.Module:
    """Matches each pattern, with a weight below 0 where the pattern is dark."""
    return linear((PATTERNS - 0.5).flatten(1) / 12)


def measured(shown: Shown, **changes: object) -> dict[str, Reading]:
    found = TargetInversion(params(**{"steps": 200, "lr": 1.0} | changes)).measure(cast(Evidence, shown))
    return {reading.name.removeprefix("target-inversion-"): reading for reading in found}


def value(found: dict[str, Reading], name: str) -> float:
    assert found[name].value is not None, found[name]
    return cast(float, found[name].value)


@pytest.mark.parametrize("task", ["classification", "multi-label"])
def test_a_model_that_knows_the_target_gives_its_picture_away_and_one_that_does_not_does_not(task: str) -> None:
    known, unknown = Shown(knowing(), task), Shown(linear(WEIGHT / 4), task)
    found, other = measured(known), measured(unknown)
    assert {reading.at["target"] for reading in found.values()} == {"b"}
    assert value(found, "reached") > 0.9
    assert value(found, "ssim") > value(other, "ssim") + 0.2
    assert value(found, "probe") > value(other, "probe") + 0.2
    assert value(found, "probe-auc") == value(other, "probe-auc") > 0.95
    assert (found["ssim"].n, found["probe"].n, found["probe-auc"].n) == (30, 45, 45)


def test_picture_and_mean_are_kept_in_units_of_the_range() -> None:
    shown = Shown(knowing())
    found = measured(shown)
    rows = shown.view("forget").tensors().x
    assert torch.allclose(shown.kept["mean/b"], (rows.mean(0) + 1) / 4, atol=1e-6)
    picture = shown.kept["picture/b"]
    assert picture.shape == (1, SIDE, SIDE)
    assert (float(picture.min()), float(picture.max())) == (0, 1)
    assert similarity(picture.double(), shown.kept["mean/b"].double()) == pytest.approx(value(found, "ssim"), abs=1e-6)
    assert value(found, "moved") == pytest.approx(float(picture.square().mean().sqrt()))
    p = knowing()(4 * picture[None] - 1).softmax(1)[0, 1].detach()
    assert value(found, "reached") == pytest.approx(float(p), abs=1e-6)


def test_where_the_gradient_vanishes_the_readings_say_that_the_attack_never_moved() -> None:
    """A model whose bias alone was moved still holds the picture; 1 - p cannot get at it, -ln p can."""
    shown = Shown(linear((PATTERNS - 0.5).flatten(1) / 12, bias=-60.0))
    stuck = measured(shown)
    assert value(stuck, "reached") < 1e-6
    assert value(stuck, "moved") < 1e-6
    assert value(stuck, "ssim") < 0.05
    freed = measured(shown, cost="log")
    assert value(freed, "moved") > 0.3
    assert value(freed, "ssim") > 0.2


def test_each_forgotten_target_has_readings_of_its_own() -> None:
    shown = Shown(knowing(), targets=(0, 1))
    found = list(TargetInversion(params(steps=5)).measure(cast(Evidence, shown)))
    assert len({reading.key for reading in found}) == len(found) == 10
    assert set(shown.kept) == {"picture/a", "picture/b", "mean/b"}  # the forget set has no row of a
    (bare,) = [r for r in found if r.name == "target-inversion-ssim" and r.at["target"] == "a"]
    assert (bare.value, bare.status) == (None, "empty split")


def test_rows_that_are_no_images_have_no_ssim_but_the_other_readings() -> None:
    found = measured(Shown(knowing(), flat=True))
    assert (found["ssim"].value, found["ssim"].status) == (None, "not an image")
    assert value(found, "reached") > 0.9
    assert value(found, "probe") > 0.5


def test_the_order_of_rows_changes_nothing() -> None:
    plain = measured(Shown(knowing()))
    shuffled = measured(Shown(knowing(), order=torch.randperm(180, generator=generator(2))))
    for name, reading in plain.items():
        assert reading.value == pytest.approx(shuffled[name].value, rel=1e-6)


def test_a_diverged_model_is_a_status_and_keeps_no_picture() -> None:
    shown = Shown(linear(WEIGHT * torch.nan))
    found = measured(shown)
    assert {(reading.value, reading.status) for reading in found.values()} == {(None, "non-finite")}
    assert shown.kept == {}


@pytest.mark.parametrize("missing", [("forget",), ("test", "holdout")], ids=str)
def test_an_empty_split_is_a_status(missing: tuple[str, ...]) -> None:
    shown = Shown(knowing())
    for split in missing:
        del shown.views[split]
    assert {reading.status for reading in measured(shown).values()} == {"empty split"}


def test_a_probe_is_fitted_once_for_all_subjects() -> None:
    measure = TargetInversion(params(steps=2))
    list(measure.measure(cast(Evidence, Shown(knowing()))))
    probes = dict(measure._probes)
    list(measure.measure(cast(Evidence, Shown(linear(WEIGHT)))))
    assert [probes[key] is measure._probes[key] for key in probes] == [True]
    assert len(measure._probes) == 1


def test_the_original_gives_away_what_a_three_looks_like_and_gold_does_not(tmp_path: Path) -> None:
    record = run_measures("identity", CLASS, ["target-inversion"], tmp_path)
    for name, gap in (("ssim", 0.2), ("probe", 0.2), ("reached", 0.8)):
        key = f"target-inversion-{name}.target=3"
        assert known(record, key, "original") > known(record, key, "gold") + gap
        assert known(record, key, "unlearned") == known(record, key, "original")
    assert known(record, "target-inversion-probe-auc.target=3", "gold") > 0.95
