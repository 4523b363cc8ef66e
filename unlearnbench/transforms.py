"""Preprocessing at work: each step is fitted on the training rows and applied to all rows, once, in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from unlearnbench.api.errors import IncompatibleError
from unlearnbench.api.runtime import Data, Splits
from unlearnbench.labels import mislabelled
from unlearnbench.parameters import resolve_parameters
from unlearnbench.preprocessing import (
    LABEL_STEPS,
    STEPS,
    ChannelsParams,
    FlattenParams,
    GrayscaleParams,
    MinmaxParams,
    NormalizeParams,
    Per,
    ResizeParams,
    StandardizeParams,
)
from unlearnbench.spec import Choice

Change = Callable[[Tensor], Tensor]

RESIZE_ROWS = 1024
"""Images that are resized at once: what is needed besides the result stays small."""
BT601 = (0.299, 0.587, 0.114)


def preprocessed(splits: Splits, steps: Sequence[Choice]) -> Splits:
    """Splits with changed inputs. Every step sees what the steps before it left; test rows teach it nothing.

    Raises:
        IncompatibleError: a step does not fit the rows.
    """
    for step in steps:
        params = resolve_parameters(STEPS[step.name], step.params, where=step.name)
        if step.name in LABEL_STEPS:
            splits = mislabelled(splits, params, step.name)
            continue
        if not splits.train.x.is_floating_point():
            raise _misfit(step.name, f"needs inputs that are numbers, not {splits.train.x.dtype}")
        change = _fitted(params, splits.train.x, step.name)
        splits = Splits(
            train=_changed(splits.train, change),
            test=_changed(splits.test, change),
            validation=None if splits.validation is None else _changed(splits.validation, change),
            holdout=None if splits.holdout is None else _changed(splits.holdout, change),
        )
    return splits


def _changed(data: Data, change: Change) -> Data:
    return replace(data, x=change(data.x).contiguous())


def _fitted(params: Any, train: Tensor, name: str) -> Change:
    """The change that a step makes, with whatever it has to learn from the training rows."""
    match params:
        case StandardizeParams():
            return partial(_scaled, *_moments(train, params.per))
        case MinmaxParams():
            return partial(_scaled, *_range(train, params.per))
        case NormalizeParams():
            return partial(_scaled, *(_given(numbers, train, name) for numbers in (params.mean, params.std)))
        case ResizeParams():
            _needs_images(train, name)
            return partial(_resized, params.size)
        case GrayscaleParams():
            _needs_images(train, name, channels=3)
            return lambda x: (x * torch.tensor(BT601, dtype=x.dtype)[:, None, None]).sum(1, keepdim=True)
        case ChannelsParams():
            _needs_images(train, name, channels=1)
            return lambda x: x.expand(-1, params.count, -1, -1)
        case FlattenParams():
            return lambda x: x.flatten(1)
    raise AssertionError(f"{name} has no change")


def _scaled(offset: Tensor, scale: Tensor, x: Tensor) -> Tensor:
    return (x - offset) / scale


def _moments(x: Tensor, per: Per) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation in float64, so that they do not depend on how a sum is rounded."""
    wide, over = x.double(), _over(x, per)
    mean = wide.mean(over, keepdim=True)
    deviation = (wide - mean).square().mean(over, keepdim=True).sqrt()
    return mean[0].to(x.dtype), _not_zero(deviation[0]).to(x.dtype)


def _range(x: Tensor, per: Per) -> tuple[Tensor, Tensor]:
    over = _over(x, per)
    least = x.amin(over, keepdim=True)
    return least[0], _not_zero((x.amax(over, keepdim=True) - least)[0])


def _over(x: Tensor, per: Per) -> tuple[int, ...]:
    """The dimensions that share numbers: rows, and for channels the pixels too."""
    return (0, *range(2, x.ndim)) if per == "channel" else (0,)


def _not_zero(scale: Tensor) -> Tensor:
    return torch.where(scale > 0, scale, torch.ones_like(scale))


def _given(numbers: tuple[float, ...], x: Tensor, name: str) -> Tensor:
    """Given numbers, shaped to stand beside a row."""
    n = x.shape[1] if x.ndim > 1 else 1
    if len(numbers) not in (1, n):
        raise _misfit(name, f"has {len(numbers)} numbers for {n} channels")
    return torch.tensor(numbers, dtype=x.dtype).reshape(-1, *[1] * (x.ndim - 2))


def _resized(size: int, x: Tensor) -> Tensor:
    blocks = [interpolate(b, (size, size), mode="bilinear", antialias=True) for b in x.split(RESIZE_ROWS)]
    return torch.cat(blocks)


def _needs_images(x: Tensor, name: str, channels: int | None = None) -> None:
    if x.ndim != 4:
        raise _misfit(name, f"needs images, not rows of shape {tuple(x.shape[1:])}")
    if channels is not None and x.shape[1] != channels:
        raise _misfit(name, f"needs images of {channels} channel{'s' * (channels > 1)}, not {x.shape[1]}")


def _misfit(name: str, message: str) -> IncompatibleError:
    return IncompatibleError("incompatible", f"{name} {message}", where="$.preprocessing",
                             hint="leave the step out, or put one before it that makes the rows fit")  # fmt: skip
