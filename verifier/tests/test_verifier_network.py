"""Networks: against torch, against fractions, and documents that a stranger bent."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import time
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from unlearnbench_verifier.findings import Refusal
from unlearnbench_verifier.network import affine, base_digest, held, outputs_of, pattern_of, read_network
from unlearnbench_verifier.numbers import Ball, Exact, Floats, Number, Undecided

SYSTEMS = [Ball, Exact]
Document = dict[str, Any]
Tensors = dict[str, np.ndarray]


class Made:
    """A document being written, with random float32 tensors."""

    def __init__(self, inputs: list[int], seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.inputs = inputs
        self.steps: list[dict[str, Any]] = []
        self.tensors: Tensors = {}

    def tensor(self, *shape: int, least: float | None = None) -> str:
        name = f"base.{len(self.tensors)}"
        values = self.rng.normal(size=shape) * 0.7 if least is None else least + self.rng.random(shape)
        self.tensors[name] = values.astype(np.float32)
        return name

    def step(self, op: str, *inputs: int, **properties: Any) -> int:
        """The number of the value that it makes, of the value before it unless said."""
        self.steps.append({"op": op, "inputs": list(inputs or [len(self.steps)]), **properties})
        return len(self.steps)

    def linear(self, inputs: int, outputs: int, bias: bool = True) -> int:
        return self.step("linear", weight=self.tensor(outputs, inputs), bias=self.tensor(outputs) if bias else None)

    def document(self, outputs: int) -> Document:
        return {"format": "unlearnbench-network/1", "inputs": self.inputs, "outputs": outputs, "steps": self.steps}


def perceptron(sizes: list[int], seed: int = 0) -> tuple[Document, Tensors]:
    made = Made(sizes[:1], seed)
    for k, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        if k:
            made.step("relu")
        made.linear(inputs, outputs)
    return made.document(sizes[-1]), made.tensors


def everything(seed: int = 0) -> tuple[Document, Tensors]:
    """Every operation: grouped, strided, padded and dilated convolutions, both pools with padding, a residual add."""
    made = Made([2, 7, 6], seed)
    conv = {"stride": [1, 1], "padding": [1, 1], "dilation": [1, 1], "groups": 1}
    made.step("conv2d", weight=made.tensor(4, 2, 3, 3), bias=made.tensor(4), **conv)
    norm = {"mean": made.tensor(4), "variance": made.tensor(4, least=0.1), "epsilon": 1e-5}
    made.step("batch_norm", weight=made.tensor(4), bias=made.tensor(4), **norm)
    shortcut = made.step("relu")
    made.step("conv2d", weight=made.tensor(4, 2, 3, 3), bias=None, **{**conv, "groups": 2})
    norm = {"mean": made.tensor(4), "variance": made.tensor(4, least=0.1), "epsilon": 1e-3}
    other = made.step("batch_norm", weight=None, bias=None, **norm)
    made.step("add", shortcut, other)
    made.step("leaky_relu", slope=0.1)
    made.step("max_pool", kernel=[3, 2], stride=[2, 1], padding=[1, 1])
    odd = {"stride": [1, 2], "padding": [2, 1], "dilation": [2, 1], "groups": 1}
    made.step("conv2d", weight=made.tensor(6, 4, 2, 3), bias=made.tensor(6), **odd)
    made.step("relu")
    made.step("avg_pool", kernel=[3, 2], stride=[2, 2], padding=[1, 1])
    made.step("flatten")
    size = read_network(made.document(1) | {"outputs": _flat_size(made)}, made.tensors).outputs
    made.linear(size, 5)
    made.step("relu")
    made.linear(5, 3, bias=False)
    return made.document(3), made.tensors


def _flat_size(made: Made) -> int:
    return with_torch(made.document(0), made.tensors, torch.zeros(made.inputs, dtype=torch.float64))[0].numel()


def with_torch(document: Document, tensors: Tensors, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Outputs at one input of the document's shape, and what goes into the bending steps."""
    values, bends = [x], []

    def given(name: str | None) -> Tensor | None:
        return None if name is None else torch.from_numpy(tensors[name].astype(np.float64))

    for step in document["steps"]:
        a = values[step["inputs"][0]]
        b = a[None]
        if step["op"] in ("relu", "leaky_relu", "max_pool"):
            bends.append(a)
        match step["op"]:
            case "flatten":
                made = a.flatten()
            case "linear":
                made = functional.linear(a, given(step["weight"]), given(step["bias"]))
            case "conv2d":
                sizes = step["stride"], step["padding"], step["dilation"], step["groups"]
                made = functional.conv2d(b, given(step["weight"]), given(step["bias"]), *sizes)[0]
            case "batch_norm":
                about = given(step["mean"]), given(step["variance"]), given(step["weight"]), given(step["bias"])
                made = functional.batch_norm(b, *about, training=False, eps=step["epsilon"])[0]
            case "relu":
                made = a.relu()
            case "leaky_relu":
                made = functional.leaky_relu(a, step["slope"])
            case "avg_pool":
                made = functional.avg_pool2d(b, step["kernel"], step["stride"], step["padding"])[0]
            case "max_pool":
                made = functional.max_pool2d(b, step["kernel"], step["stride"], step["padding"])[0]
            case "add":
                made = a + values[step["inputs"][1]]
        values.append(made)
    return values[-1], bends


def as_floats(values: Number) -> Floats:
    """The middle of what a number may be."""
    return ((values.lower() + values.upper()) / 2).astype(float)


def random_input(document: Document, seed: int) -> Floats:
    shape = document["inputs"]
    return np.random.default_rng(100 + seed).normal(size=int(np.prod(shape))).astype(np.float32).astype(np.float64)


NETWORKS = {
    "everything": everything,
    "perceptron": lambda seed: perceptron([6, 9, 7, 4], seed),
}

# -- against torch -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("made", NETWORKS)
@pytest.mark.parametrize("numbers", SYSTEMS)
def test_outputs_are_those_of_torch(made: str, numbers: type[Number], seed: int) -> None:
    document, tensors = NETWORKS[made](seed)
    x = random_input(document, seed)
    expected, _ = with_torch(document, tensors, torch.from_numpy(x).reshape(document["inputs"]))
    found = outputs_of(read_network(document, tensors), x, numbers)
    np.testing.assert_allclose(as_floats(found), expected.numpy(), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("made", NETWORKS)
def test_rows_and_outputs_on_a_region_are_the_jacobians_of_torch(made: str, seed: int) -> None:
    document, tensors = NETWORKS[made](seed)
    network, x = read_network(document, tensors), random_input(document, seed)
    point = torch.from_numpy(x).reshape(document["inputs"])
    found = affine(network, pattern_of(network, x, Ball), Ball)

    def both(at: Tensor) -> Tensor:
        outputs, before = with_torch(document, tensors, at)
        return torch.cat([outputs, *[value.flatten() for value in before]])

    jacobian = torch.autograd.functional.jacobian(both, point).reshape(-1, network.features).numpy()
    every = np.column_stack([jacobian, both(point).numpy() - jacobian @ x])
    outputs, bends = with_torch(document, tensors, point)
    expected, place = [], len(outputs)
    bending = [step for step in document["steps"] if step["op"] in ("relu", "leaky_relu", "max_pool")]
    for step, value in zip(bending, bends, strict=True):
        rows = every[place : place + value.numel()]
        place += value.numel()
        if step["op"] == "max_pool":
            expected += [rows[won] - rows[other] for won, other in winners_and_others(step, value)]
        else:
            expected += [row if z >= 0 else -row for row, z in zip(rows, value.flatten(), strict=True)]
    np.testing.assert_allclose(found.outputs.middle, every[: len(outputs)], rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(found.rows.middle, np.array(expected), rtol=1e-9, atol=1e-10)


def winners_and_others(step: Mapping[str, Any], value: Tensor) -> Iterator[tuple[int, int]]:
    """Window by window with plain loops: where the winner stands in the flat value, and where each other does."""
    (kh, kw), (sh, sw), (ph, pw) = step["kernel"], step["stride"], step["padding"]
    channels, height, width = value.shape
    entries = value.flatten().tolist()
    for c in range(channels):
        for top in range(-ph, height + ph - kh + 1, sh):
            for left in range(-pw, width + pw - kw + 1, sw):
                inside = [
                    (c * height + i) * width + j
                    for i in range(max(top, 0), min(top + kh, height))
                    for j in range(max(left, 0), min(left + kw, width))
                ]
                won = max(inside, key=entries.__getitem__)
                yield from ((won, other) for other in inside if other != won)


@pytest.mark.parametrize("seed", range(2))
def test_outputs_on_a_region_change_as_their_coefficients_say(seed: int) -> None:
    document, tensors = everything(seed)
    network, x = read_network(document, tensors), random_input(document, seed)
    coefficients = as_floats(affine(network, pattern_of(network, x, Ball), Ball).outputs)[:, :-1]
    numerical = np.empty_like(coefficients)
    step = 1e-7
    for feature in range(network.features):
        there, back = x.copy(), x.copy()
        there[feature] += step
        back[feature] -= step
        difference = outputs_of(network, there, Ball) - outputs_of(network, back, Ball)
        numerical[:, feature] = as_floats(difference) / (2 * step)
    np.testing.assert_allclose(coefficients, numerical, atol=1e-6)


# -- both number systems -----------------------------------------------------------------------------------------------


def assert_encloses(ball: Ball, exact: Exact) -> None:
    """Compared in exact numbers, which have tests of their own against fractions."""
    assert ball.shape == exact.shape
    off, radius = exact - Exact.exactly(ball.middle), Exact.exactly(ball.radius)
    assert (radius - off).active().all()
    assert (radius + off).active().all()
    assert (ball.radius <= 1e-9 * (1 + np.abs(ball.middle))).all()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("made", NETWORKS)
def test_balls_enclose_exact_regions_and_outputs(made: str, seed: int) -> None:
    document, tensors = NETWORKS[made](seed)
    network, x = read_network(document, tensors), random_input(document, seed)
    pattern = pattern_of(network, x, Ball)
    assert pattern.tolist() == pattern_of(network, x, Exact).tolist()
    ball, exact = affine(network, pattern, Ball), affine(network, pattern, Exact)
    assert ball.rows.shape == (network.rows, network.features + 1)
    assert_encloses(ball.rows, exact.rows)
    assert_encloses(ball.outputs, exact.outputs)
    assert_encloses(outputs_of(network, x, Ball), outputs_of(network, x, Exact))
    elsewhere = random_input(document, seed + 50)
    assert_encloses(held(network, pattern, elsewhere, Ball).rows, held(network, pattern, elsewhere, Exact).rows)


@pytest.mark.parametrize("made", NETWORKS)
def test_the_slacks_held_at_a_point_are_the_rows_there(made: str) -> None:
    document, tensors = NETWORKS[made](4)
    network, x = read_network(document, tensors), random_input(document, 4)
    pattern = pattern_of(network, x, Exact)
    region = affine(network, pattern, Exact)
    assert (held(network, pattern, x, Exact).rows.upper() >= 0).all()
    for point in (x, random_input(document, 9)):
        column = Exact.exactly(np.append(point, 1.0))
        at = held(network, pattern, point, Exact)
        for row, value in [*zip(region.rows, at.rows, strict=True), *zip(region.outputs, at.outputs, strict=True)]:
            product = (row * column).upper().sum()
            assert product == value.upper().item()


def by_fractions(document: Document, tensors: Tensors, x: Floats) -> list[Fraction]:
    """A perceptron with batch norms in plain fractions, with the definitions of the format."""
    value = [Fraction(entry) for entry in x.tolist()]
    for step in document["steps"]:
        named = {role: tensors[step[role]].astype(np.float64) for role in ("weight", "bias", "mean") if step.get(role)}
        match step["op"]:
            case "linear":
                rows = zip(named["weight"].tolist(), named["bias"].tolist(), strict=True)
                value = [
                    sum((Fraction(w) * v for w, v in zip(row, value, strict=True)), Fraction(bias))
                    for row, bias in rows
                ]
            case "batch_norm":
                variance = tensors[step["variance"]].astype(np.float64)
                scale = named["weight"] / np.sqrt(variance + step["epsilon"])
                shift = named["bias"] - named["mean"] * scale
                value = [
                    Fraction(a) * v + Fraction(b) for a, b, v in zip(scale.tolist(), shift.tolist(), value, strict=True)
                ]
            case "relu":
                value = [max(v, Fraction(0)) for v in value]
            case "leaky_relu":
                value = [v if v >= 0 else Fraction(step["slope"]) * v for v in value]
    return value


@pytest.mark.parametrize("seed", range(4))
def test_exact_outputs_are_those_of_fractions(seed: int) -> None:
    made = Made([3], seed)
    made.linear(3, 4)
    norm = {"mean": made.tensor(4), "variance": made.tensor(4, least=0.01), "epsilon": 1e-5}
    made.step("batch_norm", weight=made.tensor(4), bias=made.tensor(4), **norm)
    made.step("leaky_relu", slope=0.3)
    made.linear(4, 4)
    made.step("relu")
    made.linear(4, 2)
    document = made.document(2)
    x = random_input(document, seed)
    found = outputs_of(read_network(document, made.tensors), x, Exact)
    assert found.upper().tolist() == by_fractions(document, made.tensors, x)


def test_an_average_is_times_the_nearest_float() -> None:
    made = Made([1, 3, 3])
    made.step("avg_pool", kernel=[3, 3], stride=[1, 1], padding=[0, 0])
    made.step("flatten")
    x = np.arange(9.0) / 4
    found = outputs_of(read_network(made.document(1), made.tensors), x, Exact)
    assert found.upper().item() == Fraction(1 / 9) * 9 != Fraction(9)


# -- sides -------------------------------------------------------------------------------------------------------------


def test_a_pre_activation_of_zero_is_active_in_both_systems() -> None:
    made = Made([2])
    made.step("linear", weight=made.tensor(3, 2), bias=None)
    made.step("relu")
    made.tensors["base.0"] = np.array([[1, -1], [1, 1], [-1, -1]], np.float32)
    network = read_network(made.document(3), made.tensors)
    assert pattern_of(network, np.array([0.0, 0.0]), Ball).tolist() == [1, 1, 1]
    assert pattern_of(network, np.array([1.0, 1.0]), Exact).tolist() == [1, 1, 0]


def test_a_pre_activation_that_rounding_could_turn_is_undecided_by_balls_alone() -> None:
    made = Made([3])
    made.step("linear", weight=made.tensor(1, 3), bias=None)
    made.step("relu")
    made.tensors["base.0"] = np.array([[0.1, 0.2, -0.3]])
    network = read_network(made.document(1), made.tensors)
    with pytest.raises(Undecided):
        pattern_of(network, np.ones(3), Ball)
    with pytest.raises(Undecided):
        outputs_of(network, np.ones(3), Ball)
    assert pattern_of(network, np.ones(3), Exact).tolist() == [int(Fraction(0.1) + Fraction(0.2) >= Fraction(0.3))]


@pytest.mark.parametrize("numbers", SYSTEMS)
def test_of_equal_entries_of_a_window_the_first_wins_and_padding_never_does(numbers: type[Number]) -> None:
    made = Made([1, 2, 3])
    made.step("max_pool", kernel=[2, 2], stride=[1, 2], padding=[1, 1])
    made.step("flatten")
    network = read_network(made.document(6), made.tensors)
    x = np.array([-5.0, -1.0, -1.0, -5.0, -1.0, -1.0])
    # Windows over [[-5, -1, -1], [-5, -1, -1]] with a frame of padding: starts at rows -1, 0, 1 and columns -1, 1.
    pattern = pattern_of(network, x, numbers)
    assert pattern.tolist() == [3, 2, 1, 0, 1, 0]
    assert outputs_of(network, x, numbers).upper().tolist() == [-5, -1, -5, -1, -5, -1]
    assert network.rows == 0 + 1 + 1 + 3 + 0 + 1
    region = as_floats(affine(network, pattern, numbers).rows)
    expected = np.zeros((6, 7))
    winners_and_others = [(1, 2), (0, 3), (1, 2), (1, 4), (1, 5), (4, 5)]
    for row, (winner, other) in enumerate(winners_and_others):
        expected[row, winner], expected[row, other] = 1, -1
    assert region.tolist() == expected.tolist()


@pytest.mark.parametrize("numbers", SYSTEMS)
def test_rows_come_step_by_step_and_point_into_the_region(numbers: type[Number]) -> None:
    made = Made([2])
    for _ in range(2):
        made.step("linear", weight=made.tensor(2, 2), bias=made.tensor(2))
        made.step("leaky_relu", slope=0.5)
    made.tensors |= {
        "base.0": np.array([[1, 0], [0, 1]], "f4"),
        "base.1": np.array([-1, 2], "f4"),
        "base.2": np.array([[1, 1], [4, 0]], "f4"),
        "base.3": np.array([0, 1], "f4"),
    }
    network = read_network(made.document(2), made.tensors)
    found = affine(network, np.array([0, 1, 1, 0], np.uint8), numbers)
    # x1 - 1 <= 0 and x2 + 2 >= 0; then (x1 - 1)/2 + x2 + 2 >= 0 and 2 (x1 - 1) + 1 <= 0, which is halved.
    assert as_floats(found.rows).tolist() == [[-1, 0, 1], [0, 1, 2], [0.5, 1, 1.5], [-2, 0, 1]]
    assert as_floats(found.outputs).tolist() == [[0.5, 1, 1.5], [1, 0, -0.5]]


@pytest.mark.parametrize(
    "pattern",
    [np.zeros(3, np.uint8), np.zeros((4, 1), np.uint8), np.array([0, 1, 2, 0], np.uint8), np.zeros(4, np.int64)],
    ids=["short", "column", "two", "dtype"],
)
def test_what_is_no_pattern_is_refused(pattern: np.ndarray) -> None:
    network = read_network(*perceptron([3, 4, 2]))
    with pytest.raises(Refusal, match="bad-pattern"):
        affine(network, pattern, Ball)


@pytest.mark.parametrize("winner", [0, 4, 255], ids=["padding", "beyond", "far"])
def test_a_winner_that_no_window_has_is_refused(winner: int) -> None:
    made = Made([1, 2, 2])
    made.step("max_pool", kernel=[2, 2], stride=[2, 2], padding=[1, 1])
    made.step("flatten")
    network = read_network(made.document(4), made.tensors)
    assert affine(network, np.array([3, 2, 1, 0], np.uint8), Ball).rows.shape == (0, 5)
    with pytest.raises(Refusal, match="bad-pattern"):
        held(network, np.array([winner, 2, 1, 0], np.uint8), np.zeros(4), Exact)


@pytest.mark.parametrize("x", [np.zeros(2), np.zeros((3, 1)), np.array([0.0, np.nan, 0.0]), np.array([np.inf, 0, 0])])
def test_an_input_that_does_not_fit_is_refused(x: np.ndarray) -> None:
    network = read_network(*perceptron([3, 4, 2]))
    with pytest.raises(Refusal, match="bad-input"):
        outputs_of(network, x, Ball)


def test_a_region_that_would_fill_the_memory_is_refused_before_it_is_made() -> None:
    made = Made([3, 200, 200])
    made.step(
        "conv2d", weight=made.tensor(8, 3, 3, 3), bias=None, stride=[1, 1], padding=[1, 1], dilation=[1, 1], groups=1
    )
    made.step("relu")
    made.step("avg_pool", kernel=[200, 200], stride=[1, 1], padding=[0, 0])
    made.step("flatten")
    network = read_network(made.document(8), made.tensors)
    with pytest.raises(Refusal, match="network-too-large"):
        affine(network, np.zeros(network.units, np.uint8), Ball)


def test_a_region_and_its_outputs_are_worked_out_in_time() -> None:
    small, large = (read_network(*perceptron(sizes)) for sizes in ([64, 64, 32, 10], [784, 256, 10]))
    for network, numbers, most in ((small, Exact, 0.5), (large, Ball, 0.5)):
        x = np.random.default_rng(0).random(network.features)
        start = time.process_time()
        affine(network, pattern_of(network, x, numbers), numbers)
        assert time.process_time() - start < most


# -- digests -----------------------------------------------------------------------------------------------------------


def test_the_digest_is_over_the_document_and_every_named_tensor_as_float64() -> None:
    document, tensors = perceptron([2, 3, 2])
    expected = hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode())
    for name, shape in [("base.0", "[3,2]"), ("base.1", "[3]"), ("base.2", "[2,3]"), ("base.3", "[2]")]:
        expected.update(f"|{name}|{shape}|".encode() + tensors[name].astype("<f8").tobytes("C"))
    digest = base_digest(document, {**tensors, "shifts": np.zeros(3)})
    assert digest == expected.hexdigest()
    assert digest == base_digest(document, {name: np.asfortranarray(v, "f8") for name, v in tensors.items()})


def test_the_digest_changes_with_one_bit_of_a_weight_and_with_the_document() -> None:
    document, tensors = perceptron([2, 3, 2])
    changed = copy.deepcopy(tensors)
    changed["base.2"].view(np.uint32)[1, 1] ^= 1
    other = copy.deepcopy(document)
    other["steps"][1] = {"op": "leaky_relu", "inputs": [1], "slope": 0.0}
    assert len({base_digest(document, tensors), base_digest(document, changed), base_digest(other, tensors)}) == 3


# -- documents that a stranger bent ------------------------------------------------------------------------------------


def bent(document: Document, path: str, value: Any) -> Document:
    """The document with another value at a path such as ``steps.0.stride``; DROP takes the property away."""
    found = copy.deepcopy(document)
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    place: Any = found
    for part in parents:
        place = place[part]
    if value is DROP:
        del place[last]
    else:
        place[last] = value
    return found


DROP = "(left out)"
BENT: list[tuple[str, Any]] = [
    ("format", "unlearnbench-network/2"),
    ("format", DROP),
    ("note", "more than is checked"),
    ("inputs", []),
    ("inputs", [2, 7, -6]),
    ("inputs", [2, 7, 0]),
    ("inputs", [2, 7, 6.0]),
    ("inputs", [True, 7, 6]),
    ("inputs", [2**31, 2**31, 2**31]),
    ("inputs", [84]),
    ("inputs", [2, 7, 5]),
    ("outputs", 4),
    ("outputs", 0),
    ("outputs", "3"),
    ("steps", []),
    ("steps", {}),
    ("steps.0", None),
    ("steps.0.op", DROP),
    ("steps.0.op", "gelu"),
    ("steps.0.op", ["relu"]),
    ("steps.0.op", "relu"),
    ("steps.0.inputs", []),
    ("steps.0.inputs", [0, 0]),
    ("steps.0.inputs", [1]),
    ("steps.0.inputs", [-1]),
    ("steps.0.inputs", [15]),
    ("steps.0.inputs", [0.0]),
    ("steps.0.weight", "base.none"),
    ("steps.0.weight", None),
    ("steps.0.weight", ["base.0"]),
    ("steps.0.weight", "base.1"),
    ("steps.0.weight", DROP),
    ("steps.0.bias", "base.0"),
    ("steps.0.bias", DROP),
    ("steps.0.stride", [0, 1]),
    ("steps.0.stride", [1]),
    ("steps.0.stride", 1),
    ("steps.0.padding", [-1, 1]),
    ("steps.0.padding", [2**20, 2**20]),
    ("steps.0.padding", [2**31, 2**31]),
    ("steps.0.padding", [2**53, 0]),
    ("steps.0.dilation", [9, 9]),
    ("steps.0.dilation", [0, 1]),
    ("steps.0.groups", 0),
    ("steps.0.groups", 3),
    ("steps.0.groups", 2),
    ("steps.0.extra", 1),
    ("steps.1.epsilon", -1.0),
    ("steps.1.epsilon", float("nan")),
    ("steps.1.epsilon", "1e-5"),
    ("steps.1.mean", None),
    ("steps.1.variance", "base.0"),
    ("steps.1.variance", "base.2"),  # negative entries
    ("steps.5.inputs", [3, 6]),
    ("steps.5.inputs", [0, 5]),
    ("steps.5.inputs", [3]),
    ("steps.6.slope", 1.0),
    ("steps.6.slope", -0.1),
    ("steps.6.slope", None),
    ("steps.7.kernel", [17, 16]),
    ("steps.7.kernel", [0, 1]),
    ("steps.7.kernel", [100, 1]),
    ("steps.7.padding", [5, 5]),
    ("steps.11.op", "relu"),
    ("steps.12.inputs", [11]),
]


@pytest.mark.parametrize(("path", "value"), BENT, ids=str)
def test_a_bent_document_is_refused_with_its_place(path: str, value: Any) -> None:
    document, tensors = everything()
    with pytest.raises(Refusal) as refused:
        read_network(bent(document, path, value), tensors)
    assert refused.value.code == "bad-network"
    assert refused.value.where.startswith("$.network")
    assert "\n" not in str(refused.value)


def test_a_window_of_nothing_but_padding_is_refused() -> None:
    made = Made([1, 3, 3])
    made.step("max_pool", kernel=[2, 2], stride=[1, 1], padding=[1, 2])
    made.step("flatten")
    with pytest.raises(Refusal, match=r"bad-network.*steps\[0\]\.padding"):
        read_network(made.document(24), made.tensors)


@pytest.mark.parametrize("document", [None, [], "network", 3, {}, {"steps": 3}, {"steps": [3]}], ids=str)
def test_what_is_no_document_is_refused(document: object) -> None:
    with pytest.raises(Refusal, match="bad-network"):
        read_network(document, {})
    with pytest.raises(Refusal, match="bad-network"):
        base_digest(document, {})


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((3, 2), np.int64),
        np.full((3, 2), np.nan, "f4"),
        np.full((3, 2), np.inf, "f4"),
        np.zeros((2, 3), "f4"),
        np.zeros(6, "f4"),
        np.zeros((3, 2, 1), "f4"),
    ],
    ids=["integers", "nan", "inf", "turned", "flat", "deep"],
)
def test_a_tensor_that_does_not_fit_is_refused(values: np.ndarray) -> None:
    document, tensors = perceptron([2, 3, 2])
    with pytest.raises(Refusal, match=r"bad-network.*steps\[0\]\.weight"):
        read_network(document, {**tensors, "base.0": values})


def test_a_missing_tensor_is_refused_by_the_reader_and_by_the_digest() -> None:
    document, tensors = perceptron([2, 3, 2])
    del tensors["base.2"]
    for function in (read_network, base_digest):
        with pytest.raises(Refusal, match=r"bad-network.*steps\[2\]\.weight.*not there"):
            function(document, tensors)


def test_many_steps_that_each_are_allowed_are_refused_together() -> None:
    steps = [{"op": "max_pool", "inputs": [0], "kernel": [16, 16], "stride": [1, 1], "padding": [8, 8]}] * 40
    document = {"format": "unlearnbench-network/1", "inputs": [1, 200, 200], "outputs": 1, "steps": steps}
    start = time.process_time()
    with pytest.raises(Refusal, match="numbers, more than"):
        read_network(document, {})
    assert time.process_time() - start < 20
