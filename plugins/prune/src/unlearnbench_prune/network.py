"""Read the piecewise-linear part of a network, behind ``split_at``, and run the network with its bends in view."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx, nn

from unlearnbench.api import IncompatibleError, did_you_mean
from unlearnbench_prune.layers import Refused, asks_for_size, changes, layer, shaped, with_inputs
from unlearnbench_prune.steps import BENDS, Network, Shape, Step

__all__ = ["Network", "Traced", "read_network", "traced", "why_not"]


def why_not(base: nn.Module, split_at: str = "", inputs: Shape | None = None) -> str | None:
    """Why the part of ``base`` behind ``split_at`` cannot be patched, in one sentence; None where it can.

    Weights are not read: a base on the meta device will do. With ``inputs`` (shape of one input of the base) what
    depends on shapes is looked at, too.
    """
    try:
        view = _View.of(base, split_at)
        if inputs is not None:
            view.network(inputs)
    except Refused as refusal:
        return str(refusal)
    return None


def read_network(base: nn.Module, inputs: Shape, split_at: str = "") -> Network:
    """The part of ``base`` behind ``split_at``; ``inputs`` is the shape of one input of the base.

    Raises ``IncompatibleError`` with the sentence of ``why_not``.
    """
    with _said(split_at):
        return _View.of(base, split_at).network(inputs)


def traced(base: nn.Module, split_at: str = "") -> Traced:
    """``base`` with its features and bends in view. Raises ``IncompatibleError`` with the sentence of ``why_not``."""
    with _said(split_at):
        return Traced(base, split_at, _View.of(base, split_at))


class Traced:
    """A base that shows its features and bends: ``traced(x) -> (logits, features, values)``.

    ``features`` [n, *network.inputs] is what reaches ``split_at`` (x itself where that is empty); ``values`` are the
    inputs of the bending steps (pre-activations; what max-pooling pools), in order, for ``frozen.patterns_of``.
    Logits are those of ``base(x)`` to the bit; a dropout that is a function, not a module, is off in training, too.
    No module itself: it adds nothing to an owner's state dict, uses the base's own modules, moves with them, and a
    deep copy of its owner has one for the copied base.
    """

    def __init__(self, base: nn.Module, split_at: str, view: _View) -> None:
        self._base, self._split_at, self._view = base, split_at, view

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        return self._view.run(x)

    def __reduce__(self) -> tuple[Callable[..., Traced], tuple[nn.Module, str]]:
        # Copies and pickles trace again: a graph holds functions that cannot be pickled.
        return traced, (self._base, self._split_at)


class _Whole(nn.Module):
    """The base as a part, so that it is traced like any module and with the defaults of its further arguments."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.base(x)
        return result


class _Tracer(fx.Tracer):
    """Follows a base; what comes before the split stays closed, so that anything may stand there."""

    def __init__(self, split: nn.Module) -> None:
        super().__init__()
        self._module = split
        self.split: fx.Node | None = None
        """What reaches the split."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if m is not self._module and any(part is self._module for part in m.modules()):
            return False
        return self.split is None or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if m is self._module:
            values = [*args, *kwargs.values()]
            if self.split is not None:
                raise Refused("it calls the module of split_at more than once")
            if len(values) != 1 or not isinstance(values[0], fx.Proxy):
                raise Refused("it gives the module of split_at other than one value")
            self.split = values[0].node
        return super().call_module(m, forward, args, kwargs)


@dataclass(frozen=True, eq=False)
class _View:
    """A traced base: its graph, which gives (logits, features, values), and the layers behind the split."""

    whole: _Whole
    graph: fx.Graph
    split: fx.Node
    layers: dict[fx.Node, Step | None]

    @classmethod
    def of(cls, base: nn.Module, split_at: str) -> _View:
        """Follow ``base`` without running it. Raises ``Refused``."""
        known = dict(base.named_modules(remove_duplicate=False))
        if split_at not in known:
            raise Refused(f"it has no module {split_at}; {did_you_mean(split_at, filter(None, known))}")
        whole, tracer = _Whole(base), _Tracer(known[split_at])
        with _evaluating(base):
            try:
                graph = tracer.trace(whole)
            except Refused:
                raise
            except Exception as failure:  # tracing runs the base's own code, which may raise anything
                reason = str(failure).splitlines()[:1] or [type(failure).__name__]
                raise Refused(f"its forward pass cannot be followed: {reason[0].rstrip('.')}") from failure
        if tracer.split is None:
            raise Refused(f"it never calls the module {split_at}")
        return cls._opened(whole, graph, tracer.split)

    @classmethod
    def _opened(cls, whole: _Whole, graph: fx.Graph, split: fx.Node) -> _View:
        result = graph.output_node().args[0]
        if not isinstance(result, fx.Node):
            raise Refused("it returns something other than one tensor")
        needed, tensors = _behind(graph, split, result), whole.base.state_dict()
        layers = {
            node: layer(node, whole.base, tensors) for node in graph.nodes if node in needed and node.op != "get_attr"
        }
        writes = _overwrites(graph, split, layers, whole.base)
        shown = [split, *(_value(node) for node, step in layers.items() if isinstance(step, BENDS))]
        if writes:
            for number, node in enumerate(shown):
                with graph.inserting_after(node):
                    shown[number] = graph.call_method("clone", (node,))
        graph.output_node().args = ((result, shown[0], shown[1:]),)
        return cls(whole, graph, split, layers)

    def run(self, x: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Logits, features and the values at the bends."""
        found: tuple[Tensor, Tensor, list[Tensor]] = self._forward(self.whole, x)
        return found

    @cached_property
    def _forward(self) -> Callable[..., Any]:
        """The graph as a function: interpreting it takes longer than a small network itself.

        Modules and tensors are looked up in the base at every call: it may have been moved or loaded since.
        """
        return type(fx.GraphModule(self.whole, self.graph)).forward

    def network(self, inputs: Shape) -> Network:
        """The steps behind the split. Raises ``Refused``."""
        tensors, numbers = self.whole.base.state_dict(), {self.split: 0}
        steps: list[Step] = []
        shapes = [self._features(tuple(inputs))]
        for node, unshaped in self.layers.items():
            if unshaped is None:
                numbers[node] = numbers[_value(node)]
                continue
            added = (
                [part for part in node.args if isinstance(part, fx.Node)] if unshaped.op == "add" else [_value(node)]
            )
            sources = [numbers[source] for source in added]
            step, shape = shaped(with_inputs(unshaped, sources), [shapes[source] for source in sources], tensors)
            steps.append(step)
            shapes.append(shape)
            numbers[node] = len(steps)
        if not steps or len(shapes[-1]) != 1:
            raise Refused("it does not end in a step that makes one axis of outputs for a sample")
        return Network(tuple(steps), tuple(shapes))

    def _features(self, inputs: Shape) -> Shape:
        """Shape of one sample of what reaches the split."""
        if self.split.op == "placeholder":
            return inputs
        weight = next((p for p in self.whole.base.parameters() if p.is_floating_point()), torch.zeros(()))
        with _evaluating(self.whole.base), torch.no_grad():
            try:
                features = self.run(torch.zeros((1, *inputs), dtype=weight.dtype, device=weight.device))[1]
            except RuntimeError as failure:
                reason = (str(failure).splitlines() or [""])[0]
                raise Refused(f"it does not take inputs of {'x'.join(map(str, inputs))} numbers: {reason}") from failure
        return tuple(features.shape[1:])


def _value(node: fx.Node) -> fx.Node:
    """The value that a node of one value reads."""
    return next(source for source in node.all_input_nodes if not asks_for_size(source))


def _behind(graph: fx.Graph, split: fx.Node, result: fx.Node) -> set[fx.Node]:
    """The nodes between the split and the result. Raises ``Refused`` where the result has other sources."""
    order = {node: place for place, node in enumerate(graph.nodes)}
    needed: set[fx.Node] = set()
    waiting = [result]
    while waiting:
        node = waiting.pop()
        if node is split or node in needed:
            continue
        if order[node] < order[split] and node.op != "get_attr":
            raise Refused("its outputs depend on what comes before split_at in other ways, too")
        needed.add(node)
        waiting += [source for source in node.all_input_nodes if not asks_for_size(source)]
    return needed


def _overwrites(graph: fx.Graph, split: fx.Node, layers: dict[fx.Node, Step | None], base: nn.Module) -> bool:
    """Whether values behind the split are overwritten in place. Raises ``Refused`` where one is read afterwards."""
    sharing: dict[fx.Node, set[fx.Node]] = {}
    stale: set[fx.Node] = set()
    nodes = list(graph.nodes)
    for node in nodes[nodes.index(split) :]:
        sources = [] if node is split else [source for source in node.all_input_nodes if not asks_for_size(source)]
        if stale.intersection(sources) and (node in layers or node.op == "output"):
            raise Refused("it overwrites a value in place that it reads again")
        changed = None if node is split else changes(node, base)
        if changed is not None:
            stale |= sharing.get(changed, set())
        step = layers.get(node)
        alone = step is not None and step.op not in ("flatten", "view") and changed is None
        group = set() if alone or not sources else sharing.get(sources[0], set())
        group.add(node)
        sharing[node] = group
    return bool(stale)


@contextmanager
def _evaluating(base: nn.Module) -> Iterator[None]:
    """Evaluation mode, and back to every module's own."""
    modes = [(module, module.training) for module in base.modules()]
    base.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def _said(split_at: str) -> Iterator[None]:
    """Refusals as errors for a person."""
    try:
        yield
    except Refused as refusal:
        hint = "set split_at to a module behind which every layer is piecewise linear, such as the last linear layer"
        raise IncompatibleError(
            "incompatible", f"the network cannot be patched: {refusal}", where=f"split_at={split_at!r}", hint=hint
        ) from None
