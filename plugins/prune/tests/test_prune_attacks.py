"""The attacks by hand, against scikit-learn's area and scipy's densities, and on shadows whose truth is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import pytest
import torch
from hand_evidence import HandEvidence, rows, shuffled_rows
from scipy.stats import norm
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn.functional import one_hot

from unlearnbench.api import UsageError
from unlearnbench.api.runtime import Data, Ensemble, Evidence, Reading, Shadows, Subject, generator
from unlearnbench_prune.attacks import TwoSided, auc, auc_interval, folded, gaussians
from unlearnbench_prune.plugin import Attack, AttackParams

CLASSES = 3


class Table(nn.Module):
    """The inputs are the outputs."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def measured(evidence: HandEvidence, attacks: Sequence[Attack] = ("yeom",), shadows: int = 2) -> Mapping[str, Reading]:
    attack = TwoSided(AttackParams(attacks=tuple(attacks), shadows=shadows))
    return {reading.key: reading for reading in attack.measure(cast(Evidence, evidence))}


def of_losses(losses: Sequence[float], first_id: int) -> Data:
    """Rows of two classes, labelled 0, with these cross-entropies."""
    loss = torch.tensor(losses, dtype=torch.float64)
    return rows(torch.stack([-loss, (1 - (-loss).exp()).log()], 1), torch.zeros(len(losses), dtype=torch.int64),
                first_id, classes=2)  # fmt: skip


def by_losses(**losses: Sequence[float]) -> HandEvidence:
    data = {
        name: of_losses(losses.get(name, ()), 100 * i) for i, name in enumerate(("forget", "retain", "holdout", "test"))
    }
    return HandEvidence(data=data, models={"unlearned": Table()})


def test_yeom_by_hand() -> None:
    # Threshold: mean of 0.1 and 0.5. Of the 3 x 2 pairs the forgotten row has the smaller loss in 4.
    found = measured(by_losses(forget=[0.1, 0.2, 0.9], retain=[0.1, 0.5], holdout=[0.5, 0.6]))
    assert found["yeom-recall.forget"].value == pytest.approx(2 / 3)
    assert found["yeom-auc.forget"].value == pytest.approx(4 / 6)
    assert found["yeom-two-sided.forget"].value == pytest.approx(1 / 6)
    assert [found[f"yeom-{name}.forget"].n for name in ("recall", "auc", "two-sided")] == [3, 5, 5]
    assert [found[f"yeom-{name}.forget"].better for name in ("recall", "auc", "two-sided")] == ["gold", "gold", "lower"]


def test_rows_that_all_stand_out_have_recall_0_and_are_found_all_the_same() -> None:
    found = measured(by_losses(forget=[5.0, 6.0, 7.0, 9.0], retain=[0.1, 0.3], holdout=[0.1, 0.4, 0.9]))
    assert found["yeom-recall.forget"].value == 0
    assert found["yeom-auc.forget"].value == 0
    assert found["yeom-two-sided.forget"].value == 0.5


def test_a_row_at_the_threshold_counts_as_seen() -> None:
    outputs = torch.zeros(1, 2)
    data = {name: rows(outputs, torch.zeros(1, dtype=torch.int64), i, classes=2)
            for i, name in enumerate(("forget", "retain", "holdout"))}  # fmt: skip
    found = measured(HandEvidence(data=data, models={"unlearned": Table()}))
    assert found["yeom-recall.forget"].value == 1
    assert found["yeom-two-sided.forget"].value == 0


def test_without_a_hold_out_as_many_test_rows_are_taken() -> None:
    found = measured(by_losses(forget=[0.1, 0.2], retain=[0.1, 0.5], test=[0.5] * 30))
    assert found["yeom-auc.forget"].value == 1
    assert found["yeom-auc.forget"].n == 4


def test_splits_without_rows_and_outputs_that_are_no_numbers_are_a_status() -> None:
    nothing = measured(by_losses(forget=[], retain=[0.1], holdout=[0.2]))
    alone = measured(by_losses(forget=[0.1], retain=[0.1]))
    for found in (nothing, alone):
        assert {(reading.value, reading.status) for reading in found.values()} == {(None, "empty split")}
    diverged = measured(by_losses(forget=[0.1], retain=[float("nan")], holdout=[0.3]))
    assert {(reading.value, reading.status) for reading in diverged.values()} == {(None, "non-finite")}
    assert len(diverged) == 3


@pytest.mark.parametrize("ties", [False, True])
def test_areas_are_scikit_learns(ties: bool) -> None:
    rng = np.random.default_rng(1)
    members, others = rng.normal(0.4, 1, 37), rng.normal(0, 1, 52)
    if ties:
        members, others = members.round(), others.round()
    truth = np.r_[np.ones(37), np.zeros(52)]
    assert auc(members, others) == pytest.approx(roc_auc_score(truth, np.r_[members, others]), abs=1e-12)


def test_the_interval_of_an_area_covers_its_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    truth = norm.cdf(0.8 / np.sqrt(2))
    ends = [auc_interval(rng.normal(0.8, 1, 60), rng.normal(0, 1, 40)) for _ in range(400)]
    covered = sum(low is not None and high is not None and low <= truth <= high for low, high in ends)
    assert 0.91 * 400 <= covered <= 0.985 * 400
    assert auc_interval(np.array([1.0, 2.0]), np.array([0.0, 0.5])) == (1, 1)
    assert auc_interval(np.array([1.0]), np.array([0.0, 0.5])) == (None, None)


def test_the_interval_of_the_distance_is_that_of_the_area_folded_at_a_half() -> None:
    assert folded((0.3, 0.6)) == pytest.approx((0.0, 0.2))
    assert folded((0.1, 0.2)) == pytest.approx((0.3, 0.4))
    assert folded((0.7, 0.9)) == pytest.approx((0.2, 0.4))
    assert folded((None, None)) == (None, None)


AUDITED = 80
FORGOTTEN = torch.arange(AUDITED) < AUDITED // 2
Y = torch.randint(CLASSES, (AUDITED,), generator=generator(11))
HARD = torch.randn(AUDITED, dtype=torch.float64, generator=generator(12))


def logits(seen: Tensor, seed: int, by: float) -> Tensor:
    """Rows differ in how hard they are; the true class of a seen row stands out further."""
    noise = torch.randn(AUDITED, CLASSES, dtype=torch.float64, generator=generator(seed))
    return noise * 0.5 + one_hot(Y, CLASSES) * (1 + HARD + by * seen)[:, None]


@dataclass
class HandShadows:
    """Shadows that saw complementary halves of the audit rows and put out ``raw`` [n, m, c] at each stage."""

    y: Tensor
    ids: Tensor
    members: Tensor
    forgotten: Tensor
    raw: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(self.members)

    def outputs(self, subject: Subject = "unlearned") -> Tensor:
        return self.raw[subject]

    def model(self, i: int, subject: Subject = "unlearned") -> nn.Module:
        raise AssertionError("these attacks read outputs alone")


@dataclass(kw_only=True)
class WithShadows(HandEvidence):
    """Evidence with shadow models; ``asked`` notes how many were asked for."""

    made: HandShadows
    asked: list[int] = field(default_factory=list)

    def shadows(self, n: int) -> Shadows:
        self.asked.append(n)
        return self.made


def shadowed(n: int, *, by: float, subject: Subject = "unlearned", seed: int = 0) -> WithShadows:
    """A run that learned its forget set, and ``n`` shadows; unlearning turns what was seen the other way."""
    halves = [torch.rand(AUDITED, generator=generator(seed + j)) < 0.5 for j in range(n // 2)]
    members = torch.stack([half for one in halves for half in (one, ~one)])
    raw = {
        stage: torch.stack([logits(members[i], 50 + i, sign * by) for i in range(n)])
        for stage, sign in (("original", 1), ("unlearned", -1), ("gold", 0))
    }
    ids = torch.arange(AUDITED)
    order = torch.randperm(AUDITED, generator=generator(4))
    made = HandShadows(Y[order], ids[order], members[:, order], FORGOTTEN[order],
                       {stage: found[:, order] for stage, found in raw.items()})  # fmt: skip
    sign = {"original": 1, "unlearned": -1, "gold": 0}[subject]
    own = logits(FORGOTTEN, 99, sign * by)
    data = {}
    for split, mine in (("forget", FORGOTTEN), ("holdout", ~FORGOTTEN)):
        data[split] = Data(own[mine], Y[mine], ids[mine], ("a", "b", "c"))
    data["retain"] = rows(own[:5], Y[:5], 1000)
    return WithShadows(data=data, models={subject: Table()}, subject=subject, made=made)


def value(found: Mapping[str, Reading], name: str) -> float:
    known = found[f"{name}.forget"].value
    assert known is not None, found[f"{name}.forget"].status
    return known


@pytest.mark.parametrize("attack", ["shadow", "lira"])
def test_rows_that_the_shadows_show_how_to_tell_are_found(attack: Attack) -> None:
    evidence = shadowed(8, by=6.0, subject="original")
    found = measured(evidence, [attack], 8)
    assert evidence.asked == [8]
    assert set(found) == {f"{attack}-{name}.forget" for name in ("recall", "auc", "two-sided")}
    assert value(found, f"{attack}-recall") > 0.9
    assert value(found, f"{attack}-auc") > 0.95
    assert value(found, f"{attack}-two-sided") == pytest.approx(value(found, f"{attack}-auc") - 0.5)


@pytest.mark.parametrize("attack", ["shadow", "lira"])
def test_traces_of_forgetting_are_learned_from_shadows_that_forgot(attack: Attack) -> None:
    found = measured(shadowed(8, by=6.0), [attack], 8)
    assert value(found, f"{attack}-auc") > 0.95


@pytest.mark.parametrize("attack", ["shadow", "lira"])
def test_models_that_never_saw_a_row_give_nothing_away(attack: Attack) -> None:
    reading = measured(shadowed(8, by=6.0, subject="gold"), [attack], 8)[f"{attack}-auc.forget"]
    assert cast(float, reading.low) <= 0.5 <= cast(float, reading.high)


def test_attacks_come_in_the_order_asked_and_once_each() -> None:
    found = measured(shadowed(4, by=3.0), ["lira", "yeom", "shadow", "yeom"], 4)
    assert [name.split("-")[0] for name in found] == ["lira"] * 3 + ["yeom"] * 3 + ["shadow"] * 3


@pytest.mark.parametrize("attack", ["shadow", "lira"])
def test_readings_do_not_depend_on_the_order_of_the_rows(attack: Attack) -> None:
    evidence = shadowed(4, by=1.0)
    mixed = shadowed(4, by=1.0)
    mixed.data = {name: shuffled_rows(data)[0] for name, data in mixed.data.items()}
    made, order = mixed.made, torch.randperm(AUDITED, generator=generator(8))
    mixed.made = HandShadows(made.y[order], made.ids[order], made.members[:, order], made.forgotten[order],
                             {stage: found[:, order] for stage, found in made.raw.items()})  # fmt: skip
    assert measured(evidence, [attack], 4) == measured(mixed, [attack], 4)


def test_likelihood_ratios_are_those_of_scipy() -> None:
    evidence = shadowed(6, by=2.0, subject="original")
    made = evidence.made
    known = {int(i): k for k, i in enumerate(made.ids)}

    def confidence(outputs: Tensor, label: int) -> float:
        p = outputs.softmax(0)[label]
        return float((p / (1 - p)).log())

    phi = np.array([[confidence(made.raw["original"][i, k], int(made.y[k])) for k in range(AUDITED)] for i in range(6)])
    seen = made.members.numpy()
    inside = [phi[seen[:, k], k] for k in range(AUDITED)]
    outside = [phi[~seen[:, k], k] for k in range(AUDITED)]
    spreads = []
    for groups in (inside, outside):  # few models: one spread for all rows
        squares = sum(((group - group.mean()) ** 2).sum() for group in groups)
        spreads.append(np.sqrt(squares / sum(len(group) - 1 for group in groups)))
    scores: dict[str, list[float]] = {"forget": [], "holdout": []}
    for split, mine in scores.items():
        data = evidence.data[split]
        for outputs, label, row in zip(data.x, data.y, data.ids, strict=True):
            k, own = known[int(row)], confidence(outputs, int(label))
            mine.append(
                norm(inside[k].mean(), spreads[0]).logpdf(own) - norm(outside[k].mean(), spreads[1]).logpdf(own)
            )
    truth = [1] * len(scores["forget"]) + [0] * len(scores["holdout"])
    found = measured(evidence, ["lira"], 6)
    assert value(found, "lira-auc") == pytest.approx(roc_auc_score(truth, scores["forget"] + scores["holdout"]))
    assert value(found, "lira-recall") == np.mean(np.array(scores["forget"]) > 0)
    assert 0.6 < value(found, "lira-auc") < 1  # neither perfect nor blind: the comparison says something


def test_with_many_models_every_row_has_a_spread_of_its_own() -> None:
    rng = np.random.default_rng(3)
    spread = np.array([0.5, 2.0, 8.0])
    phi = rng.normal(1.0, spread, (64, 3))
    group = np.repeat([[True], [False]], 32, axis=0) & np.ones((64, 3), dtype=np.bool_)
    mean, own = gaussians(phi, group)
    assert mean == pytest.approx(phi[:32].mean(0))
    assert own == pytest.approx(phi[:32].std(0, ddof=1))
    group[31, 0] = False
    assert np.ptp(gaussians(phi, group)[1]) == 0


def test_rows_that_no_shadow_audits_are_left_out_of_likelihood_ratios() -> None:
    evidence, more = shadowed(4, by=3.0), shadowed(4, by=3.0)
    holdout = more.data["holdout"]
    strange = rows(torch.full((30, CLASSES), 50.0).double() * one_hot(torch.zeros(30).long(), CLASSES),
                   torch.zeros(30, dtype=torch.int64), 5000)  # fmt: skip
    more.data = {
        **more.data,
        "holdout": Data(torch.cat([strange.x, holdout.x]), torch.cat([strange.y, holdout.y]),
                        torch.cat([strange.ids, holdout.ids]), ("a", "b", "c")),
    }  # fmt: skip
    assert measured(evidence, ["lira"], 4) == measured(more, ["lira"], 4)


def test_shadows_that_diverged_or_do_not_vary_are_a_status() -> None:
    diverged = shadowed(4, by=1.0)
    diverged.made.raw = {"unlearned": diverged.made.raw["unlearned"] * torch.nan}
    found = measured(diverged, ["shadow", "lira", "yeom"], 4)
    assert {found[f"{name}-auc.forget"].status for name in ("shadow", "lira")} == {"non-finite"}
    assert found["yeom-auc.forget"].status == "ok"
    alike = shadowed(4, by=1.0)
    alike.made.raw = {"unlearned": alike.made.raw["unlearned"][:1].expand(4, -1, -1)}
    assert measured(alike, ["lira"], 4)["lira-two-sided.forget"].status == "zero variance"
    assert measured(shadowed(2, by=1.0), ["lira"], 2)["lira-auc.forget"].status == "too few models"


def test_shadow_models_are_priced_only_where_an_attack_needs_them_and_come_in_pairs() -> None:
    assert list(TwoSided(AttackParams()).ensembles()) == []
    for attack in ("shadow", "lira"):
        asked = TwoSided(AttackParams(attacks=("yeom", cast(Attack, attack)), shadows=6)).ensembles()
        assert list(asked) == [Ensemble("shadows", originals=6, golds=6, unlearned=6)]
    with pytest.raises(UsageError, match="7 shadow models are no pairs"):
        TwoSided(AttackParams(attacks=("lira",), shadows=7)).ensembles()
