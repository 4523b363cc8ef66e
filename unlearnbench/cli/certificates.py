"""``unlearnbench verify-certificate``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unlearnbench.api.errors import CheckFailed, UnlearnBenchError, UsageError
from unlearnbench.cli.browse import echo_json

if TYPE_CHECKING:
    from unlearnbench.api.runtime import Finding


@dataclass(frozen=True)
class Verified:
    """What came of one record: its certificates, the findings about them, and what stopped the verification."""

    path: Path
    certificates: Sequence[Any] = ()
    findings: Sequence[Finding] = ()
    problem: UnlearnBenchError | None = None

    @property
    def exit_code(self) -> int:
        if not all(finding.fine for finding in self.findings):
            return 1
        return self.problem.exit_code if self.problem else 0

    def to_json(self) -> dict[str, Any]:
        return {
            "path": str(self.path),
            "certificates": len(self.certificates),
            "verified": self.exit_code == 0 and bool(self.certificates),
            "findings": [vars(finding) for finding in self.findings],
            "error": self.problem.to_json() if self.problem else None,
        }


@click.command("verify-certificate")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RECORD...")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def verify_certificate_command(paths: tuple[Path, ...], as_json: bool) -> int:
    """Work out again what the certificates of records state, from the files beside them and the data.

    RECORD is a record.json, the folder of a run, or a folder of runs. Needs the data set and the plugins of the run; no
    model is trained. Exits with 0 where every certificate holds, 1 where one does not or something was changed.
    """
    records = [file for path in paths for file in _records(path)]
    results = []
    for record in records:
        results.append(_verified(record))
        if not as_json:
            _print(results[-1], named=len(records) > 1)
    if not any(result.certificates or result.problem for result in results):
        raise UsageError("nothing-to-verify", f"{_counted(len(results), 'record')} without a certificate",
                         hint="only some unlearners certify what they did")  # fmt: skip
    if as_json:
        echo_json([result.to_json() for result in results])
    else:
        click.echo(_summary(results))
    codes = {result.exit_code for result in results}
    return 1 if 1 in codes else max(codes)


def _records(path: Path) -> Iterator[Path]:
    """The records that an argument means."""
    from unlearnbench.record import records_at

    found = records_at(path)
    if not found:
        raise UsageError("nothing-to-verify", "no record.json below this folder", where=str(path))
    yield from found


def _verified(path: Path) -> Verified:
    from unlearnbench.certificates import certificates_of, is_certified, verify_certificates
    from unlearnbench.record import read_record
    from unlearnbench.registry import registry

    try:
        record = read_record(path)
    except UsageError as problem:  # not what was asked for is wrong, but what the file holds
        changed = CheckFailed(problem.code, problem.message, where=problem.where, hint=problem.hint)
        return Verified(path, problem=changed)
    except UnlearnBenchError as problem:
        return Verified(path, problem=problem)
    if not is_certified(record.document):
        return Verified(path)
    certificates = certificates_of(record.document)
    try:
        return Verified(path, certificates, verify_certificates(record, registry()))
    except UnlearnBenchError as problem:
        return Verified(path, certificates, problem=problem)


def _print(result: Verified, *, named: bool) -> None:
    from unlearnbench.plugins import printable

    if named and (result.findings or result.problem):
        click.echo(printable(str(result.path)))
    for finding in result.findings:
        stated, found = printable(finding.stated), printable(finding.found)
        said = stated if stated == found else f"stated {stated}, found {found}"
        click.echo(f"{'fine ' if finding.fine else 'WRONG'}  {printable(finding.what)}: {said}")
    if result.problem:
        click.echo(f"error: {printable(str(result.problem))}", err=True)


def _summary(results: Sequence[Verified]) -> str:
    """The last line: what was verified, what was not, and what had nothing to verify."""
    fine = [one for result in results if not result.exit_code for one in result.certificates]
    failed = sum(bool(result.exit_code) for result in results)
    void = sum(one.get("holds") is False for one in fine)
    without = sum(not result.certificates and not result.problem for result in results)
    parts = [f"{_counted(len(fine), 'certificate')} verified"]
    if void:
        parts.append(f"{void} of them say{'s' * (void == 1)} that the claim does not hold")
    if failed:
        parts.append(f"{_counted(failed, 'record')} not verified")
    if without:
        parts.append(f"{_counted(without, 'record')} without a certificate")
    return "; ".join(parts)


def _counted(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"
