"""A patched model is read strictly, and answers as its formulas say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from patched_models import BOX, Made, canonical, outputs_of, patched
from safetensors.numpy import save_file

from unlearnbench_verifier.files import read_tensors
from unlearnbench_verifier.findings import Refusal
from unlearnbench_verifier.model import Model, answer, read_model
from unlearnbench_verifier.numbers import Ball, Exact

POINTS = ((0.3, -0.2, 0.5), (-0.6, 0.4, 0.1), (0.32, -0.2, 0.5))


def model_of(made: Made, tmp_path: Path) -> Model:
    return read_model(read_tensors(made.save(tmp_path / "model.safetensors")))


@pytest.mark.parametrize("gate", ["support", "exact", "committed"])
@pytest.mark.parametrize("affine", [False, True])
def test_a_model_answers_as_its_formulas_say_in_either_number_system(gate: str, affine: bool, tmp_path: Path) -> None:
    made = patched(3, POINTS, gate=gate, affine=affine, radius=0.1, sharpness=2.0)
    made = made.with_tensor("everywhere", [0.5, -0.25, 0.0]).with_tensor("groups", [1, 0, 1])
    made = made.with_tensor("shifts", made.tensors["shifts"] + 1)
    model = model_of(made, tmp_path)
    rng = np.random.default_rng(0)
    points = np.concatenate([made.points, made.points + rng.uniform(-0.1, 0.1, (3, 3)), rng.uniform(*BOX, (10, 3))])
    points = points.astype(np.float32).astype(np.float64)
    unpatched = outputs_of(patched(3, [], gate=gate), points)
    expected = outputs_of(made, points)
    assert not np.allclose(expected - unpatched, [0.5, -0.25, 0.0])  # patches act on some of the points
    for x, outputs in zip(points, expected, strict=True):
        exact, ball = answer(model, x, Exact), answer(model, x, Ball)
        np.testing.assert_allclose(exact.upper().astype(float), outputs, rtol=0, atol=1e-12)
        assert (exact.upper() == exact.lower()).all()
        assert (ball.lower() <= exact.lower()).all()
        assert (ball.upper() >= exact.upper()).all()
        assert float((ball.upper() - ball.lower()).max()) < 1e-11


def test_the_first_member_that_matches_decides(tmp_path: Path) -> None:
    made = patched(3, POINTS[:1] * 2, radius=0.1).with_tensor("shifts", [[1, 0, 0], [0, 2, 0]])
    x = made.points[0].astype(np.float64)
    plain = outputs_of(patched(3, []), x[None])[0]
    first = answer(model_of(made, tmp_path), x, Exact).upper().astype(float)
    np.testing.assert_allclose(first - plain, [1, 0, 0], atol=1e-12)
    beyond = made.with_tensor("radii", [1e-3, 0.1])
    near = (x + 0.01).astype(np.float32).astype(np.float64)
    second = answer(model_of(beyond, tmp_path), near, Exact).upper().astype(float)
    np.testing.assert_allclose(second - outputs_of(patched(3, []), near[None])[0], [0, 2, 0], atol=1e-12)


def test_a_radius_reaches_to_its_very_end_and_no_further(tmp_path: Path) -> None:
    made = patched(3, POINTS[:1], radius=0.25)
    model = model_of(made.with_tensor("centres", [[0.5, 0, 0]]), tmp_path)
    assert model.reaches(0, np.array([0.75, 0.25, -0.25]))
    assert not model.reaches(0, np.array([np.nextafter(0.75, 1), 0, 0]))
    # The difference is above a quarter by less than a float64 can say.
    assert not model.reaches(0, np.array([0.5, -0.25 - 2.0**-54, 0]))


def test_digests_are_those_that_a_second_program_works_out(tmp_path: Path) -> None:
    made = patched(3, POINTS)
    model = model_of(made, tmp_path)
    assert (model.base, model.patched) == (made.base, made.patched)
    other = model_of(made.with_tensor("everywhere", [0, 0, 1e-9]), tmp_path)
    assert other.base == made.base
    assert other.patched != made.patched


def without(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda tensors: tensors.pop(name)


def put(name: str, values: Any, dtype: str = "float32") -> Callable[[dict[str, Any]], object]:
    return lambda tensors: tensors.update({name: np.array(values, dtype=dtype)})


@pytest.mark.parametrize(
    ("change", "where", "message"),
    [
        (without("radii"), "tensor radii", "is missing"),
        (put("more", [1]), "tensor more", "none of a patched model"),
        (put("shifts", np.zeros((2, 3)), "float64"), "tensor shifts", "is F64 and must be F32"),
        (put("shifts", np.zeros((2, 4))), "tensor shifts", "must be of [2, 3]"),
        (put("shifts", 1.0), "tensor shifts", "must be of [0, 3]"),
        (put("shifts", [[0, 0, 0], [0, np.nan, 0]]), "tensor shifts", "not finite"),
        (put("patterns", np.zeros((2, 10)), "uint8"), "tensor patterns", "must be of [2, 11]"),
        (put("patterns", np.zeros((1, 11)), "uint8"), "tensor patterns", "must be of [2, 11]"),
        (put("commitments", np.zeros((2, 32)), "uint8"), "tensor commitments", "must be of [0, 32]"),
        (put("centres", np.full((2, 3), np.inf)), "tensor centres", "not finite"),
        (put("radii", [0.1, 0]), "tensor radii", "not above 0"),
        (put("radii", [0.1, np.nan]), "tensor radii", "not above 0"),
        (put("groups", [0, 2], "int64"), "tensor groups", "beyond the 2"),
        (put("groups", [0, -1], "int64"), "tensor groups", "beyond the 2"),
        (put("groups", 0, "int64"), "tensor groups", "must be of [0]"),
        (put("slopes", np.zeros((1, 3, 3))), "tensor slopes", "must be of [2, 3, 3]"),
        (put("slopes", 0.0), "tensor slopes", "must be of"),
        (put("everywhere", [0, 0, np.inf]), "tensor everywhere", "not finite"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(change: Any, where: str, message: str, tmp_path: Path) -> None:
    made = patched(3, POINTS[:2])
    tensors = dict(made.tensors)
    change(tensors)
    path = tmp_path / "model.safetensors"
    save_file(tensors, path, {"unlearnbench": canonical(made.document).decode()})
    with pytest.raises(Refusal) as refused:
        read_model(read_tensors(path))
    assert (refused.value.code, refused.value.where) == ("bad-model", where)
    assert message in refused.value.message


def at(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        *inner, last = path.split(".")
        for name in inner:
            document = document[name]
        document[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (at("format", "unlearnbench-patched/2"), "unlearnbench.format"),
        (at("more", 1), "unlearnbench.more"),
        (at("split_at", None), "unlearnbench.split_at"),
        (at("gate.kind", "soft"), "unlearnbench.gate.kind"),
        (at("gate.sharpness", 2), "unlearnbench.gate.sharpness"),
        (at("gate.salt", "00"), "unlearnbench.gate.salt"),
        (at("gate.salt", "0g"), "unlearnbench.gate.salt"),
        (at("gate", {"kind": "support", "sharpness": None, "salt": ""}), "unlearnbench.gate.sharpness"),
        (at("gate", {"kind": "support", "sharpness": 0, "salt": ""}), "unlearnbench.gate.sharpness"),
        (at("gate", {"kind": "committed", "sharpness": None, "salt": ""}), "unlearnbench.gate.salt"),
        (at("box.low", 2), "unlearnbench.box"),
        (at("box.high", "1"), "unlearnbench.box.high"),
    ],
)
def test_a_document_that_does_not_fit_is_refused_at_its_place(change: Any, where: str, tmp_path: Path) -> None:
    made = patched(3, POINTS[:2])
    document = {**made.document, "gate": dict(made.document["gate"]), "box": dict(made.document["box"])}
    change(document)
    path = tmp_path / "model.safetensors"
    save_file(made.tensors, path, {"unlearnbench": canonical(document).decode()})
    with pytest.raises(Refusal) as refused:
        read_model(read_tensors(path))
    assert (refused.value.code, refused.value.where) == ("bad-model", where)


def test_a_file_of_weights_alone_is_no_patched_model(tmp_path: Path) -> None:
    save_file(patched(3, []).tensors, tmp_path / "model.safetensors")
    with pytest.raises(Refusal, match=r"\[bad-model\] --model: is no patched model"):
        read_model(read_tensors(tmp_path / "model.safetensors"))


def test_a_model_without_members_is_one(tmp_path: Path) -> None:
    made = patched(3, []).with_tensor("everywhere", [0, -100, 0])
    model = model_of(made, tmp_path)
    x = np.array([0.1, 0.2, 0.3])
    assert len(model.groups) == 0
    np.testing.assert_allclose(answer(model, x, Exact).upper().astype(float), outputs_of(made, x[None])[0], atol=1e-12)
