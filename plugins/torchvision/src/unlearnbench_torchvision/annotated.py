"""Images whose annotations are more than one class: several labels, a mask or boxes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import torch
from torch import Tensor

from unlearnbench.api import DataError
from unlearnbench.api.runtime import Data, DataJob, Splits, derive_seed
from unlearnbench_torchvision.base import Images
from unlearnbench_torchvision.images import Rows, as_numbers, channel_statistics, choose
from unlearnbench_torchvision.params import AnnotatedParams

P = TypeVar("P", bound=AnnotatedParams, covariant=True)
Part = Literal["train", "test", "validation"]
Read = Callable[[Tensor, int | None], tuple[Tensor, Tensor]]
"""Positions and a size give uint8 images [m, channels, h, w] and their annotations [m, ...]."""


@dataclass(frozen=True)
class Marked(Rows):
    """Rows whose annotations are read together with their pixels, since boxes and masks are scaled like these."""

    read: Read = field(kw_only=True)


def marked_rows(
    ids: Tensor,
    read: Read,
    columns: Mapping[str, Tensor] | None = None,
    values: Mapping[str, tuple[str, ...]] | None = None,
) -> Marked:
    """Rows with these ids; their labels are all 0, so that draws are not stratified."""
    return Marked(
        labels=torch.zeros_like(ids),
        ids=ids,
        pixels=lambda index, size: read(index, size)[0],
        columns=columns or {},
        values=values or {},
        read=read,
    )


class AnnotatedImages(Images[P]):
    """What data sets of annotated images share: rows are drawn, read once, and scaled to numbers."""

    def load(self, job: DataJob) -> Splits:
        """Images [n, 3, h, w] float32 and the annotations of the data set's task.

        Raises:
            DataError: files that are missing or damaged, annotations that cannot be right, or fewer rows than asked
                for.
            UsageError: a parameter names something that does not exist.
        """
        with self._reading():
            parts, outputs = self.parts(job)
            return self._splits(parts, outputs)

    def open(self, job: DataJob) -> tuple[Marked, Marked, tuple[str, ...]]:
        parts, outputs = self.parts(job)
        return parts["train"], parts["test"], outputs

    @abstractmethod
    def parts(self, job: DataJob) -> tuple[Mapping[Part, Marked], tuple[str, ...]]:
        """Training, test and perhaps validation rows before any is read, and the names of the outputs."""

    def _splits(self, parts: Mapping[Part, Marked], outputs: tuple[str, ...]) -> Splits:
        found: dict[Part, tuple[Marked, Tensor, Tensor, Tensor]] = {}
        for part, rows in parts.items():
            index = self._drawn(part, len(rows.ids))
            found[part] = rows, index, *rows.read(index, self.p.image_size)
        sizes = {pixels.shape[2:] for _, _, pixels, _ in found.values()}
        if len(sizes) > 1:
            raise DataError(
                "bad-data", "training and test images differ in size", where=self.name,
                hint=f"--set {self.name}.image_size=64",
            )  # fmt: skip
        statistics = channel_statistics(found["train"][2]) if self.p.normalise else None

        def data(part: Part) -> Data:
            rows, index, pixels, y = found.pop(part)  # the bytes of a part are let go before the next is scaled
            return Data(
                x=as_numbers(pixels, statistics),
                y=y,
                ids=rows.ids[index],
                outputs=outputs,
                columns={name: column[index] for name, column in rows.columns.items()},
                values=rows.values,
            )

        return Splits(
            train=data("train"), test=data("test"), validation=data("validation") if "validation" in found else None
        )

    def _drawn(self, part: Part, n: int) -> Tensor:
        asked, name = (self.p.rows, "rows") if part == "train" else (self.p.test_rows, "test_rows")
        if part == "validation" and asked is not None:
            asked = min(asked, n)  # the parameter is about test rows, of which there are more
        return choose(
            torch.zeros(n, dtype=torch.int64),
            asked,
            derive_seed(self.p.split_seed, self.name, part),
            f"{self.name}.{name}",
        )
