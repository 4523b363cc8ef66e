"""``unlearnbench verify-certificate``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unlearnbench.api.errors import CheckFailed, DataError, IncompatibleError, UnlearnBenchError, UsageError
from unlearnbench.cli.browse import echo_json

if TYPE_CHECKING:
    from unlearnbench.api.runtime import Finding

VERIFIERS = "unlearnbench.verifiers"
"""Entry points named after methods: commands that verify certificates which stand alone."""


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
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH...")
@click.option("--model", type=click.Path(path_type=Path), metavar="FILE", help="Model that the certificates speak of.")
@click.option("--sample", type=click.Path(path_type=Path), metavar="FILE", help="Forgotten input, as a .npy file.")
@click.option("--label", type=int, metavar="N", help="Label of the forgotten input.")
@click.option("--exact", is_flag=True, help="Work without any rounding.")
@click.option("--previous", type=click.Path(path_type=Path), metavar="FILE", help="What was issued one step before.")
@click.option("--challenge", metavar="URL|FILE", help="Ask a served model at points drawn in the region.")
@click.option("--points", type=click.IntRange(min=1), metavar="N", help="How many points are drawn.")
@click.option("--seed", type=click.IntRange(min=0), metavar="N", help="Draw the same points again.")
@click.option("--draw", type=click.Path(path_type=Path), metavar="FILE", help="Write points, to be answered later.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def verify_certificate_command(
    paths: tuple[Path, ...],
    model: Path | None,
    sample: Path | None,
    label: int | None,
    exact: bool,
    previous: Path | None,
    challenge: str | None,
    points: int | None,
    seed: int | None,
    draw: Path | None,
    as_json: bool,
) -> int:
    """Work out again what the certificates of records state, from the files beside them and the data.

    PATH is a record.json, the folder of a run, or a folder of runs. Needs the data set and the plugins of the run; no
    model is trained. Exits with 0 where every certificate holds, 1 where one does not or something was changed.

    With --model, PATH is a certificate that stands alone. It goes to the verifier of the method that it names, as do
    the other options. Needs neither the record nor the data.
    """
    about = {"--sample": sample, "--label": label, "--previous": previous}
    asking = {"--challenge": challenge, "--points": points, "--seed": seed, "--draw": draw}
    options = [f"{name}={value}" for name, value in {**about, **asking}.items() if value is not None]
    options += ["--exact"] * exact
    if model is not None:
        return _handed_over(paths, [f"--model={model}", *options, *["--json"] * as_json])
    if options:
        name = options[0].partition("=")[0]
        raise click.BadOptionUsage(name, f"{name} needs --model: records bring their own files")
    return _verify_records(paths, as_json)


def _handed_over(paths: Sequence[Path], options: Sequence[str]) -> int:
    """What the verifier of a method says of certificates that stand alone."""
    return _verifier(_method(paths[0]))([*options, "--", *map(str, paths)])


def _method(path: Path) -> str:
    """The method that a certificate names."""
    from unlearnbench.record import cannot_read
    from unlearnbench.schemas import MAX_BYTES, load_json

    try:
        with path.open("rb") as stream:
            text = stream.read(MAX_BYTES + 1).decode("utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise cannot_read(path, problem) from problem
    try:
        document = load_json(text, where=str(path))
    except UsageError as problem:  # not what was asked for is wrong, but what the file holds
        raise DataError(problem.code, problem.message, where=problem.where, hint=problem.hint) from problem
    method = document.get("method") if isinstance(document, dict) else None
    if not isinstance(method, str):
        raise UsageError("nothing-to-verify", "names no method", where=str(path),
                         hint="with --model, give certificates that stand alone; records need no --model")  # fmt: skip
    return method


def _verifier(method: str) -> Callable[[Sequence[str]], int]:
    """The command of the distribution that verifies the certificates of a method.

    It is not one of the plugins, which bring what runs need; but it is code of others and under the same allow-list.
    """
    from importlib.metadata import entry_points

    from unlearnbench.plugins import allow_list

    names = allow_list()
    for entry in entry_points(group=VERIFIERS, name=method):
        if names is None or names & {entry.name, entry.dist.name if entry.dist else ""}:
            main: Callable[[Sequence[str]], int] = entry.load()
            return main
    raise IncompatibleError("no-verifier", "no verifier for it is installed", where=f"method {method}",
                            hint=f"install what brings `{method}` to the entry points {VERIFIERS}")  # fmt: skip


def _verify_records(paths: Sequence[Path], as_json: bool) -> int:
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
