"""CelebA: lists of numbers for all faces, and one file for each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torchvision import datasets
from torchvision.datasets.utils import check_integrity

from unlearnbench.api import DataError
from unlearnbench.api.runtime import DataJob, require_file
from unlearnbench_torchvision.base import SPLIT_NAME, Arguments, Images, unknown_value
from unlearnbench_torchvision.images import Rows, item_reader, photograph
from unlearnbench_torchvision.params import CelebAParams
from unlearnbench_torchvision.rows import Opened

FOLDER = "celeba"
"""torchvision's root, relative to the data folder."""
_BASE = f"{FOLDER}/{datasets.CelebA.base_folder}"
_IMAGES = f"{_BASE}/img_align_celeba"


class CelebA(Images[CelebAParams]):
    """CelebA, aligned faces (Liu et al. 2015): one attribute as class, the column ``person`` from the identities.

    Only the images of the drawn rows are read, one by one. The official validation rows are not used.
    """

    name = "celeba"

    def source(self) -> tuple[type[Any], tuple[Arguments, ...]]:
        return datasets.CelebA, SPLIT_NAME

    def open(self, job: DataJob) -> Opened:
        train, test = faces(job, self.hint, *SPLIT_NAME)
        column = attribute_column(train, self.p.attribute, "celeba.attribute")
        people = torch.cat([train.identity, test.identity]).unique()

        def rows(part: Any, first: int) -> Rows:
            return Rows(
                labels=part.attr[:, column].long(),
                ids=first + torch.arange(len(part.filename)),
                pixels=item_reader(face_reader(job, part), self.name),
                columns={"person": torch.searchsorted(people, part.identity.flatten())},
                values={"person": tuple(str(person) for person in people.tolist())},
            )

        outputs = (f"not {self.p.attribute}", self.p.attribute)
        return rows(train, 0), rows(test, len(train.filename)), outputs


def faces(job: DataJob, hint: str, *splits: Arguments) -> list[Any]:
    """torchvision's data sets of these splits, after all lists were found to be the published ones.

    Raises:
        DataError: lists are missing or not the published ones, or there is no folder of images.
    """
    lists = {name: md5 for _, md5, name in datasets.CelebA.file_list if name.endswith(".txt")}
    for name, md5 in lists.items():
        path = require_file(job, f"{_BASE}/{name}", hint)
        if not check_integrity(str(path), md5):
            raise DataError(
                "corrupt-file", "is not the published file (md5 differs)", where=f"{_BASE}/{name}", hint=hint
            )
    if not (Path(job.root) / _IMAGES).is_dir():
        raise DataError("missing-file", "is not there", where=_IMAGES, hint=hint)
    root = str(Path(job.root) / FOLDER)
    return [datasets.CelebA(root=root, download=False, **split) for split in splits]


def attribute_column(part: Any, attribute: str, where: str) -> int:
    """The column of an attribute in ``part.attr``.

    Raises:
        UsageError: CelebA has no such attribute.
    """
    names = [name for name in part.attr_names if name]
    if attribute not in names:
        raise unknown_value(f"no attribute {attribute!r}", attribute, names, where)
    return names.index(attribute)


def face_reader(job: DataJob, part: Any) -> Callable[[int], Image.Image]:
    """Decodes the face at a position of one of torchvision's data sets."""
    return lambda i: photograph(job, f"{_IMAGES}/{part.filename[i]}", "unpack img_align_celeba.zip again")
