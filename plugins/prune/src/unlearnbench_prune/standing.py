"""What was asked and patched so far: all that one request leaves for the next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from unlearnbench.api.runtime import Ref, State, UnlearnJob, ref_of
from unlearnbench_prune.gates import commitment
from unlearnbench_prune.parts import WHOLE, Box, Group, Patch, Spot
from unlearnbench_prune.patched import PatchedNet
from unlearnbench_prune.plugin import PruneParams

Duals = Mapping[str, Sequence[Sequence[float]]]
"""Multipliers of a region's rows, [row, value] where they are not 0, for each class but the target."""


@dataclass(frozen=True, eq=False)
class Asked:
    """A row that was to be forgotten, and the patch that serves it: its group and its spot there, or why there is none.

    ``x`` is the row as the data set has it, ``sample`` [features] float32 what the patched part of the network sees of
    it, and ``salt``, in hex, is the secret behind what certificates say of it. ``radius`` limits the claim under
    a support gate; an exact gate has it at the spot. ``duals`` prove the claim, one list for each other class; None
    where they are still to be worked out.
    """

    id: int
    label: int
    x: Tensor
    sample: Tensor
    salt: str
    group: int = -1
    spot: int = -1
    reason: str = ""
    radius: float | None = None
    duals: Duals | None = None


@dataclass(frozen=True, eq=False)
class Standing:
    """The network underneath, the patches, and who asked for them."""

    base: nn.Module
    box: Box | None
    asked: tuple[Asked, ...] = ()
    groups: tuple[Group, ...] = ()
    forbidden: tuple[int, ...] = ()
    """Classes that are lowered everywhere."""
    beaten_by: tuple[int, ...] = ()
    """For each of them, a class that stays and that is ahead of it everywhere."""
    everywhere: Tensor | None = None
    sharpness: float = 1.0
    salt: str = ""
    """Of committed gates, in hex. It is part of the model, so that no row's own salt may be the same."""
    step: int = 0
    previous: str | None = None
    """Digest of what was issued at the step before."""

    @classmethod
    def of(cls, job: UnlearnJob, p: PruneParams) -> Standing:
        """What earlier requests left; before the first, the bare network and a salt."""
        meta, tensors = job.state.meta.get("prune"), job.state.tensors
        if meta is None:
            salt = bytes(torch.randint(256, (16,), generator=job.rng("gate-salt")).tolist()).hex()
            return cls(job.model, None, sharpness=p.sharpness, salt=salt)
        assert isinstance(job.model, PatchedNet)
        asked = tuple(
            Asked(x=x, sample=sample, **one)
            for one, x, sample in zip(meta["asked"], tensors["inputs"], tensors["samples"], strict=True)
        )
        return cls(
            base=job.model.base,
            box=Box(**meta["box"]),
            asked=asked,
            groups=tuple(_groups(meta["targets"], tensors)),
            forbidden=tuple(meta["forbidden"]),
            beaten_by=tuple(meta["beaten_by"]),
            everywhere=tensors["everywhere"],
            sharpness=meta["sharpness"],
            salt=meta["salt"],
            step=meta["step"] + 1,
            previous=meta["issue"],
        )

    def state(self, issue: str) -> State:
        """All of it, as tensors and JSON; ``issue`` is the digest of what is issued now."""
        assert self.box is not None
        meta = {
            "asked": [{name: getattr(one, name) for name in _TOLD} for one in self.asked],
            "targets": [group.target for group in self.groups],
            "box": {"low": self.box.low, "high": self.box.high},
            "forbidden": list(self.forbidden),
            "beaten_by": list(self.beaten_by),
            "sharpness": self.sharpness,
            "salt": self.salt,
            "step": self.step,
            "issue": issue,
        }
        rows = {"inputs": [one.x for one in self.asked], "samples": [one.sample for one in self.asked]}
        tensors = {**self.members(committed=False), **{name: torch.stack(each) for name, each in rows.items()}}
        return State(tensors=tensors, meta={"prune": meta})

    def member(self, asked: Asked) -> int:
        """Position of a row's spot among all members."""
        return sum(len(group.spots) for group in self.groups[: asked.group]) + asked.spot

    def members(self, *, committed: bool) -> dict[str, Tensor]:
        """The buffers of the patched network that its patches make; patterns are left out where they are committed."""
        outputs = ref_of(self.base).outputs
        spots = [spot for group in self.groups for spot in group.spots]
        features = len(self.asked[0].sample)
        no_centre = torch.zeros(features)
        found = {
            "groups": torch.tensor([g for g, group in enumerate(self.groups) for _ in group.spots], dtype=torch.int64),
            "centres": _stacked([no_centre if s.centre is None else s.centre for s in spots], features),
            "radii": torch.tensor([WHOLE if s.radius is None else s.radius for s in spots]),
            "shifts": _stacked([group.patch.shift for group in self.groups], outputs),
            "slopes": _slopes(self.groups, outputs, features),
            "everywhere": torch.zeros(outputs) if self.everywhere is None else self.everywhere,
        }
        if spots and not committed:
            found["patterns"] = torch.stack([spot.pattern for spot in spots])
        return found

    def ref(self, p: PruneParams) -> Ref:
        """Which network the patched one is."""
        assert self.box is not None
        base = ref_of(self.base)
        params: dict[str, Any] = {
            "base": base.to_json(),
            "split_at": p.split_at,
            "gate": p.gate,
            "sharpness": self.sharpness,
            "salt": self.salt if p.gate == "committed" else "",
            "members": sum(len(group.spots) for group in self.groups),
            "groups": len(self.groups),
            "affine": any(group.patch.slope is not None for group in self.groups),
            "low": self.box.low,
            "high": self.box.high,
        }
        return Ref("prune-patched", params, base.inputs, base.outputs)

    def network(self, job: UnlearnJob, p: PruneParams) -> PatchedNet:
        """The base with these patches, on the device."""
        model = job.build(self.ref(p))
        assert isinstance(model, PatchedNet)
        model.base.load_state_dict(self.base.state_dict())
        buffers = self.members(committed=p.gate == "committed")
        if p.gate == "committed":
            spots = [spot for group in self.groups for spot in group.spots]
            buffers["commitments"] = _stacked([commitment(self.salt, spot.pattern) for spot in spots], 32).byte()
        model.load_state_dict(buffers, strict=False)
        return model.eval()

    def apart(self, pattern: Tensor) -> tuple[Standing, tuple[Asked, ...]]:
        """The same without the spots of a region, and the rows that they served: they are to be served anew."""
        freed: list[Asked] = []
        groups: list[Group] = []
        moved: dict[tuple[int, int], tuple[int, int]] = {}
        for g, group in enumerate(self.groups):
            kept = [k for k, spot in enumerate(group.spots) if not torch.equal(spot.pattern, pattern)]
            if kept:
                moved |= {(g, k): (len(groups), place) for place, k in enumerate(kept)}
                groups.append(replace(group, spots=tuple(group.spots[k] for k in kept)))
        asked: list[Asked] = []
        for one in self.asked:
            if one.group < 0 or (one.group, one.spot) in moved:
                number, place = moved.get((one.group, one.spot), (-1, -1))
                asked.append(replace(one, group=number, spot=place))
            else:
                freed.append(replace(one, group=-1, spot=-1, duals=None, radius=None, reason=""))
        return replace(self, groups=tuple(groups), asked=tuple(asked)), tuple(freed)


_TOLD = ("id", "label", "salt", "group", "spot", "reason", "radius", "duals")


def _groups(targets: Sequence[int], tensors: dict[str, Tensor]) -> Iterator[Group]:
    for g, target in enumerate(targets):
        members = (tensors["groups"] == g).nonzero()[:, 0].tolist()
        slope = tensors["slopes"][g] if len(tensors["slopes"]) else None
        yield Group(target, tuple(_spot(tensors, k) for k in members), Patch(tensors["shifts"][g], slope))


def _spot(tensors: dict[str, Tensor], k: int) -> Spot:
    radius = tensors["radii"][k]
    if radius >= WHOLE:
        return Spot(tensors["patterns"][k])
    return Spot(tensors["patterns"][k], tensors["centres"][k], float(radius))


def _stacked(rows: Sequence[Tensor], width: int) -> Tensor:
    return torch.stack(list(rows)) if rows else torch.zeros(0, width)


def _slopes(groups: Sequence[Group], outputs: int, features: int) -> Tensor:
    """[groups, outputs, features], or none at all where every patch is constant."""
    none = torch.zeros(outputs, features)
    if all(group.patch.slope is None for group in groups):
        return torch.zeros(0, outputs, features)
    return torch.stack([none if g.patch.slope is None else g.patch.slope for g in groups])
