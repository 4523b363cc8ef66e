"""Every certificate of a stream, worked out again from the data, the requests, the models and the seeds alone.

The noise is drawn again from the streams that it came from. Were it taken from the proof, it could be chosen so that
any model at all, the original too, looks like the optimum of its objective.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unlearnbench.api.errors import DataError
from unlearnbench.api.runtime import Finding, Served, VerifyJob
from unlearnbench_scalegun.certificate import Passed, document, limit
from unlearnbench_scalegun.linear import Array, Rows
from unlearnbench_scalegun.model import decoupled, drawn, refusal, weights
from unlearnbench_scalegun.plugin import ScaleGunParams
from unlearnbench_scalegun.residual import true_residual
from unlearnbench_scalegun.standing import Standing
from unlearnbench_scalegun.views import numbers, rows_of

RELATIVE, ABSOLUTE = 1e-6, 1e-12
"""How far a stated number may be from the one that is found."""
SHARE_OF_SLACK = 1e-3
"""Of the worst that rounding can do, what another order of summation may come to where that is more."""
ABSENT = "nothing"

FAMILIES: Mapping[str, tuple[str, ...]] = {
    "what is claimed": ("$schema", "method", "claim"),
    "settings": ("epsilon", "delta", "alpha", "ridge", "level_weights", "rmax", "pooling", "bound"),
    "counts": ("classes", "rows", "served", "removed", "retrains"),
    "retraining": ("retrained", "passed"),
    "budget": ("budget", "value", "holds"),
    "propagation state": ("state",),
}
"""Statements by what they are about; every term is a family of its own."""


TERMS = ("training", "accumulated", "approximation", "rounding", "gradient", "direct", "paper", "worst_case")


def findings(job: VerifyJob, p: ScaleGunParams) -> Iterator[Finding]:
    """One finding for each family of statements, over all requests; of those that are wrong the first is named.

    Where a request cannot be served again at all, that is the only finding.
    """
    again: list[Again] = []
    try:
        replay = Replay(job, p)
        again.extend(map(replay.serve, job.served))  # those before a failure stay
    except DataError as problem:
        place = f"request {len(again)}: can be served again"
        yield Finding(what="requests", stated=place, found=problem.message, fine=False)
        return
    yield Finding(what="requests", stated=f"{len(again)} in order", found="all served again", fine=True)
    stated = [served.certificate for served in job.served]
    for family, names in FAMILIES.items():
        yield compared(family, stated, again, [(name,) for name in names])
    for name in TERMS:
        yield compared(f"terms: {name}", stated, again, [("terms", name)])
    yield inspected("noise in the objective", [one.odd_noise for one in again])
    yield inspected("training rows of the proof", [one.odd_rows for one in again])
    for name in ("direct", "paper"):
        yield within(f"true residual within {name}", stated, again, name)


@dataclass(frozen=True)
class Again:
    """A request as it comes out: the certificate, the slack of rounding, what is odd about the proof, the truth [C]."""

    certificate: Mapping[str, Any]
    slack: float
    odd_noise: str
    odd_rows: str
    true: Array


class Replay:
    """Serves a stream once more, with the models that are given instead of solving for them."""

    def __init__(self, job: VerifyJob, p: ScaleGunParams) -> None:
        self.p = p
        like = job.build()
        self.levels, self.shape = decoupled(like).level_weights, weights(like).shape
        self.w = self.line(job.model)
        noise = drawn(p.alpha, self.w, job.rng("noise"))
        self.standing = Standing.start(job.data, self.w, noise, self.levels, p)

    def line(self, model: nn.Module) -> Array:
        """Weights [C, F] of a model that propagates as the scenario's does.

        Raises:
            DataError: it is another kind of model.
        """
        if not refusal(model) and decoupled(model).level_weights == self.levels and weights(model).shape == self.shape:
            return weights(model)
        raise DataError("wrong-proof", "a certificate is about another kind of model", where="unlearner scalegun",
                        hint="make the record again")  # fmt: skip

    def serve(self, served: Served) -> Again:
        """The next request."""
        p, standing, proof = self.p, self.standing, served.proof
        now, before = self.line(served.model), standing.noise
        stepped = matrix(proof, "stepped", now) if "stepped" in proof else now
        standing.step(self.w, stepped, standing.serve(served.request.kind, served.forget, served.retain))
        terms = standing.terms(stepped)
        value = terms.value(p.bound, p.pooling)
        passed = Passed(value, stepped, before) if value > limit(p, standing) else None
        if passed:
            standing.retrained(now, drawn(p.alpha, now, served.rng("noise")))
            terms = standing.terms(now)
        self.w = now
        after = served.retain.tensors()
        true = true_residual(
            torch.from_numpy(now),
            after,
            rows_of(after),
            after.y,
            self.levels,
            torch.from_numpy(standing.noise),
            p.ridge,
        )
        return Again(
            certificate=document(p, standing, terms, passed),
            slack=float(terms.rounding.sum()),
            odd_noise=odd_noise(proof, standing.noise, before),
            odd_rows=odd_rows(proof, standing.rows),
            true=numbers(true),
        )


def matrix(proof: Mapping[str, Tensor], name: str, like: Array) -> Array:
    """A tensor of the proof, of the weights' shape.

    Raises:
        DataError: it is not there, or of another shape.
    """
    if name not in proof or proof[name].shape != like.shape:
        raise DataError(
            "wrong-proof", f"the proof of a certificate holds no {name} {list(like.shape)}", where="unlearner scalegun",
            hint="make the record again; a certificate without its proof cannot be verified",
        )  # fmt: skip
    return numbers(proof[name]).astype(np.float64)


def odd_noise(proof: Mapping[str, Tensor], noise: Array, before: Array) -> str:
    """What is wrong with the noise of a proof, beside what was drawn for this model and the one before; or nothing."""
    if not same(matrix(proof, "noise", noise), noise):
        return "not what the run's seeds draw"
    if "noise-before" in proof and not same(matrix(proof, "noise-before", before), before):
        return "noise-before is not that of the request before"
    return ""


def odd_rows(proof: Mapping[str, Tensor], rows: Rows) -> str:
    """What is wrong with the training rows of a proof, or nothing."""
    if "rows" not in proof:
        return "none are named"
    return "" if np.array_equal(numbers(proof["rows"]), rows) else "other rows than are left"


def same(one: Array, other: Array) -> bool:
    """Whether two draws are the same, as far as processors agree on a logarithm."""
    return np.allclose(one, other, rtol=RELATIVE, atol=ABSOLUTE)


# -- findings ---------------------------------------------------------------------------------------------------------


def compared(
    what: str, stated: Sequence[Mapping[str, Any]], again: Sequence[Again], paths: Sequence[tuple[str, ...]]
) -> Finding:
    """Whether all certificates state what is found at these places; the first that does not is named."""
    for i, (certificate, own) in enumerate(zip(stated, again, strict=True)):
        for path in paths:
            said, found = at(certificate, path), at(own.certificate, path)
            if not close(said, found, max(ABSOLUTE, own.slack * SHARE_OF_SLACK)):
                place = f"request {i}: {'.'.join(path)}"
                return Finding(what=what, stated=f"{place} = {short(said)}", found=short(found), fine=False)
    last = "; ".join(f"{path[-1]} = {short(at(stated[-1], path))}" for path in paths)
    return Finding(what=what, stated=last, found="the same", fine=True)


def inspected(what: str, odd: Sequence[str]) -> Finding:
    """Whether nothing is odd about any request."""
    for i, complaint in enumerate(odd):
        if complaint:
            return Finding(what=what, stated=f"request {i}: as claimed", found=complaint, fine=False)
    return Finding(what=what, stated="as claimed", found="as claimed", fine=True)


def within(what: str, stated: Sequence[Mapping[str, Any]], again: Sequence[Again], bound: str) -> Finding:
    """Whether the truth stays within the stated bound of every class, after every request."""
    for i, (certificate, own) in enumerate(zip(stated, again, strict=True)):
        most = at(certificate, ("terms", bound))
        for k, true in enumerate(own.true.tolist()):
            one = most[k] if isinstance(most, list) and k < len(most) else None
            # None is a bound that overflowed, which bounds nothing.
            if not isinstance(one, int | float) or not true <= one:
                place = f"request {i}, class {k}: at most {short(one)}"
                return Finding(what=what, stated=place, found=short(true), fine=False)
    largest = max(float(own.true.max()) for own in again)
    return Finding(what=what, stated="within, for every class and request", found=f"at most {largest:.3g}", fine=True)


def at(document: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    """What a document says at a place; ABSENT where it says nothing."""
    found: Any = document
    for name in path:
        found = found.get(name, ABSENT) if isinstance(found, Mapping) else ABSENT
    return found


def close(said: Any, found: Any, absolute: float) -> bool:
    """Whether a statement is what was found: real numbers nearly, everything else exactly."""
    if isinstance(found, list):
        return isinstance(said, list) and len(said) == len(found) and all(
            close(one, other, absolute) for one, other in zip(said, found, strict=True)
        )  # fmt: skip
    if isinstance(found, float) and isinstance(said, int | float) and not isinstance(said, bool):
        return abs(said - found) <= absolute + RELATIVE * abs(found)
    return type(said) is type(found) and bool(said == found)


def short(value: Any) -> str:
    """A value in few characters."""
    if isinstance(value, float):
        return f"{value:.9g}"
    if isinstance(value, list):
        return f"[{', '.join(map(short, value))}]"
    return str(value)
