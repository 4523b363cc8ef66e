"""Files of patched models, and the digests that name them, against the bytes by hand and against the verifier."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from unlearnbench_prune import saving
from unlearnbench_prune.frozen import patterns_at, weights_of
from unlearnbench_prune.gates import commitment
from unlearnbench_prune.patched import PatchedNet
from unlearnbench_prune.plugin import Gate, PatchedParams
from unlearnbench_verifier.files import load_json, read_tensors
from unlearnbench_verifier.findings import Refusal
from unlearnbench_verifier.model import answer, read_model
from unlearnbench_verifier.numbers import Ball, Exact

SALT = "000102030405060708090a0b0c0d0e0f"
GATES = ["exact", "committed", "support"]


def points(n: int, seed: int = 1) -> Tensor:
    return torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(seed))


def patched(gate: Gate, *, affine: bool = True, radius: float = 0.25) -> PatchedNet:
    """A small convolutional network with BatchNorm and eight members in three groups."""
    rng = torch.Generator().manual_seed(3)
    norm = nn.BatchNorm2d(2)
    norm.running_mean, norm.running_var = torch.rand(2, generator=rng), torch.rand(2, generator=rng) + 0.5
    base = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), norm, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 3)
    ).eval()  # fmt: skip
    salt = SALT if gate == "committed" else ""
    model = PatchedNet(
        base, (1, 4, 4), 3, PatchedParams(gate=gate, sharpness=2.0, salt=salt, members=8, groups=3, affine=affine)
    )
    spots = points(8)
    patterns = patterns_at(model.network, weights_of(base, model.network), spots.double())
    if gate == "committed":
        model.commitments.copy_(torch.stack([commitment(SALT, pattern) for pattern in patterns]))
    else:
        model.patterns.copy_(patterns)
    model.groups.copy_(torch.arange(8) % 3)
    model.centres.copy_(spots.flatten(1))
    model.radii.fill_(radius)
    model.shifts.normal_(generator=rng)
    model.slopes.normal_(generator=rng)
    return model.eval()


@pytest.mark.parametrize("gate", GATES)
def test_a_saved_model_holds_the_state_dict_and_one_document(gate: Gate, tmp_path: Path) -> None:
    model = patched(gate)
    saving.save(model, tmp_path / "model.safetensors")
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        metadata = file.metadata()
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dictionary
    assert set(metadata) == {"unlearnbench"}
    assert json.loads(metadata["unlearnbench"]) == {
        "format": "unlearnbench-patched/1",
        "network": model.network.document(),
        "split_at": "",
        "gate": {
            "kind": gate,
            "sharpness": 2.0 if gate == "support" else None,
            "salt": SALT if gate == "committed" else "",
        },
        "box": {"low": 0.0, "high": 1.0},
    }
    assert set(found) == set(model.state_dict())
    again = patched(gate)
    again.shifts.zero_()
    again.load_state_dict(found)
    assert torch.equal(again(points(8)), model(points(8)))


@pytest.mark.parametrize("gate", GATES)
def test_the_verifier_reads_the_same_digests_from_the_file(gate: Gate, tmp_path: Path) -> None:
    model = patched(gate)
    saving.save(model, tmp_path / "model.safetensors")
    read = read_model(read_tensors(tmp_path / "model.safetensors"))
    assert read.patched == saving.patched_digest(model)
    assert read.base == saving.base_digest(model)


def test_the_digest_of_a_file_is_the_hash_of_its_document_and_bytes(tmp_path: Path) -> None:
    model = patched("exact")
    saving.save(model, tmp_path / "model.safetensors")
    file = read_tensors(tmp_path / "model.safetensors")
    found = hashlib.sha256(file.metadata["unlearnbench"].encode())
    for name, tensor in sorted(model.state_dict().items()):
        kind = {torch.float32: "F32", torch.uint8: "U8", torch.int64: "I64"}[tensor.dtype]
        shape = json.dumps(list(tensor.shape), separators=(",", ":"))
        found.update(f"|{name}|{kind}|{shape}|".encode() + tensor.numpy().tobytes())
    assert saving.patched_digest(model) == found.hexdigest()


@pytest.mark.parametrize("name", ["base.0.weight", "base.1.running_var", "shifts", "radii", "patterns", "everywhere"])
def test_one_changed_number_changes_the_digest(name: str) -> None:
    model = patched("exact")
    before, base = saving.patched_digest(model), saving.base_digest(model)
    with torch.no_grad():
        model.state_dict()[name].view(-1)[-1].add_(1)
    assert saving.patched_digest(model) != before
    assert (saving.base_digest(model) != base) == name.startswith("base.")


def test_bfloat16_weights_have_the_digest_of_their_file(tmp_path: Path) -> None:
    model = patched("exact")
    model.base.to(torch.bfloat16)
    saving.save(model, tmp_path / "model.safetensors")
    file = read_tensors(tmp_path / "model.safetensors")
    assert file.dtypes["base.0.weight"] == "BF16"
    assert read_model(file).patched == saving.patched_digest(model)
    assert read_model(file).base == saving.base_digest(model)


def test_tied_weights_are_stored_once_for_each_name(tmp_path: Path) -> None:
    base = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3)).eval()
    base[2].weight = base[0].weight
    model = PatchedNet(base, (3,), 3, PatchedParams())
    saving.save(model, tmp_path / "model.safetensors")
    read = read_model(read_tensors(tmp_path / "model.safetensors"))
    assert read.base == saving.base_digest(model)


def test_a_model_without_members_can_be_saved_and_read(tmp_path: Path) -> None:
    model = PatchedNet(nn.Sequential(nn.Linear(2, 2)).eval(), (2,), 2, PatchedParams(affine=True))
    saving.save(model, tmp_path / "model.safetensors")
    assert read_model(read_tensors(tmp_path / "model.safetensors")).patched == saving.patched_digest(model)


def test_a_file_whose_document_was_changed_is_another_model(tmp_path: Path) -> None:
    model = patched("support")
    saving.save(model, tmp_path / "model.safetensors")
    file = read_tensors(tmp_path / "model.safetensors")
    document = load_json(file.metadata["unlearnbench"])
    document["gate"]["sharpness"] = 3.0
    changed = type(file)(file.tensors, file.dtypes, {"unlearnbench": json.dumps(document)})
    assert read_model(changed).patched != saving.patched_digest(model)
    with pytest.raises(Refusal, match="no patched model"):
        read_model(type(file)(file.tensors, file.dtypes, {}))


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("affine", [False, True])
def test_the_verifier_answers_as_the_network_does(gate: Gate, affine: bool, tmp_path: Path) -> None:
    model = patched(gate, affine=affine)
    model.everywhere.copy_(torch.tensor([0.5, -1.0, 0.0]))
    saving.save(model, tmp_path / "model.safetensors")
    read = read_model(read_tensors(tmp_path / "model.safetensors"))
    x = torch.cat([points(8), points(8) + 0.1, points(6, seed=5)])
    ours = model(x).detach().numpy()
    theirs = np.array([middle(answer(read, row.double().numpy(), Ball)) for row in x.flatten(1)])
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    exact = np.array([middle(answer(read, row.double().numpy(), Exact)) for row in x[:2].flatten(1)])
    np.testing.assert_allclose(ours[:2], exact, rtol=1e-5, atol=1e-5)
    plain = model.base(x).detach().numpy() + model.everywhere.numpy()
    assert (np.abs(ours - plain).max(1) > 0.01).sum() >= 8


def middle(values: Ball | Exact) -> list[float]:
    return [float(low + high) / 2 for low, high in zip(values.lower(), values.upper(), strict=True)]
