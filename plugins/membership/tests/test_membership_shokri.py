"""Attack networks on simulated shadows whose truth is known, and against scikit-learn's network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import pytest
import torch
from sklearn.neural_network import MLPClassifier
from torch import Generator, Tensor

from unlearnbench.api.errors import UsageError
from unlearnbench.api.runtime import Data, Ensemble, Evidence, Reading, View, derive_seed, generator
from unlearnbench.parameters import resolve_parameters
from unlearnbench_membership.networks import attack_networks
from unlearnbench_membership.plugin import ShokriParams
from unlearnbench_membership.roc import auc
from unlearnbench_membership.shokri import Shokri

CLASSES, AUDITED, SHADOWS = 4, 160, 8
FORGOTTEN = torch.arange(AUDITED) < AUDITED // 2
HARD = torch.randn(AUDITED, generator=generator(40))
Y = torch.randint(CLASSES, (AUDITED,), generator=generator(41))


def outputs(seen: Tensor, seed: int) -> Tensor:
    """Logits of a model: rows differ in how hard they are, and the true class of a seen row stands out further."""
    logits = torch.randn(AUDITED, CLASSES, generator=generator(seed))
    logits[torch.arange(AUDITED), Y] += 2 + HARD + 3.0 * seen
    return logits


@dataclass
class Simulated:
    """Shadows that saw random halves of the audit rows, and a subject that saw ``seen``; ids in any order."""

    seen: Tensor
    order: Tensor
    diverged: bool = False

    def __post_init__(self) -> None:
        halves = [torch.rand(AUDITED, generator=generator(50 + j)) < 0.5 for j in range(SHADOWS // 2)]
        self._members = torch.stack([h for half in halves for h in (half, ~half)])
        self.y, self.ids, self.forgotten = Y[self.order], self.order, FORGOTTEN[self.order]
        self.members = self._members[:, self.order]

    def __len__(self) -> int:
        return SHADOWS

    def outputs(self, subject: str) -> Tensor:
        assert subject == "original"
        found = torch.stack([outputs(self._members[i], 60 + i) for i in range(SHADOWS)])[:, self.order]
        return found * torch.nan if self.diverged else found


@dataclass
class SimulatedEvidence:
    made: Simulated

    def shadows(self, n: int) -> Simulated:
        assert n == SHADOWS
        return self.made

    def _rows(self, split: str) -> Tensor:
        return (FORGOTTEN if split == "forget" else ~FORGOTTEN).nonzero()[:, 0]

    def outputs(self, split: str, subject: str | None = None) -> Tensor:
        return outputs(self.made.seen, 99)[self._rows(split)]

    def y(self, split: str) -> Tensor:
        return Y[self._rows(split)]

    def view(self, split: str) -> View:
        mine = self._rows(split)
        data = Data(x=mine[:, None].float(), y=Y[mine], ids=mine, outputs=tuple("abcd"))
        return View(data, torch.arange(len(mine)), name=split)

    def rng(self, purpose: str) -> Generator:
        return generator(derive_seed(1, purpose))


class FurtherUnseenRows(SimulatedEvidence):
    """The same with as many rows in the hold-out again, which no shadow audits and which look like members."""

    def _further(self, split: str) -> Tensor:
        return torch.arange(AUDITED, AUDITED + 80) if split == "holdout" else torch.arange(0)

    def outputs(self, split: str, subject: str | None = None) -> Tensor:
        surely = torch.zeros(len(self._further(split)), CLASSES)
        surely[:, 0] = 30.0
        return torch.cat([super().outputs(split, subject), surely])

    def y(self, split: str) -> Tensor:
        return torch.cat([super().y(split), torch.zeros(len(self._further(split)), dtype=torch.int64)])

    def view(self, split: str) -> View:
        ids, y = torch.cat([self._rows(split), self._further(split)]), self.y(split)
        return View(Data(ids[:, None].float(), y, ids, tuple("abcd")), torch.arange(len(ids)), name=split)


def measured(
    seen: Tensor, least: int = 20, order: Tensor | None = None, *, diverged: bool = False
) -> dict[str, Reading]:
    made = Simulated(seen, torch.arange(AUDITED) if order is None else order, diverged)
    attack = Shokri(ShokriParams(shadows=SHADOWS, least_rows=least))
    return {reading.key: reading for reading in attack.measure(cast(Evidence, SimulatedEvidence(made)))}


NOTHING = torch.zeros(AUDITED, dtype=torch.bool)


def test_rows_that_a_model_saw_are_found_and_a_gold_model_gives_nothing_away() -> None:
    known, gold = measured(FORGOTTEN)["shokri-auc"], measured(NOTHING)["shokri-auc"]
    assert cast(float, known.value) > 0.8
    assert cast(float, known.low) < cast(float, known.value) < cast(float, known.high)
    assert gold.value == pytest.approx(0.5, abs=0.09)


def test_a_model_that_saw_the_hold_out_instead_reads_far_below_a_half() -> None:
    found = measured(~FORGOTTEN)["shokri-auc"]
    assert cast(float, found.value) < 0.2
    assert found.better == "gold"


@pytest.mark.parametrize(("least", "own"), [(1, CLASSES), (10_000, 0)])
def test_classes_with_enough_rows_have_a_network_of_their_own(least: int, own: int) -> None:
    found = measured(FORGOTTEN, least)
    assert found["shokri-own-networks"].value == own
    assert cast(float, found["shokri-auc"].value) > 0.8


def test_readings_do_not_depend_on_the_order_of_the_audit_rows() -> None:
    assert measured(FORGOTTEN) == measured(FORGOTTEN, order=torch.randperm(AUDITED, generator=generator(3)))


def test_unseen_rows_that_the_shadows_do_not_audit_are_left_out() -> None:
    made = Simulated(FORGOTTEN, torch.arange(AUDITED))
    evidence = cast(Evidence, FurtherUnseenRows(made))
    found = {reading.key: reading for reading in Shokri(ShokriParams(shadows=SHADOWS, least_rows=20)).measure(evidence)}
    assert len(evidence.view("holdout")) == 160
    assert found == measured(FORGOTTEN)


def test_shadows_that_diverged_are_a_status() -> None:
    found = measured(FORGOTTEN, diverged=True)
    assert {(reading.value, reading.status) for reading in found.values()} == {(None, "non-finite")}


def test_the_common_network_is_as_good_as_scikit_learns() -> None:
    shadows = Simulated(FORGOTTEN, torch.arange(AUDITED))
    x, y, members = shadows.outputs("original").flatten(0, 1), Y.repeat(SHADOWS), shadows.members.flatten()
    networks = attack_networks(x, y, members, 10_000, generator(0))
    p = x.double().softmax(1)
    rest = p.scatter(1, y[:, None], -1.0).sort(1, descending=True).values[:, :-1]
    theirs = MLPClassifier((64,), learning_rate_init=0.01, max_iter=400, random_state=0).fit(
        torch.cat([p.gather(1, y[:, None]), rest], 1).numpy(), members.numpy()
    )
    new = outputs(FORGOTTEN, 99)
    q = new.double().softmax(1)
    others = q.scatter(1, Y[:, None], -1.0).sort(1, descending=True).values[:, :-1]
    theirs_p = theirs.predict_proba(torch.cat([q.gather(1, Y[:, None]), others], 1).numpy())[:, 1]
    ours = networks.logit(new, Y).numpy()
    seen = FORGOTTEN.numpy()
    assert auc(ours[seen], ours[~seen]) == pytest.approx(auc(theirs_p[seen], theirs_p[~seen]), abs=0.05)


def test_one_class_in_the_audit_rows_leaves_the_others_to_the_common_network() -> None:
    y = torch.zeros(100, dtype=torch.int64)
    x = torch.randn(100, 3, generator=generator(1))
    found = attack_networks(x, y, torch.arange(100) < 50, 20, generator(0))
    assert found.own == 1
    assert bool(found.logit(x, torch.full((100,), 2)).isfinite().all())


def test_the_price_is_said_before_the_work_and_shadows_come_in_pairs() -> None:
    assert Shokri(ShokriParams(shadows=6)).ensembles() == (Ensemble(kind="shadows", originals=6),)
    with pytest.raises(UsageError, match="even"):
        resolve_parameters(ShokriParams, {"shadows": 5}, where="shokri")
