"""``unlearnbench-verify-certificate``: reads what it is given, has it checked, and says what came of it."""

# ruff: noqa: T201 - a command line prints

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from unlearnbench_verifier.findings import Finding, Refusal, Unreadable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from unlearnbench_verifier.model import Model

POINTS = 100
MOST_POINTS = 100_000
CLAIMS = ("redirect", "never")
"""Findings that a certificate is for: one of them has to hold."""

DESCRIPTION = """\
Check certificates of unlearning by patches against the model that they speak of.

A certificate claims: whatever input lies in the linear region of the forgotten one (cut by a box around it where a
radius is stated, and by the box of inputs that the model is for), the patched model, in exact arithmetic over the
stored weights, answers with the target, which leads every other output by the margin. That is proved here from the
weights in the file, the patch and the multipliers in the certificate; no solver is run and nobody who made them is
believed.

A certificate of the other kind (its claim is "never") is about a class: at every input of the box, another output is
ahead of that of the class by the margin, so that it is predicted nowhere. That is proved from the weights by intervals.
"""

EPILOG = """\
proved:
  redirection    of every input in the region, not of the forgotten one alone; with the gates exact and committed, of
                 those with the region's activation pattern
  never          of every input of the box, that the class of the certificate is not predicted: a filter on the outputs
  locality       with the gates exact and committed, by how these are worked out and where nothing is added everywhere:
                 inputs that match no member get what the base model says
  identity       the digests of base and patched model; with --sample, that this input lies in the region; with the
                 owner's copy, that the certificate is about it
not proved:
  that the model is like one that never saw the data. The base weights are unchanged, and the patch itself tells a
  reader of the weights which region was forgotten (the gate committed hides its pattern, not that there is one), and
  with an exact gate and a radius the input itself
  anything about inputs outside the region: near copies of the forgotten input may lie there
  what is served. A server may hold another model, go back to an older one, or know what it is asked about; --challenge
  finds answers that break the claim on a share of the region, with the probability that it prints, if the server cannot
  tell its points from others; a model that answers there as claimed is not found
    what rounding does in a server: a lead as small as the margin may be lost, and near a border an exact gate may miss

exit codes:
  0  every claim that was looked at holds, redirection (or never) among them
  1  a claim is wrong, or redirection could not be looked at (a committed region needs --sample)
  2  what was asked for cannot be done: wrong options, a model that is none, a challenge without an answer
  5  a file is missing, unreadable, cut off or too large
  6  interrupted
"""


@dataclass(frozen=True)
class Checked:
    """What came of one certificate: findings, or what stopped the check."""

    path: str
    findings: Sequence[Finding] = ()
    problem: Refusal | None = None

    @property
    def proved(self) -> bool:
        """Nothing is wrong, and the claim itself was looked at."""
        fine = {finding.what: finding.fine for finding in self.findings}
        return self.problem is None and False not in fine.values() and any(fine.get(claim) is True for claim in CLAIMS)

    @property
    def exit_code(self) -> int:
        wrong = any(finding.fine is False for finding in self.findings)
        return 0 if self.proved else self.problem.exit_code if self.problem and not wrong else 1

    def to_json(self) -> dict[str, Any]:
        problem = self.problem
        error = problem and {k: getattr(problem, k) for k in ("code", "where", "message", "hint")}
        findings = [{"what": f.what, "said": f.said, "fine": f.fine} for f in self.findings]
        return {"path": self.path, "verified": self.proved, "findings": findings, "error": error}


class _Parser(argparse.ArgumentParser):
    """One line for a wrong command line, as for every other problem."""

    def error(self, message: str) -> NoReturn:
        raise Refusal("usage", message, hint="see --help")


def run() -> None:
    """Run the command line and exit with its code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    sys.exit(main())


def main(argv: Sequence[str] | None = None) -> int:
    """Check what the arguments name and print what came of it.

    Args:
        argv: Arguments without the program's name; those of the process if None.

    Returns:
        The exit code, as ``--help`` lists them. Nothing is raised.
    """
    try:
        code = _checked(_parser().parse_args(argv))
        sys.stdout.flush()
    except Refusal as problem:
        return _fail(problem, problem.exit_code)
    except SystemExit:  # --help, which has said it all
        return 0
    except KeyboardInterrupt:
        return _fail("[interrupted] stopped; give the same command again", 6)
    except BrokenPipeError:
        return _reader_left()
    except MemoryError:
        return _fail(Unreadable("too-large", "there is not enough memory for these files"), Unreadable.exit_code)
    except Exception as problem:  # whatever a file can do, it must not look like a claim that holds
        return _fail(f"[internal] {type(problem).__name__}: {problem}; this is a bug, please report it", 1)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="unlearnbench-verify-certificate", description=DESCRIPTION, epilog=EPILOG, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("certificates", nargs="+", metavar="CERTIFICATE", help="a certificate, as JSON")
    parser.add_argument("--model", required=True, metavar="FILE", help="the patched model, as safetensors")
    parser.add_argument("--sample", metavar="FILE", help="the forgotten input, as .npy: is it in the region?")
    parser.add_argument("--label", type=int, metavar="N", help="its label: is the target another one?")
    parser.add_argument("--exact", action="store_true", help="work without any rounding; slower")
    parser.add_argument("--previous", metavar="FILE", help="what was issued one step before: does the chain hold?")
    parser.add_argument(
        "--challenge",
        metavar="URL|FILE",
        help="ask whoever serves the model at points of the region (or box), or read answers",
    )
    parser.add_argument("--points", type=int, default=POINTS, metavar="N", help=f"how many points (default {POINTS})")
    parser.add_argument("--seed", type=int, metavar="N", help="draw the same points again (default: nobody knows them)")
    parser.add_argument("--draw", metavar="FILE", help="write the points, .npy or .json, to have them answered later")
    parser.add_argument("--json", action="store_true", dest="as_json", help="print JSON")
    return parser


def _checked(options: argparse.Namespace) -> int:
    _check_options(options)
    from unlearnbench_verifier.files import read_json, read_sample, read_tensors
    from unlearnbench_verifier.model import read_model

    sample = None if options.sample is None else read_sample(options.sample).astype("float64")
    previous = None if options.previous is None else read_json(options.previous)
    model = read_model(read_tensors(options.model))
    results = []
    for path in options.certificates:
        results.append(_check_one(path, model, sample, previous, options))
        if not options.as_json:
            _print(results[-1], named=len(options.certificates) > 1)
    if options.as_json:
        print(json.dumps([result.to_json() for result in results], indent=2, ensure_ascii=True))
    else:
        print(_summary(results))
    codes = {result.exit_code for result in results}
    return 1 if 1 in codes else max(codes)


def _check_options(options: argparse.Namespace) -> None:
    """Refuse options that do not go together.

    Raises:
        Refusal: usage.
    """
    answers = options.challenge if options.challenge is not None and "://" not in options.challenge else None
    alone = {"--sample": options.sample, "--label": options.label, "--draw": options.draw, "a file of answers": answers}
    for name, value in alone.items():
        if len(options.certificates) > 1 and value is not None:
            raise Refusal("usage", f"{name} belongs to one certificate, and several are given")
    if options.points < 1 or options.points > MOST_POINTS:
        raise Refusal("usage", f"--points must be 1 to {MOST_POINTS}")
    if options.seed is not None and options.seed < 0:
        raise Refusal("usage", "--seed must be 0 or more")
    if options.challenge is None and options.draw is None and options.seed is not None:
        raise Refusal("usage", "--seed needs --challenge or --draw")
    if answers is not None and options.seed is None:
        raise Refusal("usage", "answers in a file need the --seed that --draw printed when it wrote the points")
    if options.challenge is not None and options.draw is not None:
        raise Refusal("usage", "--draw writes points for later; give it without --challenge")


def _check_one(
    path: str, model: Model, sample: NDArray[np.float64] | None, previous: object, options: argparse.Namespace
) -> Checked:
    """Check one certificate; the model is read already."""
    from unlearnbench_verifier.checks import check
    from unlearnbench_verifier.files import read_json

    findings: list[Finding] = []
    try:
        document = read_json(path)
        findings += check(model, document, sample=sample, label=options.label, exact=options.exact, previous=previous)
        if options.challenge is not None or options.draw is not None:
            findings.append(_challenge(document, model, sample, options, proved=Checked(path, findings).proved))
    except Refusal as problem:
        return Checked(path, findings, problem)
    return Checked(path, findings)


def _challenge(
    document: object, model: Model, sample: NDArray[np.float64] | None, options: argparse.Namespace, *, proved: bool
) -> Finding:
    """What whoever serves the model answers to points of the region, or the points to ask about."""
    from unlearnbench_verifier.challenge import ask, draw, judge, said, write_points
    from unlearnbench_verifier.challenge_class import draw_in_box, judge_class
    from unlearnbench_verifier.form import Never, parse_any

    if not proved:
        return Finding("challenge", "nobody was asked: the certificate does not hold", None)
    certificate = parse_any(document)
    seed = secrets.randbits(63) if options.seed is None else options.seed
    if isinstance(certificate, Never):
        points = draw_in_box(model.network.features, certificate, options.points, seed)
    else:
        points = draw(model, certificate, options.points, seed, sample)
    if options.draw is not None:
        write_points(Path(options.draw), points)
        return Finding("challenge", f"{len(points)} points are in {options.draw}; --seed={seed} draws them again", None)
    answers = ask(options.challenge, points)
    if isinstance(certificate, Never):
        violations = judge_class(points, answers, certificate)
        return Finding("challenge", said(len(points), violations, "box"), violations == 0)
    violations = judge(points, answers, certificate.target, certificate.margin)
    return Finding("challenge", said(len(points), violations), violations == 0)


# -- saying it ---------------------------------------------------------------------------------------------------------


def _print(result: Checked, *, named: bool) -> None:
    if named:
        print(_printable(result.path))
    for finding in result.findings:
        mark = "-" if finding.fine is None else "fine" if finding.fine else "WRONG"
        print(f"{mark:<7}{_printable(finding.what)}: {_printable(finding.said)}")
    if result.problem:
        sys.stdout.flush()  # so that the error comes after what was found, wherever both go
        _fail(result.problem, result.problem.exit_code)


def _summary(results: Sequence[Checked]) -> str:
    """The last line: how many hold, and what became of the others."""
    holding = sum(result.proved for result in results)
    wrong = sum(any(finding.fine is False for finding in result.findings) for result in results)
    stopped = sum(result.problem is not None and result.exit_code != 1 for result in results)
    open_ = len(results) - holding - wrong - stopped
    parts = [f"{holding} of {len(results)} certificate{'s' * (len(results) != 1)} verified"]
    parts += [f"{n} {what}" for n, what in ((wrong, "wrong"), (open_, "not proved"), (stopped, "not checked")) if n]
    return "; ".join(parts)


def _printable(text: str, most: int = 1000) -> str:
    """Text from a file in one line without control characters, which could rewrite a terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:most]


def _fail(problem: object, code: int) -> int:
    print(f"error: {_printable(str(problem))}", file=sys.stderr)
    return code


def _reader_left() -> int:
    """Leave quietly, as after ``| head``, and keep the interpreter from flushing into nothing."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 128 + 13  # what a shell says of SIGPIPE
