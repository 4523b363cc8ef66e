"""torchvision's classification data sets as tensors in memory. ``load`` never downloads; ``fetch`` does."""

from __future__ import annotations

import difflib
import inspect
import sys
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, redirect_stdout
from dataclasses import replace
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import datasets
from torchvision.datasets.utils import check_integrity

from unlearnbench.api import DataError, UsageError
from unlearnbench.api.runtime import Component, DataJob, Splits, derive_seed
from unlearnbench_torchvision.files import idx_shape, merge, one_line, require, stage_idx
from unlearnbench_torchvision.images import Rows, array_reader, choose, from_array, item_reader, to_splits
from unlearnbench_torchvision.plugin import CelebAParams, ImageParams, TorchvisionParams

P = TypeVar("P", bound=ImageParams, covariant=True)
Arguments = dict[str, Any]
Opened = tuple[Rows, Rows, tuple[str, ...]]
"""Training rows, test rows, names of the classes."""

_TRAIN_FLAG: tuple[Arguments, Arguments] = ({"train": True}, {"train": False})
_SPLIT_NAME: tuple[Arguments, Arguments] = ({"split": "train"}, {"split": "test"})


class Images(Component[P], ABC):
    """What all data sets share: rows are opened, drawn and made tensors; downloads arrive whole or not at all."""

    name: ClassVar[str]

    def load(self, job: DataJob) -> Splits:
        """Images [n, channels, h, w] float32 and classes [n] int64.

        Ids are positions in torchvision's training rows, then in its test rows, whatever share of the rows is used.

        Raises:
            DataError: files that are missing or damaged, or fewer rows than asked for.
            UsageError: a parameter names something that does not exist.
        """
        with self._reading():
            train, test, outputs = self.open(job)
            return to_splits(train, test, outputs, self.p, self.name)

    def fetch(self, job: DataJob) -> None:
        """Download below ``job.root`` what is not there yet.

        Raises:
            DataError: no connection, no room, or the source does not have what it should.
        """
        source, arguments = self.source()
        if not _downloads(source):
            raise DataError(
                "not-fetchable", f"torchvision cannot download {source.__name__}", where=self.folder,
                hint="put its files there yourself",
            )  # fmt: skip
        root = Path(job.root)
        looking = replace(job, file=lambda name: root / name)  # looking whether all is there reads nothing for a run
        try:
            with self._reading():
                self.open(looking)
        except DataError:
            with one_line("fetch-failed", "cannot be downloaded", where=self.folder, hint="try again later"):
                root.mkdir(parents=True, exist_ok=True)
                # Whatever torchvision prints while it downloads must not mix with --json.
                with TemporaryDirectory(dir=root, prefix=".fetch-") as staging, redirect_stdout(sys.stderr):
                    for split in arguments:
                        source(root=staging, download=True, **split)
                    merge(Path(staging), root / self.folder)

    def _reading(self) -> AbstractContextManager[None]:
        return one_line("unreadable-data", "cannot be read", where=self.folder, hint=self.hint)

    @property
    def folder(self) -> str:
        """torchvision's root, relative to the data folder."""
        return self.name

    @property
    def hint(self) -> str:
        """What to do when files are missing."""
        return f"run `unlearnbench data fetch {self.name}`"

    @abstractmethod
    def source(self) -> tuple[type[Any], tuple[Arguments, ...]]:
        """torchvision's class, and the arguments with which it gives training rows and test rows."""

    @abstractmethod
    def open(self, job: DataJob) -> Opened:
        """Labels of all rows, and the means to read their pixels."""


class _Idx(Images[ImageParams]):
    """The MNIST family: images [n, 1, 28, 28]; idx files, packed or not, below ``<name>/<class>/raw``."""

    origin: ClassVar[type[datasets.MNIST]]

    def source(self) -> tuple[type[Any], tuple[Arguments, ...]]:
        return self.origin, _TRAIN_FLAG

    def open(self, job: DataJob) -> Opened:
        for part in ("train", "t10k"):
            images, shown = self._stage(job, f"{part}-images-idx3-ubyte")
            labels, shown_labels = self._stage(job, f"{part}-labels-idx1-ubyte")
            n, *_ = idx_shape(images, shown, 3, self.hint)
            (m,) = idx_shape(labels, shown_labels, 1, self.hint)
            if n != m:
                raise DataError("corrupt-file", f"has {m} labels for {n} images", where=shown_labels, hint=self.hint)
        # torchvision reads the copies in the scratch folder, and so never the `processed` folder that old versions left
        # beside the raw files and that it would prefer to them.
        root = Path(job.scratch) / "torchvision" / self.name
        train, test = (self.origin(root=str(root), download=False, **split) for split in _TRAIN_FLAG)
        return _paired(train, test, tuple(self.origin.classes), self.name)

    def _stage(self, job: DataJob, stem: str) -> tuple[Path, str]:
        return stage_idx(job, f"{self.name}/{self.origin.__name__}/raw/{stem}", self.hint)


class MNIST(_Idx):
    """MNIST (LeCun et al. 1998)."""

    name = "mnist"
    origin = datasets.MNIST


class FashionMNIST(_Idx):
    """Fashion-MNIST (Xiao et al. 2017)."""

    name = "fashion-mnist"
    origin = datasets.FashionMNIST


class KMNIST(_Idx):
    """Kuzushiji-MNIST (Clanuwat et al. 2018)."""

    name = "kmnist"
    origin = datasets.KMNIST


class _Checked(Images[ImageParams]):
    """Data sets of a few files whose md5 torchvision knows; images [n, 3, 32, 32].

    CIFAR's files are pickles. torchvision unpickles them only if their md5 is that of the published files, so nothing
    foreign is executed.
    """

    def open(self, job: DataJob) -> Opened:
        files = self.files()
        for name in files:
            require(job, f"{self.name}/{name}", self.hint)
        source, arguments = self.source()
        root = Path(job.root) / self.name
        try:
            train, test = (source(root=str(root), download=False, **split) for split in arguments)
        except Exception:
            for name, md5 in files.items():
                if not check_integrity(str(root / name), md5):
                    raise DataError(
                        "corrupt-file", "is not the published file (md5 differs)", where=f"{self.name}/{name}",
                        hint=self.hint,
                    ) from None  # fmt: skip
            raise
        return _paired(train, test, tuple(getattr(train, "classes", "0123456789")), self.name)

    @abstractmethod
    def files(self) -> dict[str, str | None]:
        """md5 by file, relative to torchvision's root."""


class _Cifar(_Checked):
    origin: ClassVar[type[datasets.CIFAR10]]

    def source(self) -> tuple[type[Any], tuple[Arguments, ...]]:
        return self.origin, _TRAIN_FLAG

    def files(self) -> dict[str, str | None]:
        source = self.origin
        listed = [*source.train_list, *source.test_list, (source.meta["filename"], source.meta["md5"])]
        return {f"{source.base_folder}/{name}": md5 for name, md5 in listed}


class CIFAR10(_Cifar):
    """CIFAR-10 (Krizhevsky 2009)."""

    name = "cifar10"
    origin = datasets.CIFAR10


class CIFAR100(_Cifar):
    """CIFAR-100 (Krizhevsky 2009) with its 100 fine classes."""

    name = "cifar100"
    origin = datasets.CIFAR100


class SVHN(_Checked):
    """Street View House Numbers, cropped digits (Netzer et al. 2011); the additional training rows are not used."""

    name = "svhn"

    def source(self) -> tuple[type[Any], tuple[Arguments, ...]]:
        return datasets.SVHN, _SPLIT_NAME

    def files(self) -> dict[str, str | None]:
        return {datasets.SVHN.split_list[s["split"]][1]: datasets.SVHN.split_list[s["split"]][2] for s in _SPLIT_NAME}


class CelebA(Images[CelebAParams]):
    """CelebA, aligned faces (Liu et al. 2015): one attribute as class, the column ``person`` from the identities.

    Only the images of the drawn rows are read, one by one. The official validation rows are not used.
    """

    name = "celeba"

    def source(self) -> tuple[type[Any], tuple[Arguments, ...]]:
        return datasets.CelebA, _SPLIT_NAME

    def open(self, job: DataJob) -> Opened:
        base = f"{self.name}/{datasets.CelebA.base_folder}"
        files = {name: md5 for _, md5, name in datasets.CelebA.file_list if name.endswith(".txt")}
        for name, md5 in files.items():
            path = require(job, f"{base}/{name}", self.hint)
            if not check_integrity(str(path), md5):
                raise DataError(
                    "corrupt-file", "is not the published file (md5 differs)", where=f"{base}/{name}",
                    hint=self.hint,
                )  # fmt: skip
        images = f"{base}/img_align_celeba"
        if not (Path(job.root) / images).is_dir():
            raise DataError("missing-file", "is not there", where=images, hint=self.hint)
        root = str(Path(job.root) / self.name)
        train, test = (datasets.CelebA(root=root, download=False, **split) for split in _SPLIT_NAME)
        names = [name for name in train.attr_names if name]
        if self.p.attribute not in names:
            raise _unknown(f"no attribute {self.p.attribute!r}", self.p.attribute, names, "celeba.attribute")
        column = names.index(self.p.attribute)
        people = torch.cat([train.identity, test.identity]).unique()

        again = "unpack img_align_celeba.zip again"

        def rows(part: Any, first: int) -> Rows:
            def read(i: int) -> Image.Image:
                file = f"{images}/{part.filename[i]}"
                with (
                    one_line("corrupt-file", "cannot be decoded", where=file, hint=again),
                    Image.open(require(job, file, again)) as image,
                ):
                    return image.convert("RGB")

            return Rows(
                labels=part.attr[:, column].long(),
                ids=first + torch.arange(len(part.filename)),
                pixels=item_reader(read, self.name),
                columns={"person": torch.searchsorted(people, part.identity.flatten())},
                values={"person": tuple(str(person) for person in people.tolist())},
            )

        outputs = (f"not {self.p.attribute}", self.p.attribute)
        return rows(train, 0), rows(test, len(train.filename)), outputs


_NAMED: dict[str, type[Images[ImageParams]]] = {
    component.__name__: component for component in (MNIST, FashionMNIST, KMNIST, CIFAR10, CIFAR100, SVHN)
}

_ARGUMENTS: dict[str, tuple[Arguments, ...]] = {
    # Test labels that are not published are replaced by the validation rows.
    "CLEVRClassification": ({"split": "train"}, {"split": "val"}),
    "EMNIST": ({"split": "balanced", "train": True}, {"split": "balanced", "train": False}),
    "FGVCAircraft": ({"split": "trainval"}, {"split": "test"}),
    "ImageNet": ({"split": "train"}, {"split": "val"}),
    "Imagenette": ({"split": "train"}, {"split": "val"}),
    "INaturalist": ({"version": "2021_train"}, {"version": "2021_valid"}),
    "LSUN": ({"classes": "train"}, {"classes": "val"}),
    "OxfordIIITPet": ({"split": "trainval"}, {"split": "test"}),
    "Places365": ({"split": "train-standard"}, {"split": "val"}),
}
"""Arguments of training and test rows where they are not ``train=True/False`` or ``split="train"/"test"``."""

_OTHER_TASKS = frozenset(
    (
        "CarlaStereo",
        "Cityscapes",
        "CREStereo",
        "DatasetFolder",
        "ETH3DStereo",
        "FakeData",
        "FallingThingsStereo",
        "FlyingChairs",
        "FlyingThings3D",
        "HD1K",
        "InStereo2k",
        "Kitti",
        "Kitti2012Stereo",
        "Kitti2015Stereo",
        "KittiFlow",
        "LFWPairs",
        "Middlebury2014Stereo",
        "MovingMNIST",
        "SBDataset",
        "SBU",
        "SceneFlowStereo",
        "Sintel",
        "SintelStereo",
        "VisionDataset",
        "VOCDetection",
        "VOCSegmentation",
        "WIDERFace",
    )
)
"""Classes of torchvision.datasets whose rows are not images from files with one class each."""

_ARCHIVES = (".gz", ".tgz", ".tar", ".zip", ".7z", ".xz")


class Torchvision(Images[TorchvisionParams]):
    """Any data set of torchvision whose rows are images with one class each.

    Which files torchvision reads is not known in general, so every file of the folder except packed ones is recorded as
    read. A data set without test rows is divided (stratified by ``split_seed``); its ids are positions in all rows.
    """

    name = "torchvision"

    def load(self, job: DataJob) -> Splits:
        named = self._named()
        return named.load(job) if named else super().load(job)

    def fetch(self, job: DataJob) -> None:
        named = self._named()
        if named:
            named.fetch(job)
        else:
            super().fetch(job)

    @property
    def folder(self) -> str:
        folder = PurePosixPath(self.p.folder or self.p.dataset.lower())
        if folder.is_absolute() or ".." in folder.parts:
            raise UsageError("bad-parameter", f"{folder} is not below the data folder", where="torchvision.folder")
        return str(folder)

    @property
    def hint(self) -> str:
        if _downloads(self.source()[0]):
            return f"run `unlearnbench data fetch torchvision --set torchvision.dataset={self.p.dataset}`"
        return f"torchvision cannot download {self.p.dataset}: put its files there"

    def _named(self) -> Images[ImageParams] | None:
        """The component of a data set that has a name of its own, unless another folder is asked for."""
        if self.p.dataset == "CelebA":
            raise UsageError(
                "bad-parameter", "CelebA needs an attribute as class", where="torchvision.dataset",
                hint="use the data set celeba",
            )  # fmt: skip
        component = _NAMED.get(self.p.dataset)
        return component(self.p) if component and not self.p.folder else None

    def source(self) -> tuple[type[Any], tuple[Arguments, ...]]:
        name, where = self.p.dataset, "torchvision.dataset"
        if not name:
            raise UsageError("bad-parameter", "names no data set", where=where, hint="--set torchvision.dataset=DTD")
        known = [n for n in datasets.__all__ if inspect.isclass(getattr(datasets, n))]
        if name not in known:
            raise _unknown(f"torchvision has no data set {name!r}", name, sorted(set(known) - _OTHER_TASKS), where)
        if name in _OTHER_TASKS:
            raise UsageError("bad-parameter", f"{name} is not a data set of images with one class each", where=where)
        source: type[Any] = getattr(datasets, name)
        if name in _ARGUMENTS:
            return source, _ARGUMENTS[name]
        parameters = inspect.signature(source).parameters
        needed = [p.name for p in parameters.values() if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
        if needed != ["root"]:
            unknown = ", ".join(n for n in needed if n != "root")
            raise UsageError("bad-parameter", f"{name} needs arguments that are not known here: {unknown}", where=where)
        if "train" in parameters:
            return source, _TRAIN_FLAG
        return source, (_SPLIT_NAME if "split" in parameters else ({},))

    def open(self, job: DataJob) -> Opened:
        source, arguments = self.source()
        root = Path(job.root) / self.folder
        files = sorted(path for path in root.rglob("*") if path.is_file() and path.suffix not in _ARCHIVES)
        if not files:
            raise DataError("missing-file", "has no files", where=self.folder, hint=self.hint)
        for path in files:
            job.file(path.relative_to(Path(job.root)).as_posix())
        roots = [root] * len(arguments)
        if source is datasets.ImageFolder and (root / "train").is_dir() and (root / "test").is_dir():
            arguments, roots = ({}, {}), [root / "train", root / "test"]
        if "download" in inspect.signature(source).parameters:
            arguments = tuple({**split, "download": False} for split in arguments)
        parts = [source(root=str(r), **split) for r, split in zip(roots, arguments, strict=True)]
        if len(parts) == 2:
            train, test = parts
            if getattr(train, "classes", None) != getattr(test, "classes", None):
                raise DataError("bad-data", "training and test rows have different classes", where=self.folder)
            first, second = _rows(train, 0, self.name), _rows(test, len(train), self.name)
            n_classes = 1 + int(torch.maximum(first.labels.max(), second.labels.max()))
            return first, second, _class_names(train, n_classes)
        rows = _rows(parts[0], 0, self.name)
        n_test = max(1, round(len(rows.labels) * self.p.test_fraction))
        held = choose(rows.labels, n_test, derive_seed(self.p.split_seed, "split"), "torchvision.test_fraction")
        kept = torch.ones(len(rows.labels), dtype=torch.bool).index_fill(0, held, False).nonzero().flatten()
        return rows.at(kept), rows.at(held), _class_names(parts[0], 1 + int(rows.labels.max()))


def _downloads(source: type[Any]) -> bool:
    return "download" in inspect.signature(source).parameters or issubclass(source, datasets.MNIST)


def _paired(train: Any, test: Any, outputs: tuple[str, ...], where: str) -> Opened:
    return _rows(train, 0, where), _rows(test, len(train), where), outputs


def _rows(source: Any, first: int, where: str) -> Rows:
    """Rows of a torchvision data set with ids from ``first``: its array if it has one, else item by item."""
    labels = _labels(source, where)
    ids = first + torch.arange(len(labels))
    images = from_array(getattr(source, "data", None))
    if images is not None and len(images) == len(labels) and all(_same(images[i], source[i][0]) for i in (0, -1)):
        return Rows(labels, ids, array_reader(images))

    def read(i: int) -> Image.Image:
        with one_line("corrupt-file", "cannot be decoded", where=_place(source, i, where), hint="replace the file"):
            image = source[i][0]
        if not isinstance(image, Image.Image):
            raise DataError("bad-data", f"rows are {type(image).__name__}, not images", where=where)
        return image

    return Rows(labels, ids, item_reader(read, where))


def _labels(source: Any, where: str) -> Tensor:
    """Classes [n] int64 of a torchvision data set: from where it keeps them, else by reading every item.

    torchvision has no rule for where labels are kept, so the first and last item must confirm what was found.
    """
    n = len(source)
    if not n:
        raise DataError("bad-data", "has no rows", where=where)
    ends = [_class(source[i][1], where) for i in (0, n - 1)]
    for attribute in ("targets", "labels", "_labels", "y", "samples", "_samples"):
        kept = getattr(source, attribute, None)
        if attribute.endswith("samples") and isinstance(kept, list):
            kept = [label for _, label in kept]
        if not isinstance(kept, (list, np.ndarray, Tensor)) or len(kept) != n:
            continue
        found = np.asarray(kept)
        found = found[:, 0] if found.ndim == 2 else found  # QMNIST: class first, then details of the writer
        if found.ndim == 1 and found.dtype.kind in "iu" and [found[0], found[-1]] == ends:
            return torch.from_numpy(found.astype(np.int64))
    return torch.tensor([_class(source[i][1], where) for i in range(n)])


def _class(target: Any, where: str) -> int:
    if isinstance(target, Tensor) and target.ndim == 0:
        target = target.item()
    if not isinstance(target, (int, np.integer)):
        raise DataError("bad-data", f"its targets are {type(target).__name__}, not classes", where=where)
    return int(target)


def _same(image: Tensor, item: Any) -> bool:
    """Whether an array holds, bit for bit, what the data set hands out as an image."""
    return isinstance(item, Image.Image) and np.array_equal(np.atleast_3d(np.asarray(item)), image.permute(1, 2, 0))


def _place(source: Any, i: int, where: str) -> str:
    """The file of a row where the data set tells it."""
    for attribute in ("samples", "_samples"):
        if isinstance(kept := getattr(source, attribute, None), list):
            return f"{where}: {Path(str(kept[i][0])).name}"
    return f"{where}: row {i}"


def _class_names(source: Any, n: int) -> tuple[str, ...]:
    """Names of the classes if the data set has as many distinct ones as needed, else numbers."""
    names = getattr(source, "classes", None) or getattr(source, "categories", None)
    if isinstance(names, (list, tuple)):
        texts = tuple(", ".join(name) if isinstance(name, tuple) else str(name) for name in names)
        if len(texts) >= n and len(set(texts)) == len(texts):
            return texts
    return tuple(str(k) for k in range(n))


def _unknown(message: str, name: str, known: list[str], where: str) -> UsageError:
    folded = {k.lower(): k for k in known}
    close = [folded[k] for k in difflib.get_close_matches(name.lower(), folded, n=3)]
    hint = f"did you mean {', '.join(close)}?" if close else f"known are {', '.join(known)}"
    return UsageError("bad-parameter", message, where=where, hint=hint)
