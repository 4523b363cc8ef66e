"""Certificates of a record, worked out again: rows from the data set, weights from the record, checks by the verifier.

Everything goes through ``unlearnbench_verifier``, which shares no code with what made the certificates.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unlearnbench.api import DataError
from unlearnbench.api.runtime import Finding, Served, VerifyJob
from unlearnbench_prune import saving
from unlearnbench_prune.issuing import predictions, unpacked
from unlearnbench_prune.network import Traced, traced
from unlearnbench_prune.patched import PatchedNet
from unlearnbench_prune.plugin import PruneParams
from unlearnbench_verifier.checks import check
from unlearnbench_verifier.findings import Refusal
from unlearnbench_verifier.form import (
    NEVER,
    Issue,
    claim_in,
    digest,
    issue_digest,
    label_commitment,
    parse_any,
    sample_commitment,
)
from unlearnbench_verifier.model import Model, read_model


@dataclass(frozen=True, eq=False)
class Row:
    """A row that was asked for, as the data set has it and as the patched part of the network sees it."""

    id: int
    label: int
    x: Tensor
    sample: Tensor


@dataclass(frozen=True, eq=False)
class Step:
    """What one request left, read anew: all rows so far, the model, and the papers of the record."""

    about: str
    stated: Mapping[str, Any]
    net: PatchedNet
    model: Model
    rows: tuple[Row, ...]
    documents: Sequence[Mapping[str, Any]]
    salts: tuple[bytes, ...]
    """One for each row."""

    @property
    def commitments(self) -> tuple[str, ...]:
        pairs = zip(self.salts, self.rows, strict=True)
        return tuple(sample_commitment(salt, row.sample.numpy()) for salt, row in pairs)

    @property
    def of_rows(self) -> Sequence[Mapping[str, Any]]:
        """Certificates of single rows."""
        return [document for document in self.documents if claim_in(document) != NEVER]

    @property
    def classes(self) -> list[int]:
        """Classes that a certificate says are predicted nowhere."""
        return [document["class"] for document in self.documents if claim_in(document) == NEVER]


def findings(job: VerifyJob, p: PruneParams) -> Iterator[Finding]:
    """What each step of a stream states, and what it comes to."""
    rows: list[Row] = []
    previous: str | None = None
    trace = traced(job.model.eval(), p.split_at)
    try:
        for number, served in enumerate(job.served):
            rows += _new_rows(served, trace, rows)
            step = _step(f"request {number}", served, tuple(rows))
            issued = Issue(number, step.model.base, step.model.patched, step.commitments, previous)
            yield _compared(f"network underneath after {step.about}", True, _same(job.model, step.net.base))
            yield _compared(f"parameters of {step.about}", step.stated["margin"], p.margin)
            yield from _digests(step, issue_digest(issued), previous)
            yield _chain(step, number, previous)
            yield from _accounts(step)
            yield _certificates(step)
            previous = issue_digest(issued)
    except Refusal as problem:
        raise DataError("wrong-state", str(problem), where="proofs.safetensors") from problem


def _new_rows(served: Served, trace: Traced, known: Sequence[Row]) -> list[Row]:
    """The rows of a request that no earlier one named, in its order."""
    x, y, ids, *_ = served.forget.tensors()
    seen = {row.id for row in known}
    with torch.no_grad():
        samples = trace(x)[1].flatten(1).float()
    rows = map(Row, ids.tolist(), y.tolist(), x, samples)
    return [row for row in rows if row.id not in seen]


def _step(about: str, served: Served, rows: tuple[Row, ...]) -> Step:
    """What the record holds of a request.

    Raises:
        DataError: it is not what this method leaves.
        Refusal: a certificate is none by its form.
    """
    net, papers = served.model, served.proof.get("certificates")
    if not isinstance(net, PatchedNet) or papers is None:
        raise DataError("wrong-state", f"{about} left no patched network with its papers", where="proofs.safetensors")
    found = unpacked(papers)
    documents, salts = found.get("certificates"), found.get("salts")
    if not isinstance(documents, list) or not isinstance(salts, dict) or not all(str(row.id) in salts for row in rows):
        raise DataError("wrong-state", f"the papers of {about} hold no certificates", where="proofs.safetensors")
    for document in documents:
        parse_any(document)
    try:
        opened = tuple(bytes.fromhex(salts[str(row.id)]) for row in rows)
    except (TypeError, ValueError) as problem:
        raise DataError("wrong-state", f"salts of {about} are none", where="proofs.safetensors") from problem
    model = read_model(saving.contents(net))
    return Step(about, served.certificate, net, model, rows, documents, opened)


def _digests(step: Step, issue: str, previous: str | None) -> Iterator[Finding]:
    """Everything that the certificate names by a digest."""
    found = {"base": step.model.base, "patched": step.model.patched, "issue": issue, "previous": previous}
    for name, value in found.items():
        yield _compared(f"{name} of {step.about}", step.stated[name], value)
    digests = [digest(document) for document in step.documents]
    yield _compared(f"certificates of {step.about}", len(step.stated["certificates"]), len(digests))
    yield _compared(f"digests of the certificates of {step.about}", True, step.stated["certificates"] == digests)


def _chain(step: Step, number: int, previous: str | None) -> Finding:
    """Every certificate of a step goes on from what was issued at the step before."""
    stated = {(document["chain"]["step"], document["chain"]["previous"]) for document in step.documents}
    fine = stated <= {(number, previous)}
    wanted = f"step {number} after {previous or 'none'}"
    return Finding(what=f"chain of {step.about}", stated=wanted, found=wanted if fine else str(stated), fine=fine)


def _accounts(step: Step) -> Iterator[Finding]:
    """Every row is certified once or stated not to be, with the status that the model's prediction gives it.

    The certificate of a class is that of all its rows, unless the model, in single precision, predicts it for one.
    """
    wanted = {
        (commitment, label_commitment(salt, row.label)): row.id
        for commitment, salt, row in zip(step.commitments, step.salts, step.rows, strict=True)
    }
    labels = predictions(step.net, torch.stack([row.x for row in step.rows]))
    found = {
        row.id: "failed" if label == row.label else "empirical" for row, label in zip(step.rows, labels, strict=True)
    }
    named = [document["request"] for document in step.of_rows]
    certified = [wanted.get((one["commitment"], one["label_commitment"])) for one in named]
    certified += [row.id for row in step.rows if row.label in step.classes and found[row.id] != "failed"]
    without = {one["row"]: one["status"] for one in step.stated["uncertified"]}
    counted = sorted([-1 if id_ is None else id_ for id_ in certified] + list(without))
    yield _compared(f"rows of {step.about}", True, counted == sorted(row.id for row in step.rows))
    yield _compared(f"rows without a certificate of {step.about}", without, {id_: found.get(id_) for id_ in without})
    statuses = ["certified"] * len(certified) + list(without.values())
    counts = {name: statuses.count(name) for name in ("certified", "empirical", "failed")}
    yield _compared(f"counts of {step.about}", {name: step.stated[name] for name in counts}, counts)


def _certificates(step: Step) -> Finding:
    """Every certificate is confirmed by the verifier, from the rows of the data set, and claims the stated margin."""
    samples = dict(zip(step.commitments, step.rows, strict=True))
    wrong = []
    for number, document in enumerate(step.documents):
        row = None if claim_in(document) == NEVER else samples.get(document["request"]["commitment"])
        sample, label = (None, None) if row is None else (row.sample.numpy(), row.label)
        if document["margin"] != step.stated["margin"]:
            wrong.append(f"certificate {number}: its margin is {document['margin']}")
        said = [one for one in check(step.model, document, sample=sample, label=label) if one.fine is False]
        wrong += [f"certificate {number}: {one.what}: {one.said}" for one in said]
    what, stated = f"claims of {step.about}", f"{len(step.documents)} that hold"
    return Finding(what=what, stated=stated, found="; ".join(wrong[:3]) or stated, fine=not wrong)


def _same(one: nn.Module, other: nn.Module) -> bool:
    mine, its = one.state_dict(), other.state_dict()
    return mine.keys() == its.keys() and all(torch.equal(mine[name], its[name]) for name in mine)


def _compared(what: str, stated: object, found: object) -> Finding:
    return Finding(what=what, stated=str(stated), found=str(found), fine=stated == found)
