"""Requests one after the other: earlier rows stay certified, issues are linked, and classes come as well."""

from __future__ import annotations

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
    issue_of,
    outputs,
    predicted,
    statement,
    statuses,
    stream,
    verifier_model,
)
from torch import Tensor

from unlearnbench.api import IncompatibleError
from unlearnbench_prune.patched import PatchedNet
from unlearnbench_prune.plugin import ClassParams, PruneParams
from unlearnbench_verifier.checks import check
from unlearnbench_verifier.form import digest, issue_digest, parse_issue

THREE = ((3, 14), (15,), (92, 65, 35))
EXACT = {"gate": "exact", "radius": "auto", "multi": "each"}


@pytest.fixture(scope="module")
def three() -> Stream:
    """Three requests under exact gates."""
    requests = stream(**EXACT)
    for rows in THREE:
        requests.ask(*rows)
    return requests


# -- rows --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gate", "multi", "radius"),
    [("committed", "each", "whole"), ("exact", "certified", 0.02), ("support", "certified", 0.02)],
)
def test_every_row_so_far_is_certified_anew_at_each_step(gate: str, multi: str, radius: float | str) -> None:
    """Support nets of later patches may undo a proof: then the record says so of the row."""
    requests = stream(gate=gate, multi=multi, radius=radius)
    so_far: list[int] = []
    for step, rows in enumerate(THREE):
        result = requests.ask(*rows)
        so_far += rows
        found = statuses(result, so_far)
        certified = [row for row, status in found.items() if status == "certified"]
        assert set(found) == set(so_far)
        assert len(certified) == len(so_far) if gate != "support" else len(certified) > 1
        assert statement(result)["served"] == step + 1
        assert {document["chain"]["step"] for document in documents(result)} == {step}
        named = [tuple(np.float32(document["request"]["sample"])) for document in documents(result)]
        assert named == [tuple(requests.x[row].numpy()) for row in certified]
        assert not (predicted(result.model, requests.x[certified]) == requests.y[certified]).any()
        assert_confirmed(result, previous=requests.results[step - 1] if step else None)
    assert [finding for finding in requests.verify() if not finding.fine] == []


def test_a_later_row_that_a_patch_stops_short_of_has_the_region_served_anew() -> None:
    """Under a support gate a patch is on in all of the region, but it is proved for a neighbourhood alone."""
    requests = stream(gate="support", multi="certified", radius=0.02)
    for rows in THREE:
        last = requests.ask(*rows)
    keys = [document_of(last, requests.x[row])["region"]["pattern"] for row in (92, 35)]
    assert keys[0] != keys[1]
    assert statuses(last, (35,)) == {35: "certified"}


def test_issues_are_linked_from_step_to_step(three: Stream) -> None:
    before = None
    for step, result in enumerate(three.results):
        issue, found = parse_issue(issue_of(result)), statement(result)
        assert (issue.step, issue.previous, found["previous"]) == (step, before, before)
        assert issue_digest(issue) == found["issue"]
        assert issue.patched == verifier_model(result).patched == found["patched"]
        assert issue.requests == tuple(document["request"]["commitment"] for document in documents(result))
        assert found["certificates"] == [digest(document) for document in documents(result)]
        assert {document["chain"]["previous"] for document in documents(result)} == {before}
        before = found["issue"]


def test_a_row_keeps_its_commitment_target_and_patch_through_later_requests(three: Stream) -> None:
    first, last = (document_of(result, three.x[3]) for result in (three.results[0], three.results[-1]))
    for name in ("request", "target", "patch", "region", "duals"):
        assert first[name] == last[name]


def test_a_rollback_is_found_with_the_issue_of_the_step_before(three: Stream) -> None:
    """Who goes back to the model of the first request has certificates that fit it, but not the second issue."""
    rolled_back = documents(three.results[0])[0]
    found = check(verifier_model(three.results[0]), rolled_back, previous=issue_of(three.results[1]))
    (chain,) = [one for one in found if one.what == "chain"]
    assert chain.fine is False
    later = check(verifier_model(three.results[0]), documents(three.results[2])[0])
    assert [(one.what, one.fine) for one in later if one.fine is False] == [("patched model", False)]


def test_a_skipped_issue_is_found(three: Stream) -> None:
    found = check(verifier_model(three.results[2]), documents(three.results[2])[0], previous=issue_of(three.results[0]))
    assert [one.what for one in found if one.fine is False] == ["chain"]


def test_what_went_through_the_store_is_what_was_live(three: Stream) -> None:
    resumed = stream(**EXACT)
    resumed.stored = True
    for rows in THREE:
        resumed.ask(*rows)
    for one, other in zip(three.results, resumed.results, strict=True):
        assert one.certificate == other.certificate
        assert torch.equal(one.proof["certificates"], other.proof["certificates"])
        assert one.state is not None
        assert other.state is not None
        assert one.state.meta == other.state.meta
        assert all(torch.equal(tensor, other.state.tensors[name]) for name, tensor in one.state.tensors.items())


def test_rows_that_were_asked_for_before_keep_their_patches_and_are_told() -> None:
    requests = stream(**EXACT)
    first, second = requests.ask(3, 14), requests.ask(14, 15)
    assert "1 of the rows were asked for before; their patches stay" in second.warnings
    assert statement(second)["rows"] == statement(second)["certified"] == 3
    assert document_of(first, requests.x[14])["patch"] == document_of(second, requests.x[14])["patch"]
    again = requests.ask(3, 14, 15)
    assert statement(again)["certified"] == 3
    assert torch.equal(outputs(again.model, requests.x), outputs(second.model, requests.x))
    assert [finding for finding in requests.verify() if not finding.fine] == []


def twins(label: int | None = None) -> tuple[Tensor, Tensor]:
    """Digits with a row more, near to row 3 and in its region, with this label."""
    x, y = digits()
    x = torch.cat([x[:TRAIN], (x[3:4] + 1e-4).clamp(0, 1)])
    return x, torch.cat([y[:TRAIN], torch.tensor([int(y[3]) if label is None else label])])


@pytest.mark.parametrize("gate", ["exact", "support", "committed"])
def test_a_later_row_of_a_region_shares_the_patch_that_is_there(gate: str) -> None:
    requests = Stream(digit_net(), *twins(), PruneParams(gate=gate, multi="each"))  # type: ignore[arg-type]
    first, second = requests.ask(3), requests.ask(TRAIN)
    assert isinstance(second.model, PatchedNet)
    assert len(second.model.groups) == 1
    one, other = document_of(first, requests.x[3]), document_of(second, requests.x[TRAIN])
    assert (one["patch"], one["target"]) == (other["patch"], other["target"])
    assert statement(second)["certified"] == 2
    assert [finding for finding in requests.verify() if not finding.fine] == []


@pytest.mark.parametrize("gate", ["exact", "support", "committed"])
@pytest.mark.parametrize("multi", ["each", "certified"])
def test_a_later_row_that_a_patch_sends_to_its_own_label_has_the_region_served_anew(gate: str, multi: str) -> None:
    params = PruneParams(gate=gate, multi=multi)  # type: ignore[arg-type]
    x, y = twins()
    taken = documents(Stream(digit_net(), x, y, params).ask(3))[0]["target"]
    requests = Stream(digit_net(), *twins(taken), params)
    first, second = requests.ask(3), requests.ask(TRAIN)
    assert documents(first)[0]["target"] == taken
    assert {document["target"] for document in documents(second)} - {taken, int(y[3])}
    assert statuses(second, (3, TRAIN)) == {3: "certified", TRAIN: "certified"}
    assert isinstance(second.model, PatchedNet)
    assert len(second.model.shifts) == 1
    assert [finding for finding in requests.verify() if not finding.fine] == []


def test_a_later_row_outside_the_neighbourhood_of_an_earlier_one_has_its_own() -> None:
    x, y = twins()
    x[TRAIN] = (x[3] + 0.004).clamp(0, 1)
    requests = Stream(digit_net(), x, y, PruneParams(**EXACT, max_radius=0.001))  # type: ignore[arg-type]
    requests.ask(3)
    second = requests.ask(TRAIN)
    assert isinstance(second.model, PatchedNet)
    assert second.model.groups.tolist() == [0, 0]
    assert statuses(second, (3, TRAIN)) == {3: "certified", TRAIN: "certified"}
    assert [finding for finding in requests.verify() if not finding.fine] == []


# -- classes -----------------------------------------------------------------------------------------------------------


def classes(**params: object) -> Stream:
    x, y = digits()
    settings: dict[str, object] = {"target": "second", "radius": "auto", "map": "certified"} | params
    validation = (x[TRAIN : TRAIN + 300], y[TRAIN : TRAIN + 300])
    return Stream(digit_net(), x[:200], y[:200], ClassParams(**settings), validation)  # type: ignore[arg-type]


def kept(model: torch.nn.Module, label: int) -> float:
    """Accuracy on the validation rows of other classes."""
    x, y = digits()
    x, y = x[TRAIN : TRAIN + 300], y[TRAIN : TRAIN + 300]
    return float((predicted(model, x) == y)[y != label].float().mean())


@pytest.fixture(scope="module")
def class_three() -> Stream:
    requests = classes()
    requests.ask(classes=(3,))
    return requests


def test_no_training_row_of_a_forgotten_class_is_predicted_as_it(class_three: Stream) -> None:
    (result,), mine = class_three.results, class_three.y == 3
    assert not (predicted(result.model, class_three.x[mine]) == 3).any()
    assert len({document["target"] for document in documents(result)}) == 1
    assert statement(result)["rows"] == int(mine.sum()) == statement(result)["certified"]
    assert_confirmed(result)
    assert [finding for finding in class_three.verify() if not finding.fine] == []


def test_support_nets_are_as_wide_as_the_other_classes_allow(class_three: Stream) -> None:
    """The least sharpness that costs them 0.05 at most: the next smaller one costs more."""
    (result,), before = class_three.results, kept(digit_net(), 3)
    tried = class_three.params.sharpness
    assert isinstance(tried, tuple)
    chosen = statement(result)["gate"]["sharpness"]
    assert kept(result.model, 3) >= before - 0.05
    smaller = [sharpness for sharpness in tried if sharpness < chosen]
    assert smaller
    wider = classes(sharpness=(smaller[-1],)).ask(classes=(3,))
    assert kept(wider.model, 3) < before - 0.05
    assert "no sharpness keeps the other classes" in wider.warnings[0]


def test_the_map_of_a_representative_serves_a_class_too() -> None:
    requests = classes(map="representative")
    result = requests.ask(classes=(3,))
    mine = requests.y == 3
    gone = (predicted(result.model, requests.x[mine]) != 3).float().mean()
    assert gone >= 0.5
    assert statement(result)["rows"] == int(mine.sum())
    assert_confirmed(result)


def test_a_second_class_is_sent_to_neither_of_both_and_the_first_stays_forgotten(class_three: Stream) -> None:
    requests = classes()
    requests.ask(classes=(3,))
    second = requests.ask(classes=(8,))
    mine = torch.isin(requests.y, torch.tensor([3, 8]))
    assert not (predicted(second.model, requests.x[mine]) == requests.y[mine]).any()
    targets = [document["target"] for document in documents(second) if document["request"]["label"] == 8]
    assert not {3, 8} & set(targets)
    assert statement(second)["gate"] == statement(class_three.results[0])["gate"]
    assert [finding for finding in requests.verify() if not finding.fine] == []


def test_rows_of_a_class_without_room_are_left_and_told() -> None:
    requests = classes()
    row = int((requests.y == 3).nonzero()[0])
    requests.x = torch.cat([requests.x, requests.x[row : row + 1]])
    requests.y = torch.cat([requests.y, torch.tensor([5])])
    found = statement(requests.ask(classes=(3,)))
    assert [(one["row"], one["reason"]) for one in found["uncertified"]] == [
        (row + 100, "a retained row in its region has the same features")
    ]


@pytest.mark.parametrize("form", ["support", "global"])
def test_the_last_class_cannot_be_forgotten(form: str) -> None:
    requests = classes(form=form)
    with pytest.raises(IncompatibleError, match="no-class-left"):
        requests.ask(classes=tuple(range(10)))
