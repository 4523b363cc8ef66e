"""The in-toto Statement of a submission: which files it speaks of, by their sha256.

Source: the in-toto attestation framework, Statement layer version 1
(https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://unlearnbench.org/attestation/submission/v1"


def statement_of(name: str, suite: str, runs: int, digests: Mapping[str, str]) -> dict[str, Any]:
    """The Statement over files by name, each with its sha256: all of a submission but Statement and signature."""
    return {
        "_type": TYPE,
        "subject": [{"name": file, "digest": {"sha256": digests[file]}} for file in sorted(digests)],
        "predicateType": PREDICATE_TYPE,
        "predicate": {"name": name, "suite": suite, "runs": runs},
    }
