"""Requests to PRUNE by hand: digits, small networks trained once, streams of requests, and what is asked of answers."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from unlearnbench.api import Recipe
from unlearnbench.api.runtime import (
    Classification,
    Data,
    Finding,
    Meter,
    Ref,
    Request,
    Result,
    Served,
    State,
    UnlearnJob,
    VerifyJob,
    View,
)
from unlearnbench.networks import build_network
from unlearnbench.registry import registry
from unlearnbench_prune import saving
from unlearnbench_prune.issuing import unpacked
from unlearnbench_prune.method import Prune, PruneClass
from unlearnbench_prune.patched import PatchedNet
from unlearnbench_prune.plugin import ClassParams, PruneParams
from unlearnbench_verifier.checks import check
from unlearnbench_verifier.files import canonical, load_json
from unlearnbench_verifier.model import Model, read_model

CPU = torch.device("cpu")
TRAIN = 600
"""Digits that networks are trained on; those after them are test rows."""
SMALL = Ref("mlp", {"hidden": [12, 8]}, (64,), 10)


@functools.cache
def digits() -> tuple[Tensor, Tensor]:
    """Rows [1797, 64] from 0 to 1 and labels [1797]."""
    found = load_digits()
    return torch.from_numpy(found.data / 16).float(), torch.from_numpy(found.target)


def built(ref: Ref, seed: int = 0) -> nn.Module:
    """A network as the host builds it."""
    return build_network(registry(), ref, seed, CPU)


def fitted(ref: Ref, x: Tensor, y: Tensor, steps: int = 150) -> nn.Module:
    """A network after full-batch Adam; the same one every time."""
    model = built(ref)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model.requires_grad_(requires_grad=False).eval()


@functools.cache
def digit_net() -> nn.Module:
    """64-12-8-10 on digits; nobody changes it."""
    x, y = digits()
    return fitted(SMALL, x[:TRAIN], y[:TRAIN])


def predicted(model: nn.Module, x: Tensor) -> Tensor:
    """Classes of rows."""
    with torch.no_grad():
        found: Tensor = model(x).argmax(1)
    return found


def outputs(model: nn.Module, x: Tensor) -> Tensor:
    """Logits, without a graph."""
    with torch.no_grad():
        found: Tensor = model(x)
    return found


@dataclass
class Stream:
    """Requests to one network, one after the other. Row i has the id 100 + i."""

    base: nn.Module
    x: Tensor
    y: Tensor
    params: PruneParams | ClassParams
    validation: tuple[Tensor, Tensor] | None = None
    seed: int = 0
    results: list[Result] = field(default_factory=list)
    asked: list[tuple[Request, View, View]] = field(default_factory=list)
    stored: bool = False
    """Whether models and states are written down and read between requests, as a store does."""

    @property
    def unlearner(self) -> Prune | PruneClass:
        return Prune(self.params) if isinstance(self.params, PruneParams) else PruneClass(self.params)

    def ask(self, *rows: int, classes: Sequence[int] = ()) -> Result:
        """Forget these rows, or whole classes."""
        mine = torch.tensor(rows) if rows else torch.isin(self.y, torch.tensor(classes)).nonzero()[:, 0]
        gone = {int(row) for _, forget, _ in self.asked for row in (forget.tensors().ids - 100)} | set(mine.tolist())
        kept = torch.tensor([row for row in range(len(self.x)) if row not in gone])
        data = Data(self.x, self.y, torch.arange(len(self.x)) + 100, tuple("0123456789"))
        others = data if self.validation is None else replaced(*self.validation)
        request = Request("class" if classes else "samples", f"{len(self.asked):064}", classes=tuple(classes))
        meter = Meter()
        forget = View(data, mine, name="forget", meter=meter)
        retain = View(data, kept, name="retain", meter=meter)
        model, state = self._left()
        job = UnlearnJob(
            task=Classification(),
            device=CPU,
            root_seed=self.seed,
            phase=f"unlearn/{len(self.asked)}",
            builder=lambda ref, seed: built(ref or SMALL, seed),
            request=request,
            forget=forget,
            retain=retain,
            validation=View(others, torch.arange(0 if self.validation is None else len(others)), name="v", meter=meter),
            model=model,
            state=state,
            recipe=Recipe(),
        )
        result = self.unlearner.unlearn(job)
        self.asked.append((request, forget, retain))
        self.results.append(result)
        return result

    def _left(self) -> tuple[nn.Module, State]:
        """What the last request left, or the bare network."""
        if not self.results:
            return self.base, State()
        last = self.results[-1]
        assert last.state is not None
        if not self.stored:
            return last.model, last.state
        return last.model, State(
            tensors={name: tensor.clone() for name, tensor in last.state.tensors.items()},
            meta=load_json(canonical(last.state.meta)),
        )

    def served(self) -> list[Served]:
        """Everything so far, as a verifier gets it."""
        return [
            Served(
                request=request, forget=forget, retain=retain, model=result.model,
                certificate=load_json(canonical(result.certificate)), proof=result.proof, root_seed=self.seed,
                phase=f"unlearn/{step}",
            )
            for step, ((request, forget, retain), result) in enumerate(zip(self.asked, self.results, strict=True))
        ]  # fmt: skip

    def verify(self, served: Sequence[Served] | None = None) -> list[Finding]:
        """What the method's own verifier finds."""
        data = Data(self.x, self.y, torch.arange(len(self.x)) + 100, tuple("0123456789"))
        job = VerifyJob(
            task=Classification(),
            device=CPU,
            root_seed=self.seed,
            phase="train",
            builder=lambda ref, seed: built(ref or SMALL, seed),
            data=View(data, torch.arange(len(data)), name="train", meter=Meter()),
            model=self.base,
            served=tuple(self.served() if served is None else served),
        )
        return list(self.unlearner.verify(job))


def replaced(x: Tensor, y: Tensor) -> Data:
    """Rows of a split of their own."""
    return Data(x, y, torch.arange(len(x)) + 10_000, tuple("0123456789"))


def stream(rows: int = TRAIN, **params: Any) -> Stream:
    """Requests to the network of digits, with these parameters of ``prune``."""
    x, y = digits()
    return Stream(digit_net(), x[:rows], y[:rows], PruneParams(**params))


# -- what a request left -----------------------------------------------------------------------------------------------


def statement(result: Result) -> Mapping[str, Any]:
    """The certificate of the record."""
    assert result.certificate is not None
    return result.certificate


def documents(result: Result) -> list[dict[str, Any]]:
    """The certificates of single rows, from the bytes of the proof."""
    found: list[dict[str, Any]] = unpacked(result.proof["certificates"])["certificates"]
    return found


def issue_of(result: Result) -> dict[str, Any]:
    found: dict[str, Any] = unpacked(result.proof["certificates"])["issue"]
    return found


def verifier_model(result: Result) -> Model:
    """The patched model as a stranger reads it."""
    assert isinstance(result.model, PatchedNet)
    return read_model(saving.contents(result.model))


def statuses(result: Result, asked: Sequence[int]) -> dict[int, str]:
    """certified, empirical or failed for each row that was asked for."""
    without = {one["row"]: one["status"] for one in statement(result)["uncertified"]}
    return {row: without.get(row + 100, "certified") for row in asked}


def document_of(result: Result, x: Tensor) -> dict[str, Any]:
    """The certificate of a row; there is exactly one."""
    (found,) = [one for one in documents(result) if np.array_equal(np.float32(one["request"]["sample"]), x.flatten())]
    return found


def assert_confirmed(result: Result, *, exact: bool = False, previous: Result | None = None) -> None:
    """Every certificate is confirmed, from the owner's copy and the model's file alone."""
    model = verifier_model(result)
    before = None if previous is None else issue_of(previous)
    for document in documents(result):
        found = check(model, document, exact=exact, previous=before)
        assert [one for one in found if one.fine is False] == []
        unseen = {one.what for one in found if one.fine is None}
        assert unseen <= {"signature", "rows elsewhere"} | ({"chain"} if previous is None else set())
