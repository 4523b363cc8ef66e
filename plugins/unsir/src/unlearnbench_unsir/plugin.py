"""What UNSIR declares. Imports neither torch nor numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from unlearnbench.api import ITEM_REQUESTS, Paper, Param, Recipe, UnlearnerSpec, hookimpl
from unlearnbench.api.recipe import Optimizer

UNLEARNBENCH_API = 1
UNLEARNBENCH_EXPECTED_FAILURES = {
    "unsir": {
        "comes-nearer-to-gold": "5,120 noise inputs beside 40 rows at the notebook's rates destroy so small a network",
    },
}


@dataclass(frozen=True)
class UnsirParams(Recipe):
    """The authors' notebook: impair with Adam at 0.02, repair at 0.01, one epoch each, batches of 256 rows."""

    optimizer: Annotated[Optimizer, Param("Optimiser of impair and repair (torch.optim).")] = "adam"
    lr: Annotated[float, Param("Learning rate of the impair step.", gt=0)] = 0.02
    weight_decay: Annotated[float, Param("Weight decay (decoupled for adamw, L2 for the others).", ge=0)] = 0.0
    epochs: Annotated[int, Param("Epochs of the impair step.", ge=0, unit="epochs")] = 1
    repair_lr: Annotated[float, Param("Learning rate of the repair step.", gt=0)] = 0.01
    repair_epochs: Annotated[int, Param("Epochs of the repair step.", ge=0, unit="epochs")] = 1
    retain_per_class: Annotated[
        int, Param("Class requests: retain rows of each class that impair and repair use, drawn once.", ge=1)
    ] = 1000
    noise_rows: Annotated[int, Param("Class requests: noise inputs that are optimised per class.", ge=1)] = 256
    noise_copies: Annotated[
        int, Param("Class requests: how often each noise input occurs in an impair epoch.", ge=1)
    ] = 20
    noise_steps: Annotated[int, Param("Class requests: optimiser steps on the noise.", ge=0, unit="steps")] = 40
    noise_lr: Annotated[float, Param("Class requests: learning rate of the noise (Adam).", gt=0)] = 0.1
    noise_penalty: Annotated[float, Param("Class requests: the paper's lambda, weight of the noise's norm.", ge=0)] = (
        0.1
    )
    sample_noise_steps: Annotated[
        int, Param("Other requests: optimiser steps on the noise of each batch.", ge=0, unit="steps")
    ] = 5
    sample_noise_lr: Annotated[float, Param("Other requests: learning rate of the noise (Adam).", gt=0)] = 0.01


PAPER = Paper(
    title="Fast Yet Effective Machine Unlearning",
    authors=("Ayush K. Tarun", "Vikram S. Chundawat", "Murari Mandal", "Mohan Kankanhalli"),
    year=2023,
    venue="IEEE Transactions on Neural Networks and Learning Systems",
    doi="10.1109/TNNLS.2023.3266233",
    arxiv="2111.08947",
    bibtex="""@article{tarun2023fast,
  title   = {Fast Yet Effective Machine Unlearning},
  author  = {Tarun, Ayush K. and Chundawat, Vikram S. and Mandal, Murari and Kankanhalli, Mohan},
  journal = {IEEE Transactions on Neural Networks and Learning Systems},
  year    = {2023},
  doi     = {10.1109/TNNLS.2023.3266233},
}
@misc{choi2023towards,
  title         = {Towards Machine Unlearning Benchmarks: Forgetting the Personal Identities in Facial Recognition
                   Systems},
  author        = {Choi, Dasol and Na, Dongbin},
  year          = {2023},
  eprint        = {2311.02240},
  archiveprefix = {arXiv},
}""",
    deviations=(
        "Every noise input enters the impair step noise_copies times; the official code loops over the channels of an "
        "image instead of the rows of the batch, so that 3 of its 256 noise inputs enter, 20 times each.",
        "The noise of each class is labelled with that class; the official code labels the noise of every class as "
        "class 0.",
        "Noise is optimised against the network in evaluation mode; published code leaves the mode that was set last, "
        "often training mode, in which noise moves BatchNorm's running statistics.",
        "The retain rows of a class are drawn at random; the official code takes the first ones.",
        "The paper treats classes alone. Requests for samples and groups get the variant of Choi and Na (2023, arXiv "
        "2311.02240): for each pair of batches, noise is driven away from the network's outputs for the forget batch "
        "(mean squared error) and trained with the labels of the retain batch beside it; a repair step on the whole "
        "retain set follows.",
        "Variant for samples: batches of every size are used, with as many noise inputs as the smaller batch of the "
        "pair has rows; published code skips batches that are not full. An epoch is a pass over the retain set, "
        "beside which the forget set starts over when it is used up.",
        "Variant for samples: noise is clipped to the range of the retain batch's inputs; published code clips to "
        "0..1, the range of its images.",
        "Variant for samples: optimiser and learning rates are those of the class form unless they are set; a "
        "smaller lr is advisable.",
        "A batch that consists of a single row is normalised by BatchNorm's running statistics, since one row has "
        "none of its own.",
        "Augmentation, if it is switched on, changes retain rows only, never noise.",
        "Requests for targets, which neither paper treats, get the variant for samples at the level of rows, as Xu et "
        "al. (essential graph) do: noise is made against every row that carries the target, and only rows that do not "
        "are trained on, whichever annotations the request takes away; the class form would need noise for one "
        "label of many, and no paper says what its other labels are.",
        "Segmentation, which neither paper treats, has noise images beside the masks of retain rows, and the outputs "
        "that noise is driven away from are those of all pixels.",
    ),
)


@hookimpl
def unlearnbench_unlearners() -> list[UnlearnerSpec]:
    """One unlearner with two forms; noise needs inputs that are numbers."""
    return [
        UnlearnerSpec(
            name="unsir",
            summary="UNSIR: impair with noise that maximises the error on a class, repair with retain rows.",
            target="unlearnbench_unsir.method:Unsir",
            params=UnsirParams,
            paper=PAPER,
            tasks=("classification", "multi-label", "segmentation"),
            requests=(*ITEM_REQUESTS, "target"),
            inputs=("numbers",),
        )
    ]
