"""``unlearnbench run``."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unlearnbench.api.errors import UsageError

if TYPE_CHECKING:
    from unlearnbench.price import Price
    from unlearnbench.runner import Outcome
    from unlearnbench.spec import RunSpec

MAX_SEEDS = 10_000
"""In one range: more is a slip of the keyboard."""


@click.command("run")
@click.argument("experiment", required=False, type=click.Path(path_type=Path))
@click.option(
    "-u", "--unlearner", "unlearners", multiple=True, metavar="NAME", help="Unlearner, or a chain a+b. Repeatable."
)
@click.option("--all-unlearners", is_flag=True, help="Every installed unlearner that can serve the request.")
@click.option(
    "--scenario", metavar="NAME", help="A named scenario; see `list scenarios`. [default: digits-cnn-random10/v1]"
)
@click.option(
    "--suite",
    metavar="NAME",
    help="What a suite of the leaderboard fixes; with --scenario, one scenario of it. See `leaderboard suites`.",
)
@click.option("--dataset", metavar="NAME", help="Data set, in place of the scenario's.")
@click.option("--model", metavar="NAME", help="Model, in place of the scenario's.")
@click.option(
    "--forget",
    multiple=True,
    metavar="REQUEST",
    help="random=0.1, class=3, group=person:7, ids=1,2, file=F; on graphs edges=0.01, nodes=50, features=20, "
    "edges=100:highest by degree; or JSON. Repeatable.",
)
@click.option(
    "--requests",
    metavar="COUNTxSIZE|FILE",
    help="A stream served in one run: 100x1 is 100 requests of 1 row or element each, like --forget or the scenario's.",
)
@click.option(
    "--measure-every",
    type=click.IntRange(min=1),
    metavar="N",
    help="Take readings, and train gold, after every N-th request of a stream and after the last. [default: 1]",
)
@click.option(
    "--measure",
    "measures",
    multiple=True,
    metavar="NAME",
    help="Measure, in place of the scenario's, or sklearn:f1_macro@test. Repeatable.",
)
@click.option(
    "--profile",
    type=click.Choice(["smoke", "standard", "audit", "gold"]),
    help="How much evidence to take, from cheap to dear, in place of the scenario's measures.",
)
@click.option(
    "--seed",
    "seed",
    multiple=True,
    metavar="N",
    help="Seed of everything, or a range such as 0..4. Repeatable. [default: 0]",
)
@click.option(
    "--seeds", "seeds", multiple=True, metavar="PART=LIST", help="Seeds apart: train=0,1,2 unlearn=0..4 measure=0."
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME.PARAM=VALUE",
    help="A parameter: salun.epochs=5, recipe.lr=0.01. Repeatable.",
)
@click.option(
    "--paper-parameters",
    is_flag=True,
    help="The parameters of each unlearner's paper, in place of those that the scenario has for its own size.",
)
@click.option(
    "--validation",
    type=click.FloatRange(0, 1, max_open=True),
    metavar="SHARE",
    help="Share of the training rows kept for validation.",
)
@click.option(
    "--preprocess",
    "preprocessing",
    multiple=True,
    metavar="STEP",
    help="standardize, minmax, normalize, resize, grayscale, channels or flatten, in the order given. Repeatable.",
)
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    help="Weights of your own original (.safetensors or a state_dict file).",
)
@click.option(
    "--threads", type=click.IntRange(min=1), metavar="N", help="Threads on the CPU; results depend on it. [default: 1]"
)
@click.option("--device", type=click.Choice(["cpu", "cuda", "mps", "auto"]), help="Device. [default: cpu]")
@click.option(
    "--budget",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Most time for each phase of an unlearner.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Folder of records."
)
@click.option("--store", type=click.Path(path_type=Path), help="Folder of stored models. [default: OUT/store]")
@click.option("--download", is_flag=True, help="Fetch missing data first; nothing is ever downloaded without it.")
@click.option("--no-tracking", is_flag=True, help="Do not log to MLflow.")
@click.option("--dry-run", is_flag=True, help="Resolve, check and print the plan; run nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the records (or the plan) as one JSON list.")
@click.option("-q", "--quiet", is_flag=True, help="No progress and no table.")
def run_command(
    experiment: Path | None,
    unlearners: tuple[str, ...],
    all_unlearners: bool,
    scenario: str | None,
    suite: str | None,
    dataset: str | None,
    model: str | None,
    forget: tuple[str, ...],
    requests: str | None,
    measure_every: int | None,
    measures: tuple[str, ...],
    profile: str | None,
    seed: tuple[str, ...],
    seeds: tuple[str, ...],
    settings: tuple[str, ...],
    paper_parameters: bool,
    validation: float | None,
    preprocessing: tuple[str, ...],
    checkpoint: Path | None,
    threads: int | None,
    device: str | None,
    budget: float | None,
    out: Path,
    store: Path | None,
    download: bool,
    no_tracking: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Train, forget, compare with gold, write records and show a table.

    EXPERIMENT is a file (YAML, JSON or TOML) with the same choices; flags win over it.
    """
    from unlearnbench.cli import trace
    from unlearnbench.cli.progress import progress_bar, warn, watched
    from unlearnbench.config import Experiment, combine, every_unlearner
    from unlearnbench.phases import no_progress
    from unlearnbench.registry import registry
    from unlearnbench.session import carry_out

    if all_unlearners and unlearners:
        raise UsageError(
            "conflicting-options", "excludes --unlearner", where="--all-unlearners", hint="give one of them"
        )
    if all_unlearners:
        unlearners = tuple(every_unlearner(registry()))
    choices = {
        "unlearners": unlearners, "scenario": scenario, "dataset": dataset, "model": model, "measures": measures,
        "profile": profile, "validation": validation, "preprocessing": preprocessing,
        "device": device, "threads": threads, "paper_parameters": paper_parameters or None,
        "requests": requests, "measure_every": measure_every,
        "seeds": _seeds(seed, seeds), "forget": _forget(forget), "checkpoint": str(checkpoint) if checkpoint else None,
    }  # fmt: skip
    made = {name: None if choice == () else choice for name, choice in choices.items()}
    if suite:
        wanted = Experiment(_suite_specs(suite, experiment, made, _settings(settings)), Path(), None)
    else:
        wanted = combine(experiment, made, _settings(settings), registry())
    if dry_run:
        return _dry_run(wanted.specs, as_json, leave_out=all_unlearners)
    # What methods print must not end up in the JSON, or in the table.
    with contextlib.redirect_stdout(sys.stderr):
        outcome = carry_out(
            wanted.specs,
            out=out,
            store=store,
            base=wanted.base,
            checkpoint=wanted.checkpoint,
            budget_s=budget,
            download=download,
            tracking=not no_tracking,
            progress=progress_bar if watched() and not (quiet or as_json) else no_progress,
            on_event=warn,
            on_left_out=_tell_left_out if all_unlearners else None,
            on_price=None if quiet else _tell_price,
        )
    if as_json:
        click.echo(
            json.dumps([record.document for record in outcome.records], indent=1, sort_keys=True, allow_nan=False)
        )
    elif not quiet:
        _show(outcome, out, tracked=not no_tracking and all(p.code != "tracking-failed" for p in outcome.problems))
    for problem in outcome.problems:
        trace(problem)
        click.echo(f"error: {problem}", err=True)
    return max((problem.exit_code for problem in outcome.problems), default=0)


_OPEN_IN_A_SUITE = ("device", "threads", "paper_parameters")


def _suite_specs(
    name: str, experiment: Path | None, choices: Mapping[str, Any], settings: Mapping[str, Any]
) -> list[RunSpec]:
    """The runs of a suite, or of one scenario of it; what a suite fixes cannot be chosen besides."""
    from unlearnbench.leaderboard.suites import suite
    from unlearnbench.registry import registry

    open_ = ("unlearners", "scenario", *_OPEN_IN_A_SUITE)
    fixed = [option for option, choice in choices.items() if choice is not None and option not in open_]
    if experiment or fixed:
        what = "an experiment file" if experiment else _FLAGS.get(fixed[0], f"--{fixed[0]}")
        raise UsageError("conflicting-options", f"excludes {what}", where="--suite", hint="a suite fixes it")
    found = suite(name)
    parts = [found.part(choices["scenario"])] if choices["scenario"] else found.parts
    left_open = {key: choices[key] for key in _OPEN_IN_A_SUITE if choices[key] is not None}
    unlearners = choices["unlearners"] or ()
    return [
        spec for part in parts for spec in found.specs(part, unlearners, registry(), set=dict(settings), **left_open)
    ]


_FLAGS = {"seeds": "--seed", "measures": "--measure", "preprocessing": "--preprocess"}


def _show(outcome: Outcome, out: Path, *, tracked: bool) -> None:
    from unlearnbench.cli.preparations import shared_preparations
    from unlearnbench.cli.stream_table import print_streams
    from unlearnbench.cli.table import print_table
    from unlearnbench.tracking.mlflow_sink import tracking_uri

    print_table(outcome.records)
    print_streams(outcome.records)
    for line in shared_preparations(outcome.records):
        click.echo(line)
    made = len(outcome.computed)
    stored = "everything came from the store" if not made else f"{made} stored for next time"
    click.echo(f"{len(outcome.records)} run{'s' if len(outcome.records) != 1 else ''}; models: {stored}")
    for record in outcome.records[:5]:
        click.echo(f"record  {record.path}")
    if len(outcome.records) > 5:
        click.echo(f"        and {len(outcome.records) - 5} more in {out}")
    if tracked:
        uri = tracking_uri(out)
        uri = uri.replace(f"sqlite:///{Path.cwd().as_posix()}/", "sqlite:///")
        shown = uri if uri.startswith("http") else f"mlflow ui --backend-store-uri {shlex.quote(uri)}"
        click.echo(f"mlflow  {shown}")


def _tell_left_out(reasons: Mapping[str, str]) -> None:
    if reasons:
        found = "; ".join(f"{name} ({why})" for name, why in sorted(reasons.items()))
        click.echo(f"left out: {' '.join(found.split())}", err=True)


def _tell_price(price: Price) -> None:
    if price.models:
        click.echo(f"price: {price}", err=True)


def _dry_run(specs: list[RunSpec], as_json: bool, *, leave_out: bool) -> int:
    from unlearnbench.plan import check, describe, passing
    from unlearnbench.price import price
    from unlearnbench.registry import registry

    with contextlib.redirect_stdout(sys.stderr):
        left_out: dict[str, str] | None = {} if leave_out else None
        specs = passing(specs, [partial(check, registry=registry())], left_out)
        plans = [describe(spec, registry()) for spec in specs]
        _tell_price(price(specs, registry()))
    _tell_left_out(left_out or {})
    if as_json:
        click.echo(json.dumps(plans, indent=1, sort_keys=True))
        return 0
    for plan in plans:
        stages = " + ".join(f"{s['name']} ({', '.join(s['phases'])})" for s in plan["stages"])
        click.echo(f"{plan['id']}\n  trained by {plan['trainer']}; {stages}; measures {', '.join(plan['measures'])}")
    click.echo(f"{len(plans)} run{'s' if len(plans) != 1 else ''} planned; nothing was run")
    return 0


def _forget(texts: tuple[str, ...]) -> tuple[dict[str, Any], ...]:
    from unlearnbench.forget import parse_forget

    return tuple(parse_forget(text) for text in texts)


def _settings(texts: tuple[str, ...]) -> dict[str, Any]:
    from unlearnbench.parameters import parse_value

    found = {}
    for text in texts:
        key, mark, value = text.partition("=")
        if not mark:
            raise UsageError("bad-setting", f"{text!r} has no value", where="--set", hint="write --set salun.epochs=5")
        found[key] = parse_value(value)
    return found


def _seeds(plain: tuple[str, ...], apart: tuple[str, ...]) -> Any:
    if plain and apart:
        raise UsageError("bad-seeds", "--seed and --seeds exclude each other", where="--seeds")
    if not apart:
        return tuple(n for text in plain for n in _numbers(text, f"{text!r} is no seed", "--seed"))
    found: dict[str, list[int]] = {}
    for text in " ".join(apart).split():
        part, mark, values = text.partition("=")
        known = mark and part in ("train", "unlearn", "measure")
        found[part] = _numbers(values if known else "", f"{text!r} is not PART=LIST", "--seeds")
    return found


_SEED_HINTS = {"--seed": "write --seed 3 or --seed 0..4", "--seeds": "write train=0,1,2 or unlearn=0..4"}


def _numbers(values: str, wrong: str, where: str) -> list[int]:
    """Seeds of a list such as ``0,2..4``."""
    try:
        return [n for piece in values.split(",") for n in _range(piece)]
    except ValueError:
        raise UsageError("bad-seeds", wrong, where=where, hint=_SEED_HINTS[where]) from None


def _range(piece: str) -> list[int]:
    first, dots, last = piece.partition("..")
    seeds = range(int(first), int(last or first) + 1)
    if (dots and not last) or not 0 < len(seeds) <= MAX_SEEDS or seeds[0] < 0:
        raise ValueError
    return list(seeds)
