"""Every other data set on small files that the tests write in the format on disk that torchvision reads."""

from __future__ import annotations

import bz2
import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch
import torchvision.datasets as tv
from PIL import Image

from unlearnbench.api import DataError, UsageError
from unlearnbench.api.runtime import Splits
from unlearnbench_torchvision import datasets
from unlearnbench_torchvision.plugin import CelebAParams, ImageParams, TorchvisionParams

RAW_PIXELS = ImageParams(normalise=False)
Array = np.ndarray[Any, Any]


def images(n: int, *shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def as_bytes(x: torch.Tensor) -> Array:
    """Pixels [n, h, w, channels] as they were before scaling."""
    return (x * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def check(found: Splits, train: tuple[Array, Array], test: tuple[Array, Array]) -> None:
    for data, (pixels, labels), first in ((found.train, train, 0), (found.test, test, len(train[0]))):
        assert np.array_equal(as_bytes(data.x), pixels)
        assert data.x.is_contiguous()
        assert data.y.tolist() == labels.tolist()
        assert data.ids.tolist() == list(range(first, first + len(labels)))


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
def test_the_mnist_family(job: Any, component: Any, folder: str, names: tuple[str, str]) -> None:
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
def test_cifar(job: Any, component: Any, classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_svhn(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
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


# --- CelebA: lists of numbers, one JPEG for each face

ATTRIBUTES = ["Male", "Smiling", "Young"]
PARTITION = [0] * 12 + [1] * 2 + [2] * 6


def smiles(i: int) -> int:
    return int(i % 3 == 0)


def person(i: int) -> int:
    return 100 + i // 2


@pytest.fixture
def faces(job: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    folder = Path(job.root) / "celeba/celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    names = [f"{i + 1:06d}.jpg" for i in range(len(PARTITION))]
    for i, name in enumerate(names):
        Image.new("RGB", (178, 218), (i * 10, 255 * smiles(i), 0)).save(folder / "img_align_celeba" / name)
    rows = list(enumerate(names))
    attributes = "".join(f"{name} {'1' if i % 2 else '-1'} {'1' if smiles(i) else '-1'} -1\n" for i, name in rows)
    lists = {
        "list_attr_celeba.txt": f"{len(rows)}\n{' '.join(ATTRIBUTES)} \n{attributes}",
        "identity_CelebA.txt": "".join(f"{name} {person(i)}\n" for i, name in rows),
        "list_bbox_celeba.txt": f"{len(rows)}\nimage_id x_1 y_1\n" + "".join(f"{name} 1 2\n" for name in names),
        "list_landmarks_align_celeba.txt": f"{len(rows)}\nx y\n" + "".join(f"{name} 1 2\n" for name in names),
        "list_eval_partition.txt": "".join(f"{name} {PARTITION[i]}\n" for i, name in rows),
    }
    for name, text in lists.items():
        (folder / name).write_text(text)
    monkeypatch.setattr(tv.CelebA, "file_list", [("", md5(folder / name), name) for name in lists])
    return job


def test_celeba_has_an_attribute_as_class_and_persons_as_groups(faces: Any) -> None:
    found = datasets.CelebA(CelebAParams(image_size=16, normalise=False)).load(faces)
    assert found.train.outputs == ("not Smiling", "Smiling")
    assert found.train.x.shape == (12, 3, 16, 16)
    assert found.test.x.shape == (6, 3, 16, 16)
    assert found.train.ids.tolist() == list(range(12))
    assert found.test.ids.tolist() == list(range(12, 18))
    for data, first in ((found.train, 0), (found.test, 14)):
        originals = range(first, first + len(data))
        assert data.y.tolist() == [smiles(i) for i in originals]
        assert [data.values["person"][k] for k in data.columns["person"].tolist()] == [
            str(person(i)) for i in originals
        ]
        assert torch.equal((data.x[:, 1] > 0.5).flatten(1).all(1).long(), data.y)
    assert sum(name.endswith(".jpg") for name in faces.read) == 18
    assert sum(name.endswith(".txt") for name in faces.read) == 5


def test_celeba_reads_the_images_of_the_drawn_rows_only(faces: Any) -> None:
    found = datasets.CelebA(CelebAParams(attribute="Male", rows=4, test_rows=2, image_size=None)).load(faces)
    assert found.train.x.shape == (4, 3, 218, 178)
    assert found.train.y.tolist() == [i % 2 for i in found.train.ids.tolist()]
    assert found.train.y.bincount().tolist() == [2, 2]
    read = sorted(int(Path(name).stem) for name in faces.read if name.endswith(".jpg"))
    assert read == sorted([i + 1 for i in found.train.ids.tolist()] + [i + 3 for i in found.test.ids.tolist()])


def test_celeba_suggests_an_attribute(faces: Any) -> None:
    with pytest.raises(UsageError, match="did you mean Smiling") as caught:
        datasets.CelebA(CelebAParams(attribute="smilling")).load(faces)
    assert caught.value.where == "celeba.attribute"


def test_damaged_files_of_celeba_are_named(faces: Any) -> None:
    folder = Path(faces.root) / "celeba/celeba"
    image = folder / "img_align_celeba/000003.jpg"
    image.write_bytes(image.read_bytes()[:400])
    with pytest.raises(DataError, match=r"000003\.jpg") as caught:
        datasets.CelebA(CelebAParams()).load(faces)
    assert caught.value.code == "corrupt-file"
    image.unlink()
    with pytest.raises(DataError, match=r"000003\.jpg") as caught:
        datasets.CelebA(CelebAParams()).load(faces)
    assert caught.value.code == "missing-file"
    (folder / "identity_CelebA.txt").write_text("000001.jpg")
    with pytest.raises(DataError, match=r"identity_CelebA\.txt") as caught:
        datasets.CelebA(CelebAParams()).load(faces)
    assert caught.value.code == "corrupt-file"


# --- any data set of torchvision


def general(dataset: str, **options: Any) -> datasets.Torchvision:
    return datasets.Torchvision(TorchvisionParams(dataset=dataset, **options))


def write_folder(folder: Path, per_class: int, mode: str = "RGB", size: tuple[int, int] = (10, 8)) -> None:
    for k, name in enumerate(("cat", "dog", "fox")):
        (folder / name).mkdir(parents=True)
        for i in range(per_class):
            Image.new("RGB", size, (k * 100, i, 7)).convert(mode).save(folder / name / f"{i:03d}.png")


def test_a_folder_of_images_is_divided(job: Any) -> None:
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


def test_palettes_and_grey_images_beside_colour_become_colour(job: Any) -> None:
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


def test_a_data_set_of_files_with_a_split_in_the_file_names(job: Any) -> None:
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


def test_arrays_with_channels_first(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
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
    found = general("STL10", normalise=False).load(job)
    check(found, *parts)
    assert found.train.outputs[3] == "kind 3"


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


def test_an_array_that_is_not_what_the_data_set_hands_out_is_not_used(
    job: Any, monkeypatch: pytest.MonkeyPatch
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


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("FashonMNIST", "did you mean FashionMNIST"),
        ("cifar10", "did you mean CIFAR100?, CIFAR10|did you mean CIFAR10"),
        ("", "names no data set"),
        ("xyzzy", "known are"),
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


@pytest.mark.parametrize(
    "component",
    [
        datasets.MNIST(RAW_PIXELS),
        datasets.KMNIST(RAW_PIXELS),
        datasets.CIFAR10(RAW_PIXELS),
        datasets.CIFAR100(RAW_PIXELS),
        datasets.SVHN(RAW_PIXELS),
        datasets.CelebA(CelebAParams()),
        general("SEMEION"),
        general("EMNIST"),
        general("Food101"),
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
        general("SEMEION").load(job)
    assert downloads == []
