"""Image classifiers of timm for any number of channels and classes, made for the data set's image size.

Layers draw their first weights from torch's global random state, which the host seeds. Nothing is ever downloaded.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import timm
import torch
from timm.layers.patch_embed import PatchEmbed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from unlearnbench.api import UsageError, did_you_mean
from unlearnbench.api.runtime import BuildJob, Component
from unlearnbench_timm.plugin import TimmModelParams, VitMiniParams, VitParams
from unlearnbench_timm.weights import cached_weights, read_weights

STANDARD_PATCH = 16
"""Of the published ViT-Tiny and ViT-Small, whose position embeddings and first convolution the weights hold."""
WELL_CUT = 7
"""Patches along the shorter side that are enough to tell things apart: 4x4 pixels of 28x28, 2 of digits' 8 too few."""

REASON = 160
"""Characters of timm's own words in an error line."""


class TimmModel(Component[TimmModelParams]):
    """Any name of ``timm.list_models()``, also with the tag of its weights (``resnet18.a1_in1k``).

    Networks that are made for one image size (ViT, Swin, MaxViT, ...) are made for the size of the data.
    """

    def build(self, job: BuildJob) -> nn.Module:
        name = self.p.architecture
        job.image("timm-model")
        _require_known(name)
        about = timm.get_pretrained_cfg(name)
        sized = {"img_size": job.inputs[1:]} if about is not None and about.fixed_input_size else {}
        side = "x".join(map(str, about.input_size[1:])) if about is not None else "224x224"
        hint = f"set image_size of the data set; {name} was designed for {side}"
        return _classifier(name, job, sized, pretrained=self.p.pretrained, own_name="timm-model", hint=hint)


class VitTiny(Component[VitParams]):
    """ViT-Tiny: 12 blocks of width 192 with 3 heads; images whose sides the patch size divides."""

    def build(self, job: BuildJob) -> nn.Module:
        return _vit("vit-tiny", "vit_tiny_patch16_224", job, self.p)


class VitSmall(Component[VitParams]):
    """ViT-Small: 12 blocks of width 384 with 6 heads; images whose sides the patch size divides."""

    def build(self, job: BuildJob) -> nn.Module:
        return _vit("vit-small", "vit_small_patch16_224", job, self.p)


class VitMini(Component[VitMiniParams]):
    """A vision transformer with a class token, for small images whose sides the patch size divides."""

    def build(self, job: BuildJob) -> nn.Module:
        channels, height, width = job.image("vit-mini")
        _require_whole_patches(job, "vit-mini", self.p.patch_size)
        if self.p.dim % self.p.heads:
            raise UsageError(
                "bad-parameter", f"dim={self.p.dim} does not divide into {self.p.heads} heads", where="vit-mini.dim",
                hint=f"--set vit-mini.dim={math.ceil(self.p.dim / self.p.heads) * self.p.heads}",
            )  # fmt: skip
        return _unfused(
            VisionTransformer(
                img_size=(height, width),
                patch_size=self.p.patch_size,
                in_chans=channels,
                num_classes=job.outputs,
                embed_dim=self.p.dim,
                depth=self.p.depth,
                num_heads=self.p.heads,
                mlp_ratio=self.p.mlp_ratio,
            )
        )


def _vit(own_name: str, architecture: str, job: BuildJob, p: VitParams) -> nn.Module:
    job.image(own_name)
    _require_whole_patches(job, own_name, p.patch_size)
    if p.pretrained and p.patch_size != STANDARD_PATCH:
        raise UsageError(
            "bad-parameter", f"the weights are for patches of {STANDARD_PATCH}x{STANDARD_PATCH}, not {p.patch_size}",
            where=f"{own_name}.pretrained", hint=f"--set {own_name}.patch_size={STANDARD_PATCH}, or pretrained=false",
        )  # fmt: skip
    sized = {"img_size": job.inputs[1:], "patch_size": p.patch_size}
    hint = "set image_size of the data set"
    return _classifier(architecture, job, sized, pretrained=p.pretrained, own_name=own_name, hint=hint)


def _classifier(
    name: str, job: BuildJob, sized: dict[str, Any], *, pretrained: bool, own_name: str, hint: str
) -> nn.Module:
    """A network of timm's, in training mode. ``sized`` are arguments that make it for the data set's images.

    Raises:
        UsageError: it cannot take images of this shape, or there are no weights for it.
        DataError: its weights are not in the cache or cannot be read.
    """

    def create(**more: Any) -> nn.Module:
        arguments = {"num_classes": job.outputs, **more}
        return timm.create_model(name, in_chans=job.inputs[0], **sized, **arguments)

    restoring = torch.empty(0).is_meta
    with torch.device("meta"):
        net = _tried(create, name, job, hint)
    if not pretrained:
        return _unfused(net if restoring else create())
    if not restoring:
        weights = read_weights(cached_weights(name, f"{own_name}.pretrained"))
        try:
            net = _filled(create, name, weights)
        except (RuntimeError, ValueError, KeyError, AssertionError) as problem:
            reason = f"the weights in the cache do not fit: {' '.join(str(problem).split())[:REASON]}"
            raise _refusal(name, job, reason, hint) from problem
    return _unfused(_whole(net))


def _filled(create: Callable[..., nn.Module], name: str, weights: dict[str, Tensor]) -> nn.Module:
    """A network that starts from weights in timm's format, whatever format they have at timm's other address.

    Raises:
        RuntimeError: they are of another network, or cannot be resampled for images of this size.
    """
    about = timm.get_pretrained_cfg(name)
    source = {"state_dict": weights, "custom_load": False}
    if about is not None:
        # With another head timm takes what has a known name and passes over all else: this one must take everything.
        with torch.random.fork_rng(devices=[]):
            create(pretrained=True, pretrained_cfg_overlay=source, num_classes=about.num_classes)
    net = create(pretrained=True, pretrained_cfg_overlay=source)
    del net.pretrained_cfg["state_dict"]  # type: ignore[operator, union-attr]
    return net


def _tried(create: Callable[[], nn.Module], name: str, job: BuildJob, hint: str) -> nn.Module:
    """Build on the meta device and send two rows through: shapes only, no arithmetic, no random draw.

    Raises:
        UsageError: the network cannot take images of this shape.
    """
    try:
        net = create().eval()
        _require_covered(net, job.inputs[1:])
        with torch.no_grad():
            out = net(torch.empty(2, *job.inputs))
    except (RuntimeError, ValueError, AssertionError, TypeError) as problem:
        raise _refusal(name, job, problem, hint) from problem
    shape = list(getattr(out, "shape", []))
    if shape != [2, job.outputs]:
        raise _refusal(name, job, f"it answers with shape {shape}, not one row of classes for each image", hint)
    return net.train()


def _require_covered(net: nn.Module, image: tuple[int, ...]) -> None:
    """Refuse patches that do not divide the image: timm's would leave out the pixels on the right and at the bottom.

    Raises:
        ValueError: some pixels lie in no patch.
    """
    for module in net.modules():
        if isinstance(module, PatchEmbed) and not module.dynamic_img_pad:
            sides = module.patch_size
            if any(side % patch for side, patch in zip(image, sides, strict=True)):
                raise ValueError(f"patches of {'x'.join(map(str, sides))} do not divide them")


def _whole(net: nn.Module) -> nn.Module:
    """Put every buffer into the state dict, so that the network is restored without its pretrained weights.

    Position tables and the like can be computed anew, and timm leaves them out; but that takes building the network
    again, for which the weights would have to be in the cache of whoever reads the store.
    """
    for module in net.modules():
        module._non_persistent_buffers_set.clear()
    return net


def _unfused(net: nn.Module) -> nn.Module:
    """Have attention compute its softmax itself.

    Fused kernels have no second derivative, which influence functions need, and on a GPU their gradient is not the same
    from run to run.
    """
    for module in net.modules():
        if hasattr(module, "fused_attn"):
            setattr(module, "fused_attn", False)  # noqa: B010 - types of modules know of no such attribute
    return net


def _require_known(name: str) -> None:
    known = timm.list_models(pretrained=True) if "." in name else timm.list_models()
    if name not in known:
        hint = did_you_mean(name, known, otherwise="see timm.list_models()")
        where = "timm-model.architecture"
        raise UsageError("bad-parameter", f"timm has no classifier {name!r}", where=where, hint=hint)


def _require_whole_patches(job: BuildJob, own_name: str, patch_size: int) -> None:
    _, height, width = job.inputs
    if height % patch_size or width % patch_size:
        side = math.gcd(height, width)
        fits = max((d for d in range(1, side + 1) if side % d == 0 and min(height, width) // d >= WELL_CUT), default=1)
        problem = f"patches of {patch_size}x{patch_size} do not divide them"
        raise _refusal(own_name, job, problem, f"--set {own_name}.patch_size={fits}")


def _refusal(name: str, job: BuildJob, problem: object, hint: str) -> UsageError:
    size = "x".join(str(n) for n in job.inputs)
    reason = (str(problem).splitlines() or [""])[0] or type(problem).__name__
    return UsageError("bad-model", f"{name} cannot take {size} images: {reason}", where="$.model.name", hint=hint)
