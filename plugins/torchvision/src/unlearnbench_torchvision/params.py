"""Parameters of the data sets and networks; imports nothing but the standard library and ``unlearnbench.api``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from unlearnbench.api import Param

Stem = Literal["cifar", "imagenet"]
Weights = Annotated[
    Literal["none", "cache"],
    Param("none: the seed decides; cache: torchvision's published ones, if their file is in torch's folder already."),
]


@dataclass(frozen=True)
class ImageParams:
    """Which rows of an image data set are used, and how pixels become numbers."""

    rows: Annotated[int | None, Param("Training rows to draw (seeded, stratified); none takes all.", ge=1)] = None
    test_rows: Annotated[int | None, Param("Test rows to draw (seeded, stratified); none takes all.", ge=1)] = None
    split_seed: Annotated[int, Param("Seed of the draws; part of the scenario, not of a run.", ge=0)] = 0
    image_size: Annotated[
        int | None,
        Param("Scale the shorter side to this and cut out the central square; none keeps images.", ge=1, unit="pixels"),
    ] = None
    normalise: Annotated[
        bool, Param("Give each channel mean 0 and standard deviation 1 over the training rows used.")
    ] = True


@dataclass(frozen=True)
class CelebAParams(ImageParams):
    """CelebA: one of its 40 attributes is the class."""

    attribute: Annotated[str, Param("Attribute to predict, as list_attr_celeba.txt has it.", min_length=1)] = "Smiling"
    image_size: Annotated[
        int | None,
        Param("Scale the shorter side to this, cut out the central square; none keeps 218x178.", ge=1, unit="pixels"),
    ] = 64


@dataclass(frozen=True)
class AnnotatedParams(ImageParams):
    """Which rows of images with several labels, masks or boxes are used."""

    rows: Annotated[int | None, Param("Training rows to draw (seeded); none takes all.", ge=1)] = None
    test_rows: Annotated[int | None, Param("Test rows to draw (seeded); none takes all.", ge=1)] = None


@dataclass(frozen=True)
class CelebAAttributesParams(AnnotatedParams):
    """CelebA: several of its 40 attributes are the labels."""

    attributes: Annotated[
        tuple[str, ...], Param("Attributes to predict, as list_attr_celeba.txt has them.", min_length=1)
    ] = ("Smiling", "Mouth_Slightly_Open", "No_Beard", "Eyeglasses", "Bald")
    split: Annotated[
        Literal["official", "paper"],
        Param("official: CelebA's partition, no person in two parts; paper: the last quarter of the files tests."),
    ] = "official"
    validation: Annotated[
        bool, Param("Hand over the official validation rows too, at most test_rows; else they are not used.")
    ] = False
    image_size: Annotated[
        int | None,
        Param("Scale the shorter side to this, cut out the central square; none keeps 218x178.", ge=1, unit="pixels"),
    ] = 64


@dataclass(frozen=True)
class PlacedParams(AnnotatedParams):
    """Images whose annotations say where something is."""

    image_size: Annotated[
        int, Param("Height and width to which images are scaled, masks and boxes with them.", ge=16, unit="pixels")
    ] = 128


@dataclass(frozen=True)
class VocParams(PlacedParams):
    """Pascal VOC."""

    year: Annotated[Literal[2012, 2007], Param("Year of the challenge; its train rows, and its val rows as test.")] = (
        2012
    )


@dataclass(frozen=True)
class VocDetectionParams(VocParams):
    """Pascal VOC with boxes."""

    difficult: Annotated[bool, Param("Keep objects that are marked as difficult; the challenge ignores them.")] = False


@dataclass(frozen=True)
class CocoParams(PlacedParams):
    """COCO, or files in its format."""

    rows: Annotated[
        int | None, Param("Training rows to draw (seeded); none takes all 118,287: 23 GB at 128 pixels.", ge=1)
    ] = 10_000
    folder: Annotated[str, Param("Folder below the data folder.", min_length=1)] = "coco"
    train: Annotated[
        str, Param("Training rows: annotations/instances_TRAIN.json with its images in TRAIN/.", min_length=1)
    ] = "train2017"
    test: Annotated[str, Param("Test rows: annotations/instances_TEST.json, images in TEST/.", min_length=1)] = (
        "val2017"
    )
    categories: Annotated[
        tuple[str, ...], Param("Categories whose boxes are kept, in the order of the outputs; empty keeps all.")
    ] = ()
    empty: Annotated[bool, Param("Keep images that show no object of these categories.")] = True


@dataclass(frozen=True)
class TorchvisionParams(ImageParams):
    """Any classification data set of torchvision."""

    dataset: Annotated[str, Param("Class in torchvision.datasets, for example Food101, EuroSAT or ImageFolder.")] = ""
    folder: Annotated[str, Param("Folder below the data folder; empty is the name of the data set in lower case.")] = ""
    test_fraction: Annotated[
        float, Param("Share of the rows kept for testing (stratified) if the data set has no test rows.", gt=0, lt=1)
    ] = 0.2


@dataclass(frozen=True)
class ImageFolderParams(ImageParams):
    """A folder of images below the data folder: CLASS/*.png, train/CLASS and test/CLASS, or a CSV file of labels."""

    folder: Annotated[str, Param("Folder below the data folder.")] = ""
    labels: Annotated[
        str, Param("CSV file in the folder: columns file, the label, split (train or test) if any; empty: subfolders.")
    ] = ""
    label: Annotated[str, Param("Column of the class.", min_length=1)] = "label"
    groups: Annotated[tuple[str, ...], Param("Columns that requests may select by (a person, a site).")] = ()
    channels: Annotated[
        Literal[1, 3] | None, Param("Make all images grey (1) or colour (3); none keeps them, colour where any is.")
    ] = None
    test_fraction: Annotated[
        float, Param("Share of the images kept for testing (stratified) if they are not divided already.", gt=0, lt=1)
    ] = 0.2


@dataclass(frozen=True)
class ResNetParams:
    """A residual network."""

    stem: Annotated[
        Stem, Param("First layers: cifar is a 3x3 convolution of stride 1 without pooling, imagenet 7x7 with pooling.")
    ] = "cifar"


@dataclass(frozen=True)
class ResNet18Params(ResNetParams):
    """A residual network whose published weights may be used; they are for the stem imagenet."""

    weights: Weights = "none"


@dataclass(frozen=True)
class VggParams:
    """A VGG network."""

    stem: Annotated[
        Stem, Param("cifar pools to 1x1 and classifies with one layer, imagenet with three (120 million weights).")
    ] = "cifar"
    batch_norm: Annotated[bool, Param("Batch normalisation after every convolution, as in most papers.")] = True


@dataclass(frozen=True)
class WeightsParams:
    """A network as torchvision has it."""

    weights: Weights = "none"


@dataclass(frozen=True)
class Vgg13Params(WeightsParams):
    """A VGG network as torchvision has it."""

    batch_norm: Annotated[bool, Param("Batch normalisation after every convolution, as in most papers.")] = True


@dataclass(frozen=True)
class DetectorParams(WeightsParams):
    """A detector."""

    detections: Annotated[int, Param("Detections of an image at most; measures judge the 100 best.", ge=1)] = 100


@dataclass(frozen=True)
class SsdLiteParams(DetectorParams):
    """SSD-lite."""

    size: Annotated[
        int | None,
        Param("Side of the square that images are resized to; none keeps them as they are.", ge=16, unit="pixels"),
    ] = 320


@dataclass(frozen=True)
class FasterRcnnParams(DetectorParams):
    """Faster R-CNN."""

    min_size: Annotated[
        int | None,
        Param(
            "Length that the shorter side of images is resized to (the longer is 1333 at most; torchvision takes 800); "
            "none keeps them as they are.",
            ge=16,
            unit="pixels",
        ),
    ] = None
    anchors: Annotated[
        tuple[int, ...],
        Param("Sides of the anchors on the five levels of the feature pyramid, in pixels of the resized image."),
    ] = (32, 64, 128, 256, 512)
    norm: Annotated[
        Literal["batch", "frozen"],
        Param(
            "Batch normalisation in the ResNet: trained (batch), or with fixed statistics and factors (frozen), as it "
            "is with weights=cache in any case."
        ),
    ] = "batch"


@dataclass(frozen=True)
class ArchitectureParams:
    """Any classifier of torchvision."""

    architecture: Annotated[str, Param("Name in torchvision.models, such as densenet121.", min_length=1)] = "resnet34"
