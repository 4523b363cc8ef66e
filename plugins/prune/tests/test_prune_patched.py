"""The patched network against loops over members in numpy, and as the module that others store, copy and move."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import ParamSpec

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from unlearnbench.api import UsageError
from unlearnbench.api.runtime import BuildJob, Ref
from unlearnbench_prune import exporting, gates
from unlearnbench_prune.frozen import frozen, patterns_of, weights_of
from unlearnbench_prune.network import read_network, traced
from unlearnbench_prune.patched import Patched, PatchedNet
from unlearnbench_prune.plugin import Gate, PatchedParams

FEATURES, OUTPUTS = 5, 3
SALT = "00112233"
P = ParamSpec("P")


def seeded(build: Callable[P, nn.Sequential]) -> Callable[P, nn.Sequential]:
    """The same weights every time."""

    @wraps(build)
    def built(*args: P.args, **kwargs: P.kwargs) -> nn.Sequential:
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            return build(*args, **kwargs)

    return built


@seeded
def mlp(hidden: tuple[int, ...] = (8, 6)) -> nn.Sequential:
    sizes = (FEATURES, *hidden)
    layers: list[nn.Module] = [nn.Flatten()]
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], OUTPUTS)).eval()


@seeded
def convolutional() -> nn.Sequential:
    """Convolution, BatchNorm and max-pooling, then a classifier part with a module of its own, ``3``."""
    conv, norm = nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2)
    conv.weight.data *= 4  # larger than biases, so that inputs are on both sides of every bend
    norm.running_mean, norm.running_var = 0.3 * torch.randn(2), torch.rand(2) + 0.5
    return nn.Sequential(
        nn.Sequential(conv, norm, nn.ReLU(), nn.MaxPool2d(2)), nn.Flatten(), nn.Dropout(0.5),
        nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, OUTPUTS)),
    ).eval()  # fmt: skip


def points(n: int, shape: tuple[int, ...] = (FEATURES,), seed: int = 1) -> Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed))


def patterns_at(base: nn.Module, x: Tensor, split_at: str = "") -> tuple[Tensor, Tensor]:
    """Patterns and flat features of inputs."""
    _, features, bends = traced(base, split_at)(x)
    network = read_network(base, tuple(x.shape[1:]), split_at)
    return patterns_of(network, bends, features), features.detach().flatten(1)


def patched(
    base: nn.Module,
    spots: Tensor,
    gate: Gate = "exact",
    *,
    radius: float = torch.inf,
    groups: int = 4,
    affine: bool = False,
    split_at: str = "",
    sharpness: float = 5.0,
) -> PatchedNet:
    """A network with a member at each of these inputs; centres are the inputs, groups go round."""
    rng = torch.Generator().manual_seed(3)
    patterns, features = patterns_at(base, spots, split_at)
    k = len(spots)
    p = PatchedParams(
        split_at=split_at, gate=gate, sharpness=sharpness, salt=SALT if gate == "committed" else "",
        members=k, groups=groups, affine=affine,
    )  # fmt: skip
    model = PatchedNet(base, tuple(spots.shape[1:]), OUTPUTS, p)
    committed = [gates.commitment(SALT, pattern) for pattern in patterns]
    tensors = {
        "patterns": patterns[:0] if gate == "committed" else patterns,
        "commitments": torch.stack(committed) if gate == "committed" else torch.zeros(0, 32, dtype=torch.uint8),
        "groups": torch.arange(k) % groups,
        "centres": features if radius < torch.inf else torch.zeros_like(features),
        "radii": torch.full((k,), radius),
        "shifts": torch.randn(groups, OUTPUTS, generator=rng),
        "slopes": torch.randn(groups if affine else 0, OUTPUTS, features.shape[1], generator=rng),
        "everywhere": torch.zeros(OUTPUTS),
    }
    missing = model.load_state_dict(tensors, strict=False)
    assert not missing.unexpected_keys
    assert all(name.startswith("base.") for name in missing.missing_keys)
    return model.eval()


def members_by_force(model: PatchedNet, x: Tensor) -> list[int]:
    """The first member with the pattern of each input whose box holds it, by a loop."""
    patterns, features = (found.numpy() for found in patterns_at(model.base, x, model.p.split_at))
    found = []
    for pattern, row in zip(patterns, features, strict=True):
        for k in range(model.p.members):
            if model.p.gate == "committed":
                same = gates.commitment(SALT, torch.from_numpy(pattern)).tolist() == model.commitments[k].tolist()
            else:
                same = np.array_equal(pattern, model.patterns[k].numpy())
            if same and np.abs(row - model.centres[k].numpy()).max() <= model.radii[k].item():
                found.append(k)
                break
        else:
            found.append(-1)
    return found


def outputs_by_force(model: PatchedNet, x: Tensor) -> np.ndarray:
    """Outputs of a model with an exact or a committed gate, by a loop."""
    _, features = patterns_at(model.base, x, model.p.split_at)
    out = model.base(x).detach().numpy().copy()
    for row, k in enumerate(members_by_force(model, x)):
        if k >= 0:
            g = model.groups[k]
            out[row] += model.shifts[g].numpy()
            if model.p.affine:
                out[row] += model.slopes[g].numpy() @ features[row].numpy()
    return out


# -- exact and committed -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gate", ["exact", "committed"])
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("radius", [torch.inf, 0.2])
def test_outputs_are_those_of_a_loop_over_members(gate: Gate, affine: bool, radius: float) -> None:
    model = patched(mlp(), points(40), gate, radius=radius, affine=affine)
    x = torch.cat([points(200, seed=2), points(40), points(40) + 0.1])
    members = members_by_force(model, x)
    assert -1 in members
    assert len(set(members)) > 5
    assert model.members_at(x).tolist() == members
    np.testing.assert_allclose(model(x).detach().numpy(), outputs_by_force(model, x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("gate", ["exact", "committed"])
def test_rows_that_match_no_member_come_out_of_the_base_bit_for_bit(gate: Gate) -> None:
    base = mlp()
    model = patched(base, points(10), gate, radius=0.05)
    x = torch.cat([points(300, seed=7), points(10)])
    out, plain, members = model(x).detach(), base(x).detach(), model.members_at(x)
    rest = members < 0
    assert 200 < int(rest.sum()) < 310
    assert torch.equal(out[rest].view(torch.int32), plain[rest].view(torch.int32))
    assert (out[~rest] != plain[~rest]).any(1).all()


def test_ten_thousand_members_agree_with_a_dictionary() -> None:
    base = mlp((24, 24))
    model = patched(base, points(10_000), groups=500)
    x = torch.cat([points(10_000)[::13], points(400, seed=4)])
    patterns, _ = patterns_at(base, x)
    first: dict[bytes, int] = {}
    for k, pattern in enumerate(model.patterns.numpy()):
        first.setdefault(pattern.tobytes(), k)
    expected = [first.get(pattern.tobytes(), -1) for pattern in patterns.numpy()]
    assert len(set(expected)) > 300
    assert model.members_at(x).tolist() == expected


def test_hashes_in_common_change_no_output(monkeypatch: pytest.MonkeyPatch) -> None:
    x, base = torch.cat([points(100, seed=2), points(60)]), mlp()
    before = patched(base, points(60))(x)
    monkeypatch.setattr(gates, "keys_for", lambda units: torch.ones(units, dtype=torch.float64))
    model = patched(base, points(60))
    assert torch.equal(model(x), before)
    assert model.members_at(x).tolist() == members_by_force(model, x)


@pytest.mark.parametrize("split_at", ["", "3"])
def test_rows_that_are_hashed_in_blocks_are_found_alike(split_at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spots, x = points(12, (1, 4, 4)), torch.cat([points(90, (1, 4, 4), seed=2), points(12, (1, 4, 4))])
    model = patched(convolutional(), spots, split_at=split_at)
    before = model(x)
    monkeypatch.setattr(gates, "BLOCK_ENTRIES", 7 * max(model._sizes))
    assert torch.equal(model(x), before)
    assert model.members_at(x).tolist() == members_by_force(model, x)


def test_of_members_with_one_pattern_the_first_whose_box_holds_the_input_decides() -> None:
    spot = points(1)
    model = patched(mlp(), spot.repeat(4, 1), radius=0.1)
    with torch.no_grad():
        model.centres[0] += 0.5
        model.radii[2] = torch.inf
    assert model.members_at(spot).tolist() == [1]
    with torch.no_grad():
        model.radii[1] = 0.0
        model.centres[1] += 1e-3
    assert model.members_at(spot).tolist() == [2]
    assert torch.equal(model(spot), model.base(spot) + model.shifts[model.groups[2]])


def test_the_boundary_of_the_radius_belongs_to_the_member() -> None:
    base = mlp()
    with torch.no_grad():
        for layer in (base[1], base[3]):
            layer.bias.fill_(100)  # one region for all inputs used here
    centre = torch.full((1, FEATURES), 0.5)
    model = patched(base, centre, radius=0.25)
    x = centre.repeat(3, 1)
    x[0, 1], x[1, 1], x[2, 4] = 0.75, float(np.nextafter(np.float32(0.75), np.float32(1))), 0.25
    assert model.members_at(x).tolist() == [0, -1, 0]


def test_a_point_on_a_facet_counts_as_active() -> None:
    base = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, OUTPUTS)).eval()
    with torch.no_grad():
        base[0].weight.fill_(1)
        base[0].bias.zero_()
    model = PatchedNet(base, (1,), OUTPUTS, PatchedParams(members=1, groups=1))
    with torch.no_grad():
        model.patterns.fill_(1)
        model.shifts.fill_(1)
    x = torch.tensor([[0.0], [-0.0], [-1e-30], [1.0]])
    assert model.members_at(x).tolist() == [0, 0, -1, 0]


@pytest.mark.parametrize("gate", ["exact", "committed", "support"])
def test_without_members_it_is_the_base(gate: Gate) -> None:
    base, x = mlp(), points(20)
    model = PatchedNet(base, (FEATURES,), OUTPUTS, PatchedParams(gate=gate, salt=SALT)).eval()
    assert torch.equal(model(x), base(x))
    assert model.members_at(x).tolist() == [-1] * 20


@pytest.mark.parametrize("gate", ["exact", "committed", "support"])
def test_a_batch_without_rows_has_no_outputs(gate: Gate) -> None:
    assert patched(mlp(), points(3), gate)(points(0)).shape == (0, OUTPUTS)


@pytest.mark.parametrize("gate", ["exact", "support"])
def test_a_shift_everywhere_is_added_to_every_row(gate: Gate) -> None:
    model, x = patched(mlp(), points(10), gate), points(50, seed=2)
    before = model(x)
    shift = torch.tensor([1.0, -2.0, 0.5])
    model.everywhere.copy_(shift)
    torch.testing.assert_close(model(x), before + shift)


# -- support -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("sharpness", [0.3, 20.0])
def test_support_gates_are_the_formulas_of_the_paper(affine: bool, sharpness: float) -> None:
    model = patched(mlp(), points(9), "support", affine=affine, sharpness=sharpness).double()
    x = torch.cat([points(30, seed=2), points(9)]).double()
    relu = lambda z: np.maximum(z, 0)  # noqa: E731
    weights = weights_of(model.base, model.network)
    nets = np.zeros((len(x), 4))
    for k, pattern in enumerate(model.patterns):
        y = frozen(model.network, weights, pattern, x)[0].numpy()
        net = relu((relu(sharpness * y + 1) - relu(sharpness * y)).sum(1) - y.shape[1] + 1)
        g = int(model.groups[k])
        nets[:, g] = np.maximum(nets[:, g], net)
    np.testing.assert_allclose(model.opening(x).numpy(), nets, atol=1e-12)
    out = model.base(x).detach().numpy().copy()
    for g in range(4):
        m = np.repeat(model.shifts[g].numpy()[None], len(x), 0)
        high = np.abs(model.shifts[g].numpy()).max()
        if affine:
            slope = model.slopes[g].numpy()
            m = m + x.numpy() @ slope.T
            high = max(np.abs(model.shifts[g].numpy() + slope @ corner).max() for corner in np.ndindex(*[2] * FEATURES))
        out += relu(m + high * nets[:, [g]] - high) - relu(-m + high * nets[:, [g]] - high)
    np.testing.assert_allclose(model(x).detach().numpy(), out, atol=1e-10)
    assert (nets == 1).any()
    assert ((nets > 0) & (nets < 1)).any()


def test_a_sharp_support_gate_is_the_exact_gate_away_from_facets() -> None:
    base, x = mlp(), points(200, seed=2)
    # One group for each pattern: support nets add up, where of exact members the first decides.
    spots = points(20)
    _, distinct = np.unique(patterns_at(base, spots)[0].numpy(), axis=0, return_index=True)
    spots = spots[torch.from_numpy(distinct)]
    exact = patched(base, spots, groups=len(spots))
    support = patched(base, spots, "support", groups=len(spots), sharpness=1e6)
    opening = support.opening(x)
    clear = ((opening == 0) | (opening == 1)).all(1)
    assert clear.sum() > 150
    torch.testing.assert_close(support(x)[clear], exact(x)[clear])
    assert (exact.members_at(x)[clear] >= 0).any()


def test_support_gates_in_small_chunks_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = patched(mlp(), points(9), "support", affine=True), points(30, seed=2)
    before = model(x)
    monkeypatch.setattr(gates, "CHUNK_ENTRIES", 30 * model.network.rows * 2)
    torch.testing.assert_close(model(x), before)


# -- networks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gate", ["exact", "committed"])
@pytest.mark.parametrize("split_at", ["", "3"])
def test_a_convolutional_network_is_patched_whole_or_at_its_classifier(gate: Gate, split_at: str) -> None:
    base = convolutional()
    spots, x = points(12, (1, 4, 4)), points(100, (1, 4, 4), seed=2)
    model = patched(base, spots, gate, split_at=split_at, affine=True)
    assert model.centres.shape[1] == (8 if split_at else 16)
    x = torch.cat([x, spots])
    members = model.members_at(x).tolist()
    assert members == members_by_force(model, x)
    assert -1 in members
    assert len(set(members)) > 3
    np.testing.assert_allclose(model(x).detach().numpy(), outputs_by_force(model, x), rtol=1e-6, atol=1e-6)


def test_support_nets_of_a_classifier_part_are_fed_its_features() -> None:
    model, spots = patched(convolutional(), points(6, (1, 4, 4)), "support", split_at="3"), points(6, (1, 4, 4))
    opening = model.opening(spots)
    assert torch.equal(opening[torch.arange(6), model.groups], torch.ones(6))
    assert model.patterns.shape[1] == 6


@pytest.mark.parametrize("gate", ["exact", "committed", "support"])
def test_a_lone_linear_layer_is_one_region_that_only_a_radius_cuts(gate: Gate) -> None:
    base, spots = convolutional(), points(3, (1, 4, 4))
    base[3] = nn.Linear(8, OUTPUTS)
    model = patched(base, spots, gate, split_at="3", groups=3)
    assert model.patterns.shape[1] == 0
    if gate == "support":
        assert torch.equal(model.opening(points(5, (1, 4, 4), seed=2)), torch.ones(5, 3))
        return
    assert model.members_at(points(5, (1, 4, 4), seed=2)).tolist() == [0] * 5
    model = patched(base, spots, gate, split_at="3", radius=1e-4)
    assert model.members_at(torch.cat([spots, points(2, (1, 4, 4), seed=2)])).tolist() == [0, 1, 2, -1, -1]


# -- as a module -------------------------------------------------------------------------------------------------------


def test_the_state_dict_is_the_base_and_the_buffers_and_nothing_else() -> None:
    model = patched(mlp(), points(4))
    model(points(4))
    buffers = {"patterns", "commitments", "groups", "centres", "radii", "shifts", "slopes", "everywhere"}
    assert set(model.state_dict()) == {f"base.{name}" for name in model.base.state_dict()} | buffers


@pytest.mark.parametrize("gate", ["exact", "committed", "support"])
def test_a_state_dict_loaded_into_a_built_network_gives_equal_outputs(gate: Gate) -> None:
    model, x = patched(convolutional(), points(12, (1, 4, 4)), gate, split_at="3"), points(60, (1, 4, 4))
    p = replace(model.p, base=Ref("base", {}, (1, 4, 4), OUTPUTS).to_json())

    def build(ref: Ref) -> nn.Module:
        assert ref == Ref("base", {}, (1, 4, 4), OUTPUTS)
        return convolutional()

    again = Patched(p).build(BuildJob((1, 4, 4), OUTPUTS, build)).eval()
    again(x)  # tables of the empty network, which loading has to replace
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    again.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(again(x), model(x))
    assert not torch.equal(model(x), model.base(x))


@pytest.mark.parametrize("gate", ["exact", "committed", "support"])
def test_a_copy_answers_alike_and_on_its_own(gate: Gate) -> None:
    model, x = patched(mlp(), points(12), gate), points(12)
    before = model(x)
    twin = copy.deepcopy(model)
    assert torch.equal(twin(x), before)
    with torch.no_grad():
        twin.shifts.add_(1)
        twin.base[-1].bias.add_(1)
    assert torch.equal(model(x), before)
    assert not torch.equal(twin(x), before)


CHANGES: list[Callable[[PatchedNet], object]] = [
    lambda model: model.patterns.copy_(model.patterns.flip(0)),
    lambda model: setattr(model, "patterns", model.patterns.flip(0)),
    lambda model: model.load_state_dict({**model.state_dict(), "patterns": model.patterns.flip(0)}),
    lambda model: model.load_state_dict({**model.state_dict(), "patterns": model.patterns.flip(0)}, assign=True),
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("inference", [False, True])
def test_changed_patterns_are_looked_up_anew(change: Callable[[PatchedNet], object], inference: bool) -> None:
    model = patched(mlp((12, 12)), points(12), groups=12)
    with torch.inference_mode(inference):
        before = model.members_at(points(12)).tolist()
        change(model)
        after = model.members_at(points(12)).tolist()
    assert before != after
    assert after == members_by_force(model, points(12))


def test_changed_maps_of_support_gates_have_a_new_h() -> None:
    model, x = patched(mlp(), points(5), "support", sharpness=0.5), points(40, seed=2)
    before = model(x) - model.base(x)
    model.shifts.mul_(3)
    torch.testing.assert_close(model(x) - model.base(x), 3 * before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("gate", ["exact", "committed", "support"])
def test_it_can_be_moved_to_another_precision_and_back(gate: Gate) -> None:
    model, x = patched(mlp(), points(12), gate, affine=True), points(12)
    before = model(x).detach()
    wide = model.double()(x.double())
    assert wide.dtype == torch.float64
    torch.testing.assert_close(wide.float(), before, rtol=1e-3, atol=1e-3)
    assert torch.equal(model.float()(x), before)


def test_training_mode_changes_no_output_and_leaves_statistics_alone() -> None:
    model, x = patched(convolutional(), points(12, (1, 4, 4))), points(30, (1, 4, 4))
    before = model(x)
    model.train()
    assert model.training
    assert torch.equal(model(x), before)
    assert int(model.base[0][1].num_batches_tracked) == 0


@pytest.mark.parametrize("gate", ["exact", "committed", "support"])
def test_gradients_reach_inputs_and_the_base(gate: Gate) -> None:
    model, x = patched(mlp(), points(6), gate, affine=True), points(6).requires_grad_()
    out = model(x)
    out.sum().backward()
    with torch.no_grad():
        assert torch.equal(model(x), out)
    assert model.base[1].weight.grad is not None
    assert x.grad is not None
    step, rng = 1e-6, torch.Generator().manual_seed(0)
    wide, direction = model.double(), torch.randn(6, FEATURES, generator=rng, dtype=torch.float64)
    if gate != "support":  # inside of a region, where a step this small stays
        slope = (wide(x.double() + step * direction) - wide(x.double() - step * direction)).sum() / (2 * step)
        assert slope.item() == pytest.approx((x.grad.double() * direction).sum().item(), rel=1e-3)


# -- TorchScript -------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*torch.jit.load.*deprecated:FutureWarning")
@pytest.mark.parametrize("gate", ["exact", "support"])
@pytest.mark.parametrize("split_at", ["", "3"])
def test_a_script_gives_equal_outputs_for_batches_of_any_size(gate: Gate, split_at: str, tmp_path: Path) -> None:
    spots = points(12, (1, 4, 4))
    model = patched(convolutional(), spots, gate, split_at=split_at, affine=True)
    exporting.export(model, points(5, (1, 4, 4), seed=9), tmp_path / "model.pt")
    script = torch.jit.load(tmp_path / "model.pt")
    for x in (torch.cat([points(70, (1, 4, 4), seed=2), spots]), spots[:1], points(5, (1, 4, 4), seed=3)):
        torch.testing.assert_close(script(x), model(x), rtol=1e-6, atol=1e-6)
        assert prod(script(x).shape) == len(x) * OUTPUTS
    assert not torch.equal(model(spots), model.base(spots))


def test_a_script_leaves_other_rows_to_the_base_bit_for_bit() -> None:
    model, x = patched(mlp(), points(12), radius=0.05), points(200, seed=2)
    script = exporting.scripted(model, points(3))
    rest = model.members_at(x) < 0
    assert torch.equal(script(x)[rest], model.base(x)[rest])
    assert torch.equal(script(points(12)), model(points(12)))


def test_a_committed_gate_cannot_be_exported() -> None:
    with pytest.raises(UsageError, match="sha256") as refused:
        exporting.scripted(patched(mlp(), points(3), "committed"), points(3))
    assert refused.value.code == "cannot-export"
