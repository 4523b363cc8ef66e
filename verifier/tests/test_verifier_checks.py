"""Every claim of a certificate is proved or refused, in floats and exactly, and nothing can be changed unnoticed."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from patched_models import (
    BOX,
    SALT,
    Made,
    canonical,
    certificate,
    local,
    outputs_of,
    patched,
    patterns_of,
    sha,
    shift_for,
    sides,
    violation,
    weights,
)

from unlearnbench_verifier.checks import check
from unlearnbench_verifier.files import read_tensors
from unlearnbench_verifier.findings import Finding, Refusal
from unlearnbench_verifier.model import Model, read_model
from unlearnbench_verifier.network import pattern_of
from unlearnbench_verifier.numbers import Ball, Undecided

POINTS = ((0.3, -0.2, 0.5), (-0.6, 0.4, 0.1))
NAMES = [
    "form", "base", "patched model", "sample", "request", "label", "gate", "target", "redirect", "interference",
    "rows elsewhere", "answer", "chain", "signature",
]  # fmt: skip
ModelOf = Callable[[Made], Model]
Document = dict[str, Any]


@pytest.fixture
def model_of(tmp_path: Path) -> ModelOf:
    """A model as the verifier reads it from a file."""
    return lambda made: read_model(read_tensors(made.save(tmp_path / "model.safetensors")))


def fine(findings: list[Finding]) -> dict[str, bool | None]:
    return {finding.what: finding.fine for finding in findings}


def wrong(findings: list[Finding]) -> list[str]:
    return [finding.what for finding in findings if finding.fine is False]


def said(findings: list[Finding], what: str) -> str:
    (found,) = (finding.said for finding in findings if finding.what == what)
    return found


# -- what holds --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("gate", ["exact", "committed"])
def test_the_owners_copy_of_a_certificate_has_every_claim_proved(
    gate: str, affine: bool, exact: bool, model_of: ModelOf
) -> None:
    made = patched(1, POINTS, gate=gate, affine=affine)
    model = model_of(made)
    for member in range(2):
        found = check(model, certificate(made, member), exact=exact)
        assert [finding.what for finding in found] == NAMES
        assert fine(found) == {**dict.fromkeys(NAMES, True), "signature": None}
    assert said(found, "redirect").startswith(f"output {made.targets[1]} has a lead of 0.02000")


def test_a_public_copy_proves_redirection_and_says_what_only_the_owner_can_check(model_of: ModelOf) -> None:
    made = patched(1, POINTS)
    found = check(model_of(made), certificate(made, owner=False))
    unseen = ["sample", "request", "label", "target", "answer"]
    assert [name for name, value in fine(found).items() if value is None] == [*unseen, "signature"]
    assert wrong(found) == []
    assert fine(found)["redirect"] is True
    assert said(found, "sample") == "not looked at: it stands in the owner's copy alone"


def test_a_sample_and_a_label_can_be_given_to_a_public_copy(model_of: ModelOf) -> None:
    made = patched(1, POINTS)
    found = check(model_of(made), certificate(made, owner=False), sample=made.points[0], label=made.labels[0])
    assert (fine(found)["sample"], fine(found)["target"], fine(found)["answer"]) == (True, True, True)
    assert (fine(found)["request"], fine(found)["label"]) == (None, None)
    assert said(found, "request") == "not looked at: the salt is needed; it stands in the owner's copy alone"


def test_a_committed_region_is_proved_for_whoever_has_the_sample_and_for_nobody_else(model_of: ModelOf) -> None:
    made = patched(1, POINTS, gate="committed")
    model, document = model_of(made), certificate(made, owner=False)
    without = check(model, document)
    assert fine(without)["gate"] is True
    assert (fine(without)["redirect"], fine(without)["interference"]) == (None, None)
    assert "the sample is needed" in said(without, "redirect")
    assert fine(check(model, document, sample=made.points[0]))["redirect"] is True
    other = check(model, document, sample=made.points[1])
    assert wrong(other) == ["sample"]
    assert fine(other)["redirect"] is None


def test_multipliers_prove_what_intervals_alone_do_not(model_of: ModelOf) -> None:
    """Without a radius, the rows of the region cut the box down: a solver finds the multipliers."""
    from scipy.optimize import linprog

    made = patched(1, POINTS[:1], radius=None)
    _, rows, outputs = local(made.tensors, made.points[0])
    target, duals, needed = made.targets[0], {}, [0.0] * 3
    for j in {0, 1, 2} - {target}:
        row = outputs[j] - outputs[target]
        solved = linprog(-row[:-1], A_ub=-rows[:, :-1], b_ub=rows[:, -1], bounds=[BOX] * 3)
        needed[j] = float(row[-1] - solved.fun) + 0.02
        multipliers = np.maximum(-solved.ineqlin.marginals, 0)
        duals[str(j)] = [[r, float(value)] for r, value in enumerate(multipliers) if value > 0]
    half = max(needed) / 2
    shift = [half if j == target else -max(0.0, needed[j] - half) for j in range(3)]
    assert half < made.tensors["shifts"][0][target] - 0.01  # than by intervals
    made = made.with_tensor("shifts", [shift])
    model, document = model_of(made), certificate(made, duals=duals)
    for exact in (False, True):
        assert fine(check(model, document, exact=exact))["redirect"] is True
        assert wrong(check(model, {**document, "duals": {name: [] for name in duals}}, exact=exact)) == ["redirect"]


def test_a_sample_on_a_facet_is_in_its_region(model_of: ModelOf) -> None:
    """The first unit is exactly 0 there, which floats that may have rounded cannot know."""
    made = patched(1, POINTS[:1])
    first, bias = made.tensors["base.0.weight"].copy(), made.tensors["base.0.bias"].copy()
    first[0], bias[0] = [0.1, 0.1, -0.2], 0
    made = made.with_tensor("base.0.weight", first).with_tensor("base.0.bias", bias)
    facet = np.float32([[0.75, 0.25, 0.5]])
    with pytest.raises(Undecided):
        pattern_of(model_of(made).network, facet[0].astype(np.float64), Ball)
    pattern, _, outputs = local(made.tensors, facet[0])
    assert pattern[0] == 1  # 0 counts as active
    made = replace(
        made.with_tensor("patterns", [pattern]).with_tensor("centres", facet), points=facet,
        labels=(int((outputs @ np.append(facet[0], 1)).argmax()),),
    )  # fmt: skip
    target = (made.labels[0] + 1) % 3
    shift = shift_for(outputs, sides(facet[0], 0.05), target, 0.02)
    made = replace(made.with_tensor("shifts", [shift]), targets=(target,))
    for exact in (False, True):
        found = check(model_of(made), certificate(made), exact=exact)
        assert wrong(found) == []
        assert (fine(found)["sample"], fine(found)["answer"]) == (True, True)


@pytest.mark.parametrize("gate", ["support", "exact"])
def test_no_input_of_a_certified_region_is_answered_otherwise(gate: str, model_of: ModelOf) -> None:
    """Brute force over random models: whatever is proved holds at every point that is tried, by a second program."""
    proved = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        made = patched(seed, rng.uniform(-0.8, 0.8, (2, 3)), gate=gate, affine=bool(seed % 2), radius=0.15, margin=0.2)
        everywhere = rng.normal(size=3) / 50
        made = made.with_tensor("everywhere", everywhere)
        document = certificate(made, margin=0.1)
        if gate == "support":
            document["others"] = [{"member": 1, "rows": [int(rng.integers(11))], "duals": []}]
        if wrong(check(model_of(made), document)):
            continue
        low, high = sides(made.points[0], 0.15)
        x = rng.uniform(low, high, (300, 3))
        inside = x[(patterns_of(made.tensors, x) == local(made.tensors, made.points[0])[0]).all(axis=1)]
        answers = outputs_of(made, inside)
        rest = np.delete(answers, made.targets[0], axis=1).max(axis=1)
        assert (answers[:, made.targets[0]] - rest >= 0.1 - 1e-9).all(), seed
        proved += len(inside) > 20
    assert proved >= 5


# -- what was changed --------------------------------------------------------------------------------------------------


def at(path: str, value: Any) -> Callable[[Document], None]:
    """Put a value, or what a function makes of the one that is there, at a place of a certificate."""

    def change(document: Document) -> None:
        *inner, last = path.split(".")
        for name in inner:
            document = document[name]
        document[last] = value(document[last]) if callable(value) else value

    return change


def aim_elsewhere(document: Document) -> None:
    """Another target, with the multipliers named after the outputs that are left."""
    target = next(j for j in range(3) if j != document["target"] and j != document["request"]["label"])
    document["target"] = target
    document["duals"] = {str(j): [] for j in range(3) if j != target}


def flipped(pattern: str) -> str:
    content = bytearray.fromhex(pattern)
    content[4] ^= 1
    return content.hex()


def first_dual(entry: Any) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        document["duals"][next(iter(document["duals"]))] = [entry]

    return change


def plus(amount: float) -> Callable[[list[float]], list[float]]:
    return lambda values: [values[0] + amount, *values[1:]]


TAMPERING: dict[str, tuple[Callable[[Document], None], list[str]]] = {
    "a smaller patch": (at("patch.shift", lambda shift: [value / 2 for value in shift]), ["gate"]),
    "an entry of the patch": (at("patch.shift", plus(2.0**-10)), ["gate"]),
    "a slope": (at("patch.slope", [[0.0] * 3] * 3), ["gate"]),
    "a bit of the pattern": (at("region.pattern", flipped), ["sample", "gate"]),
    "a longer pattern": (at("region.pattern", lambda pattern: pattern + "00"), ["sample", "gate"]),
    "a negative multiplier": (first_dual([2, -1.0]), ["form"]),
    "a multiplier of a row that is not there": (first_dual([11, 1.0]), ["redirect"]),
    "a multiplier of a row before the first": (first_dual([-1, 1.0]), ["form"]),
    "a multiplier that proves less": (first_dual([2, 1e6]), ["redirect"]),
    "the digest of the base": (at("model.base", "0" * 64), ["base"]),
    "the digest of the model": (at("model.patched", "0" * 64), ["patched model"]),
    "where it is split": (at("model.split_at", "head"), ["patched model"]),
    "a larger margin": (at("margin", 0.03), ["redirect"]),
    "a margin of 0": (at("margin", 0), ["form"]),
    "a larger box": (at("box.high", 2.0), ["patched model"]),
    "a smaller box": (at("box.low", -0.5), ["patched model"]),
    "a larger radius": (at("region.radius", 0.5), ["gate"]),
    "no radius": (lambda document: document["region"].update(radius=None, centre=None), ["gate"]),
    "another centre": (at("region.centre", plus(2.0**-10)), ["gate"]),
    "another target": (aim_elsewhere, ["redirect", "answer"]),
    "a target without its multipliers": (at("target", lambda target: (target + 1) % 3), ["form"]),
    "another label": (at("request.label", lambda label: (label + 2) % 3), ["label"]),
    "the label as target": (lambda d: at("request.label", d["target"])(d), ["label", "target"]),
    "the commitment to the sample": (at("request.commitment", "0" * 64), ["request"]),
    "the commitment to the label": (at("request.label_commitment", "0" * 64), ["label"]),
    "the salt": (at("request.salt", "11" * 16), ["request", "label"]),
    "the sample": (at("request.sample", plus(2.0**-10)), ["request"]),
    "a sample that is not of float32": (at("request.sample", plus(1e-12)), ["request"]),
    "a sample in another region": (at("request.sample", [-0.6, 0.4, 0.1]), ["sample", "request"]),
    "a sample out of the box": (at("request.sample", [1.5, -0.2, 0.5]), ["sample", "request"]),
    "another member": (at("gate.member", 1), ["sample", "gate"]),
    "no such member": (at("gate.member", 7), ["gate"]),
    "another group": (at("gate.group", 1), ["gate"]),
    "another gate": (lambda document: document["gate"].update(kind="support", sharpness=9.0), ["gate"]),
    "a step that nothing came before": (at("chain", {"step": 1, "previous": None}), ["form"]),
    "what it means": (at("means", "The sample is gone."), ["form"]),
    "what it claims": (at("claim", "erasure"), ["form"]),
    "a property too many": (at("note", "trust me"), ["form"]),
}


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("name", TAMPERING)
def test_what_was_changed_in_a_certificate_is_found(name: str, exact: bool, model_of: ModelOf) -> None:
    made = patched(1, POINTS)
    tamper, expected = TAMPERING[name]
    document = deepcopy(certificate(made))
    tamper(document)
    assert wrong(check(model_of(made), document, exact=exact)) == expected


def leaves(node: Any, path: str = "") -> list[str]:
    """Places of all values of a document that hold no other ones."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    found = [leaf for key, value in items for leaf in leaves(value, f"{path}.{key}")]
    return found or [path[1:]]


def test_no_value_of_a_certificate_can_be_put_in_place_of_another(model_of: ModelOf) -> None:
    """Whatever stands there instead, a claim is wrong; only who made it when is for the signature."""
    made = patched(1, POINTS)
    rows, negative = beside(made)
    made = patched(1, POINTS, gate="support", sharpness=2 / negative)
    model = model_of(made)
    document = certificate(made, others=[{"member": 1, "rows": rows, "duals": [[0, 1e-9]]}])
    assert wrong(check(model, document)) == []
    places = leaves(document)
    assert len(places) > 35
    for place in places:
        for value in (None, -1, 10**6, 1e300, "x", [], [[1, 2]], {}):
            changed = deepcopy(document)
            *inner, last = place.split(".")
            node: Any = changed
            for name in inner:
                node = node[int(name) if isinstance(node, list) else name]
            key = int(last) if isinstance(node, list) else last
            if node[key] == value or (place, value) in FREE:
                continue
            node[key] = value
            assert wrong(check(model, changed)), (place, value)


FREE = [
    ("solver", "x"), ("created", None),
    ("request.salt", None), ("request.sample", None), ("request.label", None),  # as in a public copy
    *((f"duals.{output}", []) for output in range(3)),
]  # fmt: skip


@pytest.mark.parametrize("what", ["form", "patched model"])
def test_after_a_form_or_a_model_that_is_another_one_nothing_is_looked_at(what: str, model_of: ModelOf) -> None:
    made = patched(1, POINTS)
    place = "model.patched" if what == "patched model" else "method"
    document = certificate(made)
    at(place, "0" * 64)(document)
    assert check(model_of(made), document)[-1].what == what


def test_no_byte_of_the_model_can_be_changed(tmp_path: Path) -> None:
    made = patched(1, POINTS)
    content = made.save(tmp_path / "model.safetensors").read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    document = certificate(made)
    outcomes = set()
    for place in range(header, len(content)):
        changed = bytearray(content)
        changed[place] ^= 1 << (place % 8)
        (tmp_path / "changed.safetensors").write_bytes(changed)
        try:
            found = wrong(check(read_model(read_tensors(tmp_path / "changed.safetensors")), document))
        except Refusal as problem:
            found = [problem.code]
        assert found in (["patched model"], ["base", "patched model"], ["bad-model"]), place
        outcomes.add(found[0])
    assert outcomes == {"patched model", "base", "bad-model"}


def test_no_word_of_the_models_document_can_be_changed(model_of: ModelOf) -> None:
    made = patched(1, POINTS, gate="support")
    document = certificate(made)
    gate = {**made.document["gate"], "sharpness": 51.0}
    steps = [*made.document["network"]["steps"]]
    steps[1] = {"op": "leaky_relu", "inputs": [1], "slope": 0.5}
    for change, expected in (
        ({"gate": gate}, ["patched model"]),
        ({"box": {"low": -1, "high": 1.0}}, ["patched model"]),
        ({"split_at": "head"}, ["patched model"]),
        ({"network": {**made.document["network"], "steps": steps}}, ["base", "patched model"]),
    ):
        changed = replace(made, document={**made.document, **change})
        assert wrong(check(model_of(changed), document)) == expected


def test_an_older_model_and_another_one_are_told_from_the_certified(model_of: ModelOf) -> None:
    made = patched(1, POINTS)
    before = patched(1, POINTS[:1])
    assert wrong(check(model_of(before), certificate(made))) == ["patched model"]
    assert wrong(check(model_of(patched(2, POINTS)), certificate(made))) == ["base", "patched model"]


def test_the_certificate_of_another_request_is_not_taken_for_this_one(model_of: ModelOf) -> None:
    made = patched(1, POINTS)
    model = model_of(made)
    for owner in (True, False):
        swapped = check(model, certificate(made, 1, owner=owner), sample=made.points[0], label=made.labels[0])
        assert "sample" in wrong(swapped)
    near = made.points[0] + np.float32(2.0**-10)  # in the same region and the same cube
    assert wrong(check(model, certificate(made), sample=near)) == ["request"]
    public = certificate(made, request={**certificate(made)["request"], "sample": None})
    assert wrong(check(model, public, sample=near)) == ["request"]
    assert said(check(model, public, sample=near), "request") == "is about another sample"
    assert wrong(check(model, public, sample=made.points[0, :2])) == ["sample", "request"]


def test_a_patch_that_was_halved_in_the_model_too_proves_nothing(model_of: ModelOf) -> None:
    made = patched(1, POINTS)
    made = made.with_tensor("shifts", made.tensors["shifts"] / 2)
    for exact in (False, True):
        found = check(model_of(made), certificate(made), exact=exact)
        assert wrong(found)[0] == "redirect"
        assert fine(found)["interference"] is None


def test_a_cube_outside_of_the_box_claims_nothing(model_of: ModelOf) -> None:
    made = patched(1, POINTS[:1]).with_tensor("centres", [[1.5, 0, 0]])
    assert wrong(check(model_of(made), certificate(made, owner=False))) == ["redirect"]


def test_a_pattern_that_no_unit_can_have_proves_nothing(model_of: ModelOf) -> None:
    made = patched(1, POINTS)
    patterns = made.tensors["patterns"].copy()
    patterns[0, 3] = 2
    made = made.with_tensor("patterns", patterns)
    document = certificate(made, owner=False)
    document["region"]["pattern"] = patterns[0].tobytes().hex()
    found = check(model_of(made), document)
    assert wrong(found) == ["redirect"]
    assert "[bad-pattern]" in said(found, "redirect")


def test_an_output_shifted_everywhere_is_part_of_the_claim(model_of: ModelOf) -> None:
    made = patched(1, POINTS[:1])
    shift = np.zeros(3)
    shift[made.targets[0]] = 0.005
    lower, higher = made.with_tensor("everywhere", -3 * shift), made.with_tensor("everywhere", shift)
    assert wrong(check(model_of(lower), certificate(lower))) == ["redirect"]
    found = check(model_of(higher), certificate(higher, margin=0.024))
    assert wrong(found) == []
    assert said(found, "rows elsewhere") == "not claimed: every input is shifted"


# -- other patches -----------------------------------------------------------------------------------------------------


def beside(made: Made) -> tuple[list[int], float]:
    """Rows of the second member that are negative around the first, and by how much at least."""
    rows = [row for row in range(11) if violation(made, 0, 1, [row]) > 0]
    return rows, violation(made, 0, 1, rows)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("affine", [False, True])
def test_a_support_net_is_proved_off_partly_on_or_not_at_all(affine: bool, exact: bool, model_of: ModelOf) -> None:
    rows, negative = beside(patched(1, POINTS, radius=0.05))
    assert len(rows) > 1
    others = [{"member": 1, "rows": rows, "duals": []}]
    leads = []
    for sharpness, expected in ((2 / negative, "1 off"), (0.5 / negative, "1 partly on")):
        made = patched(1, POINTS, gate="support", affine=affine, sharpness=sharpness, margin=3.0)
        found = check(model_of(made), certificate(made, margin=1e-3, others=others), exact=exact)
        assert wrong(found) == []
        assert f"({expected})" in said(found, "interference")
        leads.append(lead(found))
        without = check(model_of(made), certificate(made, margin=1e-3), exact=exact)
        assert "(1 not proved off)" in said(without, "interference")
        leads.append(lead(without))
    off, none, part, none_again = leads
    assert off == pytest.approx(3.0, abs=1e-5)
    assert off > part > none == pytest.approx(none_again, abs=1e-5)
    if not affine:  # half open: what is above half of the largest output comes through
        shift, t = made.tensors["shifts"][1].astype(float), made.targets[0]
        closed = np.abs(shift).max() / 2
        worst = max(most + max(0, shift[j] - closed) + max(0, -shift[t] - closed) for j, most in excess(made).items())
        assert part == pytest.approx(-worst, abs=1e-6)


def lead(findings: list[Finding]) -> float:
    return float(said(findings, "interference").split(" has a lead of ")[1].split()[0])


def excess(made: Made) -> dict[int, float]:
    """By how much every other output is above the first member's target at most, by intervals."""
    _, _, outputs = local(made.tensors, made.points[0])
    outputs[:, -1] += made.tensors["shifts"][0]
    low, high = sides(made.points[0], 0.05)
    t = made.targets[0]
    found = {}
    for j in {0, 1, 2} - {t}:
        row = outputs[j] - outputs[t]
        found[j] = float(np.maximum(row[:-1] * low, row[:-1] * high).sum() + row[-1])
    return found


def test_the_radius_of_a_support_gate_is_the_certificates_own_and_proved(model_of: ModelOf) -> None:
    """The net is open on all of its region, whatever the model stores; so only the proof and the sample decide."""
    made = patched(1, POINTS[:1], gate="support", radius=0.05)
    model = model_of(made)
    for radius, centre, expected in (
        (0.01, made.points[0], []),
        (0.9, made.points[0], ["redirect"]),
        (0.01, made.points[0] + np.float32(0.02), ["sample"]),
    ):
        region = {**certificate(made)["region"], "radius": radius, "centre": centre.astype(float).tolist()}
        assert wrong(check(model, certificate(made, region=region))) == expected


@pytest.mark.parametrize("exact", [False, True])
def test_a_patch_that_is_not_proved_off_undoes_a_small_lead(exact: bool, model_of: ModelOf) -> None:
    rows, negative = beside(patched(1, POINTS))
    made = patched(1, POINTS, gate="support", sharpness=2 / negative)
    model = model_of(made)
    assert wrong(check(model, certificate(made, others=[{"member": 1, "rows": rows, "duals": []}]), exact=exact)) == []
    for others in (
        [],
        [{"member": 1, "rows": [row for row in range(11) if row not in rows][:1], "duals": []}],  # not negative
        [{"member": 1, "rows": rows, "duals": [[0, 1e6]]}],  # proves less
    ):
        assert wrong(check(model, certificate(made, others=others), exact=exact)) == ["interference"]


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ({"member": 2, "rows": [0], "duals": []}, "there is no member 2"),
        ({"member": 1, "rows": [11], "duals": []}, "member 1 has no row 11"),
        ({"member": 1, "rows": [0], "duals": [[11, 1.0]]}, "[bad-duals]"),
    ],
)
def test_a_proof_about_what_is_not_there_is_wrong(other: Any, expected: str, model_of: ModelOf) -> None:
    made = patched(1, POINTS, gate="support")
    found = check(model_of(made), certificate(made, others=[other]))
    assert wrong(found) == ["interference"]
    assert expected in said(found, "interference")


def test_a_row_that_is_counted_twice_is_refused(model_of: ModelOf) -> None:
    """A support net closes by each row once: counting it twice would prove a patch off that is on."""
    made = patched(1, POINTS, gate="support")
    others = [{"member": 1, "rows": [3, 3], "duals": []}]
    assert wrong(check(model_of(made), certificate(made, others=others))) == ["form"]


def test_members_of_one_group_do_not_disturb_each_other(model_of: ModelOf) -> None:
    made = patched(1, POINTS, gate="support", sharpness=0.1)
    together = made.with_tensor("groups", [0, 0]).with_tensor("shifts", made.tensors["shifts"][[0]])
    found = check(model_of(together), certificate(together))
    assert fine(found)["interference"] is True
    assert said(found, "interference") == "there is no other patch"
    others = [{"member": 1, "rows": [0], "duals": []}]
    assert wrong(check(model_of(together), certificate(together, others=others))) == ["interference"]


def test_the_most_open_member_of_a_group_counts(model_of: ModelOf) -> None:
    """A third member in the other group, of which nothing is proved, brings all of that group's patch back."""
    rows, negative = beside(patched(1, POINTS))
    points = (*POINTS, (0.1, 0.9, -0.7))
    made = patched(1, points, gate="support", sharpness=2 / negative)
    made = made.with_tensor("groups", [0, 1, 1]).with_tensor("shifts", made.tensors["shifts"][:2])
    others = [{"member": 1, "rows": rows, "duals": []}]
    assert wrong(check(model_of(made), certificate(made, others=others))) == ["interference"]


def twins(made: Made, distance: float, order: list[int], groups: list[int]) -> Made:
    """Two members in one region whose cubes are a distance apart, in an order."""
    away = made.points[0] + np.float32([distance, 0, 0])
    assert (patterns_of(made.tensors, away[None]) == made.tensors["patterns"]).all()
    shift = made.tensors["shifts"][0]
    return replace(
        made.with_tensor("patterns", made.tensors["patterns"].repeat(2, 0))
        .with_tensor("centres", np.stack([made.points[0], away])[order])
        .with_tensor("radii", made.tensors["radii"].repeat(2))
        .with_tensor("groups", groups)
        .with_tensor("shifts", np.stack([shift, np.roll(shift, 1)])[: max(groups) + 1]),
        points=np.stack([made.points[0], away])[order], labels=made.labels * 2, targets=made.targets * 2,
    )  # fmt: skip


@pytest.mark.parametrize("exact", [False, True])
def test_an_earlier_member_takes_inputs_away_where_cubes_of_one_region_meet(exact: bool, model_of: ModelOf) -> None:
    made = patched(1, POINTS[:1], radius=2.0**-6)
    over = twins(made, 2.0**-6, [1, 0], [1, 0])  # the second member is the certified one
    assert wrong(check(model_of(over), certificate(over, 1), exact=exact)) == ["interference", "answer"]
    touching = twins(made, 2.0**-5, [1, 0], [1, 0])
    assert wrong(check(model_of(touching), certificate(touching, 1), exact=exact)) == ["interference"]
    apart = twins(made, 2.0**-5 + 2.0**-10, [1, 0], [1, 0])
    assert wrong(check(model_of(apart), certificate(apart, 1), exact=exact)) == []
    later = twins(made, 2.0**-6, [0, 1], [0, 1])  # the certified one comes first
    assert wrong(check(model_of(later), certificate(later), exact=exact)) == []
    same = twins(made, 2.0**-6, [1, 0], [0, 0])
    assert wrong(check(model_of(same), certificate(same, 1), exact=exact)) == []


def test_an_earlier_member_of_all_of_the_region_takes_everything(model_of: ModelOf) -> None:
    made = patched(1, POINTS[:1], radius=2.0**-6)
    made = twins(made, 2.0**-5 + 2.0**-10, [1, 0], [1, 0]).with_tensor("radii", [np.inf, 2.0**-6])
    assert wrong(check(model_of(made), certificate(made, 1))) == ["interference", "answer"]


# -- two ways of working -----------------------------------------------------------------------------------------------


def test_floats_and_exact_numbers_agree_on_hundreds_of_certificates(model_of: ModelOf) -> None:
    valid = invalid = 0
    for seed in range(210):
        rng = np.random.default_rng(seed)
        radius = (None, 0.1, 0.3)[seed // 3 % 3]
        gate = ("exact", "support", "committed")[seed % 3]
        made = patched(
            seed, rng.uniform(-0.9, 0.9, (2, 3)), gate=gate, affine=bool(seed % 2), radius=radius,
            sharpness=float(rng.uniform(0.5, 20)), margin=float(rng.uniform(0.02, 4)),
        )  # fmt: skip
        made = made.with_tensor("everywhere", rng.normal(size=3) / 20 * (seed % 5 == 0))
        document = certificate(made, margin=float(rng.uniform(0.01, 0.5)))
        for duals in document["duals"].values():
            rows = rng.choice(11, size=rng.integers(3), replace=False)
            duals += [[int(row), float(value)] for row, value in zip(rows, rng.exponential(0.1, 11), strict=False)]
        if gate == "support":
            rows = sorted(rng.choice(11, size=4, replace=False).tolist())
            document["others"] = [{"member": 1, "rows": rows, "duals": [[int(rng.integers(11)), 0.05]]}]
        model = model_of(made)
        floats, numbers = check(model, document), check(model, document, exact=True)
        assert [(f.what, f.fine, f.said) for f in floats] == [(f.what, f.fine, f.said) for f in numbers], seed
        valid += not wrong(floats)
        invalid += bool(wrong(floats))
    assert valid > 40
    assert invalid > 60


def test_a_margin_within_rounding_of_the_truth_is_left_to_exact_numbers(model_of: ModelOf) -> None:
    """All numbers are dyadic here, so that the lead is exactly a quarter; floats cannot be sure of it."""
    made = patched(1, POINTS[:1], radius=0.25)
    for name, values in weights(1).items():
        made = made.with_tensor(name, np.round(values * 8) / 8 if "weight" in name else values * 0 + 1)
    point = np.float32([[0.25, -0.25, 0.5]])
    pattern, _, outputs = local(made.tensors, point[0])
    t = (int((outputs @ np.append(point[0], 1)).argmax()) + 1) % 3
    shift = shift_for(outputs, sides(point[0], 0.25), t, 0.25)
    assert (np.float32(shift) == shift).all()
    made = made.with_tensor("patterns", [pattern]).with_tensor("centres", point).with_tensor("shifts", [shift])
    made = replace(made, points=point, labels=((t + 2) % 3,), targets=(t,))
    document = certificate(made, margin=0.25)
    model = model_of(made)
    assert wrong(check(model, document, exact=True)) == []
    floats = check(model, document)
    assert wrong(floats) == ["redirect"]
    assert said(floats, "redirect").endswith("--exact decides without rounding")
    assert wrong(check(model, certificate(made, margin=float(np.nextafter(0.25, 1))), exact=True)) == ["redirect"]
    assert wrong(check(model, certificate(made, margin=0.25 - 1e-9))) == []


# -- chain and signature -----------------------------------------------------------------------------------------------


def issue(made: Made, step: int = 0, **changes: Any) -> Document:
    found = {
        "step": step,
        "base": made.base,
        "patched": "ab" * 32,
        "requests": [sha(SALT, b"another")],
        "previous": None if step == 0 else "cd" * 32,
    }
    return found | changes


def test_a_certificate_goes_on_from_the_issue_that_it_names(model_of: ModelOf) -> None:
    made = patched(1, POINTS)
    model, before = model_of(made), issue(made)
    document = certificate(made, chain={"step": 1, "previous": sha(canonical(before))})
    assert fine(check(model, document, previous=before))["chain"] is True
    assert fine(check(model, document))["chain"] is None
    for other in (
        issue(made, patched="ba" * 32),
        issue(made, requests=[]),
        issue(made, base="00" * 32),
        issue(made, 1),
    ):
        assert wrong(check(model, document, previous=other)) == ["chain"]
    elsewhere = issue(made, base="00" * 32)
    rebased = certificate(made, chain={"step": 1, "previous": sha(canonical(elsewhere))})
    assert wrong(check(model, rebased, previous=elsewhere)) == ["chain"]
    assert wrong(check(model, certificate(made), previous=before)) == ["chain"]  # step 0 has nothing before it
    with pytest.raises(Refusal, match=r"\[bad-issue\]"):
        check(model, document, previous={"step": 0})


def test_nothing_of_a_signed_certificate_can_be_changed(model_of: ModelOf, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from unlearnbench_verifier.signatures import sign

    key = Ed25519PrivateKey.generate()
    private = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (tmp_path / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, *private))
    made = patched(1, POINTS)
    model, signed = model_of(made), sign(certificate(made), tmp_path / "key.pem")
    assert fine(check(model, signed))["signature"] is True
    for change in ({"solver": "by another hand"}, {"created": None}, {"margin": 0.005}):
        assert wrong(check(model, {**signed, **change})) == ["signature"]
