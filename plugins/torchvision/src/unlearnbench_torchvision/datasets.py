"""The named data sets of a few files: the MNIST family, CIFAR and SVHN."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from torchvision import datasets
from torchvision.datasets.utils import check_integrity

from unlearnbench.api import DataError
from unlearnbench.api.runtime import DataJob, require_file
from unlearnbench_torchvision.base import SPLIT_NAME, TRAIN_FLAG, Arguments, Images
from unlearnbench_torchvision.files import idx_shape, stage_idx
from unlearnbench_torchvision.params import ImageParams
from unlearnbench_torchvision.rows import Opened, paired


class _Idx(Images[ImageParams]):
    """The MNIST family: images [n, 1, 28, 28]; idx files, packed or not, below ``<name>/<class>/raw``."""

    origin: ClassVar[type[datasets.MNIST]]

    def source(self) -> tuple[type[Any], tuple[Arguments, ...]]:
        return self.origin, TRAIN_FLAG

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
        train, test = (self.origin(root=str(root), download=False, **split) for split in TRAIN_FLAG)
        return paired(train, test, tuple(self.origin.classes), self.name)

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
            require_file(job, f"{self.name}/{name}", self.hint)
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
        return paired(train, test, tuple(getattr(train, "classes", "0123456789")), self.name)

    @abstractmethod
    def files(self) -> dict[str, str | None]:
        """md5 by file, relative to torchvision's root."""


class _Cifar(_Checked):
    origin: ClassVar[type[datasets.CIFAR10]]

    def source(self) -> tuple[type[Any], tuple[Arguments, ...]]:
        return self.origin, TRAIN_FLAG

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
        return datasets.SVHN, SPLIT_NAME

    def files(self) -> dict[str, str | None]:
        return {datasets.SVHN.split_list[s["split"]][1]: datasets.SVHN.split_list[s["split"]][2] for s in SPLIT_NAME}
