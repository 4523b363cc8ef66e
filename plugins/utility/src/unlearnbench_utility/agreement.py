"""Agreement with gold and original: in predictions, and in weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from unlearnbench.api import NoParams
from unlearnbench.api.runtime import Better, Component, Evidence, Reading, Subject, rows_of, status_of
from unlearnbench_utility.plugin import WeightDistanceParams
from unlearnbench_utility.rows import SPLITS

_AIMS: tuple[tuple[Subject, Better], ...] = (("original", "gold"), ("gold", "lower"))


class Completeness(Component[NoParams]):
    """Share of the rows of a split for which the model and gold predict the same class (Cao and Yang 2015).

    Labels play no part: two models that are wrong in the same way agree.
    """

    def measure(self, evidence: Evidence) -> Iterable[Reading]:
        for split in SPLITS:
            mine, gold = rows_of(evidence, split, labelled=False), rows_of(evidence, split, "gold", labelled=False)
            status = status_of(mine, gold)
            value = same_class(mine.outputs, gold.outputs) if status == "ok" else None
            yield Reading("completeness", value, len(mine), better="higher", split=split, status=status)


def same_class(one: Tensor, other: Tensor) -> float:
    """Share of rows with the same largest output."""
    return float((one.argmax(1) == other.argmax(1)).double().mean())


class WeightDistance(Component[WeightDistanceParams]):
    """Norm of the difference of all weights together, relative to the norm of the model compared with.

    A weak measure: models trained with other seeds lie far apart although they do the same, and a model that changed
    nothing but its last layer lies close to the original. Buffers (running statistics, masks) are no weights.
    """

    def measure(self, evidence: Evidence) -> Iterable[Reading]:
        mine = weights(evidence.model())
        for subject, better in _AIMS:
            theirs = weights(evidence.model(subject))
            for layer, names in self._groups(mine):
                value, status = relative_distance(_part(mine, names), _part(theirs, names))
                if set(mine) != set(theirs):
                    value, status = None, "different architectures"
                yield Reading(
                    f"distance-to-{subject}", value, sum(mine[name].numel() for name in names), better=better,
                    at={"layer": layer} if layer else {}, status=status,
                )  # fmt: skip

    def _groups(self, found: Mapping[str, Tensor]) -> list[tuple[str, list[str]]]:
        """All weights together under no name, then those of each layer if wanted."""
        groups: dict[str, list[str]] = {}
        for name in found if self.p.by_layer else ():
            groups.setdefault(name.rpartition(".")[0] or name, []).append(name)
        return [("", list(found)), *groups.items()]


def weights(model: nn.Module) -> dict[str, Tensor]:
    """Parameters by name; shared ones once, buffers not at all."""
    return {name: value.detach().cpu().double() for name, value in model.named_parameters()}


def _part(found: Mapping[str, Tensor], names: Iterable[str]) -> dict[str, Tensor]:
    return {name: found[name] for name in names if name in found}


def relative_distance(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> tuple[float | None, str]:
    """||one - other|| / ||other|| over all tensors together, and a status."""
    if one.keys() != other.keys() or any(one[name].shape != other[name].shape for name in one):
        return None, "different architectures"
    norm = sum(float(value.square().sum()) for value in other.values()) ** 0.5
    if norm == 0:
        return None, "zero norm"
    distance = sum(float((one[name] - other[name]).square().sum()) for name in one) ** 0.5
    return distance / norm, "ok"
