"""What binds a certificate: its digest, what is signed of it, commitments, and the chain of a stream's steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from unlearnbench_verifier.fields import Field
from unlearnbench_verifier.files import json_digest, sha256
from unlearnbench_verifier.findings import Refusal


def digest(document: Mapping[str, Any]) -> str:
    """Digest of a certificate: of all but when it was made and who signed it."""
    return json_digest({name: value for name, value in document.items() if name not in ("created", "signature")})


def unsigned(document: Mapping[str, Any]) -> dict[str, Any]:
    """A certificate without its signature, which is what the signature is over."""
    return {name: value for name, value in document.items() if name != "signature"}


def sample_commitment(salt: bytes, sample: np.ndarray[Any, Any]) -> str:
    """What stands for a sample (any shape, read row by row) in a certificate: nobody without the salt can guess it.

    Raises:
        Refusal: ``bad-sample``, numbers that are not those of float32, so that other samples had the same commitment.
    """
    with np.errstate(over="ignore"):
        stored = np.asarray(sample).astype("<f4")
    if not np.array_equal(stored, sample):
        raise Refusal("bad-sample", "holds numbers that float32 does not have", where="sample", hint="give float32")
    return sha256(salt, stored.tobytes())


def label_commitment(salt: bytes, label: int) -> str:
    """What stands for a label in a certificate."""
    return sha256(salt, str(label).encode())


def pattern_commitment(salt: bytes, pattern: np.ndarray[Any, Any]) -> str:
    """What stands for a pattern (uint8 [U]) where the gate is committed; ``salt`` is that of the model."""
    return sha256(salt, np.asarray(pattern, dtype=np.uint8).tobytes())


# -- issues ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Issue:
    """What one step of a stream gave out: two models, and the commitments of its requests in order."""

    step: int
    base: str
    patched: str
    requests: tuple[str, ...]
    previous: str | None
    """Digest of the issue of the step before; None at step 0."""

    def document(self) -> dict[str, Any]:
        """As JSON, of which the digest is made."""
        return {
            "step": self.step,
            "base": self.base,
            "patched": self.patched,
            "requests": list(self.requests),
            "previous": self.previous,
        }


def previous_step(entries: Mapping[str, Field]) -> str | None:
    """Read ``previous``, the digest of the step before, of what has a ``step`` too.

    Raises:
        Refusal: neither null at step 0 nor a digest at a later one.
    """
    if entries["step"].integer():
        return entries["previous"].digest()
    entries["previous"].check_null("at step 0")
    return None


def parse_issue(document: Any) -> Issue:
    """Read the issue of a step.

    Raises:
        Refusal: ``bad-issue``, with the JSON path of the first thing that is wrong.
    """
    entries = Field(document, code="bad-issue").properties("step", "base", "patched", "requests", "previous")
    base, patched = (entries[name].digest() for name in ("base", "patched"))
    requests = tuple(item.digest() for item in entries["requests"].items())
    return Issue(entries["step"].integer(), base, patched, requests, previous_step(entries))


def issue_digest(issue: Issue) -> str:
    """Digest of the issue of a step, which the next one names."""
    return json_digest(issue.document())
