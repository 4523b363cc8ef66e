"""The named data sets, and others that are arrays, on small files in the format on disk that torchvision reads."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch
import torchvision.datasets as tv
from PIL import Image

from unlearnbench.api import DataError
from unlearnbench.api.runtime import Splits
from unlearnbench_torchvision import datasets
from unlearnbench_torchvision.generic import Torchvision
from unlearnbench_torchvision.params import ImageParams, TorchvisionParams

RAW_PIXELS = ImageParams(normalise=False)
Array = np.ndarray[Any, Any]


def images(n: int, *shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def check(as_bytes: Callable[..., Array]) -> Callable[..., None]:
    """Compare splits with the pixels [n, h, w, channels] and labels of the training rows and of the test rows."""

    def compare(found: Splits, train: tuple[Array, Array], test: tuple[Array, Array]) -> None:
        for data, (pixels, labels), first in ((found.train, train, 0), (found.test, test, len(train[0]))):
            assert np.array_equal(as_bytes(data.x), pixels)
            assert data.x.is_contiguous()
            assert data.y.tolist() == labels.tolist()
            assert data.ids.tolist() == list(range(first, first + len(labels)))

    return compare


# --- MNIST and KMNIST: idx files


def write_idx(folder: Path, part: str, pixels: Array, labels: Array) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    header = bytes([0, 0, 8, 3]) + np.array(pixels.shape, ">u4").tobytes()
    (folder / f"{part}-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
    header = bytes([0, 0, 8, 1]) + np.array(labels.shape, ">u4").tobytes()
    (folder / f"{part}-labels-idx1-ubyte").write_bytes(header + labels.astype(np.uint8).tobytes())


@pytest.mark.parametrize(
    ("component", "folder", "names"),
    [
        (datasets.MNIST, "mnist/MNIST/raw", ("0 - zero", "1 - one")),
        (datasets.KMNIST, "kmnist/KMNIST/raw", ("o", "ki")),
    ],
)
def test_the_mnist_family(
    job: Any, check: Callable[..., None], component: Any, folder: str, names: tuple[str, str]
) -> None:
    train, test = (images(30, 28, 28), np.arange(30) % 10), (images(20, 28, 28, seed=1), np.arange(20) % 10)
    write_idx(Path(job.root) / folder, "train", *train)
    write_idx(Path(job.root) / folder, "t10k", *test)
    found = component(RAW_PIXELS).load(job)
    check(found, (train[0][..., None], train[1]), (test[0][..., None], test[1]))
    assert found.train.outputs[:2] == names
    assert len(job.read) == 4


def test_what_old_versions_of_torchvision_left_is_not_read(job: Any) -> None:
    folder = Path(job.root) / "mnist/MNIST"
    train = images(10, 28, 28), np.arange(10)
    for part in ("train", "t10k"):
        write_idx(folder / "raw", part, *train)
    (folder / "processed").mkdir()
    other = (torch.zeros(3, 28, 28, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64))
    for name in ("training.pt", "test.pt"):
        torch.save(other, folder / "processed" / name)
    assert len(tv.MNIST(root=str(folder.parent))) == 3  # torchvision itself prefers them
    assert len(datasets.MNIST(RAW_PIXELS).load(job).train) == 10


# --- CIFAR: torchvision unpickles batches whose md5 it knows. The tests write pickles of their own and put their md5
# into torchvision's table, so the check before unpickling stays in force.


def write_cifar(
    root: Path, component: Any, monkeypatch: pytest.MonkeyPatch, classes: int
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    origin = component.origin
    folder = root / component.name / origin.base_folder
    folder.mkdir(parents=True)
    key = "labels" if classes == 10 else "fine_labels"
    parts = []
    for listed in ("train_list", "test_list"):
        pixels, labels, entries = [], [], []
        for name, _ in getattr(origin, listed):
            x, y = images(20, 32, 32, 3, seed=len(entries)), np.arange(20) * 7 % classes
            batch = {"data": x.transpose(0, 3, 1, 2).reshape(20, -1), key: y.tolist()}
            (folder / name).write_bytes(pickle.dumps(batch))
            entries.append([name, md5(folder / name)])
            pixels.append(x)
            labels.append(y)
        monkeypatch.setattr(origin, listed, entries)
        parts.append((np.concatenate(pixels), np.concatenate(labels)))
    meta = folder / origin.meta["filename"]
    meta.write_bytes(pickle.dumps({origin.meta["key"]: [f"class {k}" for k in range(classes)]}))
    monkeypatch.setattr(origin, "meta", {**origin.meta, "md5": md5(meta)})
    return parts[0], parts[1]


@pytest.mark.parametrize(("component", "classes"), [(datasets.CIFAR10, 10), (datasets.CIFAR100, 100)])
def test_cifar(
    job: Any, check: Callable[..., None], component: Any, classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, test = write_cifar(Path(job.root), component, monkeypatch, classes)
    found = component(RAW_PIXELS).load(job)
    check(found, train, test)
    assert found.train.outputs == tuple(f"class {k}" for k in range(classes))
    assert len(job.read) == len(component.origin.train_list) + 2


def test_each_channel_is_normalised_by_itself(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (x, _), _ = write_cifar(Path(job.root), datasets.CIFAR100, monkeypatch, 100)
    found = datasets.CIFAR100(ImageParams()).load(job).train.x
    scaled = x.astype(np.float64) / 255
    expected = (scaled - scaled.mean((0, 1, 2))) / scaled.std((0, 1, 2))
    assert np.abs(found.permute(0, 2, 3, 1).numpy() - expected).max() < 1e-5


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
def test_a_cifar_file_that_is_not_the_published_one_is_named_and_not_unpickled(
    job: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cifar(Path(job.root), datasets.CIFAR10, monkeypatch, 10)
    path = Path(job.root) / "cifar10/cifar-10-batches-py" / name
    trap = Path(job.root) / "trap"

    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (trap,)

    for content in (path.read_bytes()[:-100], pickle.dumps(Payload())):
        path.write_bytes(content)
        with pytest.raises(DataError, match="md5 differs") as caught:
            datasets.CIFAR10(RAW_PIXELS).load(job)
        assert caught.value.where == f"cifar10/cifar-10-batches-py/{name}"
    assert not trap.exists()
    path.unlink()
    with pytest.raises(DataError, match="unlearnbench data fetch cifar10") as caught:
        datasets.CIFAR10(RAW_PIXELS).load(job)
    assert caught.value.code == "missing-file"


# --- SVHN: MATLAB files, images [h, w, channels, n], the digit 0 is class 10


def test_svhn(job: Any, check: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(job.root) / "svhn"
    folder.mkdir()
    listed, parts = {}, []
    for part, n in (("train", 25), ("test", 15)):
        x, y = images(n, 32, 32, 3, seed=n), np.arange(n) % 10
        path = folder / f"{part}_32x32.mat"
        scipy.io.savemat(path, {"X": x.transpose(1, 2, 3, 0), "y": np.where(y == 0, 10, y)[:, None].astype(np.uint8)})
        listed[part] = ["", path.name, md5(path)]
        parts.append((x, y))
    monkeypatch.setattr(tv.SVHN, "split_list", listed)
    found = datasets.SVHN(RAW_PIXELS).load(job)
    check(found, *parts)
    assert found.train.outputs == tuple("0123456789")
    assert set(job.read) == {"svhn/train_32x32.mat", "svhn/test_32x32.mat"}
    path = folder / "test_32x32.mat"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(DataError, match="md5 differs") as caught:
        datasets.SVHN(RAW_PIXELS).load(job)
    assert caught.value.where == "svhn/test_32x32.mat"


# --- any data set that torchvision holds as an array


def test_arrays_with_channels_first(job: Any, check: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """STL-10: images [n, channels, width, height], labels from 1."""
    folder = Path(job.root) / "stl10/stl10_binary"
    folder.mkdir(parents=True)
    parts, listed = [], {}
    for part, n in (("train", 20), ("test", 10)):
        x, y = images(n, 3, 96, 96, seed=n), np.arange(n) % 10
        (folder / f"{part}_X.bin").write_bytes(x.transpose(0, 1, 3, 2).tobytes())
        (folder / f"{part}_y.bin").write_bytes((y + 1).astype(np.uint8).tobytes())
        listed[part] = [[f"{part}_{c}.bin", md5(folder / f"{part}_{c}.bin")] for c in "Xy"]
        parts.append((x.transpose(0, 2, 3, 1), y))
    unlabelled = folder / "unlabeled_X.bin"
    unlabelled.write_bytes(b"")
    monkeypatch.setattr(tv.STL10, "train_list", [*listed["train"], [unlabelled.name, md5(unlabelled)]])
    monkeypatch.setattr(tv.STL10, "test_list", listed["test"])
    (folder / "class_names.txt").write_text("\n".join(f"kind {k}" for k in range(10)))
    found = Torchvision(TorchvisionParams(dataset="STL10", normalise=False)).load(job)
    check(found, *parts)
    assert found.train.outputs[3] == "kind 3"


def test_an_array_that_is_not_what_the_data_set_hands_out_is_not_used(
    job: Any, as_bytes: Callable[..., Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A future data set may turn its images on the way out; then items count, one by one."""

    class Turned(tv.MNIST):
        def __getitem__(self, index: int) -> tuple[Any, Any]:
            image, target = super().__getitem__(index)
            return image.transpose(Image.Transpose.ROTATE_180), target

    x = images(10, 28, 28)
    for part in ("train", "t10k"):
        write_idx(Path(job.root) / "mnist/Turned/raw", part, x, np.arange(10))
    monkeypatch.setattr(datasets.MNIST, "origin", Turned)
    found = datasets.MNIST(RAW_PIXELS).load(job)
    assert np.array_equal(as_bytes(found.train.x)[..., 0], x[:, ::-1, ::-1])
