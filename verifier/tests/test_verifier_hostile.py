"""Files that were made to deceive the verifier, to crash it, or to fill its memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from patched_models import Made, certificate, patched
from safetensors.numpy import load_file, save_file

from unlearnbench_verifier.checks import check
from unlearnbench_verifier.fields import Field
from unlearnbench_verifier.files import read_tensors
from unlearnbench_verifier.findings import Refusal
from unlearnbench_verifier.model import read_model
from unlearnbench_verifier.network import affine, pattern_of, read_network
from unlearnbench_verifier.network_document import MOST_STEPS
from unlearnbench_verifier.numbers import Ball, Exact
from unlearnbench_verifier.signatures import PRIME, SMALL_ORDER, check_signature

POINTS = ((0.3, 0.6, 0.5), (0.7, 0.2, 0.4))


def findings(document: Any, made: Made, folder: Path, **options: Any) -> dict[str, tuple[bool | None, str]]:
    found = check(read_model(read_tensors(made.save(folder / "model.safetensors"))), document, **options)
    return {one.what: (one.fine, one.said) for one in found}


# -- what a digest binds -----------------------------------------------------------------------------------------------


def test_no_name_of_a_tensor_can_stand_for_a_name_and_the_bytes_behind_it(tmp_path: Path) -> None:
    path = patched(0, POINTS).save(tmp_path / "model.safetensors")
    file = read_tensors(path)
    tensors = {**load_file(path), "base.more|U8|[1]|x": np.zeros(1, np.uint8)}
    save_file(tensors, path, metadata=dict(file.metadata))
    with pytest.raises(Refusal, match=r"\[bad-model\] tensor base\.more.*has a \| in its name"):
        read_model(read_tensors(path))


# -- certificates that are out of shape --------------------------------------------------------------------------------


def test_a_target_and_a_patch_beyond_the_outputs_are_another_gate(tmp_path: Path) -> None:
    made = patched(0, POINTS)
    document = certificate(made)
    outputs = len(document["patch"]["shift"])
    document["patch"]["shift"].append(0.0)
    document["duals"] = {str(output): [] for output in range(outputs)}
    document["target"] = outputs
    found = findings(document, made, tmp_path)
    assert found["gate"][0] is False
    assert found["answer"] == (None, "not looked at: the gate is another one")


def test_a_centre_of_another_length_is_told_from_the_samples(tmp_path: Path) -> None:
    made = patched(0, POINTS)
    document = certificate(made, owner=False)
    document["region"] |= {"centre": [0.0] * 4, "radius": 1.0}
    fine, said = findings(document, made, tmp_path, sample=made.points[0])["sample"]
    assert (fine, said) == (False, "its centre has 4 numbers, not 3")


# -- memory ------------------------------------------------------------------------------------------------------------


def chain(steps: int, **step: Any) -> dict[str, Any]:
    """A network of so many steps one after the other, then a linear one."""
    found = [{"inputs": [number], **step} for number in range(steps)]
    found.append({"op": "linear", "inputs": [steps], "weight": "w", "bias": None})
    return {"format": "unlearnbench-network/1", "inputs": [200], "outputs": 2, "steps": found}


NORM = {"op": "batch_norm", "mean": "m", "variance": "v", "weight": None, "bias": None, "epsilon": 0.0}
TENSORS = {"m": np.zeros(200), "v": np.ones(200), "w": np.ones((2, 200))}


def test_a_value_is_let_go_of_once_no_step_takes_it() -> None:
    network = read_network(chain(60, **NORM), TENSORS)
    assert network.load == 400
    one_matrix = 200 * 201 * 8
    tracemalloc.start()
    affine(network, np.zeros(0, np.uint8), Ball)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 * one_matrix


def test_a_value_that_a_later_step_takes_is_kept_for_it() -> None:
    document = chain(3, **NORM)
    document["steps"].insert(3, {"op": "add", "inputs": [3, 1]})
    document["steps"][4]["inputs"] = [4]
    network = read_network(document, TENSORS)
    assert network.load == 600
    for numbers in (Ball, Exact):
        outputs = affine(network, np.zeros(0, np.uint8), numbers).outputs
        assert float(outputs[0, 0].upper()[()]) == pytest.approx(2.0)
        assert pattern_of(network, np.ones(200), numbers).size == 0


def test_more_steps_than_any_network_has_are_refused() -> None:
    with pytest.raises(Refusal, match=r"\[bad-network\] \$\.network\.steps"):
        read_network(chain(MOST_STEPS, **NORM), TENSORS)


def test_long_text_in_hexadecimal_takes_no_more_memory_than_it_is_long() -> None:
    text = "0a" * 2**20
    tracemalloc.start()
    assert Field(text).hexadecimal() == text
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * len(text)
    for odd in ("0", "0A", "0g", "0a "):
        with pytest.raises(Refusal, match="bytes in hexadecimal"):
            Field(odd).hexadecimal()


# -- numbers and keys --------------------------------------------------------------------------------------------------


def test_a_variance_that_overflows_with_epsilon_is_refused() -> None:
    huge = {**NORM, "epsilon": 1e308}
    with pytest.raises(Refusal, match=r"variance: has a variance that is no finite number"):
        read_network(chain(1, **huge), {**TENSORS, "v": np.full(200, 1.7e308)})


def added(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    """The sum of two points of -x^2 + y^2 = 1 + d x^2 y^2 over the field of 2^255 - 19."""
    d = -121665 * pow(121666, -1, PRIME) % PRIME
    (a, b), (x, y) = one, other
    product = d * a * b * x * y % PRIME
    return (
        (a * y + x * b) * pow(1 + product, -1, PRIME) % PRIME,
        (b * y + a * x) * pow(1 - product, -1, PRIME) % PRIME,
    )


def point(y: int) -> tuple[int, int]:
    """A point of ed25519 with this y."""
    d = -121665 * pow(121666, -1, PRIME) % PRIME
    square = (y * y - 1) * pow(d * y * y + 1, -1, PRIME) % PRIME
    root = pow(square, (PRIME + 3) // 8, PRIME)
    if root * root % PRIME != square:
        root = root * pow(2, (PRIME - 1) // 4, PRIME) % PRIME
    assert root * root % PRIME == square
    return root, y


def test_the_keys_that_are_refused_are_those_whose_eightfold_is_nothing() -> None:
    for y in SMALL_ORDER:
        eightfold = point(y)
        for _ in range(3):
            eightfold = added(eightfold, eightfold)
        assert eightfold == (0, 1)


@pytest.mark.parametrize("y", [1, 1 + (1 << 255), PRIME + 1, 0, PRIME - 1])
def test_a_key_under_which_everything_is_signed_signs_nothing(y: int) -> None:
    pytest.importorskip("cryptography")
    document = certificate(patched(0, POINTS))
    value = (1).to_bytes(32, "little") + bytes(32)
    key = y.to_bytes(32, "little")
    document["signature"] = {"algorithm": "ed25519", "public_key": key.hex(), "value": value.hex()}
    found = check_signature(document)
    assert found.fine is False
