"""Loading never reaches the network, also where torchvision would; fetching tries to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from unlearnbench.api import DataError
from unlearnbench_torchvision import datasets
from unlearnbench_torchvision.celeba import CelebA
from unlearnbench_torchvision.generic import Torchvision
from unlearnbench_torchvision.params import CelebAParams, ImageParams, TorchvisionParams


@pytest.mark.parametrize(
    "component",
    [
        datasets.MNIST(ImageParams()),
        datasets.KMNIST(ImageParams()),
        datasets.CIFAR10(ImageParams()),
        datasets.CIFAR100(ImageParams()),
        datasets.SVHN(ImageParams()),
        CelebA(CelebAParams()),
        Torchvision(TorchvisionParams(dataset="SEMEION")),
        Torchvision(TorchvisionParams(dataset="EMNIST")),
        Torchvision(TorchvisionParams(dataset="Food101")),
    ],
    ids=lambda c: getattr(c.p, "dataset", c.name),
)
def test_loading_never_downloads_and_fetching_tries_to(job: Any, component: Any, downloads: list[str]) -> None:
    with pytest.raises(DataError, match="unlearnbench data fetch") as caught:
        component.load(job)
    assert caught.value.code == "missing-file"
    assert downloads == []
    with pytest.raises(DataError) as caught:
        component.fetch(job)
    assert caught.value.code == "fetch-failed"
    assert downloads or "gdown" in str(caught.value)
    assert list(Path(job.root).iterdir()) == []


def test_loading_semeion_never_downloads_though_torchvision_would_by_default(job: Any, downloads: list[str]) -> None:
    (Path(job.root) / "semeion").mkdir()
    (Path(job.root) / "semeion/semeion.data").write_text("truncated")
    with pytest.raises(DataError, match="not found or corrupted"):
        Torchvision(TorchvisionParams(dataset="SEMEION")).load(job)
    assert downloads == []
