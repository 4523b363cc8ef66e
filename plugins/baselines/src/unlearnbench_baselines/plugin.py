"""What the baselines declare. Imports neither torch nor numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from unlearnbench.api import Paper, Param, Recipe, UnlearnerSpec, hookimpl

UNLEARNBENCH_API = 1
UNLEARNBENCH_EXPECTED_FAILURES = {
    "finetune": {
        "comes-nearer-to-gold": "it never reads the forget set, and ten steps on forty rows forget nothing",
    },
}


@dataclass(frozen=True)
class FinetuneParams(Recipe):
    """SGD with momentum 0.9 and weight decay 5e-4, 10 epochs of batches of 256 rows."""

    lr: Annotated[float, Param("Learning rate (the peak, for schedules that warm up).", gt=0)] = 0.01


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
        "The learning rate is fixed at 0.01, the value of the authors' published command; the paper searches 1e-3 to "
        "1e-1 for each setting.",
        "No augmentation by default, because it depends on the data; the official code crops and flips the images of "
        "CIFAR (augment=[flip, crop]).",
        "Only plain fine-tuning (FT) is implemented here, not the paper's pruning or its sparsity penalty.",
    ),
)


@hookimpl
def unlearnbench_unlearners() -> list[UnlearnerSpec]:
    """Fine-tuning works for whatever has a retain set."""
    return [
        UnlearnerSpec(
            name="finetune",
            summary="Fine-tuning (FT): go on training on the retain set and let the model forget by itself.",
            target="unlearnbench_baselines.method:Finetune",
            params=FinetuneParams,
            paper=PAPER,
            tasks=("classification", "multi-label", "segmentation", "node-classification"),
            requests=("samples", "class", "group", "target", "nodes", "edges"),
            reads=("retain",),
        )
    ]
