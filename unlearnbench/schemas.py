"""JSON from outside: one strict reader, one validator over the packaged schemas, errors that point at a place."""

from __future__ import annotations

import functools
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlearnbench.api.errors import UsageError
from unlearnbench.registry import unknown

if TYPE_CHECKING:
    import jsonschema_rs
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import ValidationError

BASE = "https://unlearnbench.org/schemas/"
MAX_BYTES = 64 * 2**20
MAX_DEPTH = 64
MAX_VALUES = 500_000
"""Values in one document; a record of a hundred classes has a tenth of it, and validation takes its time with each."""
MAX_ERRORS = 1000
_SURROGATES = re.compile("[\ud800-\udfff]")


def load_json(text: str, *, where: str = "") -> Any:
    """Parse JSON strictly: no NaN or infinity, no duplicate keys, bounded size, number of values and depth.

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
            [(name, _)] = Counter(name for name, _ in pairs).most_common(1)
            raise ValueError(f"key {name!r} stands twice")
        return found

    try:
        document = json.loads(text, parse_constant=refuse, parse_float=finite, object_pairs_hook=unique)
    except RecursionError:
        raise UsageError("bad-json", "is nested too deeply", where=where) from None
    except ValueError as problem:
        raise UsageError("bad-json", str(problem), where=where, hint="write valid JSON") from problem
    if not _is_small(text):
        _check_extent(document, where)
    return document


def _is_small(text: str) -> bool:
    """JSON of so few commas and brackets that no limit can be near: this costs a fraction of walking through it."""
    if "\\" in text or sum(map(text.count, ",[{")) >= MAX_VALUES:
        return False
    left = "".join(text.split('"')[::2]).translate(_BRACKETS_ONLY)
    for _ in range(MAX_DEPTH // 2):  # each time one level goes, or two of different kinds
        if not left:
            return True
        left = left.replace("{}", "").replace("[]", "")
    return not left


_BRACKETS_ONLY = {code: None for code in range(128) if chr(code) not in "[]{}"}


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


def _check_extent(document: Any, where: str) -> None:
    level, values = [document], 0
    for _ in range(MAX_DEPTH):
        level = [child for node in level for child in _children(node)]
        values += len(level)
        if values > MAX_VALUES:
            raise UsageError("bad-json", f"has more than {MAX_VALUES} values", where=where)
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
    # command line that are no text come from Python, YAML and TOML; JSON could not carry them. It can carry integers of
    # thousands of digits, which fail wherever they become floats.
    types = Draft202012Validator.TYPE_CHECKER.redefine_many(
        {
            "integer": lambda _, v: _is_integer(v),
            "number": lambda _, v: _is_number(v),
            "string": lambda _, v: isinstance(v, str) and not _SURROGATES.search(v),
        }
    )
    strict: Any = validators.extend(  # type: ignore[no-untyped-call]
        Draft202012Validator, {"pattern": _pattern}, type_checker=types
    )
    found: Draft202012Validator = strict(documents[name], registry=known)
    return found


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -(2**64) < value < 2**64


def _is_number(value: Any) -> bool:
    return _is_integer(value) or (isinstance(value, float) and math.isfinite(value))


def _pattern(validator: Any, expected: str, instance: Any, _: Mapping[str, Any]) -> Iterator[ValidationError]:
    from jsonschema.exceptions import ValidationError

    if validator.is_type(instance, "string") and not _compiled(expected).search(instance):
        yield ValidationError(f"{instance!r} does not match {expected!r}")


@functools.cache
def _compiled(expected: str) -> re.Pattern[str]:
    """A pattern as JSON Schema means it: $ is not before a last new line, and digits are those of ASCII."""
    return re.compile(re.sub(r"(?<!\\)\$(?=\)*$)", r"\\Z", expected), re.ASCII)


def validate(document: Any, name: str, *, where: str = "") -> None:
    """Validate a document against a packaged schema.

    Raises:
        UsageError: the most telling error, with its JSON path, what was found and what is allowed.
    """
    # A hostile document can have an error for each of its values; the first of them say enough.
    found = islice(_validator(name).iter_errors(document), MAX_ERRORS)
    errors = sorted(found, key=lambda e: (len(e.absolute_path), str(e.absolute_path)))
    if errors:
        raise _explained(errors, where)


def read_document(text: str, name: str, *, where: str = "") -> Any:
    """Parse JSON strictly and validate it: ``load_json`` and ``validate``, for documents of which there are thousands.

    A validator that is fifty times as fast finds what is valid; the usual one has the last word on all else, and words
    the error. They cannot disagree on what JSON holds; what came from Python (tuples, NaN) goes through ``validate``.

    Raises:
        UsageError: as for both.
    """
    document = load_json(text, where=where)
    if not (_is_plain(text) and _quick(name).is_valid(document)):
        validate(document, name, where=where)
    return document


def _is_plain(text: str) -> bool:
    """No lone surrogate can stand in what was parsed of it, which the quick validator would take for a character."""
    return not ("\\ud" in text or "\\uD" in text or (not text.isascii() and _SURROGATES.search(text)))


@functools.cache
def _quick(name: str) -> jsonschema_rs.Draft202012Validator:
    import jsonschema_rs

    known = jsonschema_rs.Registry([(schema(each)["$id"], _with_numbers(schema(each))) for each in schema_names()])
    return jsonschema_rs.Draft202012Validator(
        _with_numbers(schema(name)), registry=known, keywords={_NUMBERS: _Numbers}, validate_formats=False
    )


_NUMBERS = "unlearnbench-numbers"


class _Numbers:
    """The keyword that asks the usual validator's question of numbers: 50.0 is no integer, nor one of 5,000 digits."""

    def __init__(self, parent: Any, value: str, path: Any) -> None:
        self.fits = _is_integer if value == "integer" else _is_number

    def validate(self, instance: Any) -> None:
        if isinstance(instance, int | float) and not isinstance(instance, bool) and not self.fits(instance):
            raise ValueError("is not such a number")


def _with_numbers(node: Any) -> Any:
    if isinstance(node, list):
        return [_with_numbers(child) for child in node]
    if not isinstance(node, dict):
        return node
    found = {key: _with_numbers(child) for key, child in node.items()}
    types = [node["type"]] if isinstance(node.get("type"), str) else node.get("type")
    if isinstance(types, list) and not {"integer", "number"}.isdisjoint(types):
        found[_NUMBERS] = "number" if "number" in types else "integer"
    return found


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
