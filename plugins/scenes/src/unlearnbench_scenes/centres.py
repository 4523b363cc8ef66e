"""Objects as points: where the centres of boxes are on a grid of cells, what is wanted there, and boxes read back.

After Zhou, Wang and Kraehenbuehl, "Objects as Points" (2019), section 3 and 4. A cell is a square of ``stride`` pixels;
a box belongs to the cell in which its centre lies. The Gaussian around a centre is as long and as wide as the box asks
for, as in Liu et al., "Training-Time-Friendly Network for Real-Time Object Detection" (2020), section 3.2: a round one
would take places beside a long box for its centre. Widths and heights are learnt as logarithms of cells, and not, as in
the first paper, as pixels, so that a small box and a large one weigh the same.

Nothing here looks at a value to decide what to compute, so ``torch.func.vmap`` can map any of it over rows.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from unlearnbench.api.runtime import NOTHING, present

SHARE = 1 / 12
"""Spread of a Gaussian as a share of the box's length in the same direction."""

ALPHA, BETA = 2, 4
"""Exponents of the focal loss: of what is wrong with a probability, and of the distance from a centre."""


class Maps(NamedTuple):
    """What a detector says about each cell: class logits [n, k, h, w], log sizes and offsets [n, 2, h, w] (x, y)."""

    heat: Tensor
    size: Tensor
    offset: Tensor

    def precise(self) -> Maps:
        """In single precision at least: autocast gives half precision, in which a focal loss loses its small terms."""
        return Maps(*(m.to(torch.promote_types(m.dtype, torch.float32)) for m in self))


class Places(NamedTuple):
    """Annotated boxes [n, m] on a grid; places without a box have cell 0, class 0, size 1 and offset 0."""

    there: Tensor
    """Whether there is a box (bool)."""
    label: Tensor
    """Its class."""
    column: Tensor
    row: Tensor
    """The cell of its centre."""
    size: Tensor
    """Width and height in cells [n, m, 2]."""
    offset: Tensor
    """Where in its cell the centre lies, x and y from 0 to 1 [n, m, 2]."""


def places(y: Tensor, height: int, width: int, stride: int) -> Places:
    """Where the boxes ``y`` [n, m, 5] are on a grid of ``height`` x ``width`` cells."""
    there = present(y)
    corners = y[..., :4].nan_to_num() / stride
    centre = (corners[..., :2] + corners[..., 2:]) / 2
    column = centre[..., 0].long().clamp(0, width - 1)
    row = centre[..., 1].long().clamp(0, height - 1)
    size = torch.where(there[..., None], corners[..., 2:] - corners[..., :2], 1)
    return Places(there, y[..., 4].nan_to_num().long(), column, row, size, centre - torch.stack([column, row], -1))


def peaks(at: Places, classes: int, height: int, width: int, least_sigma: float) -> Tensor:
    """The wanted heat [n, classes, height, width]: a Gaussian around each centre cell, the highest where they overlap.

    The spread along each axis is ``SHARE`` of the box's length, in cells, and ``least_sigma`` at least.
    """
    sigma = (SHARE * at.size).clamp(min=least_sigma)
    across = torch.arange(width, device=sigma.device) - at.column[..., None]
    down = torch.arange(height, device=sigma.device) - at.row[..., None]
    exponent = (across / sigma[..., :1]).square()[..., None, :] + (down / sigma[..., 1:]).square()[..., None]
    each = ((-exponent / 2).exp() * at.there[..., None, None]).flatten(2)
    empty = each.new_zeros(each.shape[0], classes, height * width)
    of_class = at.label[..., None].expand_as(each)
    return empty.scatter_reduce(1, of_class, each, "amax").reshape(-1, classes, height, width)


def focal(logits: Tensor, wanted: Tensor) -> Tensor:
    """Penalty-reduced focal loss of each cell, the same shape; exactly 1 in ``wanted`` is a centre (equation 1)."""
    p = logits.sigmoid()
    centre = (1 - p).pow(ALPHA) * F.logsigmoid(logits)
    beside = (1 - wanted).pow(BETA) * p.pow(ALPHA) * F.logsigmoid(-logits)
    return -torch.where(wanted == 1, centre, beside)


def gathered(cells: Tensor, at: Places) -> Tensor:
    """The values of maps [n, c, h, w] in the centre cells [n, m, c]."""
    index = at.row * cells.shape[3] + at.column
    return cells.flatten(2).transpose(1, 2).gather(1, index[..., None].expand(-1, -1, cells.shape[1]))


def losses(maps: Maps, y: Tensor, stride: int, least_sigma: float, size_weight: float, offset_weight: float) -> Tensor:
    """The loss of each image [n]: heat, sizes and offsets, each over the number of boxes of the image (at least 1)."""
    maps = maps.precise()
    classes, height, width = maps.heat.shape[1:]
    at = places(y.to(maps.heat.dtype), height, width, stride)
    heat = focal(maps.heat, peaks(at, classes, height, width, least_sigma)).flatten(1).sum(1)
    size = (gathered(maps.size, at) - at.size.log()).abs().sum(2)
    offset = (gathered(maps.offset, at) - at.offset).abs().sum(2)
    boxes = ((size_weight * size + offset_weight * offset) * at.there).sum(1)
    return (heat + boxes) / at.there.sum(1).clamp(min=1)


def log_classes(heat: Tensor, y: Tensor, stride: int) -> Tensor:
    """Log-probabilities of the classes in the centre cell of each box [n, m, classes]; 0 where there is no box."""
    height, width = heat.shape[2:]
    at = places(y, height, width, stride)
    return torch.where(at.there[..., None], gathered(heat, at).log_softmax(-1), 0)


def detections(maps: Maps, height: int, width: int, stride: int, most: int) -> Tensor:
    """Boxes read off maps of images of ``height`` x ``width`` pixels [n, most, 6], in the order of falling scores.

    Of each class, cells that no neighbour (of the 3x3 around them) outdoes; the ``most`` with the highest probability.
    Boxes are cut off at the border; one of which nothing is left is no detection. What is left over is ``NOTHING``. An
    image whose maps hold anything but numbers has NaN everywhere, so that nobody takes it for an image without objects.
    """
    heat, size, offset = maps.precise()
    finite = torch.stack([m.isfinite().flatten(1).all(1) for m in (heat, size, offset)]).all(0)
    corners = _corners(size, offset, height, width, stride)
    area = (corners[..., 0] < corners[..., 2]) & (corners[..., 1] < corners[..., 3])
    p = heat.sigmoid()
    kept = (p == F.max_pool2d(p, 3, stride=1, padding=1)).flatten(2) & area[:, None]
    scores, order = (p.flatten(2) * kept).flatten(1).topk(min(most, p[0].numel()))
    cells, per_class = order % corners.shape[1], corners.shape[1]
    boxes = corners.gather(1, cells[..., None].expand(-1, -1, 4))
    found = torch.cat([boxes, scores[..., None], (order // per_class)[..., None]], 2)
    nothing = found.new_tensor(NOTHING)
    found = torch.where(scores[..., None] > 0, found, nothing)
    found = torch.cat([found, nothing.expand(len(found), most - found.shape[1], 6)], 1)
    return torch.where(finite[:, None, None], found, torch.nan)


def _corners(size: Tensor, offset: Tensor, height: int, width: int, stride: int) -> Tensor:
    """The boxes of all cells, row after row, within the image [n, cells, 4] (pixels)."""
    rows, columns = (torch.arange(k, device=size.device) for k in size.shape[2:])
    x, y = ((offset + torch.stack(torch.meshgrid(columns, rows, indexing="xy"))) * stride).flatten(2).unbind(1)
    half_width, half_height = (size.exp() * (stride / 2)).flatten(2).unbind(1)
    sides = [
        (x - half_width).clamp(0, width),
        (y - half_height).clamp(0, height),
        (x + half_width).clamp(0, width),
        (y + half_height).clamp(0, height),
    ]
    return torch.stack(sides, -1)
