"""What a request ends with: the patched model, and certificates that an independent check confirms.

There is one for every row that a patch redirects, or for every class that is lowered everywhere and all of its rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from unlearnbench.api.runtime import Result, UnlearnJob
from unlearnbench_prune import saving
from unlearnbench_prune.bounds import NoSolution
from unlearnbench_prune.certificate import (
    Digests,
    Verdict,
    commitments,
    never_document,
    record_document,
    redirect_document,
)
from unlearnbench_prune.plugin import PruneParams
from unlearnbench_prune.proving import prove
from unlearnbench_prune.standing import Asked, Standing
from unlearnbench_prune.survey import ROWS, Survey
from unlearnbench_verifier.checks import check
from unlearnbench_verifier.files import canonical, load_json
from unlearnbench_verifier.form import Issue, digest, issue_digest
from unlearnbench_verifier.model import Model, read_model

NAMED = 3
"""Reasons that a warning names."""
ROUNDING = "it lies on the border of its region, where single precision decides otherwise"
AS_BEFORE = "it is predicted as its class in single precision"


def issue(
    job: UnlearnJob, p: PruneParams, survey: Survey, standing: Standing, form: str, warnings: Sequence[str]
) -> Result:
    """Build the model, prove what can be proved of every row so far, check it, and write it down."""
    model = standing.network(job, p)
    file = saving.contents(model)
    known = read_model(file)
    digests = Digests(known.base, known.patched, standing.previous)
    issued = Issue(standing.step, known.base, known.patched, tuple(commitments(standing)), standing.previous)
    predicted = predictions(model, torch.stack([one.x for one in standing.asked]).to(job.device))
    asked: list[Asked] = []
    verdicts: list[Verdict] = []
    documents, unproved = _nevers(p, standing, known, digests)
    for one, label in zip(standing.asked, predicted, strict=True):
        if one.label in standing.forbidden:
            verdicts.append(_of_class(one.label, label, unproved.get(one.label, "")))
            asked.append(one)
            continue
        try:
            proof = prove(p, survey, standing, one)
        except NoSolution as problem:
            verdicts.append(_without(one.label, label, problem.reason))
            asked.append(one)
            continue
        document = redirect_document(p, standing, one, proof, digests)
        why = unconfirmed(known, document) or ("" if label == document["target"] else ROUNDING)
        verdicts.append(_without(one.label, label, why) if why else Verdict("certified"))
        documents += [] if why else [document]
        asked.append(replace(one, duals=proof.duals))
    issued_digest = issue_digest(issued)
    certificate = record_document(
        p, standing, form, verdicts, [digest(document) for document in documents], issued_digest, digests
    )
    papers = {
        "format": "prune/1",
        "metadata": saving.metadata(model),
        "certificates": documents,
        "issue": issued.document(),
        "salts": {str(one.id): one.salt for one in standing.asked},
    }
    return Result(
        model=model,
        state=replace(standing, asked=tuple(asked)).state(issued_digest),
        certificate=certificate,
        proof={"certificates": packed(papers), "samples": torch.stack([one.sample for one in standing.asked])},
        warnings=(*warnings, *_warnings(verdicts)),
    )


def _nevers(
    p: PruneParams, standing: Standing, known: Model, digests: Digests
) -> tuple[list[dict[str, Any]], dict[int, str]]:
    """A certificate for each class that is predicted nowhere, and why there is none of the others."""
    documents, unproved = [], {}
    for label, beaten_by in zip(standing.forbidden, standing.beaten_by, strict=True):
        document = never_document(p, standing, label, beaten_by, digests)
        why = unconfirmed(known, document)
        if why:
            unproved[label] = why
        else:
            documents.append(document)
    return documents, unproved


def _without(label: int, predicted: int, why: str) -> Verdict:
    """What came of a row without a certificate."""
    return Verdict("failed" if predicted == label else "empirical", why)


def _of_class(label: int, predicted: int, unproved: str) -> Verdict:
    """What came of a row whose class is lowered everywhere."""
    if predicted == label:
        return Verdict("failed", unproved or AS_BEFORE)
    return Verdict("empirical", unproved) if unproved else Verdict("certified")


def unconfirmed(model: Model, document: Mapping[str, Any]) -> str:
    """Why the independent check does not confirm a certificate, the owner's copy; empty where it does."""
    findings = check(model, document)
    return "; ".join(f"{finding.what}: {finding.said}" for finding in findings if finding.fine is False)


def predictions(model: nn.Module, inputs: Tensor) -> list[int]:
    """Predicted classes of rows [n, ...]."""
    with torch.no_grad():
        return torch.cat([model(part).argmax(1).cpu() for part in inputs.split(ROWS)]).tolist()


def packed(papers: Mapping[str, Any]) -> Tensor:
    """A JSON document as bytes [n] uint8: what a proof's tensors can hold."""
    return torch.frombuffer(bytearray(canonical(papers)), dtype=torch.uint8)


def unpacked(tensor: Tensor) -> dict[str, Any]:
    """The document in such bytes.

    Raises:
        Unreadable: they hold no JSON.
    """
    found = load_json(tensor.numpy().tobytes(), where="certificates")
    return found if isinstance(found, dict) else {}


def _warnings(verdicts: Sequence[Verdict]) -> list[str]:
    """One sentence about the rows without a certificate."""
    without = [verdict for verdict in verdicts if verdict.status != "certified"]
    if not without:
        return []
    failed = sum(verdict.status == "failed" for verdict in without)
    reasons = list(dict.fromkeys(verdict.reason for verdict in without if verdict.reason))
    why = f": {'; '.join(reasons[:NAMED])}" if reasons else ""
    return [
        f"{len(without)} of {len(verdicts)} rows have no certificate, {failed} of them are predicted as before{why}"
    ]
