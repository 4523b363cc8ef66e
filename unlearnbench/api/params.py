"""Parameters: one frozen dataclass per component is the only description of what can be set.

The dataclass lives in a light module (standard library only) and marks each field::

    @dataclass(frozen=True)
    class SalUnParams(Recipe):
        density: Annotated[float, Param("Share of the weights that may change.", gt=0, le=1)] = 0.5

The JSON Schema, ``--set salun.density=0.3``, experiment files, ``unlearnbench show salun`` and validation all read it.
pydantic understands the marker (it follows the ``annotated_types`` grouping protocol), but importing this module does
not import pydantic.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

Phase = Literal["train", "prepare", "unlearn"]
PHASES: tuple[Phase, ...] = ("train", "prepare", "unlearn")


@dataclass(frozen=True, slots=True)
class Param:
    """What a person must know about one parameter.

    ``phase`` is the first phase of an unlearner that reads the parameter; a parameter of the ``unlearn`` phase does not
    invalidate a stored preparation. Left out, it is the earliest phase that the class defines, which is always safe.
    """

    help: str
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    min_length: int | None = None
    phase: Phase | None = None
    unit: str = ""

    __is_annotated_types_grouped_metadata__ = True

    def __iter__(self) -> Iterator[object]:
        """Yield the bounds as ``annotated_types`` constraints; called by pydantic only, which depends on them."""
        import annotated_types as at

        for bound in ("ge", "gt", "le", "lt"):
            value = getattr(self, bound)
            if value is not None:
                yield getattr(at, bound.capitalize())(value)
        if self.min_length is not None:
            yield at.MinLen(self.min_length)
        yield _Describe(self.help + (f" Unit: {self.unit}." if self.unit else ""))


@dataclass(frozen=True, slots=True)
class _Describe:
    text: str

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: Any) -> dict[str, Any]:
        schema: dict[str, Any] = handler(core_schema)
        schema["description"] = self.text
        return schema


@dataclass(frozen=True, slots=True)
class ParamField:
    """One parameter as listings show it."""

    name: str
    type: Any
    default: Any
    param: Param


def param_fields(params: type[Any]) -> tuple[ParamField, ...]:
    """List the parameters of a params dataclass, in order.

    Raises:
        TypeError: not a frozen dataclass, a field without a ``Param`` marker, or a field without a default.
    """
    if not (dataclasses.is_dataclass(params) and isinstance(params, type)):
        raise TypeError(f"{params!r} is not a dataclass")
    return _fields(params)


@cache  # resolving type hints takes most of the time of resolving parameters
def _fields(params: type[Any]) -> tuple[ParamField, ...]:
    if not params.__dataclass_params__.frozen:
        raise TypeError(f"{params.__qualname__} must be a frozen dataclass")
    hints = typing.get_type_hints(params, include_extras=True)
    found = []
    for field in dataclasses.fields(params):
        marks = [m for m in getattr(hints[field.name], "__metadata__", ()) if isinstance(m, Param)]
        if not marks:
            raise TypeError(f"{params.__qualname__}.{field.name} has no Param marker")
        if field.default is not dataclasses.MISSING:
            default = field.default
        elif field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        else:
            raise TypeError(f"{params.__qualname__}.{field.name} has no default")
        found.append(ParamField(field.name, typing.get_args(hints[field.name])[0], default, marks[-1]))
    return tuple(found)


@dataclass(frozen=True)
class NoParams:
    """For components that have nothing to set."""
