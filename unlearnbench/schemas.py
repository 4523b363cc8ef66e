"""JSON from outside: one strict reader, one validator over the packaged schemas, errors that point at a place."""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlearnbench.api.errors import UsageError
from unlearnbench.registry import unknown

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

BASE = "https://unlearnbench.org/schemas/"
MAX_BYTES = 64 * 2**20
MAX_DEPTH = 64
_SURROGATES = re.compile("[\ud800-\udfff]")


def load_json(text: str, *, where: str = "") -> Any:
    """Parse JSON strictly: no NaN or infinity, no duplicate keys, bounded size and depth.

    Raises:
        UsageError: any of these, or text that is not JSON.
    """
    if len(text) > MAX_BYTES:
        raise UsageError("bad-json", f"is larger than {MAX_BYTES >> 20} MiB", where=where)

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    def finite(text: str) -> float:
        number = float(text)
        if not math.isfinite(number):
            raise ValueError(f"{text} is too large for a number")
        return number

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            names = [name for name, _ in pairs]
            repeated = sorted({n for n in names if names.count(n) > 1})
            raise ValueError(f"key {repeated[0]!r} stands twice")
        return found

    try:
        document = json.loads(text, parse_constant=refuse, parse_float=finite, object_pairs_hook=unique)
    except RecursionError:
        raise UsageError("bad-json", "is nested too deeply", where=where) from None
    except ValueError as problem:
        raise UsageError("bad-json", str(problem), where=where, hint="write valid JSON") from problem
    _check_depth(document, where)
    return document


def load_yaml(text: str, where: str) -> Any:
    """Parse YAML strictly: plain values only, no duplicate keys.

    Raises:
        UsageError: either, or text that is not YAML.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        """SafeLoader that refuses duplicate keys and reads 1e-3 as a number."""

    def mapping(loader: Loader, node: yaml.MappingNode) -> dict[str, Any]:
        pairs = [(str(loader.construct_object(k)), loader.construct_object(v, deep=True)) for k, v in node.value]
        if len(dict(pairs)) != len(pairs):
            raise yaml.constructor.ConstructorError(None, None, "a key stands twice", node.start_mark)
        return dict(pairs)

    Loader.add_constructor("tag:yaml.org,2002:map", mapping)
    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)\Z"), list("-+.0123456789")
    )
    try:
        return yaml.load(text, Loader=Loader)  # noqa: S506 - Loader is a SafeLoader
    except (yaml.YAMLError, RecursionError) as problem:
        raise UsageError("bad-yaml", " ".join(str(problem).split())[:200], where=where) from problem


def _check_depth(document: Any, where: str) -> None:
    level = [document]
    for _ in range(MAX_DEPTH):
        level = [child for node in level for child in _children(node)]
        if not level:
            return
    raise UsageError("bad-json", f"is nested more than {MAX_DEPTH} levels deep", where=where)


def _children(node: Any) -> list[Any]:
    if isinstance(node, dict):
        return list(node.values())
    return node if isinstance(node, list) else []


def schema_names() -> list[str]:
    """Names of the packaged schemas."""
    return sorted(path.name.removesuffix(".json") for path in _folder().iterdir() if path.name.endswith(".json"))


def schema(name: str) -> dict[str, Any]:
    """A packaged schema.

    Raises:
        UsageError: no schema of this name.
    """
    if name not in schema_names():
        raise unknown("schema", name, schema_names())
    document: dict[str, Any] = json.loads((_folder() / f"{name}.json").read_text("utf-8"))
    return document


def _folder() -> Path:
    packaged = Path(str(files("unlearnbench"))) / "_schemas"
    return packaged if packaged.is_dir() else packaged.parents[1] / "schemas"


@functools.cache
def _validator(name: str) -> Draft202012Validator:
    from jsonschema import Draft202012Validator, validators
    from referencing import Registry
    from referencing.jsonschema import DRAFT202012

    # Without "$schema": a reference to a document that has one is followed by the standard validator in place of ours.
    documents = {n: {k: v for k, v in schema(n).items() if k != "$schema"} for n in schema_names()}
    known: Registry[Any] = Registry().with_resources(
        (d["$id"], DRAFT202012.create_resource(d)) for d in documents.values()
    )
    # JSON Schema takes 50.0 for an integer; a count or a seed must be one. NaN, which is in every range, and bytes of a
    # command line that are no text come from Python, YAML and TOML; JSON could not carry them.
    types = Draft202012Validator.TYPE_CHECKER.redefine_many(
        {
            "integer": lambda _, v: isinstance(v, int) and not isinstance(v, bool),
            "number": lambda _, v: isinstance(v, int | float) and not isinstance(v, bool) and -math.inf < v < math.inf,
            "string": lambda _, v: isinstance(v, str) and not _SURROGATES.search(v),
        }
    )
    strict: Any = validators.extend(Draft202012Validator, type_checker=types)  # type: ignore[no-untyped-call]
    found: Draft202012Validator = strict(documents[name], registry=known)
    return found


def validate(document: Any, name: str, *, where: str = "") -> None:
    """Validate a document against a packaged schema.

    Raises:
        UsageError: the most telling error, with its JSON path, what was found and what is allowed.
    """
    errors = sorted(_validator(name).iter_errors(document), key=lambda e: (len(e.absolute_path), str(e.absolute_path)))
    if errors:
        raise _explained(errors, where)


def _explained(errors: list[Any], where: str) -> UsageError:
    from jsonschema.exceptions import best_match

    error = best_match(errors) or errors[0]
    path = ".".join([where or "$", *(str(p) for p in error.absolute_path)])
    if error.validator == "additionalProperties" and isinstance(error.instance, Mapping):
        allowed = error.schema.get("properties", {})
        extra = sorted(set(error.instance) - set(allowed))
        return unknown("property", extra[0], allowed, where=path)
    if error.validator == "enum":
        return unknown("value", str(error.instance), [str(v) for v in error.validator_value], where=path)
    shown = error.message if len(error.message) < 200 else error.message[:200] + "..."
    return UsageError("bad-value", shown, where=path, hint=error.schema.get("description", ""))
