"""Shares of closed gates, counted by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hand_evidence import HandEvidence
from torch import nn

from unlearnbench.api import DataError
from unlearnbench.api.runtime import Reading, Request
from unlearnbench_wfnet.artifact import describe
from unlearnbench_wfnet.measures import ClosedGates
from unlearnbench_wfnet.network import WFNet
from unlearnbench_wfnet.plugin import GatesParams, unlearnbench_measures
from unlearnbench_wfnet.targets import find_targets


def kept(sigmas: Sequence[Sequence[Sequence[float]]], rows: Sequence[int], harden: float = 0.0) -> dict[str, object]:
    """Artifacts whose gates are ``sigmas``: for weights and biases of layer one and weights of layer two, each row."""
    base = nn.Sequential(nn.Conv2d(1, 3, 1), nn.Conv2d(3, 2, 1, bias=False), nn.Flatten(), nn.Linear(2, 2))
    net = WFNet(base, find_targets(base, (1, 1, 1)), 2)
    memories = (net.alpha_weight[0], net.alpha_bias[0], net.alpha_weight[1])
    with torch.no_grad():
        for memory, sigma in zip(memories, sigmas, strict=True):
            memory.copy_(torch.tensor(sigma, dtype=torch.float64).logit())
    return describe(net, ["c0", "c1"], rows=rows, harden=harden, parameters={}, log=[])


# Row 0: 0.5 is no gate below 0.5. Row 1 has gates 0.6 and 0.7, whose product with row 0 is below.
SIGMAS = [
    [[0.5, 0.05, 0.6], [0.9, 0.6, 0.7]],
    [[0.99, 0.4, 0.3], [0.99, 0.99, 0.99]],
    [[0.9, 0.09], [0.2, 0.9]],
]
RUN = HandEvidence(data={}, request=Request("class", "0" * 64, classes=(0,)), artifacts=kept(SIGMAS, [0]))


def measured(run: HandEvidence = RUN, below: tuple[float, ...] = (0.5, 0.1)) -> dict[str, Reading]:
    found = list(ClosedGates(GatesParams(below)).measure(run))
    assert len({reading.key for reading in found}) == len(found)
    return {reading.key: reading for reading in found}


def test_shares_of_the_row_in_use_and_of_all_rows_are_what_one_counts() -> None:
    found = measured()
    assert {key: (reading.value, reading.n) for key, reading in found.items()} == {
        "closed-gates.below=0.5": (4 / 8, 8),  # 0.05, 0.4, 0.3, 0.09
        "closed-gates.below=0.1": (2 / 8, 8),  # 0.05, 0.09
        "closed-gates-all.below=0.5": (5 / 16, 16),  # and 0.2 of row 1
        "closed-gates-all.below=0.1": (2 / 16, 16),
    }


def test_several_rows_in_use_are_multiplied() -> None:
    # Products: 0.45, 0.03, 0.42 | 0.9801, 0.396, 0.297 | 0.18, 0.081.
    found = measured(replace(RUN, artifacts=kept(SIGMAS, [0, 1])), below=(0.5, 0.1, 0.43))
    assert found["closed-gates.below=0.5"].value == 7 / 8
    assert found["closed-gates.below=0.1"].value == 2 / 8
    assert found["closed-gates.below=0.43"].value == 6 / 8
    assert found["closed-gates-all.below=0.5"].value == 5 / 16


def test_a_gate_at_the_threshold_is_not_below_it_and_one_next_to_it_is() -> None:
    half = [[[0.5] * 3] * 2, [[0.5] * 3] * 2, [[0.5] * 2] * 2]
    found = measured(replace(RUN, artifacts=kept(half, [0])), below=(0.5, math.nextafter(0.5, 1)))
    assert [reading.value for reading in found.values()] == [0, 1, 0, 1]


def test_gates_are_counted_as_they_were_learned_whatever_is_hardened() -> None:
    hard = measured(replace(RUN, artifacts=kept(SIGMAS, [0], harden=0.95)))
    assert {key: reading.value for key, reading in hard.items()} == {k: r.value for k, r in measured().items()}


def test_a_threshold_that_is_named_twice_is_told_once() -> None:
    assert list(measured(below=(0.5, 0.5))) == ["closed-gates.below=0.5", "closed-gates-all.below=0.5"]


@pytest.mark.parametrize("subject", ["original", "gold"])
def test_original_and_gold_have_a_status(subject: str) -> None:
    found = measured(replace(RUN, subject=subject))  # type: ignore[arg-type]
    assert {(r.value, r.status, r.n) for r in found.values()} == {(None, "no gates", 0)}
    assert set(found) == set(measured())


def test_an_unlearner_without_gates_has_a_status() -> None:
    found = measured(replace(RUN, artifacts={"format": "other/1", "weight/0": torch.zeros(2, 3)}))
    assert {(r.value, r.status) for r in found.values()} == {(None, "no gates")}


def test_gates_of_a_format_that_is_not_known_are_refused() -> None:
    with pytest.raises(DataError) as caught:
        measured(replace(RUN, artifacts={**RUN.artifacts, "format": "wf-net/2"}))
    assert caught.value.code == "wrong-artifact"


def test_every_reading_is_declared_and_no_direction_of_it_is_good() -> None:
    spec = next(spec for spec in unlearnbench_measures() if spec.name == "closed-gates")
    declared = {(reading.name, reading.better) for reading in spec.readings}
    assert {(reading.name, reading.better) for reading in measured().values()} == declared
    assert {better for _, better in declared} == {"gold"}
