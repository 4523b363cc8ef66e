"""Where rows lie in the network: their patterns, their linear regions, and how near the retained rows are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from unlearnbench.api import UsageError
from unlearnbench.api.runtime import View
from unlearnbench_prune.frozen import patterns_at, region_of, weights_of
from unlearnbench_prune.network import Network, Traced, read_network, traced
from unlearnbench_prune.parts import Box, Place, Region, Spot

ROWS = 1024
"""Rows that go through the network at once."""
KEPT_BYTES = 256 * 2**20
"""Of regions that are kept; one of 784 features and 256 units takes 2 MB."""


@dataclass(eq=False)
class Survey:
    """A network without patches, and everything that is looked up in it."""

    base: nn.Module
    network: Network
    trace: Traced
    weights: Mapping[str, Tensor]
    box: Box
    _regions: dict[bytes, Region] = field(default_factory=dict)

    @classmethod
    def of(cls, base: nn.Module, inputs: tuple[int, ...], split_at: str, box: Box) -> Survey:
        """The survey of a base network; weights are looked at in float64, on the CPU as everything that is proved."""
        network = read_network(base, inputs, split_at)
        weights = {name: weight.cpu() for name, weight in weights_of(base, network).items()}
        return cls(base.eval(), network, traced(base, split_at), weights, box)

    def features(self, x: Tensor) -> Tensor:
        """What reaches the patched part, flat: [n, features] float32 on the CPU."""
        with torch.no_grad():
            return torch.cat([self.trace(part)[1].flatten(1).float().cpu() for part in x.split(ROWS)])

    def patterns(self, features: Tensor) -> Tensor:
        """On which side of every bend rows are: [n, units] uint8, worked out in float64."""
        return torch.cat([patterns_at(self.network, self.weights, part.double()) for part in features.split(ROWS)])

    def region(self, pattern: Tensor) -> Region:
        """The linear region of a pattern."""
        key = key_of(pattern)
        if key not in self._regions:
            if len(self._regions) >= max(1, KEPT_BYTES // region_bytes(self.network)):
                self._regions.pop(next(iter(self._regions)))
            self._regions[key] = region_of(self.network, self.weights, pattern)
        return self._regions[key]

    def place(self, spot: Spot) -> Place:
        """A spot with everything that can be worked out about it."""
        return Place(self.region(spot.pattern), self.box, spot.centre, spot.radius)


def region_bytes(network: Network) -> int:
    """Memory of one linear region: its rows and outputs in double precision."""
    return 8 * (network.rows + network.outputs) * (network.features + 1)


def key_of(pattern: Tensor) -> bytes:
    """A pattern as a key of dictionaries."""
    return pattern.contiguous().numpy().tobytes()


def inside(features: Tensor, box: Box, ids: Tensor) -> None:
    """Refuse rows outside the box: nothing could be claimed of them.

    Raises:
        UsageError: naming the first such row and how far it is out.
    """
    out = ((features < box.low) | (features > box.high)).any(1).nonzero()[:, 0]
    if len(out):
        row = features[int(out[0])]
        raise UsageError(
            "outside-box",
            f"row {int(ids[int(out[0])])} reaches from {float(row.min()):g} to {float(row.max()):g}, outside the "
            f"declared {box.low:g} to {box.high:g}",
            where="prune.low, prune.high",
            hint="declare a box that holds every row, or leave both out",
        )


def neighbours(survey: Survey, retain: View, patterns: Tensor) -> dict[bytes, Tensor]:
    """Features [m, features] of the retained rows that lie in one of these regions, by the region's key."""
    wanted = {key_of(pattern) for pattern in patterns}
    found: dict[bytes, list[Tensor]] = {key: [] for key in wanted}
    for x, *_ in retain.batches(ROWS):
        features = survey.features(x)
        for row, pattern in zip(features, survey.patterns(features), strict=True):
            if key_of(pattern) in wanted:
                found[key_of(pattern)].append(row)
    return {key: torch.stack(rows) for key, rows in found.items() if rows}


def free_radius(row: Tensor, others: Tensor | None, most: float) -> float:
    """Half the L-infinity distance from a row to the nearest of the others, and at most ``most``."""
    nearest = torch.inf if others is None else float((others - row).abs().amax(1).min())
    return float(torch.tensor(min(most, 0.5 * nearest)))  # as it is stored: a single-precision number
