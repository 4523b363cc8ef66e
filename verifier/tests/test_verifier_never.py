"""A class that is predicted nowhere: what proves it, what breaks it, and what the command says of it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from patched_models import BOX, Made, canonical, local, most, outputs_of, patched, sha, written

from unlearnbench.api.errors import UsageError
from unlearnbench.schemas import validate
from unlearnbench_verifier.challenge_class import draw_in_box, judge_class
from unlearnbench_verifier.checks import check
from unlearnbench_verifier.command import main
from unlearnbench_verifier.files import read_tensors
from unlearnbench_verifier.findings import Finding, Refusal
from unlearnbench_verifier.form import NEVER_MEANS, parse_never
from unlearnbench_verifier.model import Model, read_model
from unlearnbench_verifier.signatures import sign

NAMES = ["form", "base", "patched model", "class", "members", "never", "sample", "chain", "signature"]
CLASS = 1
Document = dict[str, Any]
ModelOf = Callable[[Made], Model]


@pytest.fixture
def model_of(tmp_path: Path) -> ModelOf:
    """A model as the verifier reads it from a file."""
    return lambda made: read_model(read_tensors(made.save(tmp_path / "model.safetensors")))


def leads(made: Made) -> dict[int, float]:
    """The most that the class can be ahead of each other output in the box: intervals, written a second time."""
    low, high = np.full(3, BOX[0]), np.full(3, BOX[1])
    for place in (0, 2):
        weight = made.tensors[f"base.{place}.weight"].astype(float)
        bias = made.tensors[f"base.{place}.bias"].astype(float)
        rows = [np.append(row, value) for row, value in zip(weight, bias, strict=True)]
        ends = [(-most(-row, low, high), most(row, low, high)) for row in rows]
        low, high = (np.maximum(0, side) for side in np.array(ends).T)
    rows = np.column_stack([made.tensors["base.4.weight"], made.tensors["base.4.bias"]]).astype(float)
    return {j: most(rows[CLASS] - rows[j], low, high) for j in range(3) if j != CLASS}


def lowered(seed: int, margin: float = 0.02) -> tuple[Made, int]:
    """A model whose class goes down by just enough, and the output that is ahead of it then."""
    made = patched(seed, [])
    ahead = leads(made)
    best = min(ahead, key=lambda j: ahead[j])
    shift = np.zeros(3)
    shift[CLASS] = -(ahead[best] + margin)
    return made.with_tensor("everywhere", shift), best


def never(made: Made, beaten_by: int, **changes: Any) -> Document:
    """The certificate; ``changes`` take the place of whole properties."""
    return {
        "$schema": "https://unlearnbench.org/schemas/never/1.json", "method": "prune", "claim": "never",
        "means": NEVER_MEANS, "model": {"base": made.base, "patched": made.patched, "split_at": ""},
        "box": {"low": BOX[0], "high": BOX[1]}, "class": CLASS, "beaten_by": beaten_by, "margin": 0.01,
        "chain": {"step": 0, "previous": None}, "created": None, "signature": None,
    } | changes  # fmt: skip


def fine(findings: list[Finding]) -> dict[str, bool | None]:
    return {finding.what: finding.fine for finding in findings}


def wrong(findings: list[Finding]) -> list[str]:
    return [finding.what for finding in findings if finding.fine is False]


def said(findings: list[Finding], what: str) -> str:
    (found,) = (finding.said for finding in findings if finding.what == what)
    return found


# -- what holds --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exact", [False, True])
def test_every_claim_of_a_certificate_is_proved(exact: bool, model_of: ModelOf) -> None:
    made, best = lowered(1)
    found = check(model_of(made), never(made, best), sample=np.full(3, 0.25), label=CLASS, exact=exact)
    assert [finding.what for finding in found] == NAMES
    assert fine(found) == {**dict.fromkeys(NAMES, True), "signature": None}
    words = said(found, "never").split()
    assert words[:6] == ["output", str(best), "is", "ahead", "of", str(CLASS)]
    assert float(words[7]) == pytest.approx(0.02, abs=1e-6)


def test_without_a_sample_the_claim_is_proved_as_well(model_of: ModelOf) -> None:
    made, best = lowered(1)
    found = fine(check(model_of(made), never(made, best)))
    assert found["never"] is True
    assert found["sample"] is None


@pytest.mark.parametrize("gate", ["exact", "committed", "support"])
def test_the_kind_of_gate_does_not_matter_where_there_is_none(gate: str, model_of: ModelOf) -> None:
    shift, best = lowered(2)
    made = patched(2, [], gate=gate).with_tensor("everywhere", shift.tensors["everywhere"])
    assert wrong(check(model_of(made), never(made, best))) == []


def test_no_input_of_the_box_gets_a_class_that_is_proved_to_be_predicted_nowhere(model_of: ModelOf) -> None:
    """Brute force over random models and shifts of any size: what is proved holds at every point, and some is not."""
    outcomes = {True: 0, False: 0}
    for seed in range(30):
        rng = np.random.default_rng(seed)
        made, best = lowered(seed)
        made = made.with_tensor("everywhere", made.tensors["everywhere"] + rng.normal(size=3) / 20)
        proved = not wrong(check(model_of(made), never(made, best)))
        outcomes[proved] += 1
        if proved:
            corners = np.array(list(itertools.product(BOX, repeat=3)))
            answers = outputs_of(made, np.concatenate([corners, rng.uniform(*BOX, (200, 3))]))
            assert (answers[:, best] - answers[:, CLASS] >= 0.01 - 1e-9).all(), seed
            assert (answers.argmax(axis=1) != CLASS).all(), seed
    assert min(outcomes.values()) >= 5


def test_exact_numbers_decide_where_the_margin_is_met_to_the_last_bit(model_of: ModelOf) -> None:
    made, best = lowered(3)
    (exactly,) = (f.said for f in check(model_of(made), never(made, best), exact=True) if f.what == "never")
    # The lead itself, as a fraction: what is left when intervals are worked out in fractions by hand.
    low, high = [Fraction(-1)] * 3, [Fraction(1)] * 3
    for place in (0, 2):
        ends = []
        for row, bias in zip(made.tensors[f"base.{place}.weight"], made.tensors[f"base.{place}.bias"], strict=True):
            terms = [sorted((Fraction(float(w)) * a, Fraction(float(w)) * b)) for w, a, b in zip(row, low, high)]  # noqa: B905
            ends.append([max(Fraction(0), sum(side) + Fraction(float(bias))) for side in zip(*terms, strict=True)])
        low, high = ([end[side] for end in ends] for side in (0, 1))
    weight, bias = (made.tensors[f"base.4.{name}"].tolist() for name in ("weight", "bias"))
    rows = zip(weight[CLASS], weight[best], low, high, strict=True)
    at_most = sum(max((Fraction(a) - Fraction(b)) * end for end in ends) for a, b, *ends in rows)
    shift = made.tensors["everywhere"].tolist()
    lead = -(at_most + Fraction(bias[CLASS]) - Fraction(bias[best]) + Fraction(shift[CLASS]) - Fraction(shift[best]))
    assert float(f"{float(lead):.9g}") == float(exactly.split(" by ")[1].split()[0])
    below, above = float(lead), float(lead)
    while Fraction(below) > lead:
        below = float(np.nextafter(below, 0))
    while Fraction(above) <= lead:
        above = float(np.nextafter(above, 1))
    assert wrong(check(model_of(made), never(made, best, margin=below), exact=True)) == []
    assert wrong(check(model_of(made), never(made, best, margin=above), exact=True)) == ["never"]
    rounded = check(model_of(made), never(made, best, margin=below))
    assert wrong(rounded) == ["never"]  # floats cannot know
    assert "--exact decides" in said(rounded, "never")


# -- what does not -----------------------------------------------------------------------------------------------------


def at(path: str, value: Any) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        *inner, last = path.split(".")
        for name in inner:
            document = document[name]
        document[last] = value

    return change


TAMPERING: dict[str, tuple[Callable[[Document], None], list[str]]] = {
    "another class": (at("class", 2), ["never"]),
    "a class that is no output": (at("class", 3), ["class"]),
    "an output that is none": (at("beaten_by", 3), ["class"]),
    "itself": (at("beaten_by", CLASS), ["form"]),
    "a larger margin": (at("margin", 0.03), ["never"]),
    "a margin of 0": (at("margin", 0), ["form"]),
    "a smaller box": (at("box.low", -0.5), ["patched model"]),
    "a larger box": (at("box.high", 2.0), ["patched model"]),
    "a box the wrong way": (at("box.high", -2.0), ["form"]),
    "another base": (at("model.base", "0" * 64), ["base"]),
    "another model": (at("model.patched", "0" * 64), ["patched model"]),
    "another split": (at("model.split_at", "head"), ["patched model"]),
    "a step that nothing came before": (at("chain", {"step": 1, "previous": None}), ["form"]),
    "what it means": (at("means", "The class is gone."), ["form"]),
    "the other claim": (at("claim", "redirect"), ["form"]),
    "the other form": (at("$schema", "https://unlearnbench.org/schemas/redirect/1.json"), ["form"]),
    "a property too many": (at("note", "trust me"), ["form"]),
    "a property too few": (lambda document: document.pop("created"), ["form"]),
    "a class in words": (at("class", "1"), ["form"]),
}


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("name", TAMPERING)
def test_what_was_changed_in_a_certificate_is_found(name: str, exact: bool, model_of: ModelOf) -> None:
    made, best = lowered(1)
    document = deepcopy(never(made, best))
    tamper, expected = TAMPERING[name]
    tamper(document)
    assert wrong(check(model_of(made), document, exact=exact)) == expected


def test_classes_that_do_not_stand_so_to_each_other_are_refused(model_of: ModelOf) -> None:
    made, best = lowered(1)
    model, other = model_of(made), 3 - CLASS - best
    assert leads(made)[other] > leads(made)[best] + 0.02
    for label, beaten_by in ((CLASS, other), (best, CLASS), (other, best), (best, other)):
        document = never(made, beaten_by, **{"class": label})
        for exact in (False, True):
            assert wrong(check(model, document, exact=exact)) == ["never"], (label, beaten_by)


def test_a_shift_that_is_smaller_proves_nothing_even_with_its_own_digest(model_of: ModelOf) -> None:
    made, best = lowered(1)
    for shift in (made.tensors["everywhere"] / 2, np.zeros(3), made.tensors["everywhere"] + np.eye(3)[CLASS] / 64):
        changed = made.with_tensor("everywhere", shift)
        assert wrong(check(model_of(changed), never(made, best))) == ["patched model"]
        assert wrong(check(model_of(changed), never(changed, best))) == ["never"]


def test_a_shift_of_the_output_that_beats_it_counts_too(model_of: ModelOf) -> None:
    made, best = lowered(1)
    up, down = (made.with_tensor("everywhere", made.tensors["everywhere"] + np.eye(3)[best] * by) for by in (0.5, -0.5))
    assert wrong(check(model_of(up), never(up, best, margin=0.51))) == []
    assert wrong(check(model_of(down), never(down, best))) == ["never"]


def test_weights_and_box_of_the_model_cannot_be_changed(model_of: ModelOf) -> None:
    made, best = lowered(1)
    other = made.with_tensor("base.4.bias", made.tensors["base.4.bias"] + np.eye(3)[CLASS])
    assert wrong(check(model_of(other), never(made, best))) == ["base", "patched model"]
    assert wrong(check(model_of(other), never(other, best))) == ["never"]
    wide = replace(made, document={**made.document, "box": {"low": -3.0, "high": 3.0}})
    assert wrong(check(model_of(wide), never(wide, best))) == ["patched model"]
    assert wrong(check(model_of(wide), never(wide, best, box={"low": -3.0, "high": 3.0}))) == ["never"]


@pytest.mark.parametrize("gate", ["exact", "support"])
def test_a_model_with_patches_is_refused_since_they_could_raise_the_class(gate: str, model_of: ModelOf) -> None:
    bare, best = lowered(1)
    point = np.float32([0.3, -0.2, 0.5])
    shift = np.float32([[0, 0, 0]])
    shift[0, CLASS] = 100
    made = patched(1, [point], gate=gate).with_tensor("everywhere", bare.tensors["everywhere"])
    made = made.with_tensor("shifts", shift)
    assert outputs_of(made, point[None]).argmax() == CLASS
    assert local(bare.tensors, point)[0].tolist() == made.tensors["patterns"][0].tolist()
    for exact in (False, True):
        found = check(model_of(made), never(made, best), exact=exact)
        assert wrong(found) == ["members"]
        assert "1 regions" in said(found, "members")


def test_the_sample_and_the_label_of_somebody_else_are_told(model_of: ModelOf) -> None:
    made, best = lowered(1)
    model, document = model_of(made), never(made, best)
    assert wrong(check(model, document, label=best)) == ["class"]
    assert wrong(check(model, document, sample=np.full(3, 1.5))) == ["sample"]
    assert wrong(check(model, document, sample=np.full(2, 0.5))) == ["sample"]
    assert wrong(check(model, document, sample=np.full(3, np.nan))) == ["sample"]


def test_an_input_that_gets_the_class_all_the_same_is_told(model_of: ModelOf) -> None:
    bare, (_, best) = patched(1, []), lowered(1)
    points = np.random.default_rng(0).uniform(*BOX, (100, 3))
    mine = points[outputs_of(bare, points).argmax(axis=1) == CLASS][0]
    for exact in (False, True):
        found = check(model_of(bare), never(bare, best), sample=mine, exact=exact)
        assert wrong(found) == ["never", "sample"]


def test_a_certificate_goes_on_from_the_step_before(model_of: ModelOf) -> None:
    made, best = lowered(1)
    before = {"step": 0, "base": made.base, "patched": "ab" * 32, "requests": ["cd" * 32], "previous": None}
    document = never(made, best, chain={"step": 1, "previous": sha(canonical(before))})
    model = model_of(made)
    assert fine(check(model, document))["chain"] is None
    assert fine(check(model, document, previous=before))["chain"] is True
    assert wrong(check(model, document, previous={**before, "patched": "ba" * 32})) == ["chain"]


def test_a_signature_is_over_all_of_it(tmp_path: Path, model_of: ModelOf) -> None:
    made, best = lowered(1)
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    (tmp_path / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    signed = sign(never(made, best), tmp_path / "key.pem")
    assert fine(check(model_of(made), signed))["signature"] is True
    assert wrong(check(model_of(made), {**signed, "margin": 0.005})) == ["signature"]


# -- form --------------------------------------------------------------------------------------------------------------


def test_a_certificate_follows_its_schema() -> None:
    made, best = lowered(1)
    document = never(made, best, created="2026-01-31T12:00:00Z")
    validate(document, "never")
    assert parse_never(document).label == CLASS
    assert (parse_never(document).low, parse_never(document).high) == BOX


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("class", -1), ("class", 1.5), ("beaten_by", None), ("margin", 0), ("margin", "0.01"), ("means", ""),
        ("model.base", "AB" * 32), ("model", None), ("box.low", None), ("claim", "redirect"), ("created", "yesterday"),
        ("chain", {"step": 0, "previous": "ab" * 32}), ("signature", {}), ("more", 1),
    ],
)  # fmt: skip
def test_reader_and_schema_refuse_alike(path: str, value: Any) -> None:
    made, best = lowered(1)
    document = never(made, best)
    at(path, value)(document)
    with pytest.raises(Refusal, match="bad-certificate"):
        parse_never(document)
    with pytest.raises(UsageError):
        validate(document, "never")


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made, best = lowered(1)
    made.save(tmp_path / "model.safetensors")
    written(tmp_path / "never.json", never(made, best))
    written(tmp_path / "wrong.json", never(made, best, margin=1.0))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str]]:
    code = main([*arguments, "--model", "model.safetensors"])
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    return code, printed.out.splitlines()


def test_the_command_proves_it_and_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = run(capsys, "never.json")
    assert code == 0
    assert lines[0] == "fine   form: a certificate that a class is predicted nowhere"
    assert lines[-1] == "1 of 1 certificate verified"
    code, lines = run(capsys, "never.json", "wrong.json", "--exact", "--json")
    assert code == 1
    assert [each["verified"] for each in json.loads("\n".join(lines))] == [True, False]


def test_a_server_is_asked_at_points_of_the_box(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made, _ = lowered(1)
    drawn = ["never.json", "--points", "200", "--draw", "points.npy", "--seed", "5"]
    assert run(capsys, *drawn)[0] == 0
    points = np.load(folder / "points.npy")
    assert points.shape == (200, 3)
    assert -1 <= points.min() < -0.9 < 0.9 < points.max() <= 1
    honest, bare = outputs_of(made, points), outputs_of(patched(1, []), points)
    assert (bare.argmax(axis=1) == CLASS).any()
    for answers, violations in ((honest, 0), (honest.argmax(axis=1), 0), (bare.argmax(axis=1), 1), (bare, 1)):
        np.save(folder / "answers.npy", answers)
        asked = ["never.json", "--points", "200", "--seed", "5", "--challenge", "answers.npy"]
        code, lines = run(capsys, *asked)
        assert code == violations
        assert ("200 points of the box: 0 violations" in lines[-2]) == (not violations)


def test_answers_are_judged_by_the_margin_where_they_are_outputs() -> None:
    made, best = lowered(1)
    certificate = parse_never(never(made, best))
    points = draw_in_box(3, certificate, 4, 0)
    assert np.array_equal(points, draw_in_box(3, certificate, 4, 0))
    assert not np.array_equal(points, draw_in_box(3, certificate, 4, 1))
    answers = np.zeros((4, 3))
    answers[:, best] = [0.5, 0.005, -0.5, np.nan]
    assert judge_class(points, answers, certificate) == 3
    # Outputs may be so large that float32 explains a missing margin, but never that the class itself leads.
    large = np.full((4, 3), 1000.0)
    large[:, CLASS], large[:, best] = 0, [0.05, 0.005, 0, -0.05]
    assert judge_class(points, large, certificate) == 2
    assert judge_class(points, np.array([CLASS, best, CLASS, 7]), certificate) == 2
    with pytest.raises(Refusal, match="3 answers to 4 points"):
        judge_class(points, answers[:3], certificate)
    with pytest.raises(Refusal, match="1 outputs"):
        judge_class(points, answers[:, :1], certificate)
