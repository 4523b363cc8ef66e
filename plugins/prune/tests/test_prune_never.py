"""A class that is lowered everywhere: digits are forgotten by the runner, and every claim is checked by strangers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from forging import copied, forge, forge_tensors, tensors_of
from prune_jobs import TRAIN, Stream, digit_net, digits, predicted, statement
from scenario_runs import known

import unlearnbench
from unlearnbench import Record
from unlearnbench.api.runtime import Result, UnlearnJob
from unlearnbench.certificates import verify_certificates
from unlearnbench.record import RECORD, read_record
from unlearnbench.registry import registry
from unlearnbench_prune.certificate import GLOBAL
from unlearnbench_prune.cli import _run
from unlearnbench_prune.forgetting import lower_class
from unlearnbench_prune.issuing import issue, packed, unpacked
from unlearnbench_prune.method import PruneClass, started
from unlearnbench_prune.plugin import ClassParams
from unlearnbench_verifier.checks import check
from unlearnbench_verifier.command import main
from unlearnbench_verifier.files import read_tensors
from unlearnbench_verifier.form import NEVER_MEANS, digest
from unlearnbench_verifier.model import read_model

THREE, FIVE = {"kind": "class", "classes": ["3"]}, {"kind": "class", "classes": ["5"]}


def forgotten(folder: Path, requests: list[dict[str, Any]]) -> Record:
    (record,) = unlearnbench.run(
        "prune-class",
        scenario="digits-mlp-random40/v1",
        requests=requests,
        validation=0.1,
        measures=["accuracy", "prune-certificate"],
        parameters={"prune-class.form": "global"},
        out=folder / "out",
        store=folder / "store",
    )
    return record


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """First the threes and then the fives."""
    return forgotten(tmp_path_factory.mktemp("never"), [THREE, FIVE])


@pytest.fixture
def exported(stream: Record, tmp_path: Path) -> Path:
    assert _run(["export", str(stream.folder), "--out", str(tmp_path / "public"), "--owner"]) == 0
    return tmp_path / "public"


def certificates(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_bytes()) for path in sorted((folder / "certificates").iterdir())]


# -- what it costs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_", [0, 1])
def test_the_classes_are_predicted_for_no_row_and_the_others_keep_their_accuracy(stream: Record, request_: int) -> None:
    where = f".request={request_}"
    for name in ("forget", "holdout"):  # the class's rows of the training set, and those of the test set
        assert known(stream, f"accuracy.{name}{where}") == 0
        assert known(stream, f"accuracy.{name}{where}", "original") > 0.9
    for name in ("retain", "test"):
        drop = known(stream, f"accuracy.{name}{where}", "original") - known(stream, f"accuracy.{name}{where}")
        assert drop <= 0.01, name


def test_every_row_is_certified_by_the_certificate_of_its_class(stream: Record) -> None:
    first, last = (request["certificate"] for request in stream.document["stream"])
    for certificate, classes in ((first, 1), (last, 2)):
        assert certificate["form"] == "class-global"
        assert certificate["means"] == NEVER_MEANS
        assert certificate["holds"] is True
        assert certificate["certified"] == certificate["rows"] > 100 * classes
        assert len(certificate["certificates"]) == classes
        assert certificate["uncertified"] == []
    assert last["previous"] == first["issue"]
    assert known(stream, "certified.forget.request=1") == 1


# -- what strangers check ----------------------------------------------------------------------------------------------


def test_a_record_is_verified_from_the_data_set(stream: Record) -> None:
    found = verify_certificates(stream, registry())
    assert [finding for finding in found if not finding.fine] == []
    assert {"claims of request 0", "claims of request 1"} <= {finding.what for finding in found}


@pytest.mark.parametrize("exact", [False, True])
def test_the_verifier_proves_what_is_handed_out(exported: Path, exact: bool) -> None:
    model = read_model(read_tensors(exported / "model.safetensors"))
    issue = json.loads((exported / "issue.json").read_bytes())
    found = certificates(exported)
    assert [document["class"] for document in found] == [3, 5]
    for document in found:
        assert document["beaten_by"] not in (3, 5)
        assert document["chain"] == {"step": 1, "previous": issue["previous"]}
        fine = {finding.what: finding.fine for finding in check(model, document, exact=exact)}
        assert fine.pop("never") is True
        assert False not in fine.values()


def test_nothing_is_secret_about_a_class(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sorted(path.name for path in (exported / "owner").iterdir()) == ["0000.json", "0001.json"]
    for name in ("0000.json", "0001.json"):
        public, own = (exported / folder / name for folder in ("certificates", "owner"))
        assert public.read_bytes() == own.read_bytes()
        assert main([str(public), "--model", str(exported / "model.safetensors")]) == 0
    assert "1 of 1 certificate verified" in capsys.readouterr().out


def test_no_image_at_all_gets_a_forgotten_class(exported: Path, stream: Record) -> None:
    from unlearnbench_prune.papers import read_papers
    from unlearnbench_prune.rebuilding import rebuilt

    papers = read_papers(stream.folder)
    model = rebuilt(papers.metadata, papers.tensors).eval()
    drawn = torch.rand(20000, 64, generator=torch.Generator().manual_seed(0))
    drawn[10000:] = (drawn[10000:] < 0.5).float()
    with torch.no_grad():
        before, after = model.base(drawn), model(drawn)
    assert before.argmax(1).bincount(minlength=10)[[3, 5]].min() > 0
    assert after.argmax(1).bincount(minlength=10)[[3, 5]].tolist() == [0, 0]
    for document in certificates(exported):
        ahead = after[:, document["beaten_by"]] - after[:, document["class"]]
        assert float(ahead.min()) >= document["margin"] - 1e-3  # float32, at outputs of hundreds


def test_show_says_that_outputs_were_lowered(stream: Record, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(["show", str(stream.folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "form       class-global: no patch, the outputs of classes are lowered everywhere"
    assert lines[-1] == NEVER_MEANS
    assert not any(line.startswith("gate") for line in lines)


# -- what is refused ---------------------------------------------------------------------------------------------------


Change = Callable[[dict[str, Any], dict[str, Any]], object]


def wrong_in(record: Record, folder: Path, change: Change) -> list[str]:
    """What is wrong in a record whose last papers and certificate were changed by who can write every digest anew."""
    run = copied(record.folder, folder)
    tensors = tensors_of(run)
    papers = unpacked(tensors["1/proof/certificates"])

    def agree(document: dict[str, Any]) -> None:
        for certificate in (document["stream"][1]["certificate"], document["certificate"]):
            change(papers, certificate)
            certificate["certificates"] = [digest(one) for one in papers["certificates"]]

    forge(run, agree)
    forge_tensors(run, {**tensors, "1/proof/certificates": packed(papers)})
    found = verify_certificates(read_record(run / RECORD), registry())
    return [finding.what for finding in found if not finding.fine]


def test_who_can_write_every_digest_anew_can_still_not_change_a_claim(stream: Record, tmp_path: Path) -> None:
    def of_first(**changes: Any) -> Change:
        return lambda papers, _: papers["certificates"][0].update(changes)

    def without(papers: dict[str, Any], _: dict[str, Any]) -> None:
        papers["certificates"] = papers["certificates"][:1]

    def fewer(papers: dict[str, Any], certificate: dict[str, Any]) -> None:
        without(papers, certificate)
        fives = certificate["rows"] - stream.document["stream"][0]["certificate"]["rows"]
        certificate.update(certified=certificate["rows"] - fives, holds=False, value=fives, failed=fives)

    assert wrong_in(stream, tmp_path / "same", lambda *_: None) == []
    last = "claims of request 1"
    assert wrong_in(stream, tmp_path / "margin", of_first(margin=0.5)) == [last]
    assert wrong_in(stream, tmp_path / "weaker", of_first(margin=1e-4)) == [last]
    assert wrong_in(stream, tmp_path / "beaten", of_first(beaten_by=5)) == [last]
    rows, counts = "rows of request 1", "counts of request 1"
    assert wrong_in(stream, tmp_path / "class", of_first(**{"class": 4})) == [rows, counts, last]
    assert wrong_in(stream, tmp_path / "without", without) == [rows, counts]
    assert wrong_in(stream, tmp_path / "fewer", fewer)[0] == rows


class HalfWay(PruneClass):
    """Lowers the class by a half of what it takes, or not at all; all else is the method's."""

    share = 0.5

    def unlearn(self, job: UnlearnJob) -> Result:
        p = self._for_rows()
        request = started(job, p)
        standing, warnings = lower_class(request, self.p)
        assert standing.everywhere is not None
        standing = replace(standing, everywhere=standing.everywhere * self.share)
        return issue(job, p, request.survey, standing, GLOBAL, warnings)


class NotAtAll(HalfWay):
    share = 0.0


@pytest.mark.parametrize("kind", [HalfWay, NotAtAll])
def test_rows_of_a_class_that_is_not_proved_have_a_reason_and_the_status_of_their_prediction(
    kind: type[HalfWay],
) -> None:
    class Shortened(Stream):
        @property
        def unlearner(self) -> PruneClass:
            return kind(ClassParams(form="global"))

    x, y = digits()
    stream = Shortened(digit_net(), x[:TRAIN], y[:TRAIN], ClassParams(form="global"))
    result = stream.ask(classes=[3])
    certificate, rows = statement(result), int((y[:TRAIN] == 3).sum())
    kept = int((predicted(result.model, x[:TRAIN])[y[:TRAIN] == 3] == 3).sum())
    counts = {"certified": 0, "empirical": rows - kept, "failed": kept}
    assert {name: certificate[name] for name in counts} == counts
    assert kept > 0.9 * rows if kind is NotAtAll else kept == 0
    assert (certificate["certificates"], certificate["holds"], certificate["value"]) == ([], False, rows)
    assert all("is ahead of 3 by -" in one["reason"] for one in certificate["uncertified"])
    assert [finding for finding in stream.verify() if not finding.fine] == []
    assert "rows have no certificate" in result.warnings[-1]
