"""Where the measure has nothing to say, and what must not change what it says."""

from dataclasses import replace

import pytest
import torch
from hand_evidence import HandEvidence, rows, shuffled_rows
from torch import nn

from unlearnbench.api.runtime import Reading
from unlearnbench_model_inversion.measure import ModelInversion
from unlearnbench_model_inversion.plugin import ModelInversionParams


def read(evidence: HandEvidence) -> dict[str, Reading]:
    return {r.name: r for r in ModelInversion(ModelInversionParams(steps=60)).measure(evidence)}


@pytest.fixture
def evidence() -> HandEvidence:
    rng = torch.Generator().manual_seed(0)
    x = torch.rand(24, 5, generator=rng)
    y = torch.arange(24) % 3
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))
    data = {"forget": rows(x[:12], y[:12], 0), "holdout": rows(x[12:], y[12:], 100)}
    return HandEvidence(data=data, models={"unlearned": model})


def test_there_is_a_reading_for_all_classes_of_the_forget_set(evidence: HandEvidence) -> None:
    found = read(evidence)
    assert len(found) == 3
    for reading in found.values():
        assert (reading.n, reading.status) == (3, "ok")
        assert reading.value is not None
        assert reading.low is not None
        assert reading.low <= reading.value


def test_the_order_of_rows_does_not_matter_to_the_last_bit(evidence: HandEvidence) -> None:
    data = {name: shuffled_rows(split)[0] for name, split in evidence.data.items()}
    assert read(replace(evidence, data=data)) == read(evidence)


def test_test_rows_give_the_range_where_there_is_no_hold_out(evidence: HandEvidence) -> None:
    other = {"forget": evidence.data["forget"], "test": evidence.data["holdout"]}
    assert read(replace(evidence, data=other)) == read(evidence)


def test_the_values_of_the_forget_set_do_not_reach_the_attack(evidence: HandEvidence) -> None:
    forget = evidence.data["forget"]
    moved = {**evidence.data, "forget": rows(100 * forget.x, forget.y, 0)}
    assert read(replace(evidence, data=moved))["inversion-confidence"] == read(evidence)["inversion-confidence"]


def test_the_model_is_left_as_it_was(evidence: HandEvidence) -> None:
    model = evidence.models["unlearned"].train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    read(evidence)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert model.training
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_what_cannot_be_attacked_is_a_status(evidence: HandEvidence) -> None:
    forget, holdout = evidence.data["forget"], evidence.data["holdout"]
    tokens = torch.randint(9, (4, 5))
    spoilt = nn.Sequential(nn.Linear(5, 3))
    nn.init.constant_(spoilt[0].bias, torch.nan)
    cases = [
        ("empty split", replace(evidence, data={"forget": forget})),
        ("empty split", replace(evidence, data={"holdout": holdout})),
        (
            "zero variance",
            replace(evidence, data={"forget": forget, "holdout": rows(torch.ones(2, 5), forget.y[:2], 9)}),
        ),
        (
            "inputs are not numbers",
            replace(evidence, data={"forget": rows(tokens, forget.y[:4], 0), "holdout": holdout}),
        ),
        ("non-finite", replace(evidence, models={"unlearned": spoilt})),
    ]
    for status, case in cases:
        found = read(case)
        assert len(found) == 3
        assert {(reading.value, reading.status) for reading in found.values()} == {(None, status)}


def test_a_reconstruction_that_does_not_move_has_no_correlation(evidence: HandEvidence) -> None:
    deaf = nn.Linear(5, 3)
    nn.init.zeros_(deaf.weight)
    found = read(replace(evidence, models={"unlearned": deaf}))
    assert found["inversion-similarity"].status == found["inversion-nearest"].status == "zero variance"
    assert found["inversion-confidence"].status == "ok"
