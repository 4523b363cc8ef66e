"""What a request ends with: the patched model, and certificates that an independent check confirms.

There is one for every row that a patch redirects, or for every class that is lowered everywhere: it is for all its rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from unlearnbench.api.runtime import Result, UnlearnJob
from unlearnbench_prune import saving
from unlearnbench_prune.bounds import NoSolution, leads
from unlearnbench_prune.certificate import (
    Digests,
    Proof,
    Verdict,
    commitments,
    never_document,
    record_document,
    redirect_document,
)
from unlearnbench_prune.parts import Patch, Place, Spot
from unlearnbench_prune.plugin import PruneParams
from unlearnbench_prune.separation import off
from unlearnbench_prune.serving import sparse
from unlearnbench_prune.standing import Asked, Duals, Standing
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
        proved, document, why = _proved(p, survey, standing, one, digests)
        if document is not None:
            why = unconfirmed(known, document) or ("" if label == document["target"] else ROUNDING)
        if document is not None and not why:
            documents.append(document)
            verdicts.append(Verdict("certified"))
        else:
            verdicts.append(Verdict("failed" if label == one.label else "empirical", why))
        asked.append(proved)
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


def _proved(
    p: PruneParams, survey: Survey, standing: Standing, asked: Asked, digests: Digests
) -> tuple[Asked, dict[str, Any] | None, str]:
    """A row with the multipliers of its claim, and its certificate; or why there is none."""
    if asked.group < 0:
        return asked, None, asked.reason
    group = standing.groups[asked.group]
    spot = group.spots[asked.spot]
    if p.gate == "support" and asked.radius is not None:
        spot = Spot(spot.pattern, asked.sample, asked.radius)
    place = survey.place(spot)
    duals = asked.duals
    if duals is None:
        try:
            duals = _duals(p, standing, place, group.patch, group.target)
        except NoSolution as problem:
            return asked, None, problem.reason
    others = _others(standing, survey, asked, place) if p.gate == "support" else ()
    proof = Proof(place, duals, others)
    document = redirect_document(p, standing, asked, group.patch, group.target, proof, digests)
    return replace(asked, duals=duals), document, ""


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


def _of_class(label: int, predicted: int, unproved: str) -> Verdict:
    """What came of a row whose class is lowered everywhere."""
    if predicted == label:
        return Verdict("failed", unproved or AS_BEFORE)
    return Verdict("empirical", unproved) if unproved else Verdict("certified")


def _duals(p: PruneParams, standing: Standing, place: Place, patch: Patch, target: int) -> Duals:
    """Multipliers for the outputs with the patch on top."""
    shift = patch.shift if standing.everywhere is None else patch.shift + standing.everywhere
    found = leads(place, target, p.bound, margin=p.margin, added=Patch(shift, patch.slope))
    return sparse(found, target)


def _others(standing: Standing, survey: Survey, asked: Asked, place: Place) -> tuple[Mapping[str, Any], ...]:
    """The members of other groups that are proved to be off in a place, wholly or in part."""
    centred = replace(place, centre=asked.sample)  # a point inside tells which rows are worth looking at
    found = []
    member = 0
    for g, group in enumerate(standing.groups):
        for spot in group.spots:
            if g != asked.group:
                proved = off(centred, survey.region(spot.pattern), standing.sharpness)
                if proved.nu < 1:
                    at = proved.duals.nonzero()[:, 0].tolist()
                    duals = [[row, float(proved.duals[row])] for row in at]
                    found.append({"member": member, "rows": list(proved.rows), "duals": duals})
            member += 1
    return tuple(found)


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
