"""Specs and parameters; imports nothing but the standard library and ``unlearnbench.api``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from unlearnbench.api import ModelSpec, Paper, Param, hookimpl

UNLEARNBENCH_API = 1

Pretrained = Annotated[
    bool, Param("Start from the weights in your Hugging Face cache; nothing is downloaded. Else the seed decides.")
]


@dataclass(frozen=True)
class TimmModelParams:
    """Any classifier of timm."""

    architecture: Annotated[
        str, Param("Name in timm.list_models(), with or without the tag of its weights after a dot.", min_length=1)
    ] = "convnext_atto"
    pretrained: Pretrained = False


@dataclass(frozen=True)
class VitParams:
    """A vision transformer of a published size, made for the images of the data set."""

    patch_size: Annotated[int, Param("Side of a patch; divides both sides of an image.", ge=1, unit="pixels")] = 16
    pretrained: Pretrained = False


@dataclass(frozen=True)
class VitMiniParams:
    """A vision transformer for small images."""

    patch_size: Annotated[int, Param("Side of a patch; divides both sides of an image.", ge=1, unit="pixels")] = 4
    dim: Annotated[int, Param("Width of a token; a multiple of heads.", ge=1)] = 64
    depth: Annotated[int, Param("Blocks of attention and perceptron.", ge=1)] = 4
    heads: Annotated[int, Param("Attention heads of a block.", ge=1)] = 4
    mlp_ratio: Annotated[float, Param("Width of a block's hidden layer, in widths of a token.", gt=0)] = 2.0


_ADAPTED = (
    "Pretrained weights are adapted by timm: the kernels of the first convolution are summed or repeated for another "
    "number of channels, the head is drawn anew for another number of classes, and position embeddings are resampled "
    "for another image size. Pixels are normalised as the data set does it, not as the weights were trained."
)
_UNFUSED = "Attention is computed step by step, not by a fused kernel: the same formula, repeatable on every device."
_TIMM = Paper(
    title="PyTorch Image Models",
    authors=("Ross Wightman",),
    year=2019,
    venue="GitHub",
    doi="10.5281/zenodo.4414861",
    deviations=(_ADAPTED, _UNFUSED),
)
_VIT = Paper(
    title="An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale",
    authors=(
        "Alexey Dosovitskiy",
        "Lucas Beyer",
        "Alexander Kolesnikov",
        "Dirk Weissenborn",
        "Xiaohua Zhai",
        "Thomas Unterthiner",
        "Mostafa Dehghani",
        "Matthias Minderer",
        "Georg Heigold",
        "Sylvain Gelly",
        "Jakob Uszkoreit",
        "Neil Houlsby",
    ),
    year=2021,
    venue="ICLR",
    arxiv="2010.11929",
)
_SIZED = replace(
    _VIT,
    deviations=(
        "The paper's smallest network is ViT-Base; widths and heads of the tiny and the small one come from DeiT "
        "(Touvron et al. 2021, arXiv:2012.12877), without its distillation token.",
        "The network is made for the data set's image size, and the patches may be smaller than 16x16.",
        _ADAPTED,
        _UNFUSED,
    ),
)
_MINI = replace(
    _VIT,
    deviations=(
        "Far smaller than the paper's networks: 4 blocks of width 64 and a hidden layer twice as wide by default (the "
        "paper's smallest has 12 of width 768, four times as wide), patches of 4x4.",
        _UNFUSED,
    ),
)


@hookimpl
def unlearnbench_models() -> list[ModelSpec]:
    models = "unlearnbench_timm.models"
    return [
        ModelSpec(
            name="timm-model",
            summary="Any image classifier of timm by name, with random weights or those in your cache.",
            target=f"{models}:TimmModel",
            params=TimmModelParams,
            tasks=("classification", "multi-label"),
            paper=_TIMM,
        ),
        ModelSpec(
            name="vit-tiny",
            summary="ViT-Tiny, a vision transformer of 5.5 million weights, for the size of the data set's images.",
            target=f"{models}:VitTiny",
            params=VitParams,
            tasks=("classification", "multi-label"),
            paper=_SIZED,
        ),
        ModelSpec(
            name="vit-small",
            summary="ViT-Small, a vision transformer of 22 million weights, for the size of the data set's images.",
            target=f"{models}:VitSmall",
            params=VitParams,
            tasks=("classification", "multi-label"),
            paper=_SIZED,
        ),
        ModelSpec(
            name="vit-mini",
            summary="A vision transformer of about 0.15 million weights for small images.",
            target=f"{models}:VitMini",
            params=VitMiniParams,
            tasks=("classification", "multi-label"),
            paper=_MINI,
        ),
    ]
