"""What l1-sparse declares. Imports neither torch nor numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from unlearnbench.api import Paper, Param, Recipe, UnlearnerSpec, hookimpl

UNLEARNBENCH_API = 1
UNLEARNBENCH_EXPECTED_FAILURES = {
    "l1-sparse": {
        "comes-nearer-to-gold": "it never reads the forget set, and ten steps on forty rows forget nothing",
    },
}


@dataclass(frozen=True)
class L1SparseParams(Recipe):
    """SGD with momentum 0.9 and weight decay 5e-4, 10 epochs of batches of 256 rows, and the penalty."""

    lr: Annotated[float, Param("Learning rate (the peak, for schedules that warm up).", gt=0)] = 0.01
    alpha: Annotated[float, Param("Weight of the l1 norm of all parameters in the first epoch.", ge=0)] = 1e-4
    no_l1_epochs: Annotated[
        int, Param("Last epochs without penalty; it falls linearly to zero until they begin.", ge=0, unit="epochs")
    ] = 0


PAPER = Paper(
    title="Model Sparsity Can Simplify Machine Unlearning",
    authors=(
        "Jinghan Jia",
        "Jiancheng Liu",
        "Parikshit Ram",
        "Yuguang Yao",
        "Gaowen Liu",
        "Yang Liu",
        "Pranay Sharma",
        "Sijia Liu",
    ),
    year=2023,
    venue="Advances in Neural Information Processing Systems (NeurIPS)",
    doi="10.48550/arXiv.2304.04934",
    arxiv="2304.04934",
    bibtex="""@inproceedings{jia2023model,
  title     = {Model Sparsity Can Simplify Machine Unlearning},
  author    = {Jia, Jinghan and Liu, Jiancheng and Ram, Parikshit and Yao, Yuguang and Liu, Gaowen and Liu, Yang
               and Sharma, Pranay and Liu, Sijia},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2023},
  eprint    = {2304.04934},
  archiveprefix = {arXiv},
}""",
    deviations=(
        "alpha is 1e-4, the upper end of the range that is searched for CIFAR; the official command line has 0.2, a "
        "default that it shares with other methods and that shrinks every weight to nothing.",
        "The official code counts epochs from 0, and so does this: the first epoch has the full alpha, the last one "
        "alpha / epochs.",
        "The learning rate is fixed at 0.01, the value of the authors' published command; the paper searches 1e-3 to "
        "1e-1 for each setting.",
        "No augmentation by default, because it depends on the data; the official code crops and flips the images of "
        "CIFAR (augment=[flip, crop]).",
        "Only the sparsity-aware unlearning is implemented, not the pruning before it.",
    ),
)


@hookimpl
def unlearnbench_unlearners() -> list[UnlearnerSpec]:
    """l1-sparse works for whatever has a retain set."""
    return [
        UnlearnerSpec(
            name="l1-sparse",
            summary="l1-sparse: fine-tune on the retain set with an l1 penalty that falls to zero.",
            target="unlearnbench_l1_sparse.method:L1Sparse",
            params=L1SparseParams,
            paper=PAPER,
            tasks=("classification", "multi-label", "segmentation", "node-classification"),
            requests=("samples", "class", "group", "target", "nodes", "edges", "features"),
            reads=("retain",),
        )
    ]
