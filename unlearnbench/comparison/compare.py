"""From records to comparisons: what each reading says of each unlearner, over the seeds that they share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal

from unlearnbench.api.errors import UnlearnBenchError
from unlearnbench.api.specs import MeasureSpec
from unlearnbench.comparison.comparable import labels, other_parts, parameters, place, scenes, title, usable
from unlearnbench.comparison.contest import contest
from unlearnbench.comparison.document import Comparison, Contender, Floor, ReadingComparison, Row, Test
from unlearnbench.comparison.findings import conclusion, group_notes, reading_notes
from unlearnbench.comparison.series import Series, Taken, coordinates, gather, stem
from unlearnbench.record import Record
from unlearnbench.registry import registry, unknown
from unlearnbench.statistics import components, estimate, nested_means

TARGETS = (
    ("recall", "forgotten-recall"),
    ("AUC", "forgotten-auc"),
    ("new threshold", "forgotten-recalibrated-recall"),
    ("IoU", "forgotten-iou"),
    ("AP50", "forgotten-ap50"),
    ("others recall", "others-recall"),
    ("others bal acc", "others-balanced-accuracy"),
    ("others IoU kept", "others-mean-relative-iou"),
    ("others AP50 lost", "others-mean-ap50-drop"),
    ("only the bias", "only-the-bias-moved"),
)
"""What the table of a run shows of targets: headings, and readings of ``per-target`` on the test rows."""
USUAL = (
    ("ua-ra-ta-mia", "average-gap"),
    ("accuracy", "accuracy.forget"),
    ("accuracy", "accuracy.retain"),
    ("accuracy", "accuracy.test"),
    ("agreement", "js.forget"),
    *(("per-target", f"{name}.test") for _, name in TARGETS),
)
COSTS = (("run-cost", "cpu-time"), ("run-cost", "speed-up"))
"""Measure and key of the readings that are compared without being asked for; audits stand between the two."""

FLOOR = "retrain"
"""The control that trains gold again with another seed: how far it is from gold is what retraining itself gives."""

_DETAILS = frozenset({"class", "target", "step", "epoch", "request"})
"""Coordinates of readings that are compared only when they are asked for: there are many of them."""


def compare(
    records: Iterable[Record],
    keys: Collection[str] | None = None,
    *,
    confidence: float = 0.95,
    test: Test = "permutation",
) -> list[Comparison]:
    """One comparison per scenario: the same data, model, recipe and requests.

    ``keys`` are readings by key (``accuracy.forget``), by name (``accuracy``) or either after its measure
    (``agreement:js``); without them those are compared that the table of a run shows, and all audits.

    Raises:
        UsageError: no record has a reading of that name.
    """
    found = list(records)
    if keys:
        _refuse_unknown(keys, found)
    groups = grouped(found)
    return [_compare_scene(group, other_parts(group, groups), keys, confidence, test) for group in groups]


def grouped(records: Iterable[Record]) -> list[list[Record]]:
    """The records of each comparison of ``compare``, in the same order."""
    return scenes(sorted(records, key=lambda record: (str(record.document["id"]), str(record.path))))


def reading_keys(records: Iterable[Record]) -> tuple[str, ...]:
    """The keys of all readings, each once and in their order; the last request of a stream goes without saying."""
    return tuple(dict.fromkeys(stem(reading, record) for record in records for reading in record.readings))


def _refuse_unknown(keys: Collection[str], records: Sequence[Record]) -> None:
    known = {name for record in records for reading in record.readings for name in _names(reading, record)}
    for key in keys:
        if key not in known:
            raise unknown("reading", key, known, where="--reading")


def _names(reading: Mapping[str, Any], record: Record) -> set[str]:
    """What a reading may be asked for by: its key, or its name where it is about all rows."""
    found = {stem(reading, record)}
    if not _DETAILS & coordinates(reading, record).keys():
        found.add(reading["name"])
    return found | {f"{reading['measure']}:{name}" for name in found}


def _compare_scene(
    group: Sequence[Record], others: Sequence[str], keys: Collection[str] | None, confidence: float, test: Test
) -> Comparison:
    good, left_out = usable(group)
    called = labels(group)
    taken = _chosen(good, called, keys)
    spec = group[0].document["spec"]
    contenders = _contenders(group, good, called)
    seeds = sorted({seed for contender in contenders for seed in contender.train_seeds})
    return Comparison(
        title=title(good or group),
        scenario=spec["scenario"],
        dataset=spec["dataset"]["name"],
        model=spec["model"]["name"],
        confidence=confidence,
        test=test,
        train_seeds=tuple(seeds),
        contenders=contenders,
        readings=tuple(_compare_reading(one, variant, confidence, test) for one, variant in taken),
        notes=group_notes(place(group[0]), contenders, good, others, timed=any(one.timed for one, _ in taken)),
        left_out=tuple(left_out),
    )


def _chosen(
    records: Sequence[Record], called: Mapping[str, str], keys: Collection[str] | None
) -> list[tuple[Taken, str]]:
    if keys:
        order = list(dict.fromkeys(keys))

        def asked(reading: Mapping[str, Any], record: Record) -> bool:
            return not _names(reading, record).isdisjoint(order)

        return gather(records, called, asked)
    audits = {
        (reading["measure"], stem(reading, record)): None
        for record in records
        for reading in record.readings
        if _is_audit(reading) and not _DETAILS & coordinates(reading, record).keys()
    }
    wanted = [*USUAL, *(audit for audit in audits if audit not in USUAL + COSTS), *COSTS]
    found = gather(records, called, lambda reading, record: (reading["measure"], stem(reading, record)) in wanted)
    return sorted(found, key=lambda one: wanted.index((one[0].reading["measure"], one[0].key)))


def _is_audit(reading: Mapping[str, Any]) -> bool:
    """It has an interval, or comes of a measure that trains or probes models."""
    return bool(reading.get("interval")) or _effort(reading["measure"]) in ("models", "ensemble")


def _effort(measure: str) -> str:
    """What a measure takes; of one that is not installed here, nothing is known."""
    try:
        spec = registry().get("measure", measure).spec
    except UnlearnBenchError:
        return ""
    return spec.effort if isinstance(spec, MeasureSpec) else ""


def _contenders(group: Sequence[Record], good: Sequence[Record], called: Mapping[str, str]) -> tuple[Contender, ...]:
    counted = {record.path for record in good}
    found = []
    for label in sorted(set(called.values())):
        mine = [record for record in group if called[str(record.path)] == label]
        runs = [record for record in mine if record.path in counted]
        seeds = [record.document["spec"]["seeds"] for record in runs]
        found.append(
            Contender(
                label=label,
                name=mine[0].unlearner,
                trainer=str(mine[0].document["trainer"]),
                params=parameters(mine[0]),
                runs=tuple(str(record.document["id"]) for record in runs),
                train_seeds=tuple(sorted({seed["train"] for seed in seeds})),
                unlearn_seeds=tuple(sorted({seed["unlearn"] for seed in seeds})),
                measure_seeds=tuple(sorted({seed["measure"] for seed in seeds})),
                lost=dict(Counter(record.status for record in mine if record.status != "complete")),
            )
        )
    return tuple(found)


def _compare_reading(taken: Taken, variant: str, confidence: float, test: Test) -> ReadingComparison:
    rows = tuple(_row(series, confidence) for series in sorted(taken.series.values(), key=_position))
    unlearned = [row for row in rows if row.subject == "unlearned"]
    better = str(taken.reading["better"])
    to_gold = not taken.timed and any(gap is not None for row in unlearned for gap in row.gaps)
    basis: Literal["gap", "value"] = "gap" if to_gold else "value"
    outcome = contest({row.label: _scores(row, basis, better) for row in unlearned}, confidence, test)
    floor = _floor(rows) if basis == "gap" else None
    return ReadingComparison(
        measure=taken.reading["measure"],
        key=taken.key,
        name=taken.reading["name"],
        split=taken.reading["split"],
        variant=variant,
        better=better,
        unit=taken.reading["unit"],
        timed=taken.timed,
        basis=basis,
        rows=rows,
        floor=floor,
        pairs=outcome.pairs,
        ranks=outcome.ranks,
        order=outcome.order,
        ties=outcome.ties,
        ties_by=outcome.ties_by,
        decidable=outcome.ties_by == "test",
        conclusion=conclusion(outcome, unlearned, basis, better),
        notes=reading_notes(rows, outcome.pairs, basis, taken.series),
    )


def _position(series: Series) -> tuple[int, str]:
    return ("original", "gold", "unlearned").index(series.subject), series.label


def _row(series: Series, confidence: float) -> Row:
    values, gaps = nested_means(series.values), nested_means(series.gaps)
    return Row(
        label=series.label,
        subject=series.subject,
        trainer=series.trainer,
        seeds=tuple(series.train_seeds),
        values=tuple(values.get(seed) for seed in series.train_seeds),
        gaps=tuple(gaps.get(seed) for seed in series.train_seeds),
        value=estimate(list(values.values()), confidence),
        gap=estimate(list(gaps.values()), confidence),
        distance=estimate([abs(gap) for gap in gaps.values()], confidence),
        missing=dict(Counter(series.missing.values())),
        verdicts=dict(Counter(series.verdicts.values())),
        spread=components(series.values),
    )


def _scores(row: Row, basis: str, better: str) -> dict[int, float]:
    """What unlearners are compared by, lower being better; nothing where neither gold nor a direction is given."""
    if basis == "gap":
        return {seed: abs(gap) for seed, gap in zip(row.seeds, row.gaps, strict=True) if gap is not None}
    sign = {"lower": 1, "higher": -1}.get(better)
    if sign is None:
        return {}
    return {seed: sign * value for seed, value in zip(row.seeds, row.values, strict=True) if value is not None}


def _floor(rows: Sequence[Row]) -> Floor | None:
    golds = [row for row in rows if row.subject == "unlearned" and row.label.partition(" (")[0] == FLOOR]
    again = next((row for row in golds if row.distance.n), None)
    if again is not None:
        return Floor("retrain", again.value, again.distance)
    gold = next((row for row in rows if row.subject == "gold" and row.value.n), None)
    return None if gold is None else Floor("gold", gold.value, None)
