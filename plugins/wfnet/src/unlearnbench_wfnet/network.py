"""WF-Net: a network whose layers are filtered by the row of gates of the class that is not to be known.

W' = sigmoid(alpha_weight[row]) * W and b' = sigmoid(alpha_bias[row]) * b for each output channel of each gated layer
(Poppi et al. 2024, equations 1 and 2). Rows of a batch may differ from sample to sample: scaling a layer's output is
the same as scaling its weights, since each gate belongs to one output.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from unlearnbench.api import IncompatibleError, UsageError
from unlearnbench_wfnet.filtering import filtered_by
from unlearnbench_wfnet.targets import Target

Rows = int | Sequence[int]
"""A class, or several whose gates are multiplied."""


@dataclass(frozen=True)
class Gates:
    """Gates of one layer between 0 and 1, [width] or [n, width]; ``bias`` is None where the layer has no bias."""

    weight: Tensor
    bias: Tensor | None

    def repeated(self, n: int) -> Gates:
        """These gates [width] for each of ``n`` samples."""
        return Gates(self.weight.expand(n, -1), None if self.bias is None else self.bias.expand(n, -1))


class WFNet(nn.Module):
    """A frozen network ``base`` and memory matrices alpha [classes, width] for the weights and biases of its layers.

    ``base`` is used as it is and never changed; it stays in evaluation mode, since batch statistics would normalise the
    gates away.

    Raises:
        IncompatibleError: there is nothing to gate, or the base normalises by batch statistics even in evaluation.
    """

    def __init__(
        self, base: nn.Module, targets: Sequence[Target], classes: int, *, init: float = 3.0, mask_bn: bool = False
    ) -> None:
        super().__init__()
        if not targets:
            raise IncompatibleError("incompatible", "there is no layer to put gates on")
        self.base = base.eval().requires_grad_(False)
        self.targets = tuple(targets)
        self.classes = classes
        self.mask_bn = mask_bn
        self._refuse_batch_statistics()

        def memory(target: Target) -> nn.Parameter:
            like = base.get_parameter(target.weight_name)
            return nn.Parameter(torch.full((classes, target.width), init, device=like.device, dtype=like.dtype))

        self.alpha_weight = nn.ParameterList(memory(target) for target in self.targets)
        self.alpha_bias = nn.ParameterList(memory(target) for target in self.targets if target.bias)

    def train(self, mode: bool = True) -> WFNet:
        """Only the gates are trained: the base stays in evaluation mode."""
        super().train(mode)
        self.base.eval()
        return self

    def forward(self, x: Tensor, row: Rows | Tensor | None = None) -> Tensor:
        """Outputs for ``x`` [n, ...] of the base (no row), of one filtered network, or of one per sample (rows [n]).

        Raises:
            UsageError: a row is not that of a class, or a part of the base is in training mode.
            IncompatibleError: a layer is called with other rows than the samples, so that each has no row of its own.
        """
        self._refuse_training()
        if row is None:
            return self.base(x)  # type: ignore[no-any-return]
        if isinstance(row, Tensor):
            self._check_rows(row, len(x))
            return self._per_sample(x, self._layers(row.to(x.device)))
        if self.mask_bn and torch.is_grad_enabled():  # no gradient goes through the mean of a normalisation
            return self._per_sample(x, [gate.repeated(len(x)) for gate in self.gates(row)])
        return self._with(self.filtered(self.gates(row)), x)

    def gates(self, rows: Rows, harden: float = 0.0) -> tuple[Gates, ...]:
        """The gates [width] of a class for each layer; of several classes, their product, each class once.

        Those of a class that are below ``harden`` are exactly 0.

        Raises:
            UsageError: a row is not that of a class, or there is none.
        """
        each = self._layers(torch.tensor(self._classes(rows), device=self.alpha_weight[0].device))
        return tuple(product(gate, harden) for gate in each)

    def select(self, rows: Rows) -> Callable[[Tensor], Tensor]:
        """The network that does not know these classes by the gates of now, as a function of its inputs."""
        with torch.no_grad():
            tensors = self.filtered(self.gates(rows))

        def selected(x: Tensor) -> Tensor:
            self._refuse_training()
            return self._with(tensors, x)

        return selected

    def bake(self, rows: Rows, harden: float = 0.0) -> nn.Module:
        """The same as an ordinary copy of the base with the gates multiplied into its weights.

        Gates below ``harden`` become exactly 0: a closed gate of 1e-4 can be undone by whoever rescales the weights.
        """
        with torch.no_grad():
            return self.bake_gates(self.gates(rows, harden))

    @torch.no_grad()
    def bake_gates(self, gates: Sequence[Gates]) -> nn.Module:
        """An ordinary copy of the base, filtered by these gates, one for each layer."""
        self._refuse_training()
        baked = deepcopy(self.base)
        tensors = {**dict(baked.named_parameters()), **dict(baked.named_buffers())}
        for name, value in self.filtered(gates).items():
            tensors[name].copy_(value)
        return baked.requires_grad_(True)

    def filtered(self, gates: Sequence[Gates]) -> dict[str, Tensor]:
        """The base's tensors that these gates change, by name."""
        tensors: dict[str, Tensor] = {}
        for target in self.targets:
            module = self.base.get_submodule(target.weight_name.rpartition(".")[0])
            tensors |= {name: getattr(module, name.rpartition(".")[2]) for name in target.names}
            if target.norm:
                norm = self.base.get_submodule(target.norm)
                tensors |= {f"{target.norm}.{name}": value for name, value in norm.state_dict(keep_vars=True).items()}
        return filtered_tensors(tensors, self.targets, gates, mask_bn=self.mask_bn)

    def _per_sample(self, x: Tensor, gates: Sequence[Gates]) -> Tensor:
        """Outputs of the base where each sample has gates of its own, [n, width] for each layer."""
        with filtered_by(self.base, self.targets, gates, mask_bn=self.mask_bn):
            return self.base(x)  # type: ignore[no-any-return]

    def _with(self, tensors: dict[str, Tensor], x: Tensor) -> Tensor:
        """Outputs of the base with other tensors in place of its own."""
        # Gated weights belong to one layer each: no search for shared ones, which a small network would notice.
        return functional_call(self.base, tensors, (x,), tie_weights=False)  # type: ignore[no-any-return]

    def tensors(self) -> dict[str, Tensor]:
        """The memory matrices before the sigmoid, as ``weight/LAYER`` and ``bias/LAYER``, copied to the CPU."""
        biases = iter(self.alpha_bias)
        found = {}
        for target, alpha in zip(self.targets, self.alpha_weight, strict=True):
            found[f"weight/{target.name}"] = alpha.detach().cpu().clone()
            if target.bias:
                found[f"bias/{target.name}"] = next(biases).detach().cpu().clone()
        return found

    @torch.no_grad()
    def load_tensors(self, tensors: Mapping[str, Tensor]) -> WFNet:
        """Take memory matrices in place of one's own; names and shapes are those of ``tensors``."""
        biases = iter(self.alpha_bias)
        for target, alpha in zip(self.targets, self.alpha_weight, strict=True):
            alpha.copy_(tensors[f"weight/{target.name}"])
            if target.bias:
                next(biases).copy_(tensors[f"bias/{target.name}"])
        return self

    def _layers(self, rows: Tensor) -> tuple[Gates, ...]:
        """Gates [n, width] of each layer for rows [n]."""
        biases = iter(self.alpha_bias)
        return tuple(
            Gates(alpha[rows].sigmoid(), next(biases)[rows].sigmoid() if target.bias else None)
            for target, alpha in zip(self.targets, self.alpha_weight, strict=True)
        )

    def _classes(self, rows: Rows) -> list[int]:
        """The classes that are named, each once, in their order."""
        try:
            named = [rows] if isinstance(rows, int) else list(rows)
        except TypeError:
            raise self._unknown(f"there is no row {rows!r}") from None
        for row in named:
            if isinstance(row, bool) or not isinstance(row, int) or not 0 <= row < self.classes:
                raise self._unknown(f"there is no row {row!r}")
        if not named:
            raise self._unknown("no row was named")
        return list(dict.fromkeys(named))

    def _check_rows(self, rows: Tensor, samples: int) -> None:
        if rows.dtype == torch.bool or rows.is_floating_point() or rows.is_complex():
            raise self._unknown(f"rows are whole numbers, not {rows.dtype}")
        if rows.shape != (samples,):
            raise self._unknown(f"rows of shape {list(rows.shape)} are not one for each of {samples} samples")
        if samples and not 0 <= (least := int(rows.min())) <= (most := int(rows.max())) < self.classes:
            raise self._unknown(f"there is no row {least if least < 0 else most}")

    def _unknown(self, what: str) -> UsageError:
        hint = f"rows are 0 to {self.classes - 1}, one per class"
        return UsageError("unknown-row", what, where="WFNet", hint=hint)

    def _refuse_training(self) -> None:
        for name, module in self.base.named_modules():
            if module.training:
                raise UsageError(
                    "norm-in-training", f"{name or 'the base'} is in training mode, where batch statistics undo gates",
                    where="WFNet", hint="call base.eval()",
                )  # fmt: skip

    def _refuse_batch_statistics(self) -> None:
        for name, module in self.base.named_modules():
            if isinstance(module, _BatchNorm) and module.running_mean is None:
                raise IncompatibleError(
                    "incompatible", f"{name or 'the base'} normalises by batch statistics, which undoes the gates"
                )


def product(gates: Gates, harden: float = 0.0) -> Gates:
    """The product [width] of the gates [n, width] of several classes; those below ``harden`` are 0 before it.

    Not after it: 0.95, which closes nothing, is below 0.5 after fourteen classes.
    """

    def one(gate: Tensor) -> Tensor:
        return torch.where(gate < harden, 0.0, gate).prod(0)

    return Gates(one(gates.weight), None if gates.bias is None else one(gates.bias))


def filtered_tensors(
    tensors: Mapping[str, Tensor], targets: Sequence[Target], gates: Sequence[Gates], *, mask_bn: bool = False
) -> dict[str, Tensor]:
    """Those of a network's tensors that gates, one for each target, change; the network itself is not needed."""
    found: dict[str, Tensor] = {}
    for target, gate in zip(targets, gates, strict=True):
        weight = tensors[target.weight_name]
        found[target.weight_name] = gate.weight.reshape(-1, *[1] * (weight.ndim - 1)) * weight
        if gate.bias is not None:
            found[target.bias_name] = gate.bias * tensors[target.bias_name]
        if mask_bn and target.norm:
            found |= _silenced_norm(tensors, target, gate)
    return found


def _silenced_norm(tensors: Mapping[str, Tensor], target: Target, gate: Gates) -> dict[str, Tensor]:
    """The batch normalisation behind a gated convolution, so that its output is the gate times what it was.

    With z = Wx + b, gamma * (a Wx + a_b b - m') / s + beta' is a * (gamma * (z - m) / s + beta) for
    m' = a (m - b) + a_b b and beta' = a * beta. Where there is no convolution bias, m' = a m.
    """
    mean_name, shift_name = f"{target.norm}.running_mean", f"{target.norm}.bias"
    mean = gate.weight * tensors[mean_name]
    if gate.bias is not None:
        mean = mean + (gate.bias - gate.weight) * tensors[target.bias_name]
    found = {mean_name: mean}
    if shift_name in tensors:
        found[shift_name] = gate.weight * tensors[shift_name]
    return found
