"""What a comparison found, in plain sentences: the conclusion of a reading, and what one must know beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from unlearnbench.comparison.contest import Contest
from unlearnbench.comparison.document import Contender, Pair, Row
from unlearnbench.comparison.series import Series
from unlearnbench.record import Record

ENOUGH_SEEDS = 5
"""Fewer training seeds than these are marked as indicative."""


def conclusion(outcome: Contest, rows: Sequence[Row], basis: str, better: str) -> str:
    """The finding of a reading in a sentence or two."""
    if not outcome.order:
        return "No unlearner has a value that can be compared."
    best = outcome.order[0]
    what = "nearest to gold" if basis == "gap" else {"lower": "lowest", "higher": "highest"}.get(better, "first")
    head = f"{best} ({_mean(best, rows, basis)})"
    if len(outcome.order) == 1:
        return f"Only {head} can be compared: one unlearner."
    if outcome.ties_by == "none":
        most = max(pair.n for pair in outcome.pairs)
        why = "some pairs share fewer than 3 training seeds" if most >= 3 else f"{_count(most, 'shared training seed')}"
        return f"No interval and no test: {why}. {_capital(what)} here is {head}, which says nothing of other seeds."
    tied = [label for label in outcome.order[1:] if _tied(best, label, outcome)]
    beyond = [label for label in outcome.order[1:] if label not in tied]
    found = f"{_capital(what)} is {head}"
    if tied:
        found += f", tied with {_listed(f'{label} ({_mean(label, rows, basis)})' for label in tied)}"
    if beyond:
        verb = "differs" if len(beyond) == 1 else "differ"
        found += f"; {_listed(f'{label} ({_mean(label, rows, basis)})' for label in beyond)} {verb} from it"
    else:
        found += ": none is told apart from it"
    if outcome.ties_by == "test":
        return f"{found}."
    return (
        f"Too few seeds differ to decide: after correction for {_count(len(outcome.pairs), 'pair')} the test reaches "
        f"p = {outcome.smallest:.2g} at best. By the intervals of paired differences, as an indication: "
        f"{found[0].lower()}{found[1:]}."
    )


def _tied(best: str, label: str, outcome: Contest) -> bool:
    pair = next(pair for pair in outcome.pairs if {pair.first, pair.second} == {best, label})
    return not (pair.differs if outcome.ties_by == "test" else pair.apart)


def _mean(label: str, rows: Sequence[Row], basis: str) -> str:
    row = next(row for row in rows if row.label == label)
    mean = row.distance.mean if basis == "gap" else row.value.mean
    return "-" if mean is None else f"{mean:.3g}"


def reading_notes(
    rows: Sequence[Row], pairs: Sequence[Pair], basis: str, series: Mapping[str, Series]
) -> tuple[str, ...]:
    """What one must know to read a reading: values that are missing, seeds that are not shared, no separation."""
    found = []
    for row in rows:
        if row.missing:
            reasons = ", ".join(f"{count} {status}" for status, count in sorted(row.missing.items()))
            runs = len(series[row.label].values) + sum(row.missing.values())
            left = "its mean leaves them out" if any(value is not None for value in row.values) else "it has no mean"
            found.append(
                f"{row.label}: {sum(row.missing.values())} of {runs} readings without a value ({reasons}); {left}"
            )
    unlearned = {row.label: row for row in rows if row.subject == "unlearned"}
    fewer = [pair for pair in pairs if pair.n < max(_reads(unlearned[pair.first]), _reads(unlearned[pair.second]))]
    if fewer:
        told = ", ".join(f"{pair.first} and {pair.second} on {pair.n}" for pair in fewer[:4])
        more = f" and {_count(len(fewer) - 4, 'more pair')}" if len(fewer) > 4 else ""
        found.append(f"only shared training seeds are paired: {told}{more}")
    if len({_repeats(series[label]) for label in unlearned}) > 1:
        found.append(
            "unlearners were repeated unequally often within a training seed: the mean of more runs varies less"
        )
    original = [row for row in rows if row.subject == "original"]
    if basis == "gap" and original and all(gap == 0 for row in original for gap in row.gaps):
        found.append("original and gold read the same: it says little about forgetting here")
    return tuple(found)


def _reads(row: Row) -> int:
    return sum(value is not None for value in row.values)


def _repeats(series: Series) -> float:
    return len(series.values) / max(1, len({seed[0] for seed in series.values}))


def group_notes(
    place: str, contenders: Sequence[Contender], records: Sequence[Record], others: Sequence[str], *, timed: bool
) -> tuple[str, ...]:
    """What one must know to read a comparison."""
    found = []
    few = [c for c in contenders if len(c.train_seeds) < ENOUGH_SEEDS]
    if few:
        told = ", ".join(f"{c.label} {len(c.train_seeds)}" for c in few)
        found.append(f"indicative: fewer than {ENOUGH_SEEDS} training seeds ({told})")
    if sum(bool(c.runs) for c in contenders) == 1:
        found.append("only one unlearner: nothing to compare it with but gold")
    for contender in contenders:
        if contender.lost:
            told = ", ".join(f"{count} {status}" for status, count in sorted(contender.lost.items()))
            found.append(f"{contender.label}: runs without readings that count: {told}")
    if others:
        found.append(f"other records of {place} stand apart: they differ in {_listed(others)}")
    machines = {
        tuple(str(r.document["environment"].get(p)) for p in ("processor", "device", "threads")) for r in records
    }
    if timed and len(machines) > 1:
        found.append("runs were made on different processors, devices or numbers of threads: times do not compare")
    return tuple(found)


def _listed(words: Iterable[str]) -> str:
    found = list(words)
    return found[0] if len(found) == 1 else f"{', '.join(found[:-1])} and {found[-1]}"


def _count(n: int, word: str) -> str:
    return f"{n} {word}{'' if n == 1 else 's'}"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
