"""Pretrained weights: read from the user's cache, never from the network, and not again from the store."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from unlearnbench.api import DataError, UsageError
from unlearnbench.api.runtime import Ref
from unlearnbench.networks import build_network, restore_network
from unlearnbench.registry import registry

CPU = torch.device("cpu")
TINY = "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k"


def publish(cache: Path, repository: str, net: nn.Module, name: str = "model.safetensors") -> Path:
    """Lay a network's weights down as the Hub's client does after a download: blob, snapshot of a commit, branch."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    folder = cache / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / commit
    for made in (snapshot, folder / "refs", folder / "blobs"):
        made.mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    blob = folder / "blobs" / "weights"
    if name.endswith(".safetensors"):
        save_file(net.state_dict(), blob)
    else:
        torch.save(net.state_dict(), blob)
    (snapshot / name).symlink_to(blob)
    return folder


def published(cache: Path, architecture: str, **more: Any) -> dict[str, torch.Tensor]:
    """Random weights of an architecture with 1,000 classes, put into the cache under its default tag."""
    torch.manual_seed(99)
    net = timm.create_model(architecture)
    publish(cache, timm.get_pretrained_cfg(architecture).hf_hub_id, net, **more)
    found: dict[str, torch.Tensor] = net.state_dict()
    return found


def ref(name: str, inputs: tuple[int, ...], outputs: int = 10, **params: Any) -> Ref:
    base = {"patch_size": 16} if name.startswith("vit") else {}
    return Ref(name, {**base, "pretrained": True, **params}, inputs, outputs)


@pytest.mark.parametrize(
    ("wanted", "repository"),
    [
        (ref("vit-tiny", (3, 32, 32)), TINY),
        (ref("vit-small", (1, 32, 32)), "timm/vit_small_patch16_224.augreg_in21k_ft_in1k"),
        (ref("timm-model", (3, 32, 32), architecture="resnet18"), "timm/resnet18.a1_in1k"),
        (ref("timm-model", (3, 32, 32), architecture="resnet18.tv_in1k"), "timm/resnet18.tv_in1k"),
    ],
)
def test_weights_that_are_not_in_the_cache_are_a_clear_line_and_no_download(
    connections: list[str], wanted: Ref, repository: str
) -> None:
    with pytest.raises(DataError) as caught:
        build_network(registry(), wanted, 0, CPU)
    assert (caught.value.code, caught.value.where) == ("missing-file", repository)
    assert f"hf download {repository} model.safetensors" in caught.value.hint
    assert connections == []


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_network_starts_from_the_weights_in_the_cache(cache: Path, connections: list[str], name: str) -> None:
    theirs = published(cache, "vit_tiny_patch16_224", name=name)
    net = build_network(registry(), ref("vit-tiny", (3, 224, 224), 1000), 0, CPU)
    assert all(torch.equal(value, theirs[key]) for key, value in net.state_dict().items())
    assert connections == []


def test_first_convolution_head_and_positions_are_adapted_to_the_data(cache: Path) -> None:
    theirs = published(cache, "vit_tiny_patch16_224")
    wanted = ref("vit-tiny", (1, 32, 48))
    ours = build_network(registry(), wanted, 0, CPU).state_dict()
    adapted = {"patch_embed.proj.weight", "pos_embed", "head.weight", "head.bias"}
    for key in set(ours) - adapted:
        assert torch.equal(ours[key], theirs[key])
    kernels = theirs["patch_embed.proj.weight"].sum(1, keepdim=True)
    assert torch.allclose(ours["patch_embed.proj.weight"], kernels, atol=1e-6)
    assert ours["pos_embed"].shape == (1, 1 + 2 * 3, 192)
    assert ours["head.weight"].shape == (10, 192)
    other = build_network(registry(), wanted, 1, CPU).state_dict()
    assert {key for key in ours if not torch.equal(ours[key], other[key])} <= {"head.weight", "head.bias"}


@pytest.mark.parametrize(
    ("wanted", "architecture"),
    [
        (ref("vit-tiny", (1, 32, 32)), "vit_tiny_patch16_224"),
        (ref("timm-model", (3, 32, 32), architecture="resnet10t"), "resnet10t"),
        (ref("timm-model", (3, 224, 224), architecture="levit_128s"), "levit_128s"),  # buffers that timm does not store
    ],
)
def test_a_stored_network_comes_back_when_the_cache_is_gone(cache: Path, wanted: Ref, architecture: str) -> None:
    published(cache, architecture)
    net = build_network(registry(), wanted, 0, CPU)
    shutil.rmtree(cache)
    again = restore_network(registry(), wanted, net.state_dict(), CPU)
    rows = torch.randn(2, *wanted.inputs)
    with torch.no_grad():
        assert torch.equal(net(rows), again(rows))
    assert not any(t.is_meta for t in (*again.parameters(), *again.buffers()))


def test_patches_that_the_weights_are_not_for_are_refused() -> None:
    with pytest.raises(UsageError, match=r"--set vit-tiny\.patch_size=16") as caught:
        build_network(registry(), ref("vit-tiny", (1, 28, 28), patch_size=4), 0, CPU)
    assert (caught.value.code, caught.value.where) == ("bad-parameter", "vit-tiny.pretrained")


def test_an_architecture_without_published_weights_is_refused() -> None:
    assert not timm.is_model_pretrained("botnet50ts_256")
    with pytest.raises(UsageError, match="names no repository of weights for botnet50ts_256") as caught:
        build_network(registry(), ref("timm-model", (3, 256, 256), architecture="botnet50ts_256"), 0, CPU)
    assert caught.value.where == "timm-model.pretrained"


@pytest.mark.parametrize(("outputs", "other"), [(10, "vit_small_patch16_224"), (1000, "resnet10t"), (10, "resnet10t")])
def test_weights_of_another_network_are_refused_and_not_passed_over(cache: Path, outputs: int, other: str) -> None:
    publish(cache, TINY, timm.create_model(other))
    with pytest.raises(UsageError, match="weights in the cache do not fit") as caught:
        build_network(registry(), ref("vit-tiny", (3, 32, 32), outputs), 0, CPU)
    assert caught.value.code == "bad-model"


def test_weights_that_cannot_be_resampled_for_the_images_are_refused(cache: Path) -> None:
    published(cache, "levit_128s")
    with pytest.raises(UsageError, match=r"cannot take 3x64x64 images.*size mismatch.*designed for 224x224"):
        build_network(registry(), ref("timm-model", (3, 64, 64), architecture="levit_128s"), 0, CPU)


def test_a_damaged_file_is_one_clear_line(cache: Path) -> None:
    blob = publish(cache, TINY, nn.Linear(3, 4)) / "blobs" / "weights"
    blob.write_bytes(blob.read_bytes()[:20])
    with pytest.raises(DataError, match="cannot be read as weights") as caught:
        build_network(registry(), ref("vit-tiny", (3, 32, 32)), 0, CPU)
    assert caught.value.code == "unreadable-file"
    assert "\n" not in str(caught.value)


def test_a_file_that_would_run_code_is_not_opened(cache: Path, tmp_path: Path) -> None:
    class Mine:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    folder = publish(cache, TINY, nn.Linear(3, 4), name="pytorch_model.bin")
    torch.save({"weight": Mine()}, folder / "blobs" / "weights")
    with pytest.raises(DataError, match="cannot be read as weights"):
        build_network(registry(), ref("vit-tiny", (3, 32, 32)), 0, CPU)
    assert not (tmp_path / "ran").exists()
