"""Wrong labels on purpose: for models that memorise, and for confusions that an unlearner should undo.

Training and validation rows and a hold-out that is taken out of the test rows get them; the test rows that are left
stay clean. The column ``mislabelled`` says which rows they are, so that ``group=mislabelled:yes`` can be forgotten.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Generator, Tensor

from unlearnbench.api.errors import IncompatibleError, UsageError
from unlearnbench.api.runtime import Data, Splits, derive_seed, generator
from unlearnbench.preprocessing import FlipLabelsParams, SwapClassesParams
from unlearnbench.selectors import class_positions

COLUMN = "mislabelled"

Relabel = Callable[[Tensor, Generator], Tensor]
"""From labels [n] to labels with mistakes."""


def mislabelled(splits: Splits, params: FlipLabelsParams | SwapClassesParams, name: str) -> Splits:
    """Splits with wrong labels, and with a hold-out that has as many.

    Raises:
        IncompatibleError: rows do not have one class each, or there are too few test rows for the hold-out.
        UsageError: an unknown class, or one class twice.
    """
    train = splits.train
    if train.y.is_floating_point() or train.y.ndim != 1 or train.edges is not None:
        raise IncompatibleError("incompatible", f"{name} needs one class per row", where="$.preprocessing",
                                hint="leave the step out")  # fmt: skip
    if params.holdout >= len(splits.test):
        raise IncompatibleError(
            "incompatible", f"{name} wants {params.holdout} of {len(splits.test)} test rows as hold-out",
            where="$.preprocessing", hint=f"choose fewer: --set {name}.holdout=N",
        )  # fmt: skip
    relabel = _relabel(params, train)
    test, holdout = splits.test, splits.holdout
    if params.holdout:
        order = torch.randperm(len(test), generator=_stream(params.seed, "rows"))
        holdout = test.rows(order[: params.holdout].sort().values)
        test = test.rows(order[params.holdout :].sort().values)

    def changed(data: Data | None, part: str) -> Data | None:
        return None if data is None else _marked(data, relabel(data.y, _stream(params.seed, part)))

    return Splits(
        train=_marked(train, relabel(train.y, _stream(params.seed, "train"))),
        test=_marked(test, test.y),
        validation=changed(splits.validation, "validation"),
        holdout=changed(holdout, "holdout"),
    )


def _stream(seed: int, purpose: str) -> Generator:
    return generator(derive_seed(seed, "labels", purpose))


def _relabel(params: FlipLabelsParams | SwapClassesParams, train: Data) -> Relabel:
    if isinstance(params, FlipLabelsParams):
        share, classes = params.share, len(train.outputs)
        return lambda y, rng: _flipped(y, share, classes, rng)
    first, second = class_positions(params.classes, train, where="$.preprocessing")
    if first == second:
        raise UsageError("bad-parameter", f"swaps class {params.classes[0]!r} with itself", where="$.preprocessing",
                         hint="name two classes")  # fmt: skip
    share = params.share
    return lambda y, rng: _swapped(y, share, first, second, rng)


def _flipped(y: Tensor, share: float, classes: int, rng: Generator) -> Tensor:
    """``share`` of the labels replaced by another class, each other class being as likely."""
    changed = y.clone()
    rows = torch.randperm(len(y), generator=rng)[: round(share * len(y))]
    changed[rows] = (y[rows] + torch.randint(1, classes, (len(rows),), generator=rng)) % classes
    return changed


def _swapped(y: Tensor, share: float, first: int, second: int, rng: Generator) -> Tensor:
    """``share`` of the rows of either class labelled as the other."""
    changed = y.clone()
    for old, new in ((first, second), (second, first)):
        rows = (y == old).nonzero()[:, 0]
        changed[rows[torch.randperm(len(rows), generator=rng)[: round(share * len(rows))]]] = new
    return changed


def _marked(data: Data, y: Tensor) -> Data:
    """The data with these labels and a column that says where they differ from before."""
    wrong = (y != data.y).long()
    if COLUMN in data.columns:
        wrong |= data.columns[COLUMN]
    return replace(data, y=y, columns={**data.columns, COLUMN: wrong}, values={**data.values, COLUMN: ("no", "yes")})
