"""What all of torchvision's data sets share: ``load`` never downloads; ``fetch`` does, whole or not at all."""

from __future__ import annotations

import inspect
import sys
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, TypeVar

from torchvision import datasets

from unlearnbench.api import DataError, UsageError, did_you_mean
from unlearnbench.api.runtime import Component, DataJob, Splits, one_line
from unlearnbench_torchvision.files import merge
from unlearnbench_torchvision.images import to_splits
from unlearnbench_torchvision.params import ImageParams
from unlearnbench_torchvision.rows import Opened

P = TypeVar("P", bound=ImageParams, covariant=True)
Arguments = dict[str, Any]

TRAIN_FLAG: tuple[Arguments, Arguments] = ({"train": True}, {"train": False})
SPLIT_NAME: tuple[Arguments, Arguments] = ({"split": "train"}, {"split": "test"})


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
        if not downloadable(source):
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


def downloadable(source: type[Any]) -> bool:
    """Whether a class of torchvision can download its files; MNIST's relatives pass the argument on unseen."""
    return "download" in inspect.signature(source).parameters or issubclass(source, datasets.MNIST)


def unknown_value(message: str, name: str, known: list[str], where: str) -> UsageError:
    """A parameter's value that is none of the known ones, with those that are close to it."""
    return UsageError("bad-parameter", message, where=where, hint=did_you_mean(name, known))
