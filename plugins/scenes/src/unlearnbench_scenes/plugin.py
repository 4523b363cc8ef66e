"""Specs and parameters of scenes and their networks; imports neither torch nor numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from unlearnbench.api import DatasetSpec, ModelSpec, Param, hookimpl

UNLEARNBENCH_API = 1

SceneTask = Literal["multi-label", "segmentation", "detection"]


@dataclass(frozen=True)
class ShapesParams:
    """Scenes of drawn shapes."""

    task: Annotated[
        SceneTask, Param("Annotations: labels (multi-label), masks (segmentation) or boxes (detection).")
    ] = "multi-label"
    train_rows: Annotated[int, Param("Training scenes.", ge=1, unit="rows")] = 1800
    test_rows: Annotated[int, Param("Test scenes.", ge=1, unit="rows")] = 600
    size: Annotated[int, Param("Height and width of a scene.", ge=16, unit="pixels")] = 24
    seed: Annotated[int, Param("Seed of the scenes; part of the scenario, not of a run.", ge=0)] = 0


@dataclass(frozen=True)
class FashionScenesParams:
    """Scenes composed of Fashion-MNIST's items."""

    task: Annotated[
        SceneTask, Param("Annotations: labels (multi-label), masks (segmentation) or boxes (detection).")
    ] = "multi-label"
    train_rows: Annotated[int, Param("Training scenes, of training images.", ge=1, unit="rows")] = 4000
    test_rows: Annotated[int, Param("Test scenes, of test images.", ge=1, unit="rows")] = 1000
    size: Annotated[int, Param("Height and width of a scene.", ge=48, unit="pixels")] = 64
    seed: Annotated[int, Param("Seed of the scenes; part of the scenario, not of a run.", ge=0)] = 0


@dataclass(frozen=True)
class BccdParams:
    """Blood cells."""

    task: Annotated[
        Literal["detection", "multi-label"], Param("Annotations: boxes, or which cells an image shows (multi-label).")
    ] = "detection"
    width: Annotated[int, Param("Width to which images are resized.", ge=16, unit="pixels")] = 160
    height: Annotated[int, Param("Height to which images are resized.", ge=16, unit="pixels")] = 120


@dataclass(frozen=True)
class NucleiParams:
    """Cell nuclei under the microscope."""

    size: Annotated[int, Param("Height and width to which images are resized.", ge=16, unit="pixels")] = 128
    border: Annotated[int, Param("Width of the border of a nucleus, before resizing.", ge=1, unit="pixels")] = 3
    test_fraction: Annotated[float, Param("Share of the images that is kept for testing.", gt=0, lt=1)] = 0.2
    split_seed: Annotated[int, Param("Seed of the split; part of the scenario, not of a run.", ge=0)] = 0


@dataclass(frozen=True)
class BodyParams:
    """The convolutions that all heads share."""

    channels: Annotated[tuple[int, ...], Param("Channels of the 3x3 convolutions, each with BatchNorm and ReLU.")] = (
        16,
        32,
        32,
        64,
        64,
        128,
    )
    pool_after: Annotated[tuple[int, ...], Param("Convolutions, counted from 1, that 2x2 max-pooling follows.")] = (
        2,
        4,
    )


@dataclass(frozen=True)
class BoxesParams(BodyParams):
    """The centre-point detector."""

    detections: Annotated[int, Param("Detections of an image at most.", ge=1)] = 50
    size_weight: Annotated[float, Param("Weight of the loss of the logarithms of widths and heights.", ge=0)] = 1.0
    offset_weight: Annotated[float, Param("Weight of the loss of centres within their cells.", ge=0)] = 1.0
    least_sigma: Annotated[float, Param("Least spread of the Gaussian around a box's centre.", gt=0, unit="cells")] = (
        0.7
    )


@hookimpl
def unlearnbench_datasets() -> list[DatasetSpec]:
    here = "unlearnbench_scenes"
    return [
        DatasetSpec(
            name="shapes",
            summary="Scenes of squares, discs, crosses and triangles in random colours, with labels, masks or boxes.",
            target=f"{here}.shapes:Shapes",
            params=ShapesParams,
            tasks=("multi-label", "segmentation", "detection"),
            licence="drawn here",
        ),
        DatasetSpec(
            name="fashion-scenes",
            summary="Scenes of one to four items of Fashion-MNIST, with labels, masks or boxes.",
            target=f"{here}.fashion:FashionScenes",
            params=FashionScenesParams,
            tasks=("multi-label", "segmentation", "detection"),
            licence="MIT",
        ),
        DatasetSpec(
            name="bccd",
            summary="BCCD: 364 images of blood cells with boxes of red cells, white cells and platelets.",
            target=f"{here}.bccd:Bccd",
            params=BccdParams,
            tasks=("detection", "multi-label"),
            licence="MIT",
        ),
        DatasetSpec(
            name="nuclei",
            summary="334 microscopy images of the Data Science Bowl 2018: background, interior and border of nuclei.",
            target=f"{here}.nuclei:Nuclei",
            params=NucleiParams,
            tasks=("segmentation",),
            licence="CC0",
        ),
    ]


@hookimpl
def unlearnbench_models() -> list[ModelSpec]:
    here = "unlearnbench_scenes"
    return [
        ModelSpec(
            name="scene-labels",
            summary="Six convolutions with BatchNorm, global maximum, a linear layer: which things an image shows.",
            target=f"{here}.networks:SceneLabels",
            params=BodyParams,
            tasks=("multi-label", "classification"),
        ),
        ModelSpec(
            name="scene-pixels",
            summary="Six convolutions with BatchNorm, a 1x1 convolution, bilinear enlargement: a class per pixel.",
            target=f"{here}.networks:ScenePixels",
            params=BodyParams,
            tasks=("segmentation",),
        ),
        ModelSpec(
            name="scene-boxes",
            summary="Six convolutions with BatchNorm and the heads of a centre-point detector.",
            target=f"{here}.boxes:SceneBoxes",
            params=BoxesParams,
            tasks=("detection",),
        ),
    ]
