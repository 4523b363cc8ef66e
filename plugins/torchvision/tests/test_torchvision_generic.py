"""Any data set of torchvision on small files that the tests write, and what it refuses."""

from __future__ import annotations

import bz2
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.datasets as tv
from PIL import Image

from unlearnbench.api import DataError, UsageError
from unlearnbench_torchvision.generic import Torchvision
from unlearnbench_torchvision.params import TorchvisionParams

Array = np.ndarray[Any, Any]


def general(dataset: str, **options: Any) -> Torchvision:
    return Torchvision(TorchvisionParams(dataset=dataset, **options))


def write_folder(folder: Path, per_class: int, mode: str = "RGB", size: tuple[int, int] = (10, 8)) -> None:
    for k, name in enumerate(("cat", "dog", "fox")):
        (folder / name).mkdir(parents=True)
        for i in range(per_class):
            Image.new("RGB", size, (k * 100, i, 7)).convert(mode).save(folder / name / f"{i:03d}.png")


def test_a_folder_of_images_is_divided(job: Any, as_bytes: Callable[..., Array]) -> None:
    write_folder(Path(job.root) / "imagefolder", 10)
    found = general("ImageFolder", test_fraction=0.3, normalise=False).load(job)
    assert found.train.outputs == ("cat", "dog", "fox")
    assert found.train.y.bincount().tolist() == [7, 7, 7]
    assert found.test.y.bincount().tolist() == [3, 3, 3]
    assert sorted([*found.train.ids.tolist(), *found.test.ids.tolist()]) == list(range(30))
    for data in (found.train, found.test):
        assert data.x.shape[1:] == (3, 8, 10)
        assert as_bytes(data.x)[:, 0, 0, 0].tolist() == [100 * k for k in data.y.tolist()]
        assert as_bytes(data.x)[:, 0, 0, 1].tolist() == [i % 10 for i in data.ids.tolist()]
    assert len(job.read) == 30
    again = general("ImageFolder", test_fraction=0.3, normalise=False).load(job)
    assert again.train.digest() == found.train.digest()
    other = general("ImageFolder", test_fraction=0.3, split_seed=1).load(job)
    assert other.test.ids.tolist() != found.test.ids.tolist()


def test_a_folder_with_train_and_test_is_taken_as_it_is(job: Any) -> None:
    write_folder(Path(job.root) / "mine/animals/train", 3)
    write_folder(Path(job.root) / "mine/animals/test", 2)
    found = general("ImageFolder", folder="mine/animals").load(job)
    assert (len(found.train), len(found.test)) == (9, 6)
    assert found.test.ids.tolist() == list(range(9, 15))


def test_palettes_and_grey_images_beside_colour_become_colour(job: Any, as_bytes: Callable[..., Array]) -> None:
    write_folder(Path(job.root) / "imagefolder", 4, "P")
    Image.new("L", (10, 8), 99).save(Path(job.root) / "imagefolder/cat/grey.png")
    found = general("ImageFolder", normalise=False).load(job)
    pixels = as_bytes(torch.cat([found.train.x, found.test.x]))
    assert pixels.shape == (13, 8, 10, 3)
    assert (pixels == 99).all((1, 2, 3)).sum() == 1


def test_images_of_different_sizes_need_a_size(job: Any) -> None:
    write_folder(Path(job.root) / "imagefolder", 4)
    Image.new("RGB", (20, 30)).save(Path(job.root) / "imagefolder/cat/large.png")
    with pytest.raises(DataError, match=r"--set torchvision\.image_size=64"):
        general("ImageFolder").load(job)
    assert general("ImageFolder", image_size=6).load(job).train.x.shape[1:] == (3, 6, 6)


def test_an_image_that_cannot_be_decoded_is_named(job: Any) -> None:
    write_folder(Path(job.root) / "imagefolder", 4)
    path = Path(job.root) / "imagefolder/dog/002.png"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match=r"002\.png") as caught:
        general("ImageFolder").load(job)
    assert caught.value.code == "corrupt-file"


def test_a_data_set_without_test_rows(job: Any) -> None:
    write_folder(Path(job.root) / "eurosat/eurosat/2750", 10)
    (Path(job.root) / "eurosat/eurosat/EuroSAT.zip").write_bytes(b"packed")
    found = general("EuroSAT").load(job)
    assert (len(found.train), len(found.test)) == (24, 6)
    assert len(job.read) == 30  # not the archive


def test_a_data_set_of_files_with_a_split_in_the_file_names(job: Any, as_bytes: Callable[..., Array]) -> None:
    """GTSRB keeps labels as pairs with paths; training images lie in one folder a class, test labels in a CSV."""
    root = Path(job.root) / "gtsrb/gtsrb"
    for k in range(3):
        (root / f"GTSRB/Training/{k:05d}").mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (9, 9), (k, i, 0)).save(root / f"GTSRB/Training/{k:05d}/{i}.ppm")
    (root / "GTSRB/Final_Test/Images").mkdir(parents=True)
    for k in range(3):
        Image.new("RGB", (9, 9), (k, 9, 0)).save(root / f"GTSRB/Final_Test/Images/{k}.ppm")
    table = "Filename;ClassId\n" + "".join(f"{k}.ppm;{k}\n" for k in range(3))
    (root / "GT-final_test.csv").write_text(table)
    found = general("GTSRB", normalise=False).load(job)
    assert as_bytes(found.train.x)[:, 0, 0, 0].tolist() == found.train.y.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert found.test.y.tolist() == [0, 1, 2]
    assert found.train.outputs == ("0", "1", "2")


def test_a_packed_text_file_that_torchvision_reads_directly_is_recorded(job: Any) -> None:
    folder = Path(job.root) / "usps"
    folder.mkdir()
    for name, n in (("usps.bz2", 20), ("usps.t.bz2", 10)):
        lines = [" ".join([str(i % 10 + 1), *(f"{j + 1}:{-1.0 + i / 10}" for j in range(256))]) for i in range(n)]
        (folder / name).write_bytes(bz2.compress("\n".join(lines).encode()))
    found = general("USPS").load(job)
    assert found.train.x.shape == (20, 1, 16, 16)
    assert found.test.y.tolist() == list(range(10))
    assert set(job.read) == {"usps/usps.bz2", "usps/usps.t.bz2"}


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("FashonMNIST", "did you mean FashionMNIST"),
        ("cifar10", "did you mean CIFAR10 or CIFAR100"),
        ("", "names no data set"),
        ("xyzzy", "available: "),
        ("CelebA", "use the data set celeba"),
        ("VOCDetection", "not a data set of images with one class"),
        ("FakeData", "not a data set of images with one class"),
        ("Kinetics", "needs arguments that are not known here: frames_per_clip"),
        ("PhotoTour", "needs arguments that are not known here: name"),
        ("VisionDataset", "not a data set of images with one class"),
    ],
)
def test_what_is_not_a_classification_data_set_is_refused(job: Any, dataset: str, message: str) -> None:
    for use in (general(dataset).load, general(dataset).fetch):
        with pytest.raises(UsageError, match=message) as caught:
            use(job)
        assert caught.value.where == "torchvision.dataset"
        assert "\n" not in str(caught.value)


def test_targets_that_are_not_classes_are_refused(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Vectors(tv.ImageFolder):
        def __getitem__(self, index: int) -> tuple[Any, Any]:
            return super().__getitem__(index)[0], [0.5]

    write_folder(Path(job.root) / "imagefolder", 4)
    monkeypatch.setattr(tv, "ImageFolder", Vectors)
    with pytest.raises(DataError, match="targets are list, not classes"):
        general("ImageFolder").load(job)


@pytest.mark.parametrize("folder", ["../elsewhere", "/etc"])
def test_a_folder_outside_the_data_folder_is_refused(job: Any, folder: str) -> None:
    with pytest.raises(UsageError, match="not below the data folder"):
        general("ImageFolder", folder=folder).load(job)


def test_what_torchvision_can_download_says_so(job: Any) -> None:
    with pytest.raises(DataError, match=r"data fetch torchvision --set torchvision\.dataset=Food101"):
        general("Food101").load(job)
    with pytest.raises(DataError, match="put its files there"):
        general("ImageFolder").load(job)
    with pytest.raises(DataError, match="cannot download ImageFolder"):
        general("ImageFolder").fetch(job)
    assert list(Path(job.root).iterdir()) == []
