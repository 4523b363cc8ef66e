"""Networks trained in lockstep are the networks that are trained one by one."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from toys_support import images, new_stages, toy_registry

from unlearnbench.api import Recipe
from unlearnbench.api.runtime import Classification, Data, MultiLabel, View, fit, generator, local_rng
from unlearnbench.config import resolve_experiment
from unlearnbench.evidence import RunEvidence
from unlearnbench.spec import RunSpec
from unlearnbench.stacked import CPU_WORK, _work, fit_stacked, stackable
from unlearnbench.store import Entry

TASK = Classification()
RECIPE = Recipe(optimizer="adam", lr=0.01, weight_decay=1e-3, epochs=4, batch_size=8)
RECIPES = {
    "adam": RECIPE,
    "sgd": replace(RECIPE, optimizer="sgd", lr=0.05),
    "adamw, cosine, smoothing": replace(RECIPE, optimizer="adamw", schedule="cosine", label_smoothing=0.1),
    "warm-up": replace(RECIPE, schedule="linear", warmup_epochs=1),
}


def rows(n: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> View:
    rng = generator(seed)
    x = torch.randn(n, 1, 8, 8, generator=rng, dtype=dtype)
    data = Data(x, torch.randint(3, (n,), generator=rng), torch.arange(n), ("a", "b", "c"))
    return View(data, torch.arange(n), name="train")


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.GELU(), nn.LayerNorm(12), nn.Linear(12, 3))


def cnn() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 3))


def networks(make: object, n: int = 3) -> list[nn.Module]:
    found = []
    for seed in range(n):
        with local_rng(generator(seed)):
            found.append(make().double())  # type: ignore[operator]
    return found


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES.keys())
@pytest.mark.parametrize("make", [mlp, cnn])
def test_a_stack_ends_where_each_ends_alone(make: object, recipe: Recipe) -> None:
    views = [rows(21, seed) for seed in range(3)]  # 21 rows in batches of 8: the last is smaller
    alone, together = networks(make), networks(make)
    for seed, (model, view) in enumerate(zip(alone, views, strict=True)):
        fit(model, TASK, view, recipe, generator(seed))
    fit_stacked(together, TASK, views, recipe, [generator(seed) for seed in range(3)])
    start = networks(make)
    for one, other, before in zip(alone, together, start, strict=True):
        for (name, weight), stacked, first in zip(
            one.named_parameters(), other.parameters(), before.parameters(), strict=True
        ):
            assert torch.allclose(weight, stacked, rtol=1e-9, atol=1e-10), name
            assert not torch.equal(weight, first), f"{name} was not trained"
        assert not other.training
        assert all(p.requires_grad and p.grad is None for p in other.parameters())


def test_networks_of_a_stack_do_not_touch_each_other() -> None:
    views = [rows(16, seed) for seed in range(3)]
    first, second = networks(mlp), networks(mlp)
    fit_stacked(first, TASK, views, RECIPE, [generator(seed) for seed in range(3)])
    fit_stacked(second, TASK, [views[0], rows(16, 7), views[2]], RECIPE, [generator(seed) for seed in range(3)])
    same = [all(map(torch.equal, a.parameters(), b.parameters())) for a, b in zip(first, second, strict=True)]
    assert same == [True, False, True]


def test_training_sets_of_one_size_are_needed() -> None:
    with pytest.raises(ValueError, match="training sets of one size"):
        fit_stacked(networks(mlp, 2), TASK, [rows(16), rows(17)], RECIPE, [generator(0), generator(1)])


class Branching(nn.Module):
    """Looks at its inputs, which a mapped function cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp()

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.net(x if float(x.sum()) > 0 else -x)
        return found


def test_what_cannot_be_stacked_is_trained_one_by_one() -> None:
    view = rows(16, dtype=torch.float32)
    assert stackable(mlp(), TASK, view, RECIPE)
    assert stackable(cnn(), TASK, view, RECIPE)
    assert not stackable(Branching(), TASK, view, RECIPE)
    assert not stackable(nn.Sequential(mlp(), nn.Dropout()), TASK, view, RECIPE)
    assert not stackable(nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten()), TASK, view, RECIPE)
    assert not stackable(mlp(), MultiLabel(), view, RECIPE)
    for unusual in ({"clip_norm": 1.0}, {"augment": ("flip",)}, {"precision": "bf16-mixed"}, {"epochs": 0}):
        assert not stackable(mlp(), TASK, view, replace(RECIPE, **unusual)), unusual
    assert not stackable(mlp(), TASK, rows(0, dtype=torch.float32), RECIPE)


def test_large_networks_are_trained_one_by_one_on_a_cpu() -> None:
    view = rows(16, dtype=torch.float32)
    wide = nn.Sequential(nn.Flatten(), nn.Linear(64, 8192), nn.ReLU(), nn.Linear(8192, 3))
    assert _work(wide, view, 8) == 8 * (64 * 8192 + 8192 * 3) > CPU_WORK
    assert _work(cnn(), view, 8) == 8 * (8 * 8 * 4 * 9 + 64 * 3)
    assert not stackable(wide, TASK, view, RECIPE)


def test_asking_does_not_change_the_network() -> None:
    model = mlp()
    before = deepcopy(model.state_dict())
    stackable(model, TASK, rows(16, dtype=torch.float32), RECIPE)
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


# -- in an ensemble ----------------------------------------------------------------------------------------------------


def small(**more: object) -> RunSpec:
    recipe = {"optimizer": "adam", "lr": 0.01, "weight_decay": 0.0, "epochs": 2, "batch_size": 32}
    experiment = {"dataset": "toy-images", "model": "mlp", "unlearners": ["identity"], "recipe": recipe, **more}
    (spec,) = resolve_experiment({**experiment, "measures": ["accuracy"]}, toy_registry())
    return spec


def shadows_of(store: Path, spec: RunSpec, n: int) -> tuple[list[Entry], list[str]]:
    stages = new_stages(store)
    members = RunEvidence(stages, spec, 0, "unlearned", "any", ("siblings",)).shadows(n).specs
    return [stages.original(member) for member in members], stages.computed


def test_an_ensemble_is_trained_as_a_stack_and_stored_apart_from_runs_of_their_own(tmp_path: Path) -> None:
    entries, computed = shadows_of(tmp_path, small(), 4)
    assert computed == ["train"] * 4
    assert {"stack" in entry.inputs for entry in entries} == {True}
    assert len({entry.inputs["stack"] for entry in entries}) == 1
    assert len({entry.weights_sha256 for entry in entries}) == 4
    assert shadows_of(tmp_path, small(), 4)[1] == []


def test_a_stack_of_which_a_part_was_lost_is_made_again_with_the_same_bits(tmp_path: Path) -> None:
    entries, _ = shadows_of(tmp_path, small(), 4)
    stages = new_stages(tmp_path)
    stages.store.drop("train", entries[2].key)
    again, computed = shadows_of(tmp_path, small(), 4)
    assert [entry.weights_sha256 for entry in again] == [entry.weights_sha256 for entry in entries]
    assert computed.count("train") == 4


def test_networks_that_cannot_be_stacked_are_runs_of_their_own(tmp_path: Path) -> None:
    spec = small(recipe={"optimizer": "adam", "lr": 0.01, "epochs": 1, "batch_size": 32, "clip_norm": 1.0})
    entries, _ = shadows_of(tmp_path, spec, 2)
    assert not any("stack" in entry.inputs for entry in entries)


def test_what_is_unlearned_of_a_shadow_starts_at_its_original(tmp_path: Path) -> None:
    spec, stages = images("identity"), new_stages(tmp_path)
    shadows = RunEvidence(stages, spec, 0, "unlearned", "any", ("siblings",)).shadows(2)
    assert torch.equal(shadows.outputs("original"), shadows.outputs("unlearned"))
    assert not torch.equal(shadows.outputs("original"), shadows.outputs("gold"))
