"""Which records may be compared: one scenario, finished runs, every run once, every method under a name of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from textwrap import shorten
from typing import Any

from unlearnbench.comparison.document import LeftOut
from unlearnbench.identity import digest
from unlearnbench.plugins import printable
from unlearnbench.record import Record


def usable(records: Iterable[Record]) -> tuple[list[Record], list[LeftOut]]:
    """Complete runs, each of them once, and the records that are left out, with the reason."""
    found, left_out = newest(records)
    left_out += [LeftOut(str(r.path), str(r.document["id"]), _why_lost(r)) for r in found if r.status != "complete"]
    return [record for record in found if record.status == "complete"], left_out


def newest(records: Iterable[Record]) -> tuple[list[Record], list[LeftOut]]:
    """Runs, each of them once and whatever became of it, and the records that are left out, with the reason.

    Of a run that lies in several folders the newest record counts.
    """
    found: dict[str, Record] = {}
    left_out: list[LeftOut] = []
    for record in sorted({r.path.resolve(): r for r in records}.values(), key=_created, reverse=True):
        run = str(record.document["id"])
        if run in found:
            same = record.document["digest"] == found[run].document["digest"]
            reason = f"{'the same as' if same else 'an older, different result of the run in'} {found[run].path}"
            left_out.append(LeftOut(str(record.path), run, reason))
            continue
        found[run] = record
    return sorted(found.values(), key=lambda record: str(record.document["id"])), left_out


def _created(record: Record) -> tuple[str, str]:
    return str(record.document["created"]).replace("Z", "+00:00"), str(record.path)


def _why_lost(record: Record) -> str:
    error = record.document["error"]
    return f"{record.status}: {error['message']}" if error else record.status


def scene_parts(record: Record) -> dict[str, Any]:
    """What two records must have in common for their readings to mean the same, by the word for it."""
    document = record.document
    spec = document["spec"]
    return {
        "task": spec["task"],
        "data": [spec["dataset"]["name"], *(document["data"][part] for part in ("train", "validation", "test"))],
        "preprocessing": spec.get("preprocessing", []),
        "requests": [[r["kind"], r["digest"], r["holdout_digest"]] for r in document["requests"]],
        "model": spec["model"],
        "recipe": spec["recipe"],
        "checkpoint": (spec["checkpoint"] or {}).get("sha256"),
    }


def scenes(records: Iterable[Record]) -> list[list[Record]]:
    """Records by what they must have in common, in the order of their first."""
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(digest(scene_parts(record)), []).append(record)
    return list(found.values())


def other_parts(group: Sequence[Record], groups: Sequence[Sequence[Record]]) -> list[str]:
    """In which parts groups of the same scenario or data and model differ from this one."""
    mine = scene_parts(group[0])
    found = [
        part
        for other in groups
        if other is not group and place(other[0]) == place(group[0])
        for part, value in scene_parts(other[0]).items()
        if value != mine[part]
    ]
    return list(dict.fromkeys(found))


def place(record: Record) -> str:
    """The scenario's name, or those of data set and model."""
    spec = record.document["spec"]
    return str(spec["scenario"] or f"{spec['dataset']['name']} / {spec['model']['name']}")


def title(records: Sequence[Record]) -> str:
    """What was run, in one line."""
    document = records[0].document
    request = document["requests"][-1]
    asked = document["spec"]["requests"][-1]
    rows = f"forget {request['forget']:,} of {request['forget'] + request['retain']:,} rows"
    if request["kind"] == "target":  # rows that show it stay in the retain set, but for images
        of_all = f" of {document['data']['train']['rows']:,}" if len(document["requests"]) == 1 else ""
        rows = f"{asked.get('as', 'absent')} in {request['forget']:,}{of_all} rows"
    what = f"{_named(asked, request['kind'])}: {rows}"
    if "elements" in request:
        what = f"{request['kind']}: forget {request['elements']:,}"
    if len(document["requests"]) > 1:
        what = f"{len(document['requests'])} requests, the last {what}"
    seeds = len({(record.document["spec"]["seeds"]["train"]) for record in records})
    return f"{place(records[0])} · {what} · {seeds} seed{'s' if seeds > 1 else ''}"


def _named(asked: Mapping[str, Any], kind: str) -> str:
    """A request by its kind, and what it names: runs of a fan-out differ in nothing else."""
    for key, one in (("classes", "class"), ("targets", "target")):
        names = [str(name) for name in asked.get(key, ())]
        if names:
            return printable(shorten(f"{key if len(names) > 1 else one} {', '.join(names)}", 60, placeholder=" …"))
    return kind


def labels(records: Iterable[Record]) -> dict[str, str]:
    """A label for the method of each record, by the record's path: two settings of one method are two methods."""
    by_name: dict[str, dict[str, dict[str, Any]]] = {}
    keys: dict[str, tuple[str, str]] = {}
    for record in records:
        settings = method(record)
        key = digest(settings)
        by_name.setdefault(record.unlearner, {})[key] = settings
        keys[str(record.path)] = (record.unlearner, key)
    return {path: _label(name, key, by_name[name]) for path, (name, key) in keys.items()}


def _label(name: str, key: str, variants: Mapping[str, Mapping[str, Any]]) -> str:
    words = differing(variants[key], list(variants.values()))
    return f"{name} ({words})" if words else name


def differing(mine: Mapping[str, Any], all_of_them: Sequence[Mapping[str, Any]]) -> str:
    """The settings in which one of several differs from another, as ``density=0.3, epochs=5``."""
    names = sorted({name for one in all_of_them for name in one})
    apart = [n for n in names if any(one.get(n) != mine.get(n) or (n in one) != (n in mine) for one in all_of_them)]
    return ", ".join(f"{name}={mine.get(name, '-')}" for name in apart)


def method(record: Record) -> dict[str, Any]:
    """What makes a method: its parameters, who trained the original, and the versions of its stages."""
    found = {**parameters(record), "trainer": record.document["trainer"]}
    for component in record.document["components"]:
        if component["kind"] == "unlearner":
            found[f"version of {component['name']}"] = component["version"]
    return found


def parameters(record: Record) -> dict[str, Any]:
    """The unlearner's parameters; those of a chain under the place and name of their stage."""
    choice = record.document["spec"]["unlearner"]
    if "stages" not in choice:
        return dict(choice["params"])
    return {
        f"{place}.{stage['name']}.{name}": value
        for place, stage in enumerate(choice["stages"], 1)
        for name, value in stage["params"].items()
    }


def measure_settings(record: Record) -> dict[str, dict[str, Any]]:
    """Parameters and version of each measure of a record."""
    found = {choice["name"]: dict(choice["params"]) for choice in record.document["spec"]["measures"]}
    for component in record.document["components"]:
        if component["kind"] == "measure" and component["name"] in found:
            found[component["name"]]["version"] = component["version"]
    return found
