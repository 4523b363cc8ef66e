"""What networks of torchvision need to suit a data set: another first convolution, and a look at what comes out."""

from __future__ import annotations

import torch
from torch import nn
from torch.func import functional_call

from unlearnbench.api import UsageError
from unlearnbench.api.runtime import BuildJob


def he(conv: nn.Conv2d) -> nn.Conv2d:
    """Draw the weights of a convolution as He et al. 2015 do; its bias is 0."""
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


def adapt(net: nn.Module, channels: int) -> None:
    """Replace the first convolution by one of the same geometry for this number of channels."""
    name, old = next((n, m) for n, m in net.named_modules() if isinstance(m, nn.Conv2d))
    new = nn.Conv2d(
        channels,
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type]
        old.stride,  # type: ignore[arg-type]
        old.padding,  # type: ignore[arg-type]
        old.dilation,  # type: ignore[arg-type]
        bias=old.bias is not None,
    )
    net.set_submodule(name, he(new))


def probe(net: nn.Module, job: BuildJob, name: str, *, hint: str, pixels: bool = False) -> None:
    """Send one row through the network on the meta device: shapes only, no arithmetic, no random draw.

    It must answer with [1, outputs], with ``pixels`` for each pixel of the image.

    Raises:
        UsageError: the network cannot take images of this size.
    """
    tensors = {k: t.to("meta") for k, t in (*net.named_parameters(), *net.named_buffers())}
    net.eval()
    try:
        with torch.no_grad():
            out = functional_call(net, tensors, (torch.empty(1, *job.inputs, device="meta"),))
    except (RuntimeError, ValueError, AssertionError) as problem:
        raise refusal(name, job, problem, hint) from problem
    finally:
        net.train()
    if out.shape != (1, job.outputs, *(job.inputs[1:] if pixels else ())):
        raise refusal(name, job, f"outputs have shape {list(out.shape)}", hint)


def refusal(name: str, job: BuildJob, problem: object, hint: str) -> UsageError:
    """The error of a network that cannot take the images of a data set."""
    size = "x".join(str(n) for n in job.inputs)
    reason = (str(problem).splitlines() or [""])[0] or type(problem).__name__
    return UsageError("bad-model", f"{name} cannot take {size} images: {reason}", where="$.model.name", hint=hint)
