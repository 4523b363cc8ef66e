"""Linear regions of small networks, worked out in numpy from their weights, for the tests of what is made of them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unlearnbench_prune.parts import Region

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Net:
    """Dense layers with ReLU between them."""

    weights: tuple[Array, ...]
    biases: tuple[Array, ...]

    def outputs(self, x: Array) -> Array:
        """Of rows ``x`` [n, features]."""
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = np.maximum(x @ weight.T + bias, 0)
        return x @ self.weights[-1].T + self.biases[-1]

    def region(self, x: Array) -> Region:
        """The region of the row ``x`` [features]."""
        slope, constant = np.eye(len(x)), np.zeros(len(x))
        sides, g, h = [], [], []
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            slope, constant = weight @ slope, weight @ constant + bias
            active = slope @ x + constant >= 0
            sign = np.where(active, 1.0, -1.0)
            sides.append(active)
            g.append(sign[:, None] * slope)
            h.append(sign * constant)
            slope, constant = active[:, None] * slope, active * constant
        last, bias = self.weights[-1], self.biases[-1]
        return Region(
            torch.from_numpy(np.concatenate(sides).astype(np.uint8)),
            torch.from_numpy(np.vstack(g)),
            torch.from_numpy(np.concatenate(h)),
            torch.from_numpy(last @ slope),
            torch.from_numpy(last @ constant + bias),
        )


def net(sizes: tuple[int, ...], seed: int) -> Net:
    """A network with layers of these sizes, inputs first, with random weights of the size of its slopes."""
    rng = np.random.default_rng(seed)
    return Net(
        tuple(rng.normal(size=(b, a)) / np.sqrt(a) * 2 for a, b in pairwise(sizes)),
        tuple(rng.normal(size=b) / 2 for b in sizes[1:]),
    )


def flat(values: Array) -> Tensor:
    """The same numbers as a float64 tensor."""
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float64))
