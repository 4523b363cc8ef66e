"""Records of runs: what they state, that a verifier finds it so, and that nothing about it can be changed unnoticed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from forging import certificates, copied, forge, forge_tensors, read, tensors_of
from scenario_runs import shared_store

import unlearnbench
from unlearnbench import Record
from unlearnbench.certificates import verify_certificates
from unlearnbench.record import read_record
from unlearnbench.registry import registry
from unlearnbench_prune.issuing import packed, unpacked
from unlearnbench_verifier.form import digest, parse

EXACT = {"prune.gate": "exact", "prune.radius": "auto", "prune.multi": "each"}
FIRST, SECOND = {"kind": "samples", "count": 3, "seed": 0}, {"kind": "samples", "count": 2, "seed": 1}
Tampering = Callable[[Path], object]


def made(out: Path, params: Mapping[str, Any], *requests: Mapping[str, Any], unlearner: str = "prune") -> Record:
    """A run on digits with a network 64-12-8-10."""
    (record,) = unlearnbench.run(
        unlearner,
        scenario="digits-mlp-random40/v1" if unlearner == "prune" else "digits-mlp-class3/v1",
        model={"name": "mlp", "params": {"hidden": [12, 8]}},
        requests=list(requests),
        measures=["accuracy", "prune-certificate"],
        parameters={"recipe.epochs": 15, **params},
        out=out,
        store=shared_store(out),
    )
    assert record.status == "complete"
    return record


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """Two requests under exact gates."""
    return made(tmp_path_factory.mktemp("exact"), EXACT, FIRST, SECOND)


@pytest.fixture(scope="module")
def faded(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """A request under support nets in the paper's form, whose rows are not all certified."""
    params = {"prune.gate": "support", "prune.radius": "whole", "prune.multi": "paper", "prune.sharpness": 10.0}
    return made(tmp_path_factory.mktemp("support"), params, {"kind": "samples", "count": 6, "seed": 0})


def wrong(run: Path) -> list[str]:
    """What is wrong about a run, by name."""
    return [finding.what for finding in verify_certificates(read_record(run), registry()) if not finding.fine]


# -- what was written holds --------------------------------------------------------------------------------------------


def test_a_record_of_a_stream_is_verified_row_by_row(record: Record) -> None:
    found = {finding.what: finding for finding in verify_certificates(record, registry())}
    assert [finding.what for finding in found.values() if not finding.fine] == []
    for step, rows in enumerate((3, 5)):
        assert found[f"claims of request {step}"].found == f"{rows} that hold"
        assert found[f"issue of request {step}"].fine
    assert "'certified': 5" in found["counts of request 1"].stated


def test_readings_are_shares_of_all_rows_so_far(record: Record) -> None:
    readings = [
        (one["name"], one["value"], one["n"])
        for one in record.readings
        if one["measure"] == "prune-certificate" and one["subject"] == "unlearned" and one["status"] == "ok"
    ]
    assert [one for one in readings if one[0] == "certified"] == [("certified", 1.0, 3), ("certified", 1.0, 5)]
    assert [one[1] for one in readings if one[0] != "certified"] == [0.0] * 4


def test_a_record_with_rows_without_a_certificate_is_verified_as_what_it_is(faded: Record) -> None:
    stated = read(faded.folder)["certificate"]
    assert stated["uncertified"]
    assert wrong(faded.folder) == []
    assert faded.document["warnings"]


@pytest.mark.parametrize("form", ["support", "global"])
def test_a_record_of_a_class_is_verified(form: str, tmp_path: Path) -> None:
    found = made(tmp_path, {"prune-class.form": form}, {"kind": "class", "classes": ["3"]}, unlearner="prune-class")
    assert found.value("accuracy.forget") == 0.0
    assert read(found.folder)["certificate"]["form"] == f"class-{form}"
    assert wrong(found.folder) == []


def test_a_stream_that_goes_on_from_the_store_certifies_the_same(record: Record, tmp_path: Path) -> None:
    """The second request is served anew, from the model and the state that the first one left in another store."""
    store = tmp_path / "store"
    options: dict[str, Any] = {
        "scenario": "digits-mlp-random40/v1", "model": {"name": "mlp", "params": {"hidden": [12, 8]}},
        "measures": ["accuracy", "prune-certificate"], "parameters": {"recipe.epochs": 15, **EXACT}, "store": store,
    }  # fmt: skip
    unlearnbench.run("prune", requests=[FIRST], out=tmp_path / "one", **options)
    (later,) = unlearnbench.run("prune", requests=[FIRST, SECOND], out=tmp_path / "two", **options)
    assert read(later.folder)["certificate"] == read(record.folder)["certificate"]


# -- what was changed is found -----------------------------------------------------------------------------------------


def papers(run: Path, change: Callable[[dict[str, Any]], object], step: int = 1) -> None:
    """Change the certificates of rows after a request, and every digest that names them."""
    tensors, name = tensors_of(run), f"{step}/proof/certificates"
    document = unpacked(tensors[name])
    change(document)
    tensors[name] = packed(document)
    forge_tensors(run, tensors)

    def agree(record: dict[str, Any]) -> None:
        digests = [digest(one) for one in document["certificates"]]
        for certificate in certificates(record):
            if certificate["served"] == step + 1:
                certificate["certificates"] = digests

    forge(run, agree)


def of_a_row(change: Callable[[dict[str, Any]], object]) -> Tampering:
    """Change the first certificate of the last request; it still has the form of one."""

    def changed(document: dict[str, Any]) -> None:
        change(document["certificates"][0])
        parse(document["certificates"][0])

    return lambda run: papers(run, changed)


def weaker(certificate: dict[str, Any]) -> None:
    certificate["margin"] /= 2


def greedier(certificate: dict[str, Any]) -> None:
    certificate["margin"] *= 1000


def other_target(certificate: dict[str, Any]) -> None:
    target, other = certificate["target"], (certificate["target"] + 1) % 10
    certificate["target"] = other
    certificate["duals"][str(target)] = certificate["duals"].pop(str(other))


def halved(run: Path) -> None:
    tensors = tensors_of(run)
    tensors["1/model/shifts"] = tensors["1/model/shifts"] / 2
    forge_tensors(run, tensors)


def nudged(run: Path) -> None:
    tensors = tensors_of(run)
    tensors["1/model/base.1.bias"] = tensors["1/model/base.1.bias"] + torch.eye(12)[0] * 1e-6
    forge_tensors(run, tensors)


def rolled_back(run: Path) -> None:
    """The second request ends with model and papers of the first."""
    tensors = tensors_of(run)
    kept = {name: value for name, value in tensors.items() if not name.startswith("1/")}
    again = {f"1{name[1:]}": value.clone() for name, value in kept.items() if name.startswith("0/")}
    forge_tensors(run, kept | again)


def swapped(document: dict[str, Any]) -> None:
    """Two certificates are about each other's rows."""
    one, other = document["certificates"][:2]
    one["request"], other["request"] = other["request"], one["request"]


@pytest.mark.parametrize(
    "tampering",
    [
        pytest.param(of_a_row(lambda one: one["patch"]["shift"].reverse()), id="patch"),
        pytest.param(of_a_row(greedier), id="margin"),
        pytest.param(of_a_row(other_target), id="target"),
        pytest.param(of_a_row(lambda one: one["region"].update(radius=one["region"]["radius"] * 2)), id="radius"),
        pytest.param(of_a_row(lambda one: one["request"].update(label_commitment="0" * 64)), id="label"),
        pytest.param(of_a_row(lambda one: one["chain"].update(previous="0" * 64)), id="chain of a row"),
        pytest.param(of_a_row(lambda one: one["chain"].update(step=7)), id="step of a row"),
        pytest.param(
            lambda run: papers(run, lambda found: found["salts"].update(dict.fromkeys(found["salts"], 5))),
            id="no salts",
        ),
        pytest.param(lambda run: papers(run, swapped), id="swapped"),
        pytest.param(lambda run: papers(run, lambda found: found["certificates"].pop()), id="one less"),
        pytest.param(
            lambda run: papers(run, lambda found: found["certificates"].append(found["certificates"][0])), id="twice"
        ),
        pytest.param(
            lambda run: papers(run, lambda found: found["salts"].update(dict.fromkeys(found["salts"], "ab" * 16))),
            id="salts",
        ),
        pytest.param(halved, id="patches of the model"),
        pytest.param(nudged, id="weights underneath"),
        pytest.param(rolled_back, id="rollback"),
    ],
)
def test_what_was_changed_beside_a_record_is_found(record: Record, tmp_path: Path, tampering: Tampering) -> None:
    run = copied(record.folder, tmp_path / "run")
    tampering(run)
    assert wrong(run)


def stated(run: Path, **values: Any) -> None:
    """Let the last certificate of a record state something else."""

    def change(document: dict[str, Any]) -> None:
        for certificate in certificates(document):
            if certificate["served"] == document["certificate"]["served"]:
                certificate |= values

    forge(run, change)


@pytest.mark.parametrize(
    "values", [{"previous": None}, {"issue": "0" * 64}, {"margin": 0.5}, {"rows": 4, "certified": 4}]
)
def test_what_a_record_states_otherwise_is_found(record: Record, tmp_path: Path, values: dict[str, Any]) -> None:
    run = copied(record.folder, tmp_path / "run")
    stated(run, **values)
    assert wrong(run)


def test_a_row_that_is_left_out_of_those_without_a_certificate_is_found(faded: Record, tmp_path: Path) -> None:
    run = copied(faded.folder, tmp_path / "run")
    before = read(run)["certificate"]
    left = before["uncertified"][1:]
    without = {name: sum(one["status"] == name for one in left) for name in ("empirical", "failed")}
    stated(run, uncertified=left, value=len(left), rows=before["rows"] - 1, **without)
    assert any(name.startswith("rows of request 0") for name in wrong(run))


def test_a_row_whose_status_is_embellished_is_found(faded: Record, tmp_path: Path) -> None:
    run = copied(faded.folder, tmp_path / "run")
    before = read(run)["certificate"]
    other = {"empirical": "failed", "failed": "empirical"}
    embellished = [one | {"status": other[one["status"]]} for one in before["uncertified"]]
    stated(run, uncertified=embellished, empirical=before["failed"], failed=before["empirical"])
    assert wrong(run) == ["rows without a certificate of request 0"]
