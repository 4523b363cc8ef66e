"""Essential-graph unlearning: zero the channels that a forgotten target needs most and no retained target does.

Source: Xu, Zhu, Zhang, Zhou and Zhao, "Towards Efficient Target-Level Machine Unlearning Based on Essential Graph",
2024 (arXiv 2406.10954), algorithms 1 to 4, and its published code. Differences are the ``deviations`` in ``plugin.py``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from unlearnbench.api import DataError
from unlearnbench.api.runtime import Component, PrepareJob, Result, State, Task, UnlearnJob, finish, fit, masked
from unlearnbench_essential_graph.importance import importances
from unlearnbench_essential_graph.layers import convolutions, refusal, too_few, window
from unlearnbench_essential_graph.plugin import EssentialGraphParams
from unlearnbench_essential_graph.pruning import prune
from unlearnbench_essential_graph.searching import Search, search
from unlearnbench_essential_graph.votes import pruned

ALPHA, GONE = "alpha/", "pruned/"


class EssentialGraph(Component[EssentialGraphParams]):
    """The importance of all channels to all targets is taken once; a request costs votes and zeros.

    The state holds ``alpha/LAYER`` [targets, channels] of every convolution that is no head, so that the window stays a
    choice of the request, and after a request ``pruned/LAYER`` [channels]: later requests of a stream only add to it.
    """

    def check(self, model: nn.Module, task: Task) -> str | None:
        reason = refusal(model)
        if reason:
            return reason
        sigma = min(self.p.search_sigma, default=1) if self.p.search else self.p.sigma
        return too_few(len(convolutions(model)), sigma, self.p.skip_last)

    def prepare(self, job: PrepareJob) -> State:
        found = importances(finish(job.model), job.task, job.data, self.p.instances, self.p.score)
        return State(
            tensors={ALPHA + layer: alpha for layer, alpha in found.alpha.items()},
            meta={
                "layers": list(found.layers),
                "norms": dict(found.norms),
                "instances": list(found.instances),
                "k": self.p.instances,
                "score": self.p.score,
                "forgotten": [],
            },
        )

    def unlearn(self, job: UnlearnJob) -> Result:
        model, p, meta = finish(job.model), self.p, job.state.meta
        forgotten = sorted({*meta["forgotten"], *(job.request.targets or job.request.classes)})
        _require_instances(job, meta["instances"], forgotten)
        graph = _Graph(job.state, forgotten, p)
        chosen: Search | None = None
        if p.search:
            chosen = search(job, p, meta["layers"], meta["norms"], forgotten, graph.dropped)
            p = replace(p, sigma=chosen.chosen.sigma, delta=chosen.chosen.delta)
        layers = window(meta["layers"], p.sigma, p.skip_last)
        drop = graph.dropped(p.sigma, p.delta)
        mask = prune(model, drop, meta["norms"], p.zero_bn)
        if p.recovery_epochs:
            recipe = replace(job.recipe, epochs=p.recovery_epochs, lr=job.recipe.lr * p.recovery_lr)
            with masked(model, mask):
                fit(model, job.task, job.retain, recipe, job.rng("order"))
        state = State(
            tensors={**job.state.tensors, **{GONE + layer: channels for layer, channels in drop.items()}},
            meta={**meta, "forgotten": forgotten},
        )
        tensors: dict[str, Any] = {}
        for layer in layers:
            tensors[f"graph/alpha/{layer}"] = graph.alpha(layer)
            tensors[f"graph/selected/{layer}"] = graph.votes(layer, p.delta)[0]
            tensors[f"graph/pruned/{layer}"] = drop[layer]
        told = _description(job, p, layers, drop, forgotten)
        told["search"] = chosen.to_json() if chosen is not None else None
        return Result(
            model=model,
            state=state,
            mask=mask,
            artifacts={**tensors, "graph": told},
            warnings=_warnings(job, drop, forgotten, chosen, p),
        )


class _Graph:
    """The votes about the forgotten targets, from the state that ``prepare`` and earlier requests left."""

    def __init__(self, state: State, forgotten: list[int], p: EssentialGraphParams) -> None:
        self._state, self._forgotten, self._p = state, forgotten, p
        self._known = torch.tensor([n > 0 for n in state.meta["instances"]])

    def alpha(self, layer: str) -> Tensor:
        return self._state.tensors[ALPHA + layer].cpu()

    def votes(self, layer: str, delta: float) -> tuple[Tensor, Tensor]:
        """Channels of a layer that each target selects [targets, channels], and that are pruned [channels]."""
        p = self._p
        return pruned(self.alpha(layer), self._known, self._forgotten, delta, p.selection, p.balance)

    def dropped(self, sigma: int, delta: float) -> dict[str, Tensor]:
        """Channels [channels] bool to be 0 by layer: those of the window, and what earlier requests pruned anywhere."""
        inside = window(self._state.meta["layers"], sigma, self._p.skip_last)
        found = {layer: self.votes(layer, delta)[1] for layer in inside}
        for name, gone in self._state.tensors.items():
            if name.startswith(GONE):
                layer = name.removeprefix(GONE)
                found[layer] = found[layer] | gone.cpu() if layer in found else gone.cpu()
        return found


def _require_instances(job: UnlearnJob, instances: list[int], forgotten: list[int]) -> None:
    for target in forgotten:
        if not instances[target]:
            raise DataError(
                "no-instance", f"no training row shows {job.retain.outputs[target]}, so it has no essential channels",
                where="$.request", hint="forget a target that the training data show",
            )  # fmt: skip


def _description(
    job: UnlearnJob, p: EssentialGraphParams, layers: tuple[str, ...], drop: dict[str, Tensor], forgotten: list[int]
) -> dict[str, Any]:
    """The graph as JSON, for whoever draws it: layers and targets by name, and the settings."""
    meta = job.state.meta
    return {
        "layers": list(layers),
        "all_layers": meta["layers"],
        "channels": {layer: job.state.tensors[ALPHA + layer].shape[1] for layer in layers},
        "norms": {layer: meta["norms"].get(layer) for layer in layers},
        "targets": list(job.retain.outputs),
        "forgotten": forgotten,
        "instances": meta["instances"],
        "k": meta["k"],
        "score": meta["score"],
        "selection": p.selection,
        "balance": p.balance,
        "sigma": p.sigma,
        "skip_last": p.skip_last,
        "delta": p.delta,
        "zero_bn": p.zero_bn,
        "pruned": {layer: int(drop[layer].sum()) for layer in layers},
    }


def _warnings(
    job: UnlearnJob, drop: dict[str, Tensor], forgotten: list[int], chosen: Search | None, p: EssentialGraphParams
) -> tuple[str, ...]:
    """What a reader of the record must know."""
    found = []
    names = job.retain.outputs
    bare = [name for k, name in enumerate(names) if k not in forgotten and not job.state.meta["instances"][k]]
    if bare:
        found.append(f"no training row shows {', '.join(bare)}: no vote protects what is retained of it")
    if p.selection == "contrast" and p.balance != "strict":
        found.append(f"balance={p.balance} says how votes are counted, and selection=contrast takes none")
    if not any(bool(channels.any()) for channels in drop.values()):
        found.append("no channel was pruned: the model is the original")
    if chosen is not None:
        best = chosen.chosen
        found.append(
            f"the search chose sigma {best.sigma} and delta {best.delta:g}: on validation rows the forgotten score is "
            f"{best.forgotten:.3f} and the others lose {best.drop:.3f}"
        )
        if not chosen.qualified:
            found.append(
                f"no setting of the search kept the forgotten score to {p.search_forgotten:g} and the loss of the "
                f"others to {p.search_drop:g}: the one nearest to it was taken"
            )
    return tuple(found)
