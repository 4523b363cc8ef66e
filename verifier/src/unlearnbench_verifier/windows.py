"""Windows that slide over the height and width of a value: where each of their positions comes from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unlearnbench_verifier.arithmetic import Indices

Pair = tuple[int, int]


@dataclass(frozen=True)
class Windows:
    """Windows over one channel; each pair is (down, across)."""

    shape: Pair
    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair = (1, 1)

    @property
    def counts(self) -> Pair:
        """How many windows there are down and across; below 1 where the kernel is larger than the padded value."""
        down, across = (
            (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            for size, kernel, stride, padding, dilation in zip(
                self.shape, self.kernel, self.stride, self.padding, self.dilation, strict=True
            )
        )
        return down, across

    @property
    def count(self) -> int:
        """How many windows there are over one channel."""
        return self.counts[0] * self.counts[1]

    @property
    def size(self) -> int:
        """How many numbers one channel has."""
        return self.shape[0] * self.shape[1]

    @property
    def positions(self) -> int:
        """How many positions the kernel has."""
        return self.kernel[0] * self.kernel[1]

    def sources(self) -> Indices:
        """For each position of the kernel and each window, both row-major, its place in the channel; -1 is padding."""
        down, across = (self._along(axis) for axis in (0, 1))
        place = down[:, None, :, None] * self.shape[1] + across[None, :, None, :]
        inside = (down >= 0)[:, None, :, None] & (across >= 0)[None, :, None, :]
        return np.where(inside, place, -1).reshape(self.positions, -1)

    def _along(self, axis: int) -> Indices:
        """[positions of the kernel, windows] along one axis."""
        position = np.arange(self.kernel[axis])[:, None] * self.dilation[axis]
        start = np.arange(self.counts[axis])[None, :] * self.stride[axis] - self.padding[axis]
        place: Indices = position + start
        return np.where((place >= 0) & (place < self.shape[axis]), place, -1)


def over_channels(sources: Indices, channels: int, size: int) -> Indices:
    """The same windows over each of several channels of ``size`` numbers: [positions, channels * windows]."""
    offsets = np.arange(channels)[None, :, None] * size
    every = np.where(sources[:, None] < 0, -1, sources[:, None] + offsets)
    return every.reshape(len(sources), -1)
