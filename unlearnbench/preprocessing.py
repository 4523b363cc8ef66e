"""Preprocessing as it is declared: a small closed set of steps and their parameters. ``transforms`` does the work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from unlearnbench.api.params import Param
from unlearnbench.parameters import parameters_json, resolve_parameters
from unlearnbench.registry import unknown
from unlearnbench.spec import Choice

Per = Literal["channel", "value"]
_PER = "What has numbers of its own: each channel of images (each column of tables), or each single value of a row."


@dataclass(frozen=True)
class StandardizeParams:
    """Mean 0 and standard deviation 1 over the training rows; what is constant becomes 0."""

    per: Annotated[Per, Param(_PER)] = "channel"


@dataclass(frozen=True)
class MinmaxParams:
    """From 0 (least) to 1 (most) over the training rows; what is constant becomes 0."""

    per: Annotated[Per, Param(_PER)] = "channel"


@dataclass(frozen=True)
class NormalizeParams:
    """Given numbers taken off and divided by, one for each channel of images (each column of tables) or one for all."""

    mean: Annotated[tuple[float, ...], Param("Taken off: a number for each channel, or one for all.")] = (0.5,)
    std: Annotated[
        tuple[Annotated[float, Param("Divided by.", gt=0)], ...],
        Param("Divided by, after that: a number for each channel, or one for all."),
    ] = (0.5,)


@dataclass(frozen=True)
class ResizeParams:
    """Images made squares of one size (bilinear, antialiased)."""

    size: Annotated[int, Param("Height and width.", ge=1, le=4096, unit="pixels")] = 32


@dataclass(frozen=True)
class GrayscaleParams:
    """Colour images to one channel, weighted as the eye sees them (ITU-R BT.601)."""


@dataclass(frozen=True)
class ChannelsParams:
    """Images of one channel to several that are all the same, for networks made for colour."""

    count: Annotated[int, Param("Channels.", ge=1, le=64)] = 3


@dataclass(frozen=True)
class FlattenParams:
    """Each row a list of numbers, for networks made for tables."""


@dataclass(frozen=True)
class FlipLabelsParams:
    """Wrong labels for a share of the rows that a model learns from, so that it has something to memorise."""

    share: Annotated[float, Param("Share of the training rows whose label becomes another one.", gt=0, lt=1)] = 0.3
    holdout: Annotated[
        int, Param("Test rows set aside, with the same share of wrong labels, as unseen rows for attacks.", ge=0)
    ] = 300
    seed: Annotated[int, Param("Seed of the draws; part of the scenario, not of a run.", ge=0)] = 0


@dataclass(frozen=True)
class SwapClassesParams:
    """Two classes confused: a share of the rows of each is labelled as the other (Goel et al. 2022, section 4)."""

    classes: Annotated[tuple[str, str], Param("The two classes, by name.")] = ("0", "1")
    share: Annotated[float, Param("Share of the rows of each class that is labelled as the other.", gt=0, le=1)] = 0.5
    holdout: Annotated[
        int, Param("Test rows set aside, with the same confusion, as unseen rows for attacks.", ge=0)
    ] = 0
    seed: Annotated[int, Param("Seed of the draws; part of the scenario, not of a run.", ge=0)] = 0


STEPS: dict[str, type[Any]] = {
    "standardize": StandardizeParams,
    "minmax": MinmaxParams,
    "normalize": NormalizeParams,
    "resize": ResizeParams,
    "grayscale": GrayscaleParams,
    "channels": ChannelsParams,
    "flatten": FlattenParams,
    "flip-labels": FlipLabelsParams,
    "swap-classes": SwapClassesParams,
}
LABEL_STEPS = ("flip-labels", "swap-classes")
"""Steps that change annotations, whatever the inputs are."""


def resolve_preprocessing(wanted: Sequence[Any], settings: Callable[[str], Mapping[str, Any]]) -> tuple[Choice, ...]:
    """Steps by name with all their parameters; ``settings`` gives a step's assignments of ``--set``.

    Raises:
        UsageError: an unknown step or parameter, or a value that is not allowed.
    """
    found = []
    for position, step in enumerate(wanted):
        entry: Mapping[str, Any] = {"name": step} if isinstance(step, str) else step
        name = entry["name"]
        if name not in STEPS:
            raise unknown("preprocessing step", name, STEPS, where=f"$.preprocessing.{position}")
        values = {**entry.get("params", {}), **settings(name)}
        found.append(Choice(name, parameters_json(resolve_parameters(STEPS[name], values, where=name))))
    return tuple(found)
