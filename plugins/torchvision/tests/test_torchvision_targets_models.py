"""Networks for target requests: published sizes, what comes out, and weights from the user's own cache."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hand_models import built_on_meta, interface
from torch import Tensor, nn
from torchvision.models import alexnet, segmentation, vgg13, vgg13_bn
from torchvision.models.detection import fasterrcnn_resnet50_fpn, ssdlite320_mobilenet_v3_large
from torchvision.ops import FrozenBatchNorm2d

from unlearnbench.api import DataError, UsageError
from unlearnbench.api.runtime import Ref
from unlearnbench.networks import build_network, restore_network
from unlearnbench.registry import registry
from unlearnbench_torchvision import detectors
from unlearnbench_torchvision.detectors import FasterRcnnResNet50, SsdLite320
from unlearnbench_torchvision.models import AlexNet, ResNet18, Vgg13
from unlearnbench_torchvision.params import FasterRcnnParams, ResNet18Params, SsdLiteParams, Vgg13Params, WeightsParams
from unlearnbench_torchvision.segmentation import LEFT_OUT, DeepLabV3ResNet50
from unlearnbench_torchvision.weights import start_from

CPU = torch.device("cpu")
ALEXNET = AlexNet(WeightsParams())
VGG = Vgg13(Vgg13Params())
DEEPLAB = DeepLabV3ResNet50(WeightsParams())
SSD = SsdLite320(SsdLiteParams())
RCNN = FasterRcnnResNet50(FasterRcnnParams())
NO_WEIGHTS = {"weights": None, "weights_backbone": None}


def shapes(net: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(t.shape) for name, t in net.state_dict().items()}


@pytest.mark.parametrize(
    ("component", "outputs", "theirs"),
    [
        (ALEXNET, 1000, lambda: alexnet(weights=None)),
        (VGG, 1000, lambda: vgg13_bn(weights=None)),
        (Vgg13(Vgg13Params(batch_norm=False)), 1000, lambda: vgg13(weights=None)),
        (DEEPLAB, 21, lambda: segmentation.deeplabv3_resnet50(**NO_WEIGHTS, aux_loss=False)),
        (SSD, 90, lambda: ssdlite320_mobilenet_v3_large(**NO_WEIGHTS)),
        (RCNN, 90, lambda: fasterrcnn_resnet50_fpn(**NO_WEIGHTS)),
    ],
    ids=["alexnet", "vgg13", "vgg13-plain", "deeplab", "ssdlite", "fasterrcnn"],
)
def test_tensors_have_the_names_and_shapes_of_torchvisions(
    component: Any, outputs: int, theirs: Callable[[], nn.Module]
) -> None:
    """So that a state dict saved from torchvision's network is a checkpoint of ours. Theirs count the background."""
    with torch.device("meta"):
        expected = shapes(theirs())
    assert shapes(built_on_meta(component, (3, 224, 224), outputs)) == expected


def test_frozen_normalisation_has_buffers_alone() -> None:
    frozen = built_on_meta(FasterRcnnResNet50(FasterRcnnParams(norm="frozen")), (3, 64, 64), 4)
    trained = built_on_meta(RCNN, (3, 64, 64), 4)
    counters = {name for name in shapes(trained) if name.endswith("num_batches_tracked")}
    assert shapes(frozen) == {name: shape for name, shape in shapes(trained).items() if name not in counters}
    assert "backbone.body.layer1.0.bn1.weight" not in dict(frozen.named_parameters())
    assert all(p.requires_grad for p in frozen.parameters())


@pytest.mark.parametrize(
    ("component", "inputs"),
    [(ALEXNET, (3, 62, 62)), (VGG, (3, 31, 31)), (VGG, (1, 28, 28))],
    ids=["alexnet", "vgg13", "vgg13-digits"],
)
def test_images_that_are_too_small_are_refused_before_any_weight_is_drawn(component: Any, inputs: Any) -> None:
    before = torch.get_rng_state()
    with pytest.raises(UsageError, match=r"cannot take .* images: .*image_size") as caught:
        component.build(interface(inputs))
    assert caught.value.code == "bad-model"
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("component", [ALEXNET, VGG, DEEPLAB, SSD, RCNN], ids=lambda c: type(c).__name__)
def test_rows_that_are_no_images_are_refused(component: Any) -> None:
    with pytest.raises(UsageError, match="needs images"):
        component.build(interface((30,)))


def test_alexnet_takes_the_smallest_images_that_it_can_and_any_channels() -> None:
    ref = Ref("alexnet", {}, (1, 63, 63), 4)
    net = build_network(registry(), ref, 0, CPU)
    rows = torch.randn(2, 1, 63, 63)
    again = restore_network(registry(), ref, net.state_dict(), CPU)
    with torch.no_grad():
        assert net(rows).shape == (2, 4)
        assert torch.equal(net(rows), again(rows))


# -- DeepLab -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def deeplab() -> nn.Module:
    torch.manual_seed(0)
    return DEEPLAB.build(interface((3, 33, 48), 5)).eval()


def test_deeplab_gives_the_logits_of_torchvisions_for_each_pixel(deeplab: nn.Module) -> None:
    theirs = segmentation.deeplabv3_resnet50(**NO_WEIGHTS, num_classes=5, aux_loss=False)
    theirs.load_state_dict(deeplab.state_dict())
    rows = torch.randn(2, 3, 33, 48)
    with torch.no_grad():
        out = deeplab(rows)
        assert out.shape == (2, 5, 33, 48)
        assert torch.equal(out, theirs.eval()(rows)["out"])


def test_the_gradient_of_a_target_reaches_deeplabs_first_convolution(deeplab: nn.Module) -> None:
    deeplab.zero_grad()
    deeplab(torch.randn(1, 3, 33, 48))[:, 2].softmax(1).square().sum().backward()
    grad = deeplab.get_parameter("backbone.conv1.weight").grad
    assert grad is not None
    assert float(grad.abs().max()) > 0


def test_deeplab_takes_grey_images() -> None:
    net = built_on_meta(DEEPLAB, (1, 32, 32), 3)
    assert net(torch.empty(2, 1, 32, 32, device="meta")).shape == (2, 3, 32, 32)


# -- weights in the cache ----------------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of torch's."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def publish(cache: Path, monkeypatch: pytest.MonkeyPatch, state: dict[str, Tensor] | list[int]) -> Path:
    """Put a file into the cache as what torchvision publishes for SSD-lite."""
    torch.save(state, cache / "new")
    digest = hashlib.sha256((cache / "new").read_bytes()).hexdigest()
    path = (cache / "new").rename(cache / f"ssdlite-{digest[:8]}.pth")
    weights = SimpleNamespace(COCO_V1=SimpleNamespace(url=f"https://example.org/models/{path.name}"))
    monkeypatch.setattr(detectors, "SSDLite320_MobileNet_V3_Large_Weights", weights)
    return path


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    """Weights of torchvision's own SSD-lite for 90 classes and the background."""
    torch.manual_seed(99)
    state: dict[str, Tensor] = ssdlite320_mobilenet_v3_large(**NO_WEIGHTS).state_dict()
    return state


CACHED = SsdLite320(SsdLiteParams(weights="cache"))


@pytest.mark.parametrize(
    ("component", "file"),
    [
        (AlexNet(WeightsParams(weights="cache")), "alexnet-owt-7be5be79.pth"),
        (ResNet18(ResNet18Params(stem="imagenet", weights="cache")), "resnet18-f37072fd.pth"),
        (Vgg13(Vgg13Params(weights="cache")), "vgg13_bn-abd245e5.pth"),
        (DeepLabV3ResNet50(WeightsParams(weights="cache")), "deeplabv3_resnet50_coco-cd0a2569.pth"),
        (CACHED, "ssdlite320_mobilenet_v3_large_coco-a79551df.pth"),
        (FasterRcnnResNet50(FasterRcnnParams(weights="cache")), "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth"),
    ],
    ids=["alexnet", "resnet18", "vgg13", "deeplab", "ssdlite", "fasterrcnn"],
)
def test_weights_that_are_not_in_the_cache_are_one_line_and_no_download(
    component: Any, file: str, cache: Path, downloads: list[str]
) -> None:
    with pytest.raises(DataError, match="a run downloads nothing") as caught:
        component.build(interface((3, 64, 64), 4))
    assert caught.value.code == "missing-file"
    assert caught.value.where == file
    assert str(cache) in str(caught.value)
    assert downloads == []


def test_weights_in_the_cache_are_taken_whole_where_the_classes_are_as_many(
    cache: Path, monkeypatch: pytest.MonkeyPatch, published: dict[str, Tensor]
) -> None:
    publish(cache, monkeypatch, published)
    net = CACHED.build(interface((3, 64, 64), 90))
    assert all(torch.equal(value, published[name]) for name, value in net.state_dict().items())


def test_layers_that_depend_on_the_number_of_classes_are_drawn_anew_and_no_others(
    cache: Path, monkeypatch: pytest.MonkeyPatch, published: dict[str, Tensor]
) -> None:
    publish(cache, monkeypatch, published)
    torch.manual_seed(3)
    fresh = SSD.build(interface((3, 64, 64), 4)).state_dict()
    torch.manual_seed(3)
    net = CACHED.build(interface((3, 64, 64), 4))
    drawn = {name for name, value in net.state_dict().items() if value.shape != published[name].shape}
    last = {f"head.classification_head.module_list.{i}.1.{part}" for i in range(6) for part in ("weight", "bias")}
    assert drawn == last
    for name, value in net.state_dict().items():
        assert torch.equal(value, fresh[name] if name in drawn else published[name])


def test_a_stored_model_is_restored_without_the_file(
    cache: Path, monkeypatch: pytest.MonkeyPatch, published: dict[str, Tensor]
) -> None:
    path = publish(cache, monkeypatch, published)
    ref = Ref("ssdlite320-mobilenet-v3-large", {"weights": "cache"}, (3, 64, 64), 4)
    net = build_network(registry(), ref, 0, CPU)
    path.unlink()
    again = restore_network(registry(), ref, net.state_dict(), CPU)
    rows = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(net(rows), again(rows))


def test_a_file_that_its_name_does_not_fit_is_refused(
    cache: Path, monkeypatch: pytest.MonkeyPatch, published: dict[str, Tensor]
) -> None:
    path = publish(cache, monkeypatch, published)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(DataError, match="which its name does not say") as caught:
        CACHED.build(interface((3, 64, 64), 4))
    assert caught.value.code == "wrong-digest"


class Evil:
    """Makes a folder when a pickle of it is read."""

    def __reduce__(self) -> Any:
        return Path.mkdir, (Path("evil"),)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {k: v for k, v in s.items() if k != "backbone.features.0.0.0.weight"}, "lacks backbone"),
        (lambda s: {**s, "more": torch.zeros(1)}, "has more"),
        (lambda s: {**s, "backbone.features.0.0.0.weight": torch.zeros(16, 4, 3, 3)}, "size mismatch"),
        (lambda s: [Evil()], "cannot be read as weights"),
    ],
    ids=["one-too-few", "one-too-many", "another-shape", "code"],
)
def test_files_with_other_content_are_refused_in_a_line_and_run_nothing(
    change: Any, message: str, cache: Path, monkeypatch: pytest.MonkeyPatch, published: dict[str, Tensor]
) -> None:
    monkeypatch.chdir(cache)
    publish(cache, monkeypatch, change(published))
    with pytest.raises(DataError, match=message) as caught:
        CACHED.build(interface((3, 64, 64), 4))
    assert caught.value.code == "unreadable-file"
    assert "\n" not in caught.value.message
    assert not (cache / "evil").exists()


def test_published_weights_want_images_of_three_channels() -> None:
    with pytest.raises(UsageError, match="for 3 channels, not 1") as caught:
        CACHED.build(interface((1, 64, 64), 4))
    assert caught.value.code == "bad-model"


def test_a_faster_rcnn_of_published_weights_is_frozen_as_torchvisions_is() -> None:
    """On the meta device, as from the store: what is no tensor (the small number in the root) must be set again."""
    net = built_on_meta(FasterRcnnResNet50(FasterRcnnParams(weights="cache")), (3, 64, 64), 4)
    norms = [m for m in net.modules() if isinstance(m, FrozenBatchNorm2d)]
    assert len(norms) == 53
    assert {m.eps for m in norms} == {0.0}


def test_deeplabs_auxiliary_head_in_the_published_file_is_left_out(tmp_path: Path) -> None:
    with torch.device("meta"):
        theirs = segmentation.deeplabv3_resnet50(**NO_WEIGHTS, num_classes=21, aux_loss=True)
    kept = {name: shape for name, shape in shapes(theirs).items() if not name.startswith(LEFT_OUT)}
    assert kept == shapes(built_on_meta(DEEPLAB, (3, 32, 32), 21)) != shapes(theirs)

    net = nn.Sequential(nn.Linear(2, 2))
    torch.save({"0.weight": torch.ones(2, 2), "0.bias": torch.ones(2), "aux.weight": torch.ones(2)}, tmp_path / "w.pth")
    with pytest.raises(DataError, match=r"has aux\.weight"):
        start_from(net, tmp_path / "w.pth", head="0.")
    start_from(net, tmp_path / "w.pth", head="0.", left_out=("aux.",))
    assert torch.equal(net[0].weight, torch.ones(2, 2))


def test_the_last_layer_of_a_classifier_is_drawn_anew_for_another_number_of_classes(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 5))
    fresh = net[1].weight.detach().clone()
    torch.save(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 7)).state_dict(), tmp_path / "w.pth")
    start_from(net, tmp_path / "w.pth", head="1.")
    assert torch.equal(net[0].weight, torch.load(tmp_path / "w.pth", weights_only=True)["0.weight"])
    assert torch.equal(net[1].weight, fresh)
    with pytest.raises(DataError, match=r"size mismatch for 1\.weight"):
        start_from(net, tmp_path / "w.pth", head="0.")


def test_published_weights_of_resnet18_are_for_its_large_stem(cache: Path) -> None:
    with pytest.raises(UsageError, match="stem imagenet"):
        ResNet18(ResNet18Params(weights="cache")).build(interface((3, 32, 32), 10))
