"""What runs shared: a preparation that was paid once, and the requests that it served."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

from unlearnbench.identity import digest
from unlearnbench.plugins import printable
from unlearnbench.record import Record


def shared_preparations(records: Sequence[Record]) -> Iterator[str]:
    """A line for each preparation that several runs shared: its cost, and that of a request beside it.

    The tables charge every run with the whole of it, as if the run were the only one.
    """
    found: dict[str, list[Record]] = {}
    for record in records:
        document = record.document
        if document["readings"] and "prepare" in document["costs"]:
            same = [
                document["spec"]["unlearner"],
                document["models"]["original"][0]["key"],
                document["costs"]["prepare"],
            ]
            found.setdefault(digest(same), []).append(record)
    for runs in found.values():
        if len(runs) > 1:
            first = runs[0].document
            once = first["costs"]["prepare"]["cpu_s"]
            each = fmean(run.document["costs"]["unlearn"]["cpu_s"] for run in runs)
            seed = first["spec"]["seeds"]["train"]
            name = f"{printable(runs[0].unlearner)} (training seed {seed})"
            took = f"a request took {1000 * each:.3g} ms of CPU time"
            yield f"{name} prepared once, {once:.3g} CPU s, for {len(runs)} runs; {took}"
