"""A training recipe: everything about an optimisation run that is data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from unlearnbench.api.params import Param

Optimizer = Literal["sgd", "adam", "adamw"]
Schedule = Literal["constant", "cosine", "linear", "multistep", "one-cycle"]
Precision = Literal["32-true", "bf16-mixed"]
Augmentation = Literal["flip", "vertical-flip", "crop"]


@dataclass(frozen=True)
class Recipe:
    """Optimiser, schedule, length, batch and precision of a training run.

    The original and the gold model are trained with the scenario's recipe. An unlearner whose parameters are those
    of an optimisation subclasses it, overrides the defaults with its paper's and hands itself to ``fit`` or
    ``Stepper``.
    """

    optimizer: Annotated[Optimizer, Param("Optimiser: sgd, adam or adamw (torch.optim).")] = "sgd"
    lr: Annotated[float, Param("Learning rate (the peak, for schedules that warm up).", gt=0)] = 0.1
    momentum: Annotated[float, Param("Momentum of sgd; the others ignore it.", ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Param("Weight decay (decoupled for adamw, L2 for the others).", ge=0)] = 5e-4
    epochs: Annotated[int, Param("Passes over the data.", ge=0, unit="epochs")] = 10
    batch_size: Annotated[int, Param("Rows in a batch; the last, smaller batch is kept.", ge=1, unit="rows")] = 256
    schedule: Annotated[Schedule, Param("How the learning rate changes over the run.")] = "constant"
    milestones: Annotated[
        tuple[int, ...], Param("Epochs after which multistep multiplies the learning rate by gamma.")
    ] = ()
    gamma: Annotated[float, Param("Factor of multistep at each milestone.", gt=0, le=1)] = 0.1
    warmup_epochs: Annotated[int, Param("Epochs over which the learning rate first rises linearly.", ge=0)] = 0
    label_smoothing: Annotated[float, Param("Label smoothing of the cross-entropy.", ge=0, lt=1)] = 0.0
    clip_norm: Annotated[float | None, Param("Largest gradient norm; none leaves gradients as they are.", gt=0)] = None
    precision: Annotated[Precision, Param("Arithmetic of forward and backward passes (Lightning Fabric's names).")] = (
        "32-true"
    )
    augment: Annotated[
        tuple[Augmentation, ...],
        Param("Train-time image augmentation: flip (left to right), vertical-flip, crop (4 pixel padding)."),
    ] = ()
