"""How kernels are compiled: when the module is imported, for the types that are named, and kept on disk."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

from unlearnbench.api.errors import UsageError

Kernel = TypeVar("Kernel", bound=Callable[..., Any])

try:
    numba: Any = import_module("numba")
    _cgutils: Any = import_module("numba.core.cgutils")
    _ir: Any = import_module("llvmlite.ir")
    _intrinsic: Any = import_module("numba.extending").intrinsic
except ImportError as problem:
    raise UsageError("missing-extra", "ScaleGUN's kernels are compiled by numba, which is not installed",
                     where="unlearnbench-scalegun", hint="pip install numba") from problem  # fmt: skip

INDEX = numba.int64
COUNTS = numba.int32[::1]
OFFSETS = numba.int64[::1]
FLAGS = numba.uint8[::1]
SUMS = numba.float64[::1]
ENDS = numba.types.Array(numba.int64, 1, "A", readonly=True)
"""One row of an edge list as it comes: any stride, and nothing is written."""


def compiled(*signatures: Any) -> Callable[[Kernel], Kernel]:
    """Compile for these signatures, without the interpreter's lock, and cache the result beside the module."""
    decorate: Callable[[Kernel], Kernel] = numba.njit(list(signatures), cache=True, nogil=True, error_model="numpy")
    return decorate


def for_both(signature: Callable[[Any, Any], Any]) -> list[Any]:
    """The signature for states in single and in double precision, from the types of a vector and of a table."""
    return [signature(number[::1], number[:, ::1]) for number in (numba.float32, numba.float64)]


@_intrinsic  # type: ignore[untyped-decorator]
def prefetch(typing: Any, table: Any, row: Any, column: Any) -> Any:
    """Ask for a line of memory that will be needed soon: rows of neighbours lie anywhere, and waiting is what costs."""
    del typing

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        made = context.make_array(signature.args[0])(context, builder, arguments[0])
        place = [context.cast(builder, arguments[i], signature.args[i], numba.intp) for i in (1, 2)]
        byte, word = _ir.IntType(8).as_pointer(), _ir.IntType(32)
        address = builder.bitcast(_cgutils.get_item_pointer(context, builder, signature.args[0], made, place), byte)
        function = _ir.FunctionType(_ir.VoidType(), [byte, word, word, word])
        called = _cgutils.get_or_insert_function(builder.module, function, "llvm.prefetch.p0")
        # To read, to be kept in all caches, data.
        builder.call(called, [address, *(_ir.Constant(word, value) for value in (0, 3, 1))])
        return context.get_dummy_value()

    return numba.void(table, row, column), generate
