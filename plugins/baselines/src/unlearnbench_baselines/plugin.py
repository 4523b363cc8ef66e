"""What the baselines declare. Imports neither torch nor numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from unlearnbench.api import ITEM_REQUESTS, Paper, Param, Recipe, UnlearnerSpec, hookimpl
from unlearnbench.api.recipe import Optimizer

UNLEARNBENCH_API = 1
_SHORT = "five epochs of two batches at 1e-3, made for larger data, move the weights too little to forget a class"
UNLEARNBENCH_EXPECTED_FAILURES = {
    "finetune": {
        "comes-nearer-to-gold": "it never reads the forget set, and ten steps on forty rows forget nothing",
    },
    "successive-random-labels": {
        "comes-nearer-to-gold": _SHORT,
    },
}


@dataclass(frozen=True)
class FinetuneParams(Recipe):
    """SGD with momentum 0.9 and weight decay 5e-4, 10 epochs of batches of 256 rows."""

    lr: Annotated[float, Param("Learning rate (the peak, for schedules that warm up).", gt=0)] = 0.01


@dataclass(frozen=True)
class SuccessiveRandomLabelsParams(Recipe):
    """Adam with learning rate 1e-3, 5 epochs of batches of 256 rows."""

    optimizer: Annotated[Optimizer, Param("Optimiser: sgd, adam or adamw (torch.optim).")] = "adam"
    lr: Annotated[float, Param("Learning rate (the peak, for schedules that warm up).", gt=0)] = 1e-3
    weight_decay: Annotated[float, Param("Weight decay (decoupled for adamw, L2 for the others).", ge=0)] = 0.0
    epochs: Annotated[int, Param("Passes over both sets; labels are drawn anew in each.", ge=0, unit="epochs")] = 5
    passes: Annotated[
        Literal["alternate", "mixed"],
        Param("An epoch: the forget set, then the retain set (alternate), or one shuffled pass over both (mixed)."),
    ] = "alternate"
    draw: Annotated[
        Literal["wrong", "uniform"],
        Param("Random labels: always different from the true one (wrong), or uniform over all, it included (uniform)."),
    ] = "wrong"


FINETUNE_PAPER = Paper(
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
        "Requests for targets, which the paper does not treat, leave what is retained to the request: with its "
        "annotations taken away (absent, unknown) every row is trained on without the target, and with its images "
        "taken away (images) only rows that do not carry it.",
    ),
)
SRL_PAPER = Paper(
    title="How to Make Reproducible Research in Machine Unlearning with ERASURE",
    authors=(
        "Andrea D'Angelo",
        "Claudio Savelli",
        "Gabriele Tagliente",
        "Flavio Giobergia",
        "Elena Baralis",
        "Giovanni Stilo",
    ),
    year=2025,
    venue="International Joint Conference on Artificial Intelligence (IJCAI), Demo Track",
    doi="10.24963/ijcai.2025/1255",
    bibtex="""@inproceedings{dangelo2025reproducible,
  title     = {How to Make Reproducible Research in Machine Unlearning with {ERASURE}},
  author    = {D'Angelo, Andrea and Savelli, Claudio and Tagliente, Gabriele and Giobergia, Flavio and
               Baralis, Elena and Stilo, Giovanni},
  booktitle = {Proceedings of the Thirty-Fourth International Joint Conference on Artificial Intelligence, {IJCAI-25}},
  pages     = {11025--11029},
  year      = {2025},
  note      = {Demo Track},
  doi       = {10.24963/ijcai.2025/1255},
}""",
    deviations=(
        "Rows are shuffled in every pass, and the last, smaller batch is trained on; the framework's loaders keep the "
        "order and drop that batch.",
        "passes=mixed with draw=uniform is the form of the DeepUnlearn benchmark (Cadet et al., 2024): one shuffled "
        "pass over both sets, the true label among those drawn.",
        "The optimiser is stated by no paper; Adam at 1e-3 is the value of the framework's published configurations.",
        "Requests for targets, which the framework does not know, draw labels for the annotations that are to be "
        "forgotten: for the target alone where its annotations are taken away (absent, unknown), for every label of "
        "the rows that carry it where their images are (images).",
    ),
)


@hookimpl
def unlearnbench_unlearners() -> list[UnlearnerSpec]:
    """Fine-tuning works for whatever has a retain set, random labels for whatever has labels to draw."""
    return [
        UnlearnerSpec(
            name="finetune",
            summary="Fine-tuning (FT): go on training on the retain set and let the model forget by itself.",
            target="unlearnbench_baselines.method:Finetune",
            params=FinetuneParams,
            paper=FINETUNE_PAPER,
            tasks=("classification", "multi-label", "segmentation", "detection", "node-classification"),
            requests=("samples", "class", "group", "target", "nodes", "edges", "features"),
            reads=("retain",),
        ),
        UnlearnerSpec(
            name="successive-random-labels",
            summary="Successive random labels (SRL): train on the forget set with fresh random labels and on the rest.",
            target="unlearnbench_baselines.method:SuccessiveRandomLabels",
            params=SuccessiveRandomLabelsParams,
            paper=SRL_PAPER,
            tasks=("classification", "multi-label", "node-classification"),
            requests=(*ITEM_REQUESTS, "target", "nodes"),
        ),
    ]
