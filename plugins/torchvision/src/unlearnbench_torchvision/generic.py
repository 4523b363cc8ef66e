"""Any other data set of torchvision, and what has to be known of those that differ from the rest."""

from __future__ import annotations

import inspect
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torchvision import datasets

from unlearnbench.api import DataError, UsageError
from unlearnbench.api.runtime import DataJob, Splits, derive_seed
from unlearnbench_torchvision.base import SPLIT_NAME, TRAIN_FLAG, Arguments, Images, downloadable, unknown_value
from unlearnbench_torchvision.datasets import CIFAR10, CIFAR100, KMNIST, MNIST, SVHN, FashionMNIST
from unlearnbench_torchvision.images import choose
from unlearnbench_torchvision.params import ImageParams, TorchvisionParams
from unlearnbench_torchvision.rows import Opened, class_names, to_rows

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
        if downloadable(self.source()[0]):
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
            raise unknown_value(f"torchvision has no data set {name!r}", name, sorted(set(known) - _OTHER_TASKS), where)
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
            return source, TRAIN_FLAG
        return source, (SPLIT_NAME if "split" in parameters else ({},))

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
            first, second = to_rows(train, 0, self.name), to_rows(test, len(train), self.name)
            n_classes = 1 + int(torch.maximum(first.labels.max(), second.labels.max()))
            return first, second, class_names(train, n_classes)
        rows = to_rows(parts[0], 0, self.name)
        n_test = max(1, round(len(rows.labels) * self.p.test_fraction))
        held = choose(rows.labels, n_test, derive_seed(self.p.split_seed, "split"), "torchvision.test_fraction")
        kept = torch.ones(len(rows.labels), dtype=torch.bool).index_fill(0, held, False).nonzero().flatten()
        return rows.at(kept), rows.at(held), class_names(parts[0], 1 + int(rows.labels.max()))
