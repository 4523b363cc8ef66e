"""The papers of data sets and networks."""

from __future__ import annotations

from dataclasses import replace

from unlearnbench.api import Paper

MNIST = Paper(
    title="Gradient-Based Learning Applied to Document Recognition",
    authors=("Yann LeCun", "Léon Bottou", "Yoshua Bengio", "Patrick Haffner"),
    year=1998,
    venue="Proceedings of the IEEE",
    doi="10.1109/5.726791",
)
FASHION = Paper(
    title="Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms",
    authors=("Han Xiao", "Kashif Rasul", "Roland Vollgraf"),
    year=2017,
    arxiv="1708.07747",
)
KMNIST = Paper(
    title="Deep Learning for Classical Japanese Literature",
    authors=("Tarin Clanuwat", "Mikel Bober-Irizar", "Asanobu Kitamoto", "Alex Lamb", "Kazuaki Yamamoto", "David Ha"),
    year=2018,
    arxiv="1812.01718",
)
CIFAR = Paper(
    title="Learning Multiple Layers of Features from Tiny Images",
    authors=("Alex Krizhevsky",),
    year=2009,
    venue="University of Toronto, technical report",
)
SVHN = Paper(
    title="Reading Digits in Natural Images with Unsupervised Feature Learning",
    authors=("Yuval Netzer", "Tao Wang", "Adam Coates", "Alessandro Bissacco", "Bo Wu", "Andrew Y. Ng"),
    year=2011,
    venue="NIPS Workshop on Deep Learning and Unsupervised Feature Learning",
)
CELEBA = Paper(
    title="Deep Learning Face Attributes in the Wild",
    authors=("Ziwei Liu", "Ping Luo", "Xiaogang Wang", "Xiaoou Tang"),
    year=2015,
    venue="ICCV",
    arxiv="1411.7766",
)
VOC = Paper(
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
COCO = Paper(
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
RESNET = Paper(
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
CACHED = (
    "Published weights are never downloaded, only read from torch's own folder; the layers whose shape depends on the "
    "number of classes keep their random weights where it differs from the published one."
)
ALEXNET = Paper(
    title="One weird trick for parallelizing convolutional neural networks",
    authors=("Alex Krizhevsky",),
    year=2014,
    arxiv="1404.5997",
    deviations=(
        "torchvision's network: convolutions of 64, 192, 384, 256 and 256 channels, no local response normalisation, "
        "and dropout before the two hidden layers of the classifier.",
        CACHED,
    ),
)
DEEPLAB = Paper(
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
        CACHED,
    ),
)
SSDLITE = Paper(
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
        CACHED,
    ),
)
FASTER_RCNN = Paper(
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
        CACHED,
    ),
)
VGG = Paper(
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
VGG13 = replace(VGG, deviations=(VGG.deviations[0], CACHED))
