"""What the certificate of a run says, as readings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from unlearnbench.api import NoParams
from unlearnbench.api.runtime import Better, Component, Evidence, Reading
from unlearnbench_prune.certificate import METHOD

NO_CERTIFICATE = "no-certificate"
NAMES: Mapping[str, Better] = {"certified": "higher", "empirical": "lower", "failed": "lower"}


class CertificateReadings(Component[NoParams]):
    """Shares of all rows that were asked for so far; a subject without a certificate of PRUNE has none, and says so."""

    def measure(self, evidence: Evidence) -> Iterator[Reading]:
        certificate = evidence.certificate
        if certificate is None or certificate.get("method") != METHOD:
            for name, better in NAMES.items():
                yield Reading(name, None, 0, better, "forget", status=NO_CERTIFICATE)
            return
        for name, better in NAMES.items():
            yield Reading(name, certificate[name] / certificate["rows"], certificate["rows"], better, "forget")
