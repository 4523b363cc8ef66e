"""A practitioner's own weights: what fits is read, anything else is one line, and nothing in a file is ever run."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from support import WINE, assert_one_error, call, spawn
from torch import Tensor, nn

from unlearnbench import run
from unlearnbench.api import DataError
from unlearnbench.checkpoints import load_checkpoint

SHAPES = {"1.weight": (3, 13), "1.bias": (3,)}


def weights() -> dict[str, Tensor]:
    return {name: torch.full(shape, 0.5) for name, shape in SHAPES.items()}


def network() -> nn.Module:
    """A network with the names and shapes of the logistic model on wine."""
    return nn.Sequential(nn.Flatten(), nn.Linear(13, 3))


class Payload:
    """Makes a folder when a careless reader unpickles it."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("kind", ["safetensors", "state dict", "wrapped", "of a parallel model"])
def test_weights_are_read_in_the_forms_that_training_scripts_leave(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("weights.safetensors" if kind == "safetensors" else "weights.pt")
    if kind == "safetensors":
        save_file(weights(), path)
    else:
        prefix = "module." if kind == "of a parallel model" else ""
        found = {prefix + name: tensor for name, tensor in weights().items()}
        torch.save(found if kind == "state dict" else {"epoch": 3, "state_dict": found}, path)
    model = load_checkpoint(path, network())
    assert all(torch.equal(tensor, weights()[name]) for name, tensor in model.state_dict().items())


def test_the_checkpoint_is_the_original_of_the_run(tmp_path: Path) -> None:
    save_file(weights(), tmp_path / "own.safetensors")
    (record,) = run(
        "identity", dataset="wine", model="logistic", checkpoint=tmp_path / "own.safetensors", out=tmp_path / "runs"
    )
    own, gold = record.document["models"]["original"][0], record.document["models"]["gold"][0]
    assert record.document["models"]["unlearned"][0]["sha256"] == own["sha256"] != gold["sha256"]
    assert record.document["spec"]["checkpoint"]["name"] == "own.safetensors"
    assert "train" not in record.document["costs"]
    # Equal weights for every class cannot tell classes apart: 1/3 of wine, by hand.
    assert record.value("accuracy.retain", "original") < 0.45
    assert record.value("accuracy.retain", "gold") > 0.9


@pytest.mark.parametrize("packed", ["torch", "plain pickle"])
def test_a_pickle_payload_is_refused_and_never_run(tmp_path: Path, packed: str) -> None:
    marker, path = tmp_path / "it-ran", tmp_path / "evil.pt"
    content = {**weights(), "1.bias": Payload(marker)}
    if packed == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    done = spawn("run", *WINE, "-u", "identity", "--checkpoint", path, "--no-tracking", cwd=tmp_path)
    assert_one_error(done, 5, "unsafe-checkpoint", "evil.pt", "save model.state_dict()")
    assert not marker.exists()
    torch.load(path, weights_only=False) if packed == "torch" else pickle.loads(path.read_bytes())
    assert marker.exists(), "the payload is harmless, so this test shows nothing"


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        ({**weights(), "1.weight": torch.zeros(4, 13)}, "wrong-checkpoint", ["1.weight", "[4, 13]", "[3, 13]"]),
        ({"1.weight": torch.zeros(3, 13)}, "wrong-checkpoint", ["lacks 1.bias"]),
        ({**weights(), "2.bias": torch.zeros(3)}, "wrong-checkpoint", ["has 2.bias"]),
        ([1, 2], "wrong-checkpoint", ["is not a state dict"]),
        ({"1.weight": 3}, "wrong-checkpoint", ["is not a state dict"]),
    ],
)
def test_weights_that_do_not_fit_are_named(tmp_path: Path, content: Any, code: str, words: list[str]) -> None:
    torch.save(content, tmp_path / "own.pt")
    done = call("run", *WINE, "-u", "identity", "--checkpoint", tmp_path / "own.pt", "--out", tmp_path / "runs")
    assert_one_error(done, 5, code, "own.pt", *words)


@pytest.mark.parametrize("name", ["junk.pt", "junk.safetensors"])
@pytest.mark.parametrize("content", [b"", b"junk", b"\x80\x04.", b"PK\x03\x04" + bytes(60), bytes(64)])
def test_bytes_that_are_no_checkpoint_are_one_error(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        load_checkpoint(tmp_path / name, network())
    assert caught.value.code in ("unreadable-file", "unsafe-checkpoint", "wrong-checkpoint")
    assert caught.value.where == name
    assert caught.value.hint
    assert "\n" not in str(caught.value)


def test_a_cut_off_checkpoint_is_one_error(tmp_path: Path) -> None:
    torch.save(weights(), tmp_path / "whole.pt")
    content = (tmp_path / "whole.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="cannot be read as weights") as caught:
        load_checkpoint(tmp_path / "cut.pt", network())
    assert caught.value.code == "unreadable-file"


@pytest.mark.parametrize("name", ["absent.pt", "."])
def test_a_checkpoint_that_is_no_file_is_refused_before_any_work(tmp_path: Path, name: str) -> None:
    done = call("run", *WINE, "-u", "identity", "--checkpoint", tmp_path / name, "--out", tmp_path / "runs")
    assert_one_error(done, 5, "missing-file", "--checkpoint")
    assert not (tmp_path / "runs").exists()
