"""Specs and parameters; imports nothing but the standard library and ``unlearnbench.api``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from unlearnbench.api import DatasetSpec, ModelSpec, Paper, Param, hookimpl

UNLEARNBENCH_API = 1

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


_MNIST = Paper(
    title="Gradient-Based Learning Applied to Document Recognition",
    authors=("Yann LeCun", "Léon Bottou", "Yoshua Bengio", "Patrick Haffner"),
    year=1998,
    venue="Proceedings of the IEEE",
    doi="10.1109/5.726791",
)
_FASHION = Paper(
    title="Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms",
    authors=("Han Xiao", "Kashif Rasul", "Roland Vollgraf"),
    year=2017,
    arxiv="1708.07747",
)
_KMNIST = Paper(
    title="Deep Learning for Classical Japanese Literature",
    authors=("Tarin Clanuwat", "Mikel Bober-Irizar", "Asanobu Kitamoto", "Alex Lamb", "Kazuaki Yamamoto", "David Ha"),
    year=2018,
    arxiv="1812.01718",
)
_CIFAR = Paper(
    title="Learning Multiple Layers of Features from Tiny Images",
    authors=("Alex Krizhevsky",),
    year=2009,
    venue="University of Toronto, technical report",
)
_SVHN = Paper(
    title="Reading Digits in Natural Images with Unsupervised Feature Learning",
    authors=("Yuval Netzer", "Tao Wang", "Adam Coates", "Alessandro Bissacco", "Bo Wu", "Andrew Y. Ng"),
    year=2011,
    venue="NIPS Workshop on Deep Learning and Unsupervised Feature Learning",
)
_CELEBA = Paper(
    title="Deep Learning Face Attributes in the Wild",
    authors=("Ziwei Liu", "Ping Luo", "Xiaogang Wang", "Xiaoou Tang"),
    year=2015,
    venue="ICCV",
    arxiv="1411.7766",
)
_VOC = Paper(
    title="The Pascal Visual Object Classes (VOC) Challenge",
    authors=("Mark Everingham", "Luc Van Gool", "Christopher K. I. Williams", "John Winn", "Andrew Zisserman"),
    year=2010,
    venue="International Journal of Computer Vision",
    doi="10.1007/s11263-009-0275-4",
    deviations=(
        "Images are scaled to squares, masks and boxes with them; models are trained on train and tested on val, since "
        "the labels of the test rows of 2012 are not published.",
    ),
)
_COCO = Paper(
    title="Microsoft COCO: Common Objects in Context",
    authors=(
        "Tsung-Yi Lin",
        "Michael Maire",
        "Serge Belongie",
        "James Hays",
        "Pietro Perona",
        "Deva Ramanan",
        "Piotr Dollár",
        "C. Lawrence Zitnick",
    ),
    year=2014,
    venue="ECCV",
    arxiv="1405.0312",
    deviations=("Images are scaled to squares, boxes with them; crowds are left out.",),
)
_RESNET = Paper(
    title="Deep Residual Learning for Image Recognition",
    authors=("Kaiming He", "Xiangyu Zhang", "Shaoqing Ren", "Jian Sun"),
    year=2016,
    venue="CVPR",
    arxiv="1512.03385",
    deviations=(
        "ResNet-18 and ResNet-50 are the ImageNet networks also with the cifar stem, as unlearning papers use them; "
        "the paper's own CIFAR networks (ResNet-20, -56) have three stages and fewer channels.",
        "The convolution of stride 2 in ResNet-50's blocks is the 3x3 one, as in torchvision, not the first 1x1 one.",
    ),
)
_CACHED = (
    "Published weights are never downloaded, only read from torch's own folder; the layers whose shape depends on the "
    "number of classes keep their random weights where it differs from the published one."
)
_ALEXNET = Paper(
    title="One weird trick for parallelizing convolutional neural networks",
    authors=("Alex Krizhevsky",),
    year=2014,
    arxiv="1404.5997",
    deviations=(
        "torchvision's network: convolutions of 64, 192, 384, 256 and 256 channels, no local response normalisation, "
        "and dropout before the two hidden layers of the classifier.",
        _CACHED,
    ),
)
_DEEPLAB = Paper(
    title="Rethinking Atrous Convolution for Semantic Image Segmentation",
    authors=("Liang-Chieh Chen", "George Papandreou", "Florian Schroff", "Hartwig Adam"),
    year=2017,
    arxiv="1706.05587",
    deviations=(
        "torchvision's network, of output stride 8: pooled features and logits are enlarged bilinearly, and the rates "
        "of the atrous convolutions are 12, 24 and 36.",
        "The auxiliary head, which torchvision's training adds, is left out: the task has one output.",
        "Images enter as the data set gives them; torchvision's weights were trained on images normalised with "
        "ImageNet's statistics.",
        _CACHED,
    ),
)
_SSDLITE = Paper(
    title="Searching for MobileNetV3",
    authors=(
        "Andrew Howard",
        "Mark Sandler",
        "Grace Chu",
        "Liang-Chieh Chen",
        "Bo Chen",
        "Mingxing Tan",
        "Weijun Wang",
        "Yukun Zhu",
        "Ruoming Pang",
        "Vijay Vasudevan",
        "Quoc V. Le",
        "Hartwig Adam",
    ),
    year=2019,
    venue="ICCV",
    arxiv="1905.02244",
    deviations=(
        "torchvision's network: half the channels in the last stage, as the paper has it for detection.",
        "The loss is torchvision's for each image alone, not for the batch: every image counts the same, however many "
        "default boxes are matched in it. One without boxes has loss 0.",
        "100 detections of an image at most by default, not 300.",
        _CACHED,
    ),
)
_FASTER_RCNN = Paper(
    title="Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks",
    authors=("Shaoqing Ren", "Kaiming He", "Ross Girshick", "Jian Sun"),
    year=2015,
    venue="NeurIPS",
    arxiv="1506.01497",
    deviations=(
        "torchvision's network on a ResNet-50 with a feature pyramid (Lin et al. 2017, arXiv:1612.03144), trained end "
        "to end.",
        "Images keep their size by default, where torchvision resizes the shorter side to 800.",
        "The loss is the sum of torchvision's four for each image alone, not for the batch.",
        "The anchors and proposals that a loss is taken over are drawn with a seed that never changes, so that the "
        "loss of an image is repeatable.",
        "No layer of the backbone is frozen but batch normalisation, and that only with norm=frozen or weights=cache.",
        _CACHED,
    ),
)
_VGG = Paper(
    title="Very Deep Convolutional Networks for Large-Scale Image Recognition",
    authors=("Karen Simonyan", "Andrew Zisserman"),
    year=2015,
    venue="ICLR",
    arxiv="1409.1556",
    deviations=(
        "Batch normalisation follows every convolution by default; batch_norm=false is the paper's network.",
        "With the cifar stem, features are averaged to 1x1 and one linear layer classifies; pooling keeps the odd last "
        "row and column, so that images smaller than 32x32 can be used too.",
    ),
)
_VGG13 = replace(_VGG, deviations=(_VGG.deviations[0], _CACHED))


@hookimpl
def unlearnbench_datasets() -> list[DatasetSpec]:
    datasets = "unlearnbench_torchvision.datasets"
    return [
        DatasetSpec(
            name="mnist",
            summary="MNIST: 60,000 + 10,000 handwritten digits, 28x28, grey.",
            target=f"{datasets}:MNIST",
            params=ImageParams,
            fetchable=True,
            licence="CC BY-SA 3.0",
            paper=_MNIST,
        ),
        DatasetSpec(
            name="fashion-mnist",
            summary="Fashion-MNIST: 60,000 + 10,000 pieces of clothing in 10 classes, 28x28, grey.",
            target=f"{datasets}:FashionMNIST",
            params=ImageParams,
            fetchable=True,
            licence="MIT",
            paper=_FASHION,
        ),
        DatasetSpec(
            name="kmnist",
            summary="Kuzushiji-MNIST: 60,000 + 10,000 cursive Japanese characters in 10 classes, 28x28, grey.",
            target=f"{datasets}:KMNIST",
            params=ImageParams,
            fetchable=True,
            licence="CC BY-SA 4.0",
            paper=_KMNIST,
        ),
        DatasetSpec(
            name="cifar10",
            summary="CIFAR-10: 50,000 + 10,000 photographs in 10 classes, 32x32, colour.",
            target=f"{datasets}:CIFAR10",
            params=ImageParams,
            fetchable=True,
            licence="none stated (research data)",
            paper=_CIFAR,
        ),
        DatasetSpec(
            name="cifar100",
            summary="CIFAR-100: 50,000 + 10,000 photographs in 100 classes, 32x32, colour.",
            target=f"{datasets}:CIFAR100",
            params=ImageParams,
            fetchable=True,
            licence="none stated (research data)",
            paper=_CIFAR,
        ),
        DatasetSpec(
            name="svhn",
            summary="SVHN: 73,257 + 26,032 digits of house numbers, 32x32, colour.",
            target=f"{datasets}:SVHN",
            params=ImageParams,
            fetchable=True,
            licence="non-commercial use",
            paper=_SVHN,
        ),
        DatasetSpec(
            name="celeba",
            summary="CelebA: 162,770 + 19,962 faces, one of 40 attributes as class, persons as group column.",
            target="unlearnbench_torchvision.celeba:CelebA",
            params=CelebAParams,
            fetchable=True,
            licence="non-commercial research",
            paper=_CELEBA,
        ),
        DatasetSpec(
            name="celeba-attributes",
            summary="CelebA: 162,770 + 19,962 faces with several of 40 attributes as labels, persons as group column.",
            target="unlearnbench_torchvision.attributes:CelebAAttributes",
            params=CelebAAttributesParams,
            tasks=("multi-label",),
            fetchable=True,
            licence="non-commercial research",
            paper=_CELEBA,
        ),
        DatasetSpec(
            name="voc-segmentation",
            summary="Pascal VOC 2012 or 2007: photographs with a class for every pixel, 20 kinds of objects.",
            target="unlearnbench_torchvision.voc:VocSegmentation",
            params=VocParams,
            tasks=("segmentation",),
            fetchable=True,
            licence="terms of Flickr (photographs)",
            paper=_VOC,
        ),
        DatasetSpec(
            name="voc-detection",
            summary="Pascal VOC 2012 or 2007: photographs with boxes of 20 kinds of objects.",
            target="unlearnbench_torchvision.voc:VocDetection",
            params=VocDetectionParams,
            tasks=("detection",),
            fetchable=True,
            licence="terms of Flickr (photographs)",
            paper=_VOC,
        ),
        DatasetSpec(
            name="coco-detection",
            summary="COCO 2017, or files in its format: photographs with boxes of 80 kinds of objects.",
            target="unlearnbench_torchvision.coco:CocoDetection",
            params=CocoParams,
            tasks=("detection",),
            licence="CC BY 4.0 (annotations), terms of Flickr (photographs)",
            paper=_COCO,
        ),
        DatasetSpec(
            name="torchvision",
            summary="Any classification data set of torchvision by the name of its class, or a folder of images.",
            target="unlearnbench_torchvision.generic:Torchvision",
            params=TorchvisionParams,
            fetchable=True,
        ),
        DatasetSpec(
            name="image-folder",
            summary="A folder of images of your own, labelled by subfolders or by a CSV file, with group columns.",
            target="unlearnbench_torchvision.folder:ImageFolder",
            params=ImageFolderParams,
        ),
    ]


@hookimpl
def unlearnbench_models() -> list[ModelSpec]:
    models = "unlearnbench_torchvision.models"
    return [
        ModelSpec(
            name="resnet18",
            summary="ResNet-18 with a stem for small (cifar) or large (imagenet) images.",
            target=f"{models}:ResNet18",
            params=ResNetParams,
            tasks=("classification", "multi-label"),
            paper=_RESNET,
        ),
        ModelSpec(
            name="resnet50",
            summary="ResNet-50 with a stem for small (cifar) or large (imagenet) images.",
            target=f"{models}:ResNet50",
            params=ResNetParams,
            tasks=("classification", "multi-label"),
            paper=_RESNET,
        ),
        ModelSpec(
            name="vgg16",
            summary="VGG-16 with a head for small (cifar) or large (imagenet) images.",
            target=f"{models}:Vgg16",
            params=VggParams,
            tasks=("classification", "multi-label"),
            paper=_VGG,
        ),
        ModelSpec(
            name="vgg13",
            summary="VGG-13 as torchvision has it, for images of at least 32x32 (129 million weights for 10 classes).",
            target=f"{models}:Vgg13",
            params=Vgg13Params,
            tasks=("classification", "multi-label"),
            paper=_VGG13,
        ),
        ModelSpec(
            name="alexnet",
            summary="AlexNet as torchvision has it, for images of at least 63x63 (57 million weights).",
            target=f"{models}:AlexNet",
            params=WeightsParams,
            tasks=("classification", "multi-label"),
            paper=_ALEXNET,
        ),
        ModelSpec(
            name="deeplabv3-resnet50",
            summary="DeepLabv3 on a ResNet-50: a class for each pixel.",
            target="unlearnbench_torchvision.segmentation:DeepLabV3ResNet50",
            params=WeightsParams,
            tasks=("segmentation",),
            paper=_DEEPLAB,
        ),
        ModelSpec(
            name="ssdlite320-mobilenet-v3-large",
            summary="SSD-lite on MobileNetV3-Large: a one-stage detector; images in [0, 1].",
            target="unlearnbench_torchvision.detectors:SsdLite320",
            params=SsdLiteParams,
            tasks=("detection",),
            paper=_SSDLITE,
        ),
        ModelSpec(
            name="fasterrcnn-resnet50-fpn",
            summary="Faster R-CNN on a ResNet-50 with a feature pyramid: a two-stage detector; images in [0, 1].",
            target="unlearnbench_torchvision.detectors:FasterRcnnResNet50",
            params=FasterRcnnParams,
            tasks=("detection",),
            paper=_FASTER_RCNN,
        ),
        ModelSpec(
            name="torchvision-model",
            summary="Any classifier of torchvision by name, with random weights.",
            target=f"{models}:Architecture",
            params=ArchitectureParams,
            tasks=("classification", "multi-label"),
        ),
    ]
