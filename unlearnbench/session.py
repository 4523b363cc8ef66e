"""An invocation from Python or the command line: run specs, draw plots, log to MLflow, keep what is finished."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from unlearnbench.api.errors import UnlearnBenchError, UsageError
from unlearnbench.config import combine
from unlearnbench.phases import Progress, no_progress
from unlearnbench.price import Price
from unlearnbench.record import Record
from unlearnbench.registry import registry
from unlearnbench.runner import Outcome, execute
from unlearnbench.spec import RunSpec

Named = str | Mapping[str, Any]
PLOT = "plot.svg"


def carry_out(
    specs: Sequence[RunSpec],
    *,
    out: Path,
    store: Path | None = None,
    base: Path | None = None,
    checkpoint: Path | None = None,
    budget_s: float | None = None,
    download: bool = False,
    tracking: bool = True,
    progress: Progress = no_progress,
    on_event: Callable[[str], None] = lambda event: None,
    on_left_out: Callable[[Mapping[str, str]], None] | None = None,
    on_price: Callable[[Price], None] | None = None,
) -> Outcome:
    """Run specs, draw plots beside each record and log finished records to MLflow, also when the rest is interrupted.

    Plots and logs that fail are among the outcome's problems; they never cost a record.

    Raises:
        UnlearnBenchError: see ``runner.execute``.
    """
    from unlearnbench.tracking.plots import run_plot
    from unlearnbench.tracking.row_plot import ROWS_PLOT, rows_plot
    from unlearnbench.tracking.stream_plot import STREAM_PLOT, stream_plot

    if budget_s is not None and not 0 < budget_s < math.inf:
        raise UsageError(
            "bad-budget", f"{budget_s} s is not a time", where="--budget", hint="give seconds, more than 0"
        )
    finished: list[Record] = []
    problems: list[UnlearnBenchError] = []

    def keep(record: Record) -> None:
        finished.append(record)
        for event in (*record.document["warnings"], *record.document["events"]):
            on_event(event)
        try:
            run_plot(record, record.folder / PLOT)
            stream_plot(record, record.folder / STREAM_PLOT)
            rows_plot(record, record.folder / ROWS_PLOT)
        except UnlearnBenchError as problem:
            problems.append(problem)

    try:
        outcome = execute(
            specs,
            out=out,
            store=store,
            base=base,
            checkpoint=checkpoint,
            budget_s=budget_s,
            download=download,
            progress=progress,
            on_record=keep,
            on_left_out=on_left_out,
            on_price=on_price,
        )
    finally:
        if tracking and finished:
            problems += _track(finished, out)
    outcome.problems += problems
    return outcome


def _track(records: Sequence[Record], out: Path) -> list[UnlearnBenchError]:
    from unlearnbench.tracking.mlflow_sink import MlflowSink

    try:
        sink = MlflowSink(out, str(records[0].document["invocation"]))
        for record in records:
            sink.log(record)
        sink.close()
    except UnlearnBenchError as problem:
        return [problem]
    return []


def run(
    unlearner: Named | Sequence[Named] | None = None,
    *,
    experiment: Mapping[str, Any] | str | Path | None = None,
    scenario: str | None = None,
    dataset: Named | None = None,
    model: Named | None = None,
    forget: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    requests: str | Sequence[Mapping[str, Any]] | None = None,
    measure_every: int | None = None,
    measures: Sequence[Named] | None = None,
    profile: str | None = None,
    recipe: Mapping[str, Any] | None = None,
    validation: float | None = None,
    preprocessing: Sequence[Named] | None = None,
    seed: int | Sequence[int] | Mapping[str, Sequence[int]] | None = None,
    parameters: Mapping[str, Any] | None = None,
    paper_parameters: bool = False,
    checkpoint: str | Path | None = None,
    device: str | None = None,
    threads: int | None = None,
    out: str | Path = "runs",
    store: str | Path | None = None,
    budget_s: float | None = None,
    download: bool = False,
    tracking: bool = False,
) -> list[Record]:
    """Run unlearners and return their records; the same as ``unlearnbench run``.

    ``forget`` is a fan-out (one run per request), ``requests`` a stream served in one run: a list, a file, or text such
    as ``100x1``; readings are taken after every ``measure_every``-th of it and after the last. ``seed`` is one seed, a
    list of them, or ``{"train": [...], "unlearn": [...], "measure": [...]}``. ``parameters`` are assignments such
    as ``{"salun.epochs": 5}``; ``paper_parameters`` leaves out those that the scenario sets. ``experiment`` is a
    file or a mapping with the same choices; what is passed besides wins. Records of broken plugins have status
    ``failed``. Each problem, also one of the log or a plot, is a warning.

    Raises:
        UnlearnBenchError: what was asked for is not possible; the message says why and what to do.
    """
    choices = {
        "unlearners": [unlearner] if isinstance(unlearner, str | Mapping) else unlearner,
        "scenario": scenario,
        "dataset": dataset,
        "model": model,
        "forget": [forget] if isinstance(forget, Mapping) else forget,
        "requests": requests,
        "measure_every": measure_every,
        "measures": measures,
        "profile": profile,
        "recipe": recipe,
        "validation": validation,
        "preprocessing": preprocessing,
        "seeds": [seed] if isinstance(seed, int) else seed,
        "checkpoint": None if checkpoint is None else str(checkpoint),
        "device": device,
        "threads": threads,
        "paper_parameters": paper_parameters or None,
    }
    wanted = combine(
        Path(experiment) if isinstance(experiment, str) else experiment, choices, parameters or {}, registry()
    )
    outcome = carry_out(
        wanted.specs,
        out=Path(out),
        store=Path(store) if store else None,
        base=wanted.base,
        checkpoint=wanted.checkpoint,
        budget_s=budget_s,
        download=download,
        tracking=tracking,
    )
    for problem in outcome.problems:
        warnings.warn(str(problem), RuntimeWarning, stacklevel=2)
    return outcome.records
