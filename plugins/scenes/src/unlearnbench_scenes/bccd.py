"""BCCD: blood under the microscope, with boxes of its cells."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from unlearnbench.api import DataError
from unlearnbench.api.runtime import Component, Data, DataJob, Splits, padded_boxes, present, require_file
from unlearnbench_scenes.plugin import BccdParams
from unlearnbench_scenes.voc import Tar, pixels, read_boxes

NAMES = ("RBC", "WBC", "Platelets")

FILE = "bccd/bccd-voc.tar"
HINT = "pack the folder BCCD of github.com/Shenggan/BCCD_Dataset as bccd/bccd-voc.tar, plain tar"


class Bccd(Component[BccdParams]):
    """The Blood Cell Count and Detection data set (Shenggan, cosmicad; 364 images of 640x480 pixels, MIT).

    Inputs are [n, 3, height, width] float32 in [0, 1]. The official lists train (205) and val (87) are the training
    rows, test (72) the test rows. Of 4,888 boxes 2 (a point each, of red cells, in training images) have no area and
    are left out, so 4,886 remain: 4,153 red cells, 372 white cells, 361 platelets. Boxes reach the image's edge at most
    and are scaled with it. An image without a class is a row like any other.

    As multi-label the rows say which cells an image has a box of.
    """

    def load(self, job: DataJob) -> Splits:
        path = require_file(job, FILE, HINT)
        with Tar(path, FILE, HINT) as archive:
            lists = [archive.text(f"BCCD/ImageSets/Main/{split}.txt").split() for split in ("train", "val", "test")]
            stems = [stem for names in lists for stem in names]
            trained, tested = len(lists[0]) + len(lists[1]), len(lists[2])
            if len(set(stems)) != len(stems):
                raise archive.fault("corrupt-file", "BCCD/ImageSets/Main", "an image stands in the lists twice")
            if not trained or not tested:
                raise archive.fault("corrupt-file", "BCCD/ImageSets/Main", "a list is empty")
            rows = [self._row(archive, stem) for stem in stems]
        x = torch.stack([image for image, _ in rows])
        y = padded_boxes([boxes for _, boxes in rows])
        if self.p.task == "multi-label":
            y = shown(y)
        ids = torch.arange(len(stems))
        parts = (
            Data(x=x[part], y=y[part], ids=ids[part], outputs=NAMES) for part in (slice(trained), slice(trained, None))
        )
        return Splits(*parts)

    def _row(self, archive: Tar, stem: str) -> tuple[Tensor, Tensor]:
        """An image [3, height, width] and its boxes [k, 5] in its pixels."""
        image = archive.image(f"BCCD/JPEGImages/{stem}.jpg")
        name = f"BCCD/Annotations/{stem}.xml"
        boxes = read_boxes(archive, name, image.size)
        for label, *_ in boxes:
            if label not in NAMES:
                message = f"a box is of {label!r}, which is none of {', '.join(NAMES)}"
                raise DataError("bad-annotations", message, where=archive.place(name), hint=HINT)
        across, down = self.p.width / image.width, self.p.height / image.height
        corners = np.array([(*box[1:], NAMES.index(box[0])) for box in boxes], np.float64).reshape(-1, 5)
        corners *= (across, down, across, down, 1)
        # Rounding must not push the image's own edge out of it.
        scaled = corners.clip(0, (self.p.width, self.p.height, self.p.width, self.p.height, len(NAMES)))
        return torch.from_numpy(pixels(image, self.p.width, self.p.height)), torch.from_numpy(scaled).float()


def shown(boxes: Tensor) -> Tensor:
    """Which classes have a box [n, classes] float32, 0 or 1, of boxes [n, m, 5]."""
    labels = torch.zeros(len(boxes), len(NAMES))
    row, place = present(boxes).nonzero(as_tuple=True)
    labels[row, boxes[row, place, 4].long()] = 1
    return labels
