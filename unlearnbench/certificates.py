"""Certificates of a record, verified: all that they rest on is loaded or worked out anew, and nothing is believed.

The host goes as far as it can without knowing the method: the record is what was written, the data and the requests are
those of the data set here, weights and proofs are those that the certificates name. What a certificate states is then
worked out by the method's own verifier from these. A check that fails ends it: those that follow rest upon it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from unlearnbench.api.errors import DataError, IncompatibleError, PluginError, UnlearnBenchError, UsageError
from unlearnbench.api.runtime import Finding, Ref, Served, VerifiesCertificates, VerifyJob, tensors_digest
from unlearnbench.guard import deterministic, guarded
from unlearnbench.identity import file_digest
from unlearnbench.networks import build_network, restore_network
from unlearnbench.phases import place_of
from unlearnbench.proofs import Proofs, Tensors, read_proofs
from unlearnbench.record import PROOFS, SEALED_BY, Record, cannot_read, content_digest, seal, verify_predictions
from unlearnbench.registry import Registry
from unlearnbench.runner import resolved_data
from unlearnbench.scenes import Scene, load_dataset, make_scene, prepare
from unlearnbench.served import wrong_certificate
from unlearnbench.spec import RunSpec
from unlearnbench.unlearners import Stage, stages_of

CPU = torch.device("cpu")
_UNKNOWN = frozenset({"unknown-dataset", "unknown-model", "unknown-unlearner"})


def certificates_of(document: Mapping[str, Any]) -> list[Any]:
    """The certificate after each request of a record, in order; None where there is none."""
    return [request["certificate"] for request in document.get("stream", ())] or [document["certificate"]]


def is_certified(document: Mapping[str, Any]) -> bool:
    """Whether a record states anything that could be verified."""
    return "proofs" in document or any(one is not None for one in (document["certificate"], *certificates_of(document)))


def verify_certificates(record: Record, components: Registry, base: Path | None = None) -> list[Finding]:
    """Findings about all certificates of a record, up to the first check that fails.

    ``base`` is the folder of files that requests name.

    Raises:
        IncompatibleError: a component of the run is not installed, or its unlearner has no verifier.
        DataError: the proofs or the data set are not there.
        PluginError: a plugin broke.
    """
    found: list[Finding] = []
    try:
        for findings in _checks(record, components, base):
            found += findings
            if not all(finding.fine for finding in findings):
                break
    except UsageError as problem:
        if problem.code in _UNKNOWN:
            raise IncompatibleError(
                "missing-plugin", f"{problem.message} is installed", where=str(record.path),
                hint="install the plugin that brings it; the record names it under components",
            ) from problem  # fmt: skip
        found.append(_wrong("spec", "a run that can be made", str(problem)))
    return found


def _checks(record: Record, components: Registry, base: Path | None) -> Iterator[list[Finding]]:
    """The checks, one after the other; each rests on those before it."""
    document = record.document
    yield list(_as_written(record))
    spec = RunSpec.from_json(document["spec"])
    yield list(_stated(document, spec))
    stages = stages_of(components, spec.unlearner)
    stage = stages[-1]  # of a chain, the one that speaks for the model
    verify = _verifier(stage)
    with deterministic(min(spec.threads, os.cpu_count() or 1)):
        scene = _scene(replace(spec, device="cpu"), components, base)
        if isinstance(scene, Finding):
            yield [scene]
            return
        yield list(_same_data(document, scene))
        proofs = read_proofs(record.folder / PROOFS, len(spec.requests))
        if isinstance(proofs, str):
            yield [_wrong(PROOFS, "weights and proofs of the run", proofs)]
            return
        yield list(_same_tensors(document, scene, proofs))
        networks = _networks(document, proofs, components)
        if isinstance(networks, Finding):
            yield [networks]
            return
        places = [place_of(stage, len(stages), step) for step in range(len(spec.requests))]
        job = _job(spec, scene, components, networks, certificates_of(document), proofs, places)
        yield _worked_out(verify, job, f"unlearner {stage.spec.name}", scene)


# -- what needs no method ----------------------------------------------------------------------------------------------


def _as_written(record: Record) -> Iterator[Finding]:
    """The record and the files beside it have the digests that it states."""
    document = record.document
    yield _compared("digest of the record", document["digest"], content_digest(document))
    if SEALED_BY in document:
        yield _compared("seal of the record", document[SEALED_BY], seal(document))
    path = record.folder / PROOFS
    try:
        yield _compared(PROOFS, str(document.get("proofs", "none")), file_digest(path))
    except OSError as problem:
        raise cannot_read(path, problem) from problem
    try:
        verify_predictions(record)
    except DataError as problem:
        yield _wrong("predictions", "those of the run", problem.message)


def _stated(document: Mapping[str, Any], spec: RunSpec) -> Iterator[Finding]:
    """The record and its certificates are of this run, whole, and of the form that they say they have."""
    yield _compared("spec of the run", document["spec_id"], spec.id)
    yield _compared("name of the run", document["id"], spec.run_id())
    certificates = certificates_of(document)
    requests = len(spec.requests)
    given = sum(isinstance(one, Mapping) for one in certificates)
    yield _compared("certificates", f"{requests} for {requests} requests", f"{given} for {requests} requests")
    last = "that after the last request"
    same = document["certificate"] == certificates[-1]
    yield Finding(what="certificate of the record", stated=last, found=last if same else "another", fine=same)
    formed = [wrong_certificate(one) or _misplaced(one, step) for step, one in enumerate(certificates)]
    yield from _each("form of the certificate after request", [""] * len(formed), formed)


def _misplaced(certificate: Any, step: int) -> str:
    """Why a certificate cannot be that after request ``step``; only a schema says where to look."""
    served = certificate.get("served", step + 1) if isinstance(certificate, Mapping) and "$schema" in certificate else 0
    return f"it counts {served} requests" if served not in (0, step + 1) else ""


def _scene(spec: RunSpec, components: Registry, base: Path | None) -> Scene | Finding:
    """Data and requests, loaded anew; requests that the data have no room for are a finding."""
    splits, files = load_dataset(components, spec.dataset)
    try:
        return make_scene(spec, prepare(spec, splits), files, CPU, base)
    except (DataError, IncompatibleError, UsageError) as problem:
        if problem.code == "missing-file":
            raise
        return _wrong("requests", "such as the data can serve", problem.message)


def _same_data(document: Mapping[str, Any], scene: Scene) -> Iterator[Finding]:
    """Rows and requests of the record are those of the data set here."""
    again = resolved_data(scene)
    for part in ("train", "validation", "test"):
        stated, found = document["data"][part], again["data"][part]
        if stated or found:
            yield _compared(f"{part} rows", _rows(stated), _rows(found))
    stated, found = document["data"]["files"], again["data"]["files"]
    for name in sorted({*stated, *found}):
        yield _compared(f"file {name}", stated.get(name, "none"), found.get(name, "none"))
    yield from _each("request", *(list(map(_selected, each["requests"])) for each in (document, again)))


def _rows(part: Mapping[str, Any] | None) -> str:
    return f"{part['rows']} of digest {part['digest']}" if part else "none"


def _selected(request: Mapping[str, Any]) -> str:
    """Everything that a record says of a request, the digest first."""
    rest = ", ".join(f"{name} {value}" for name, value in sorted(request.items()) if name != "digest")
    return f"{request['digest']} ({rest})"


def _same_tensors(document: Mapping[str, Any], scene: Scene, proofs: Proofs) -> Iterator[Finding]:
    """Weights and proofs have the digests that the models of the record and the certificates state."""
    originals, unlearned = (document["models"].get(name, []) for name in ("original", "unlearned"))
    yield _compared(
        "weights of the original", ", ".join(one["sha256"] for one in originals), tensors_digest(proofs.original)
    )
    weights = list(map(tensors_digest, proofs.models))
    yield from _each("weights after request", [one["sha256"] for one in unlearned], weights)
    about = {
        "model": weights,
        "proof": list(map(tensors_digest, proofs.proofs)),
        "data": [part.retain.view("retain").digest() for part in scene.parts],
    }
    for name, found in about.items():
        stated = [_named(certificate, name) for certificate in certificates_of(document)]
        yield from _each(f"{name} of the certificate after request", stated, found)


def _named(certificate: Mapping[str, Any], what: str) -> str:
    digests = certificate.get("digests")
    return str(digests.get(what)) if isinstance(digests, Mapping) else "none"


# -- what the method works out -----------------------------------------------------------------------------------------


def _verifier(stage: Stage) -> VerifiesCertificates:
    where = f"unlearner {stage.spec.name}"
    with guarded(where):
        instance = stage.make("unlearn")
    if not isinstance(instance, VerifiesCertificates):
        raise IncompatibleError("no-verifier", "brings no verifier, so its certificates can only be read", where=where,
                                hint="ask its maintainers for a verify method")  # fmt: skip
    return instance


def _networks(document: Mapping[str, Any], proofs: Proofs, components: Registry) -> list[nn.Module] | Finding:
    """The original and the model after each request; weights that fit no network are a finding."""
    described = [document["models"]["original"][0], *document["models"]["unlearned"]]
    found = []
    for step, (model, weights) in enumerate(zip(described, (proofs.original, *proofs.models), strict=True)):
        try:
            found.append(_network(model["ref"], weights, components))
        except UnlearnBenchError as problem:
            if problem.code in _UNKNOWN:
                raise
            return _wrong(f"network after request {step - 1}" if step else "network of the original",
                          "one that the weights are of", problem.message)  # fmt: skip
    return found


def _network(ref: Mapping[str, Any], weights: Tensors, components: Registry) -> nn.Module:
    try:
        return restore_network(components, Ref.from_json(ref), weights, CPU)
    except RuntimeError as problem:  # torch's word for weights of other names or shapes
        raise UsageError("wrong-weights", " ".join(str(problem).split())[:200]) from problem


def _job(
    spec: RunSpec,
    scene: Scene,
    components: Registry,
    networks: Sequence[nn.Module],
    certificates: Sequence[Mapping[str, Any]],
    proofs: Proofs,
    places: Sequence[str],
) -> VerifyJob:
    """What a verifier gets; ``places`` name the random streams of each request."""
    served = [
        Served(
            request=part.request,
            forget=part.forget.view("forget"),
            retain=part.retain.view("retain"),
            model=model,
            certificate=certificate,
            proof=proof,
            root_seed=spec.seeds.unlearn,
            phase=place,
        )
        for part, model, certificate, proof, place in zip(
            scene.parts, networks[1:], certificates, proofs.proofs, places, strict=True
        )
    ]
    return VerifyJob(
        task=scene.task,
        device=CPU,
        root_seed=spec.seeds.train,
        phase="train",
        builder=lambda ref, seed: build_network(components, ref or scene.ref, seed, CPU),
        data=scene.train.view("train"),
        model=networks[0],
        served=tuple(served),
    )


def _worked_out(verifier: VerifiesCertificates, job: VerifyJob, where: str, scene: Scene) -> list[Finding]:
    """The method's own findings; what its verifier refuses to look at is one that is wrong."""
    try:
        with guarded(where, scene.shared, "verify"):
            found = list(verifier.verify(job))
    except PluginError:
        raise
    except UnlearnBenchError as problem:
        return [_wrong("certificates", "such as the method can verify", problem.message)]
    if not found or not all(_is_finding(finding) for finding in found):
        raise PluginError("broken-contract", "verify must yield Finding objects, at least one", where=where)
    return found


def _is_finding(found: object) -> bool:
    if not isinstance(found, Finding):
        return False
    return isinstance(found.fine, bool) and all(isinstance(v, str) for v in (found.what, found.stated, found.found))


# -- findings ----------------------------------------------------------------------------------------------------------


def _wrong(what: str, stated: str, found: str) -> Finding:
    return Finding(what=what, stated=stated, found=found, fine=False)


def _compared(what: str, stated: str, found: str) -> Finding:
    return Finding(what=what, stated=stated, found=found, fine=stated == found)


def _each(what: str, stated: Sequence[str], found: Sequence[str]) -> list[Finding]:
    """One finding for all requests where they agree, else one for each that does not."""
    if len(stated) != len(found):
        return [_wrong(f"{what}s", str(len(stated)), str(len(found)))]
    pairs = list(enumerate(zip(stated, found, strict=True)))
    wrong = [_wrong(f"{what} {k}", one, other) for k, (one, other) in pairs if one != other]
    if wrong or len(pairs) == 1:
        return wrong or [_compared(f"{what} 0", stated[0], found[0])]
    return [_compared(f"{what}s 0 to {len(pairs) - 1}", *[f"{len(pairs)} that agree"] * 2)]
