"""The unlearner as a whole: what a request changes, what the state keeps, recovery, streams, and real training."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from unlearnbench.api import Recipe
from unlearnbench.api.params import param_fields
from unlearnbench.api.runtime import TASKS, Data, Result, State, View, fit, generator, predict
from unlearnbench_essential_graph.plugin import PAPER, EssentialGraphParams
from unlearnbench_essential_graph.votes import pruned

P = EssentialGraphParams
Serve = Callable[..., Result]
LAYERS = ("0", "3", "6")
NORMS = {"0": "1", "3": "4", "6": "7"}


def gone(result: Result) -> dict[str, set[int]]:
    """Channels that the result says are pruned, by layer of its window."""
    return {
        name.removeprefix("graph/pruned/"): set(value.nonzero().flatten().tolist())
        for name, value in result.artifacts.items()
        if name.startswith("graph/pruned/")
    }


def zeros(model: nn.Module, place: str) -> set[int]:
    """Channels all of whose own parameters are 0."""
    values = [
        value.detach().flatten(1) if value.ndim > 1 else value[:, None]
        for value in model.get_submodule(place).parameters()
    ]
    return set((torch.cat(values, 1) == 0).all(1).nonzero().flatten().tolist())


@pytest.mark.parametrize(("sigma", "skip_last"), [(2, 0), (3, 0), (1, 1), (2, 1)])
def test_only_the_voted_channels_of_the_window_change_and_all_else_is_bit_identical(
    net: nn.Module, rows: Data, serve: Serve, sigma: int, skip_last: int
) -> None:
    result = serve(P(sigma=sigma, skip_last=skip_last, delta=0.35), net, rows, [1])
    inside = LAYERS[3 - skip_last - sigma : 3 - skip_last]
    found = gone(result)
    assert tuple(found) == inside
    assert any(found.values())
    before, after = net.state_dict(), result.model.state_dict()
    for name, value in after.items():
        place, kind = name.split(".")
        layer = next((k for k, norm in NORMS.items() if place in (k, norm)), "")
        drop = sorted(found.get(layer, ())) if kind in ("weight", "bias") else []
        expected = before[name].clone()
        if drop:
            expected[drop] = 0
        assert torch.equal(value, expected)


def test_a_layer_is_decided_by_its_own_importances_and_the_votes_alone(
    net: nn.Module, rows: Data, serve: Serve
) -> None:
    """The paper's edges join layers and decide nothing: the importances of all other layers may be shuffled."""
    p = P(sigma=3, delta=0.4)
    state = prepared(serve, p, net, rows)
    plain = serve(p, net, rows, [2], state=state)
    for layer in LAYERS:
        shuffled = State(tensors=dict(state.tensors), meta=state.meta)
        for name, alpha in state.tensors.items():
            if name != f"alpha/{layer}":
                order = torch.randperm(alpha.shape[1], generator=generator(5))
                shuffled.tensors[name] = alpha[:, order].flip(0)
        other = serve(p, net, rows, [2], state=shuffled)
        assert gone(other)[layer] == gone(plain)[layer]
        assert gone(other) != gone(plain)
        known = torch.ones(4, dtype=torch.bool)
        _, expected = pruned(state.tensors[f"alpha/{layer}"], known, [2], 0.4, "vote", "strict")
        assert gone(plain)[layer] == set(expected.nonzero().flatten().tolist())


def prepared(serve: Serve, p: EssentialGraphParams, net: nn.Module, rows: Data, **kwargs: Any) -> State:
    """What ``prepare`` left, read off a request that prunes nothing more than it must."""
    from unlearnbench_essential_graph.method import EssentialGraph

    caught: list[State] = []
    original = EssentialGraph.prepare

    def keep(self: EssentialGraph, job: Any) -> State:
        caught.append(original(self, job))
        return State(tensors=dict(caught[0].tensors), meta=copy.deepcopy(caught[0].meta))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EssentialGraph, "prepare", keep)
        serve(p, net, rows, [0], **kwargs)
    return caught[0]


def test_prepare_holds_all_layers_and_reads_none_of_what_a_request_may_choose(
    net: nn.Module, rows: Data, serve: Serve
) -> None:
    first = prepared(serve, P(sigma=1), net, rows)
    assert set(first.tensors) == {f"alpha/{layer}" for layer in LAYERS}
    assert [first.tensors[f"alpha/{layer}"].shape for layer in LAYERS] == [(4, 6), (4, 8), (4, 10)]
    changed = P(sigma=3, skip_last=0, delta=0.7, selection="contrast", balance="none", zero_bn=False, recovery_epochs=1)
    second = prepared(serve, changed, net, rows)
    assert first.meta == second.meta
    assert all(torch.equal(value, second.tensors[name]) for name, value in first.tensors.items())


def test_parameters_of_prepare_are_those_that_its_state_depends_on() -> None:
    phases = {found.name: found.param.phase for found in param_fields(EssentialGraphParams)}
    assert {name for name, phase in phases.items() if phase == "prepare"} == {"instances", "score"}
    assert {phase for name, phase in phases.items() if name not in ("instances", "score")} == {"unlearn"}


def test_sigma_and_delta_stay_choices_of_the_request(net: nn.Module, rows: Data, serve: Serve) -> None:
    state = prepared(serve, P(sigma=1), net, rows)
    for p in (P(sigma=1), P(sigma=3, delta=0.5), P(sigma=2, skip_last=1, delta=0.3)):
        shared, own = serve(p, net, rows, [3], state=state), serve(p, net, rows, [3])
        assert gone(shared) == gone(own)


def test_the_same_request_gives_the_same_bits(net: nn.Module, rows: Data, serve: Serve) -> None:
    p = P(sigma=3, delta=0.3, instances=4, recovery_epochs=2)
    first, again = (serve(p, net, rows, [1]) for _ in range(2))
    other = again.model.state_dict()
    assert all(torch.equal(value, other[name]) for name, value in first.model.state_dict().items())
    assert first.warnings == again.warnings
    state = torch.get_rng_state()
    serve(p, net, rows, [1])
    assert torch.equal(torch.get_rng_state(), state)


def test_two_targets_are_forgotten_together_and_a_class_as_a_target_is(
    net: nn.Module, rows: Data, serve: Serve
) -> None:
    p = P(sigma=3, delta=0.5)
    both, one, other = (gone(serve(p, net, rows, asked)) for asked in ([0, 2], [0], [2]))
    for layer in LAYERS:  # a channel that one of them protected from the other may fall
        assert one[layer] | other[layer] <= both[layer]
    assert any(both[layer] != one[layer] | other[layer] for layer in LAYERS)
    labels = Data(rows.x, torch.arange(len(rows)) % 4, rows.ids, rows.outputs)
    by_class = serve(p, net, labels, [2], task="classification", kind="class")
    by_target = serve(p, net, labels, [2], task="classification")
    assert gone(by_class) == gone(by_target)
    assert any(gone(by_class).values())


def test_without_balance_a_superset_is_pruned(net: nn.Module, rows: Data, serve: Serve) -> None:
    strict, none = (
        gone(serve(P(sigma=3, delta=0.4, balance=balance), net, rows, [1])) for balance in ("strict", "none")
    )
    assert all(strict[layer] <= none[layer] for layer in LAYERS)
    assert strict != none


@pytest.mark.parametrize("zero_bn", [True, False])
def test_recovery_trains_all_but_the_pruned_channels_and_they_stay_zero(
    net: nn.Module, rows: Data, serve: Serve, zero_bn: bool
) -> None:
    """Without its norm zeroed a channel has gradients, and would grow back."""
    p = P(sigma=3, delta=0.35, zero_bn=zero_bn)
    recipe = Recipe(lr=1.0, batch_size=8, momentum=0.9, weight_decay=0.1)
    plain, result = (serve(replace(p, recovery_epochs=k), net, rows, [1], recipe=recipe) for k in (0, 3))
    assert gone(plain) == gone(result)
    assert any(gone(result).values())
    for layer, norm in NORMS.items():
        assert zeros(result.model, layer) == gone(result)[layer]
        assert zeros(result.model, norm) == (gone(result)[layer] if zero_bn else set())
    for name, value in result.model.named_parameters():
        assert not torch.equal(value, plain.model.get_parameter(name)), name
    assert not result.model.training


def test_the_learning_rate_of_recovery_is_a_share_of_the_recipes(net: nn.Module, rows: Data, serve: Serve) -> None:
    p = P(sigma=1, recovery_epochs=1, recovery_lr=0.5)
    one = serve(p, net, rows, [1], recipe=Recipe(lr=0.02, batch_size=8))
    same = serve(replace(p, recovery_lr=0.1), net, rows, [1], recipe=Recipe(lr=0.1, batch_size=8))
    for name, value in one.model.named_parameters():
        torch.testing.assert_close(value, same.model.get_parameter(name))


def test_the_mask_binds_later_stages_to_the_pruned_channels(net: nn.Module, rows: Data, serve: Serve) -> None:
    result = serve(P(sigma=2, delta=0.35), net, rows, [1])
    assert result.mask is not None
    parameters = dict(result.model.named_parameters())
    assert set(result.mask) <= set(parameters)
    for name, free in result.mask.items():
        layer = next(k for k, norm in NORMS.items() if name.split(".")[0] in (k, norm))
        rows_held = (
            set((~free).flatten(1).all(1).nonzero().flatten().tolist())
            if free.ndim > 1
            else set((~free).nonzero().flatten().tolist())
        )
        assert rows_held == gone(result)[layer]
        assert not parameters[name][~free].any()


def test_zero_bn_off_zeroes_convolutions_alone(net: nn.Module, rows: Data, serve: Serve) -> None:
    result = serve(P(sigma=3, delta=0.35, zero_bn=False), net, rows, [1])
    for layer, norm in NORMS.items():
        assert zeros(result.model, layer) == gone(result)[layer]
        assert zeros(result.model, norm) == set()


@pytest.mark.parametrize("selection", ["vote", "contrast"])
def test_a_later_request_of_a_stream_keeps_and_adds(net: nn.Module, rows: Data, serve: Serve, selection: Any) -> None:
    p = P(sigma=3, delta=0.5, selection=selection, recovery_epochs=1)
    first = serve(p, net, rows, [0])
    second = serve(p, first.model, rows, [2], state=first.state)
    assert second.state is not None
    assert second.state.meta["forgotten"] == [0, 2]
    assert second.artifacts["graph"]["forgotten"] == [0, 2]
    together = serve(replace(p, recovery_epochs=0), net, rows, [0, 2])
    for layer in LAYERS:
        assert gone(second)[layer] == gone(first)[layer] | gone(together)[layer]
        assert zeros(second.model, layer) == gone(second)[layer]


def test_what_an_earlier_request_pruned_outside_the_window_stays_pruned(
    net: nn.Module, rows: Data, serve: Serve
) -> None:
    first = serve(P(sigma=3, delta=0.5), net, rows, [0])
    second = serve(P(sigma=1, delta=0.5, recovery_epochs=2), first.model, rows, [2], state=first.state)
    assert tuple(gone(second)) == ("6",)
    assert second.mask is not None
    assert any(gone(first)[layer] for layer in ("0", "3"))
    for layer in ("0", "3"):
        assert zeros(second.model, layer) == gone(first)[layer]
        assert (f"{layer}.weight" in second.mask) == bool(gone(first)[layer])


def test_the_artifacts_say_the_graph(net: nn.Module, rows: Data, serve: Serve) -> None:
    import json

    result = serve(P(sigma=2, delta=0.35, instances=3), net, rows, [1])
    told = result.artifacts["graph"]
    assert json.loads(json.dumps(told)) == told
    assert told["layers"] == ["3", "6"]
    assert told["all_layers"] == list(LAYERS)
    assert told["channels"] == {"3": 8, "6": 10}
    assert told["norms"] == {"3": "4", "6": "7"}
    assert told["targets"] == ["a", "b", "c", "d"]
    assert (told["forgotten"], told["instances"], told["k"]) == ([1], [3] * 4, 3)
    assert (told["sigma"], told["delta"], told["skip_last"], told["search"]) == (2, 0.35, 0, None)
    for layer, channels in told["channels"].items():
        assert result.artifacts[f"graph/alpha/{layer}"].shape == (4, channels)
        selected = result.artifacts[f"graph/selected/{layer}"]
        drop = result.artifacts[f"graph/pruned/{layer}"]
        assert selected.dtype == drop.dtype == torch.bool
        assert selected.sum(1).tolist() == [int(0.35 * channels)] * 4
        assert torch.equal(drop, selected[1] & ~selected[[0, 2, 3]].any(0))
        assert told["pruned"][layer] == int(drop.sum())


def test_the_paper_is_told_where_we_differ_in_sentences() -> None:
    assert len(PAPER.deviations) >= 12
    assert all(sentence.endswith(".") and sentence[0].isupper() for sentence in PAPER.deviations)


# Real training.

SIZE, CELL = 16, 8
FORMS = ("across", "upright", "falling", "frame")


def form(k: int) -> Tensor:
    """A form of 6 x 6 pixels."""
    image = torch.zeros(6, 6)
    if k == 0:
        image[2:4] = 1
    elif k == 1:
        image[:, 2:4] = 1
    elif k == 2:
        image = torch.eye(6) + torch.eye(6).roll(1, 1).triu()
    else:
        image[[0, 5]] = 1
        image[:, [0, 5]] = 1
    return image


def scenes(n: int, seed: int) -> Data:
    """Each form in half of the scenes, in a quadrant of its own, of random brightness, on noise."""
    rng = generator(seed)
    x = torch.randn(n, 1, SIZE, SIZE, generator=rng) * 0.1
    y = torch.randint(2, (n, 4), generator=rng).float()
    for row in range(n):
        for k, place in enumerate(torch.randperm(4, generator=rng).tolist()):
            if y[row, k]:
                down, right = torch.randint(3, (2,), generator=rng).tolist()
                top, left = CELL * (place // 2) + down, CELL * (place % 2) + right
                x[row, 0, top : top + 6, left : left + 6] += form(k) * (0.5 + torch.rand(1, generator=rng))
    return Data(x, y, torch.arange(n), FORMS)


class Small(nn.Module):
    """Four convolutions with BatchNorm, the global maximum, a line."""

    def __init__(self) -> None:
        super().__init__()
        widths = (1, 16, 32, 32, 64)
        layers: list[nn.Module] = []
        for k, (before, after) in enumerate(pairwise(widths)):
            layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
            layers += [nn.MaxPool2d(2)] if k == 1 else []
        self.body, self.line = nn.Sequential(*layers), nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.line(self.body(x).amax((2, 3)))


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Small()
    data = scenes(800, 0)
    recipe = Recipe(optimizer="adamw", lr=4e-3, epochs=8, batch_size=64, schedule="one-cycle", weight_decay=0.01)
    fit(model, TASKS["multi-label"], View(data, torch.arange(len(data)), name="train"), recipe, generator(0))
    return model


def recalls(model: nn.Module) -> tuple[list[float], list[float]]:
    """Share of the positives, and of the negatives, of each form that is got right on new scenes."""
    data = scenes(400, 99)
    said = predict(model, TASKS["multi-label"], View(data, torch.arange(400), name="test")) > 0
    there = data.y > 0
    return (
        [float(said[there[:, k], k].float().mean()) for k in range(4)],
        [float((~said[~there[:, k], k]).float().mean()) for k in range(4)],
    )


def test_the_network_that_is_to_forget_knows_every_form(trained: nn.Module) -> None:
    positives, negatives = recalls(trained)
    assert min(positives + negatives) >= 0.95


@pytest.mark.parametrize("target", range(4), ids=FORMS)
def test_a_trained_network_no_longer_names_the_target_and_names_the_others(
    trained: nn.Module, serve: Serve, target: int
) -> None:
    result = serve(P(sigma=2, delta=0.25), trained, scenes(800, 0), [target])
    positives, negatives = recalls(result.model)
    assert positives.pop(target) <= 0.05
    negatives.pop(target)
    assert min(positives) >= 0.95
    assert min((a + b) / 2 for a, b in zip(positives, negatives, strict=True)) >= 0.9
    assert result.warnings == ()


def test_a_trained_network_forgets_two_targets_at_once(trained: nn.Module, serve: Serve) -> None:
    positives, _ = recalls(serve(P(sigma=2, delta=0.25), trained, scenes(800, 0), [1, 2]).model)
    assert max(positives[1:3]) <= 0.05
    assert min(positives[0], positives[3]) >= 0.9


def test_many_instances_with_contrast_forget_too(trained: nn.Module, serve: Serve) -> None:
    p = P(sigma=2, delta=0.25, instances=32, selection="contrast", score="contribution")
    positives, _ = recalls(serve(p, trained, scenes(800, 0), [0]).model)
    assert positives[0] <= 0.05
    assert min(positives[1:]) >= 0.95
