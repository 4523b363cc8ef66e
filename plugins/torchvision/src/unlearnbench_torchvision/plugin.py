"""Specs; imports nothing but the standard library and ``unlearnbench.api``."""

from __future__ import annotations

from unlearnbench.api import DatasetSpec, ModelSpec, hookimpl
from unlearnbench_torchvision import papers
from unlearnbench_torchvision.params import (
    ArchitectureParams,
    CelebAAttributesParams,
    CelebAParams,
    CocoParams,
    FasterRcnnParams,
    ImageFolderParams,
    ImageParams,
    ResNet18Params,
    ResNetParams,
    SsdLiteParams,
    TorchvisionParams,
    Vgg13Params,
    VggParams,
    VocDetectionParams,
    VocParams,
    WeightsParams,
)

UNLEARNBENCH_API = 1


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
            paper=papers.MNIST,
        ),
        DatasetSpec(
            name="fashion-mnist",
            summary="Fashion-MNIST: 60,000 + 10,000 pieces of clothing in 10 classes, 28x28, grey.",
            target=f"{datasets}:FashionMNIST",
            params=ImageParams,
            fetchable=True,
            licence="MIT",
            paper=papers.FASHION,
        ),
        DatasetSpec(
            name="kmnist",
            summary="Kuzushiji-MNIST: 60,000 + 10,000 cursive Japanese characters in 10 classes, 28x28, grey.",
            target=f"{datasets}:KMNIST",
            params=ImageParams,
            fetchable=True,
            licence="CC BY-SA 4.0",
            paper=papers.KMNIST,
        ),
        DatasetSpec(
            name="cifar10",
            summary="CIFAR-10: 50,000 + 10,000 photographs in 10 classes, 32x32, colour.",
            target=f"{datasets}:CIFAR10",
            params=ImageParams,
            fetchable=True,
            licence="none stated (research data)",
            paper=papers.CIFAR,
        ),
        DatasetSpec(
            name="cifar100",
            summary="CIFAR-100: 50,000 + 10,000 photographs in 100 classes, 32x32, colour.",
            target=f"{datasets}:CIFAR100",
            params=ImageParams,
            fetchable=True,
            licence="none stated (research data)",
            paper=papers.CIFAR,
        ),
        DatasetSpec(
            name="svhn",
            summary="SVHN: 73,257 + 26,032 digits of house numbers, 32x32, colour.",
            target=f"{datasets}:SVHN",
            params=ImageParams,
            fetchable=True,
            licence="non-commercial use",
            paper=papers.SVHN,
        ),
        DatasetSpec(
            name="celeba",
            summary="CelebA: 162,770 + 19,962 faces, one of 40 attributes as class, persons as group column.",
            target="unlearnbench_torchvision.celeba:CelebA",
            params=CelebAParams,
            fetchable=True,
            licence="non-commercial research",
            paper=papers.CELEBA,
        ),
        DatasetSpec(
            name="celeba-attributes",
            summary="CelebA: 162,770 + 19,962 faces with several of 40 attributes as labels, persons as group column.",
            target="unlearnbench_torchvision.attributes:CelebAAttributes",
            params=CelebAAttributesParams,
            tasks=("multi-label",),
            fetchable=True,
            licence="non-commercial research",
            paper=papers.CELEBA,
        ),
        DatasetSpec(
            name="voc-segmentation",
            summary="Pascal VOC 2012 or 2007: photographs with a class for every pixel, 20 kinds of objects.",
            target="unlearnbench_torchvision.voc:VocSegmentation",
            params=VocParams,
            tasks=("segmentation",),
            fetchable=True,
            licence="terms of Flickr (photographs)",
            paper=papers.VOC,
        ),
        DatasetSpec(
            name="voc-detection",
            summary="Pascal VOC 2012 or 2007: photographs with boxes of 20 kinds of objects.",
            target="unlearnbench_torchvision.voc:VocDetection",
            params=VocDetectionParams,
            tasks=("detection",),
            fetchable=True,
            licence="terms of Flickr (photographs)",
            paper=papers.VOC,
        ),
        DatasetSpec(
            name="coco-detection",
            summary="COCO 2017, or files in its format: photographs with boxes of 80 kinds of objects.",
            target="unlearnbench_torchvision.coco:CocoDetection",
            params=CocoParams,
            tasks=("detection",),
            licence="CC BY 4.0 (annotations), terms of Flickr (photographs)",
            paper=papers.COCO,
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
            params=ResNet18Params,
            tasks=("classification", "multi-label"),
            paper=papers.RESNET,
        ),
        ModelSpec(
            name="resnet50",
            summary="ResNet-50 with a stem for small (cifar) or large (imagenet) images.",
            target=f"{models}:ResNet50",
            params=ResNetParams,
            tasks=("classification", "multi-label"),
            paper=papers.RESNET,
        ),
        ModelSpec(
            name="vgg16",
            summary="VGG-16 with a head for small (cifar) or large (imagenet) images.",
            target=f"{models}:Vgg16",
            params=VggParams,
            tasks=("classification", "multi-label"),
            paper=papers.VGG,
        ),
        ModelSpec(
            name="vgg13",
            summary="VGG-13 as torchvision has it, for images of at least 32x32 (129 million weights for 10 classes).",
            target=f"{models}:Vgg13",
            params=Vgg13Params,
            tasks=("classification", "multi-label"),
            paper=papers.VGG13,
        ),
        ModelSpec(
            name="alexnet",
            summary="AlexNet as torchvision has it, for images of at least 63x63 (57 million weights).",
            target=f"{models}:AlexNet",
            params=WeightsParams,
            tasks=("classification", "multi-label"),
            paper=papers.ALEXNET,
        ),
        ModelSpec(
            name="deeplabv3-resnet50",
            summary="DeepLabv3 on a ResNet-50: a class for each pixel.",
            target="unlearnbench_torchvision.segmentation:DeepLabV3ResNet50",
            params=WeightsParams,
            tasks=("segmentation",),
            paper=papers.DEEPLAB,
        ),
        ModelSpec(
            name="ssdlite320-mobilenet-v3-large",
            summary="SSD-lite on MobileNetV3-Large: a one-stage detector; images in [0, 1].",
            target="unlearnbench_torchvision.detectors:SsdLite320",
            params=SsdLiteParams,
            tasks=("detection",),
            paper=papers.SSDLITE,
        ),
        ModelSpec(
            name="fasterrcnn-resnet50-fpn",
            summary="Faster R-CNN on a ResNet-50 with a feature pyramid: a two-stage detector; images in [0, 1].",
            target="unlearnbench_torchvision.detectors:FasterRcnnResNet50",
            params=FasterRcnnParams,
            tasks=("detection",),
            paper=papers.FASTER_RCNN,
        ),
        ModelSpec(
            name="torchvision-model",
            summary="Any classifier of torchvision by name, with random weights.",
            target=f"{models}:Architecture",
            params=ArchitectureParams,
            tasks=("classification", "multi-label"),
        ),
    ]
