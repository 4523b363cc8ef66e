"""How far what the last layer sees is from what gold's last layer sees."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import Tensor, nn

from unlearnbench.api import NoParams
from unlearnbench.api.runtime import Batch, Component, Evidence, Reading
from unlearnbench_graphs.outputs import all_outputs, graph_of


class EmbeddingDistance(Component[NoParams]):
    """Relative distance of the nodes' embeddings to gold's: |H - H_gold| / |H_gold| (Frobenius), all nodes.

    H [n, d] is the input of the last layer with weights: of the last line, or of the last convolution with all that
    it holds. Gold itself reads 0. Units of two networks only correspond if both began with the same weights, as
    original and gold of one run do. A network whose only layer with weights is the last one (``sgc``) gives the same
    to all subjects: it has no value.
    """

    def measure(self, evidence: Evidence) -> Iterable[Reading]:
        graph = graph_of(evidence)
        ours, gold = (embeddings(evidence.model(subject), graph) for subject in (None, "gold"))
        if ours is None or gold is None:
            yield _reading(None, len(graph.x), "nothing is learned before the last layer")
            return
        if ours.shape != gold.shape:
            yield _reading(None, len(graph.x), "embeddings of another shape than gold's")
            return
        scale = float(gold.norm())
        if not scale:
            yield _reading(None, len(graph.x), "gold's embeddings are zero")
            return
        yield _reading(float((ours - gold).norm()) / scale, len(graph.x))


def _reading(value: float | None, n: int, status: str = "ok") -> Reading:
    return Reading("embedding-distance", value, n, better="lower", status=status)


def embeddings(model: nn.Module, graph: Batch) -> Tensor | None:
    """What the last layer with weights was given for every node [n, d]; None if it is the first one as well."""
    seen: list[Tensor] = []
    hooks = [layer.register_forward_pre_hook(lambda _, args: seen.append(args[0])) for layer in _layers(model)]
    all_outputs(model, graph)
    for hook in hooks:
        hook.remove()
    return seen[-1].double().cpu() if len(seen) > 1 else None


def _layers(module: nn.Module) -> Iterator[nn.Module]:
    """Outermost modules that have weights of their own: a convolution stands for the line within it."""
    if next(module.parameters(recurse=False), None) is not None:
        yield module
        return
    for child in module.children():
        yield from _layers(child)
