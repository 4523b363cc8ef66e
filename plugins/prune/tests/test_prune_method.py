"""Requests for rows of digits: who is certified, what is left alone, and the rows that make trouble."""

from __future__ import annotations

import copy
from itertools import product

import numpy as np
import pytest
import torch
from prune_jobs import (
    TRAIN,
    Stream,
    assert_confirmed,
    digit_net,
    digits,
    document_of,
    documents,
    fitted,
    outputs,
    predicted,
    statement,
    statuses,
    stream,
    verifier_model,
)
from torch import Tensor, nn

from unlearnbench.api import UsageError
from unlearnbench.api.runtime import Ref, Result
from unlearnbench_prune.forgetting import NO_ROOM
from unlearnbench_prune.patched import PatchedNet
from unlearnbench_prune.plugin import PruneParams
from unlearnbench_verifier.challenge import draw
from unlearnbench_verifier.checks import check
from unlearnbench_verifier.form import parse

ROWS = (3, 14, 15, 92, 65, 35)
EXACT = {"gate": "exact", "radius": "auto", "multi": "each"}
WAYS = [
    (gate, multi, radius)
    for gate, multi, radius in product(
        ("support", "exact", "committed"), ("each", "paper", "certified"), ("whole", "auto", 0.02)
    )
    if gate != "committed" or radius == "whole"
]


def patterns(model: nn.Module, x: Tensor) -> np.ndarray:
    """Which hidden units of a perceptron are on, in double precision: [n, units]."""
    value, found = x.double().numpy(), []
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    for layer in layers[:-1]:
        value = value @ layer.weight.double().numpy().T + layer.bias.double().numpy()
        found.append(value >= 0)
        value = np.maximum(value, 0)
    return np.concatenate(found, axis=1)


def with_rows(base: nn.Module, x: Tensor, y: Tensor, **params: object) -> Stream:
    return Stream(base, x, y, PruneParams(**params))  # type: ignore[arg-type]


def twin(row: int, step: float = 1e-4) -> tuple[Tensor, Tensor]:
    """Digits with one row more, very near to a row and of the same label; it comes last."""
    x, y = digits()
    near = (x[row] + step).clamp(0, 1)
    return torch.cat([x[:TRAIN], near[None]]), torch.cat([y[:TRAIN], y[row : row + 1]])


# -- every way to serve rows -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("gate", "multi", "radius"), WAYS)
def test_every_row_ends_as_the_models_prediction_says(gate: str, multi: str, radius: float | str) -> None:
    requests = stream(gate=gate, multi=multi, radius=radius)
    result = requests.ask(*ROWS)
    labels = predicted(result.model, requests.x)
    for row, status in statuses(result, ROWS).items():
        if status == "certified":
            assert document_of(result, requests.x[row])["target"] == labels[row] != requests.y[row]
        else:
            assert status == ("failed" if labels[row] == requests.y[row] else "empirical")
    if gate != "support" and multi != "paper":
        assert set(statuses(result, ROWS).values()) == {"certified"}
    assert_confirmed(result)
    assert [finding for finding in requests.verify() if not finding.fine] == []


def test_statements_count_what_they_list() -> None:
    result = stream(gate="support", multi="paper", radius="auto").ask(*ROWS)
    found = statement(result)
    assert found["certified"] == len(documents(result)) == len(found["certificates"])
    assert found["rows"] == len(ROWS) == found["certified"] + found["empirical"] + found["failed"]
    assert found["value"] == len(found["uncertified"]) == found["empirical"] + found["failed"] > 0
    assert not found["holds"]
    assert all(one["reason"] for one in found["uncertified"])
    assert f"{found['value']} of 6 rows have no certificate" in result.warnings[-1]


def test_a_certificate_is_confirmed_in_exact_arithmetic() -> None:
    assert_confirmed(stream(**EXACT).ask(3), exact=True)


# -- what is left alone ------------------------------------------------------------------------------------------------


def test_all_other_logits_are_bit_identical_under_an_exact_gate_with_room_for_them() -> None:
    requests = stream(**EXACT)
    result = requests.ask(*ROWS)
    x, _ = digits()
    others = torch.tensor([row for row in range(len(x)) if row not in ROWS])
    assert torch.equal(outputs(result.model, x[others]), outputs(digit_net(), x[others]))
    assert not (predicted(result.model, x[list(ROWS)]) == requests.y[list(ROWS)]).any()


def test_an_exact_gate_on_whole_regions_changes_what_lies_in_them_and_nothing_else() -> None:
    result = stream(gate="exact", multi="each").ask(*ROWS)
    x, _ = digits()
    mine = {pattern.tobytes() for pattern in patterns(digit_net(), x[list(ROWS)])}
    inside = torch.tensor([pattern.tobytes() in mine for pattern in patterns(digit_net(), x)])
    assert inside.sum() > len(ROWS)
    changed = (outputs(result.model, x) != outputs(digit_net(), x)).any(1)
    assert torch.equal(changed, inside)


@pytest.mark.parametrize(
    ("gate", "multi", "radius"),
    [("exact", "each", "whole"), ("exact", "each", "auto"), ("support", "certified", 0.02)],
)
def test_no_random_point_of_a_certified_region_is_a_violation(gate: str, multi: str, radius: float | str) -> None:
    """A few rows, because points of 64 features take a second for each of them."""
    result = stream(gate=gate, multi=multi, radius=radius).ask(*ROWS[:3])
    known, double = verifier_model(result), copy.deepcopy(result.model).double()
    assert len(documents(result)) == 3
    for number, document in enumerate(documents(result)):
        points = torch.from_numpy(draw(known, parse(document), 500, seed=number))
        assert len(points.unique(dim=0)) == 500
        found = outputs(double, points.double())
        target = document["target"]
        others = found.index_fill(1, torch.tensor([target]), -torch.inf).amax(1)
        assert bool((found[:, target] - others >= document["margin"]).all())


# -- rows that share a region ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gate", ["exact", "support", "committed"])
def test_two_rows_of_one_region_share_one_patch(gate: str) -> None:
    requests = with_rows(digit_net(), *twin(3), gate=gate, multi="each")
    result = requests.ask(3, TRAIN)
    assert isinstance(result.model, PatchedNet)
    assert (len(result.model.groups), len(result.model.shifts)) == (1, 1)
    one, other = (document_of(result, requests.x[row]) for row in (3, TRAIN))
    assert one["gate"] == other["gate"]
    assert one["target"] == other["target"]
    assert one["request"]["salt"] != other["request"]["salt"]
    assert_confirmed(result)


def test_rows_of_one_region_have_neighbourhoods_of_their_own_under_one_patch() -> None:
    requests = with_rows(digit_net(), *twin(3), **EXACT)
    result = requests.ask(3, TRAIN)
    assert isinstance(result.model, PatchedNet)
    assert result.model.groups.tolist() == [0, 0]
    assert len(result.model.shifts) == 1
    assert set(statuses(result, (3, TRAIN)).values()) == {"certified"}


def test_the_same_features_twice_are_one_member_and_two_certificates() -> None:
    requests = with_rows(digit_net(), *twin(3, step=0.0), **EXACT)
    result = requests.ask(3, TRAIN)
    assert isinstance(result.model, PatchedNet)
    assert len(result.model.groups) == 1
    assert statement(result)["certified"] == 2
    assert [finding for finding in requests.verify() if not finding.fine] == []


@pytest.mark.parametrize("gate", ["exact", "support"])
@pytest.mark.parametrize("multi", ["each", "paper", "certified"])
def test_a_retained_row_with_the_same_features_leaves_no_room_and_others_go_on(gate: str, multi: str) -> None:
    requests = with_rows(digit_net(), *twin(3, step=0.0), gate=gate, radius="auto", multi=multi, rounds=1)
    result = requests.ask(3, 14)
    (without,) = [one for one in statement(result)["uncertified"] if one["row"] == 103]
    assert without["reason"] == NO_ROOM
    kept = outputs(result.model, requests.x[TRAIN:])
    if gate == "exact":
        assert without["status"] == "failed"
        assert torch.equal(kept, outputs(digit_net(), requests.x[TRAIN:]))
    assert predicted(result.model, requests.x)[14] != requests.y[14]


def test_a_row_without_room_does_not_keep_others_of_its_region_from_being_served() -> None:
    x, y = twin(3, step=1e-3)
    x, y = torch.cat([x, x[3:4]]), torch.cat([y, y[3:4]])  # a retained copy of row 3, next to its twin
    requests = with_rows(digit_net(), x, y, **EXACT)
    result = requests.ask(3, TRAIN)
    assert statuses(result, (3, TRAIN)) == {3: "failed", TRAIN: "certified"}


# -- rows that make trouble --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["random", "second"])  # second wants the prediction itself first
@pytest.mark.parametrize("multi", ["each", "paper", "certified"])
def test_a_mislabelled_row_is_sent_neither_to_its_label_nor_to_its_prediction(multi: str, target: str) -> None:
    x, y = digits()
    labels = y[:TRAIN].clone()
    before = int(predicted(digit_net(), x[3:4]))
    labels[3] = (before + 1) % 10
    result = with_rows(digit_net(), x[:TRAIN], labels, gate="exact", multi=multi, target=target).ask(3)
    assert documents(result)[0]["target"] not in {before, int(labels[3])}
    assert_confirmed(result)


def test_a_row_on_a_facet_is_on_the_active_side_and_certified() -> None:
    x, y = digits()
    base = copy.deepcopy(digit_net())
    first = next(layer for layer in base.modules() if isinstance(layer, nn.Linear))
    first.weight[0], first.bias[0] = 0, 0
    first.weight[0, 0] = -1  # a pixel in the corner, which is 0 in every digit: the unit is 0 on all rows
    assert float(first(x[3])[0]) == 0.0
    requests = with_rows(base, x[:TRAIN], y[:TRAIN], **EXACT)
    result = requests.ask(*ROWS)
    assert set(statuses(result, ROWS).values()) == {"certified"}
    assert all(bytes.fromhex(document["region"]["pattern"])[0] == 1 for document in documents(result))
    assert_confirmed(result)


def test_a_row_outside_the_declared_box_is_refused_by_name() -> None:
    with pytest.raises(
        UsageError, match=r"row 103 reaches from 0 to 0\.9375, outside the declared 0 to 0\.5"
    ) as refused:
        stream(**EXACT, low=0.0, high=0.5).ask(3)
    assert refused.value.code == "outside-box"


def test_the_box_is_that_of_all_training_rows_where_none_is_declared() -> None:
    x, y = digits()
    result = with_rows(digit_net(), x[:TRAIN] * 0.5, y[:TRAIN], **EXACT).ask(3)
    assert statement(result)["box"] == {"low": 0.0, "high": 0.5}


# -- targets and maps --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("target", "rank"), [("second", 1), ("least", 9)])
def test_the_target_is_the_second_best_class_or_the_least(target: str, rank: int) -> None:
    requests = stream(**EXACT, target=target)
    result = requests.ask(*ROWS)
    order = outputs(digit_net(), requests.x).argsort(descending=True)
    for row in ROWS:
        assert order[row, 0] == requests.y[row]
        assert document_of(result, requests.x[row])["target"] == order[row, rank]


def test_random_targets_depend_on_the_seed_alone() -> None:
    def targets(seed: int) -> list[int]:
        requests = stream(**EXACT)
        requests.seed = seed
        return [document["target"] for document in documents(requests.ask(*ROWS))]

    assert targets(0) == targets(0) != targets(1)


def test_with_two_classes_a_row_goes_to_the_other_one_unless_it_is_predicted_as_that() -> None:
    x, y = digits()
    few = (y < 2).nonzero()[:100, 0]
    x, y = x[few], y[few]
    base = fitted(Ref("mlp", {"hidden": [6]}, (64,), 2), x, y, steps=60)
    labels = y.clone()
    labels[5] = 1 - labels[5]
    requests = Stream(base, x, labels, PruneParams(gate="exact", multi="each", radius="auto"))
    result = requests.ask(2, 5)
    assert statuses(result, (2, 5)) == {2: "certified", 5: "empirical"}
    assert document_of(result, x[2])["target"] == 1 - y[2]
    assert "no class" in statement(result)["uncertified"][0]["reason"]


@pytest.fixture(scope="module")
def narrow() -> tuple[nn.Module, Tensor, Tensor]:
    """A network of two features of digits in three classes: small enough for affine maps."""
    x, y = digits()
    few = (y < 3).nonzero()[:150, 0]
    x, y = x[few][:, [20, 21, 26, 36, 42, 43]], y[few]
    return fitted(Ref("mlp", {"hidden": [6, 4]}, (6,), 3), x, y, steps=80), x, y


def affine(narrow: tuple[nn.Module, Tensor, Tensor], *rows: int, **params: object) -> tuple[Stream, Result]:
    base, x, y = narrow
    requests = with_rows(base, x, y, multi="each", patch="affine-lp", **params)
    return requests, requests.ask(*rows)


@pytest.mark.parametrize("gate", ["exact", "support"])
def test_affine_maps_are_certified_with_their_slopes(narrow: tuple[nn.Module, Tensor, Tensor], gate: str) -> None:
    _, result = affine(narrow, 1, gate=gate)
    (document,) = documents(result)
    assert np.abs(document["patch"]["slope"]).max() > 0
    assert_confirmed(result)


def test_affine_maps_stand_beside_constant_ones_of_regions_with_several_rows(
    narrow: tuple[nn.Module, Tensor, Tensor],
) -> None:
    base, x, y = narrow
    alone = {}
    for row, pattern in enumerate(patterns(base, x)):
        alone.setdefault(pattern.tobytes(), []).append(row)
    several = next(rows[:2] for rows in alone.values() if len(rows) > 1)
    other = next(rows[0] for rows in alone.values() if not set(rows) & set(several))
    requests = with_rows(base, x, y, multi="each", patch="affine-lp", gate="exact")
    rows = (*several, other)
    for asked in (rows, rows[:1]):  # the second time every row was asked for before
        result = requests.ask(*asked)
        assert set(statuses(result, rows).values()) == {"certified"}
        assert_confirmed(result, previous=requests.results[-2] if len(requests.results) > 1 else None)


# -- what is hidden, what is split -------------------------------------------------------------------------------------


def test_a_committed_gate_hides_the_regions() -> None:
    requests = stream(gate="committed", multi="each")
    result = requests.ask(*ROWS)
    hidden = [pattern.astype(np.uint8).tobytes() for pattern in patterns(digit_net(), requests.x[list(ROWS)])]
    held = {name: tensor.numpy().tobytes() for name, tensor in result.model.state_dict().items()}
    assert not [name for name, content in held.items() for pattern in hidden if pattern in content]
    document = documents(result)[0]
    assert document["region"]["pattern"] is None
    public = {**document, "request": {**document["request"], "salt": None, "sample": None, "label": None}}
    found = {finding.what: finding.fine for finding in check(verifier_model(result), public)}
    assert found["redirect"] is None
    assert found["gate"]
    assert_confirmed(result)


def test_behind_a_split_the_claims_are_about_features() -> None:
    x, y = digits()
    images = x.reshape(-1, 1, 8, 8)[:300]
    ref = Ref("cnn", {"channels": [3, 4], "hidden": 8}, (1, 8, 8), 10)
    base = fitted(ref, images, y[:300], steps=60)
    split = next(name for name, layer in base.named_modules() if isinstance(layer, nn.Linear))
    requests = Stream(base, images, y[:300], PruneParams(gate="exact", radius="auto", multi="each", split_at=split))
    result = requests.ask(*ROWS)
    assert set(statuses(result, ROWS).values()) == {"certified"}
    for document in documents(result):
        assert len(document["request"]["sample"]) == 4 * 2 * 2
        assert len(bytes.fromhex(document["region"]["pattern"])) == 8
        assert document["model"]["split_at"] == split
    assert_confirmed(result)
    assert [finding for finding in requests.verify() if not finding.fine] == []
    others = torch.tensor([row for row in range(300) if row not in ROWS])
    assert torch.equal(outputs(result.model, images[others]), outputs(base, images[others]))
