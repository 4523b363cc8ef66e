"""Predictions: one forward pass per model and split, however many measures ask."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cachetools import LRUCache
from torch import Tensor, nn

from unlearnbench.api.runtime import predict
from unlearnbench.guard import guarded
from unlearnbench.identity import digest
from unlearnbench.parts import Selection
from unlearnbench.scenes import Scene
from unlearnbench.store import Entry

MEMORY_BYTES = 512 * 2**20
"""What predictions may take; those that were not asked for longest go first."""


class Predictions:
    """Raw outputs by model and rows. Whoever asks gets a copy, so that nobody can change what others read."""

    def __init__(self) -> None:
        self._known: LRUCache[tuple[str, str, str], Tensor] = LRUCache(MEMORY_BYTES, getsizeof=lambda out: out.nbytes)

    def of(
        self, entry: Entry, selections: Sequence[Selection], scene: Scene, network: Callable[[], nn.Module]
    ) -> list[Tensor]:
        """Outputs for each selection of rows, in evaluation mode, on the CPU; the network is made if it is needed."""
        model: nn.Module | None = None
        ref = digest(entry.ref.to_json()) if entry.ref else ""
        found = []
        for selection in selections:
            view = selection.view("measured")
            key = (entry.weights_sha256, ref, view.digest())
            outputs = self._known.get(key)
            if outputs is None:
                model = model or network()
                with guarded("model", scene.shared):
                    outputs = predict(model, scene.task, view).float().cpu()
                if outputs.nbytes <= MEMORY_BYTES:
                    self._known[key] = outputs
            found.append(outputs.clone())
        return found
