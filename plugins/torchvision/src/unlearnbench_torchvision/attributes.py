"""CelebA with several of its attributes as labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import torch
from torch import Tensor
from torchvision import datasets

from unlearnbench.api import UsageError
from unlearnbench.api.runtime import DataJob
from unlearnbench_torchvision.annotated import AnnotatedImages, Marked, Part, marked_rows
from unlearnbench_torchvision.base import SPLIT_NAME, Arguments
from unlearnbench_torchvision.celeba import FOLDER, attribute_column, face_reader, faces
from unlearnbench_torchvision.images import item_reader
from unlearnbench_torchvision.params import CelebAAttributesParams


class CelebAAttributes(AnnotatedImages[CelebAAttributesParams]):
    """CelebA, aligned faces (Liu et al. 2015): attributes as independent labels, the column ``person``.

    An id is the number of the image's file less one, whichever way the faces are divided.
    """

    name = "celeba-attributes"

    @property
    def folder(self) -> str:
        """The files are those of ``celeba``."""
        return FOLDER

    def source(self) -> tuple[type[Any], tuple[Arguments, ...]]:
        return datasets.CelebA, SPLIT_NAME

    def parts(self, job: DataJob) -> tuple[Mapping[Part, Marked], tuple[str, ...]]:
        where = f"{self.name}.attributes"
        names = self.p.attributes
        if len(set(names)) < len(names):
            raise UsageError("bad-parameter", "names an attribute twice", where=where, hint="name each once")
        if self.p.validation and self.p.split == "paper":
            raise UsageError(
                "bad-parameter", "the paper's division has no validation rows", where=f"{self.name}.validation",
                hint=f"--set {self.name}.split=official",
            )  # fmt: skip
        official = self._official(job) if self.p.split == "official" else self._by_number(job)
        columns = [attribute_column(official["train"][0], name, where) for name in names]
        people = torch.cat([part.identity[index] for part, index in official.values()]).unique()

        def rows(part: Any, index: Tensor) -> Marked:
            pixels = item_reader(face_reader(job, part), self.name)
            y = part.attr[:, columns].float()
            numbers = [int(PurePosixPath(part.filename[i]).stem) for i in index.tolist()]
            return marked_rows(
                ids=torch.tensor(numbers) - 1,
                read=lambda positions, size: (pixels(index[positions], size), y[index[positions]]),
                columns={"person": torch.searchsorted(people, part.identity[index].flatten())},
                values={"person": tuple(str(person) for person in people.tolist())},
            )

        return {name: rows(part, index) for name, (part, index) in official.items()}, names

    def _official(self, job: DataJob) -> dict[Part, tuple[Any, Tensor]]:
        """torchvision's data set and the positions in it, by part: the published partition, no person in two parts."""
        wanted: dict[Part, Arguments] = {"train": SPLIT_NAME[0], "test": SPLIT_NAME[1]}
        if self.p.validation:
            wanted["validation"] = {"split": "valid"}
        found = faces(job, self.hint, *wanted.values())
        return {name: (part, torch.arange(len(part.filename))) for name, part in zip(wanted, found, strict=True)}

    def _by_number(self, job: DataJob) -> dict[Part, tuple[Any, Tensor]]:
        """The division of the essential graph's authors: by number, the last quarter (rounded down) for testing."""
        (part,) = faces(job, self.hint, {"split": "all"})
        order = sorted(range(len(part.filename)), key=lambda i: int(PurePosixPath(part.filename[i]).stem))
        first = len(order) - len(order) // 4
        return {"train": (part, torch.tensor(order[:first])), "test": (part, torch.tensor(order[first:]))}
