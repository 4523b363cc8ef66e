"""Files of strangers: read for what they are, or refused before they can do harm."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rfc8785
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from unlearnbench_verifier.files import (
    MOST_BYTES,
    MOST_DEPTH,
    MOST_HEADER,
    MOST_INTEGER,
    MOST_VALUES,
    TensorFile,
    canonical,
    json_digest,
    load_json,
    patched_digest,
    read_json,
    read_sample,
    read_tensors,
    sha256,
)
from unlearnbench_verifier.findings import Unreadable

TORCH = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def refused(code: str, message: str) -> Any:
    return pytest.raises(Unreadable, match=rf"^\[{code}\] .*{message}")


def put(folder: Path, header: Any, body: bytes = b"", *, length: int | None = None) -> Path:
    """A file in the form of safetensors with whatever stands in its header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = folder / "hostile.safetensors"
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + body)
    return path


def entry(start: int, end: int, shape: Any = None, dtype: Any = "U8") -> dict[str, Any]:
    return {"dtype": dtype, "shape": [end - start] if shape is None else shape, "data_offsets": [start, end]}


# -- tensors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", TORCH)
def test_tensors_of_every_dtype_are_read_as_torch_wrote_them(tmp_path: Path, dtype: str) -> None:
    wild = torch.tensor([[0.1, -2.5, 3e3], [0.0, 1.0, 7.0]], dtype=torch.float64)
    extremes = torch.tensor([float("inf"), -0.0, 1e-40]) if TORCH[dtype].is_floating_point else torch.tensor([1, 0, 1])
    tensors = {
        "some": wild.to(TORCH[dtype]),
        "extreme": extremes.to(TORCH[dtype]),
        "none": torch.zeros(0, 4).to(TORCH[dtype]),
        "scalar": torch.tensor(1).to(TORCH[dtype]),
    }
    path = tmp_path / "tensors.safetensors"
    save_file(tensors, path, {"unlearnbench": "{}"})
    found = read_tensors(path)
    assert dict(found.metadata) == {"unlearnbench": "{}"}
    assert dict(found.dtypes) == dict.fromkeys(tensors, dtype)
    assert set(found.tensors) == set(tensors)
    for name, expected in tensors.items():
        values = found.tensors[name]
        assert values.shape == tuple(expected.shape)
        wanted = expected.float() if dtype == "BF16" else expected
        assert values.dtype == wanted.numpy().dtype
        assert values.tobytes() == wanted.numpy().tobytes()
        stored = expected.contiguous().view(torch.uint8) if expected.dim() else expected.reshape(1).view(torch.uint8)
        assert found.raw(name) == stored.numpy().tobytes()
        assert not values.flags.writeable


def test_bfloat16_keeps_its_bits_even_where_it_is_no_number(tmp_path: Path) -> None:
    bits = np.array([0x7FC1, 0xFF80, 0x0001, 0x8000], dtype="<u2").tobytes()
    found = read_tensors(put(tmp_path, {"odd": entry(0, 8, [4], "BF16")}, bits))
    assert found.raw("odd") == bits
    assert np.isnan(found.tensors["odd"][0])


def test_an_integer_tensor_keeps_what_a_float_would_lose(tmp_path: Path) -> None:
    save_file({"ids": torch.tensor([2**62 + 1, -1])}, tmp_path / "a.safetensors")
    assert read_tensors(tmp_path / "a.safetensors").tensors["ids"].tolist() == [2**62 + 1, -1]


@pytest.mark.parametrize(
    ("header", "body", "message"),
    [
        ({"a": entry(0, 4), "b": entry(2, 6)}, 6, "'b' lies over another"),
        ({"a": entry(0, 4), "b": entry(0, 4)}, 4, "'b' lies over another"),
        ({"a": entry(0, 4), "b": entry(1, 1), "c": entry(4, 5)}, 5, "'b' lies over another"),
        ({"a": entry(0, 4), "b": entry(5, 6)}, 6, "'b' leaves bytes before it"),
        ({"a": entry(0, 4)}, 5, "ends with 1 bytes that belong to no tensor"),
        ({"a": entry(0, 4)}, 3, "'a' does not lie within the file"),
        ({"a": entry(4, 0, [4])}, 4, "'a' does not lie within the file"),
        ({"a": {**entry(0, 4), "data_offsets": [0, 2**50]}}, 4, "'a' does not lie within the file"),
        ({"a": {**entry(0, 4), "data_offsets": [-4, 0]}}, 4, "'a' does not lie within the file"),
        ({"a": {**entry(0, 4), "data_offsets": [0]}}, 4, "'a' does not lie within the file"),
        ({"a": {**entry(0, 4), "data_offsets": [0, 4.0]}}, 4, "'a' does not lie within the file"),
        ({"a": {**entry(0, 4), "data_offsets": [False, 4]}}, 4, "'a' does not lie within the file"),
        ({"a": entry(0, 4, [5])}, 4, "'a' has 4 bytes, which do not make U8 of shape"),
        ({"a": entry(0, 4, [2], "F32")}, 4, "'a' has 4 bytes, which do not make F32 of shape"),
        ({"a": entry(0, 4, [2**32, 2**32])}, 4, "'a' has 4 bytes, which do not make"),
        ({"a": entry(0, 4, [-2, -2])}, 4, "'a' has a shape that is none"),
        ({"a": entry(0, 4, 4)}, 4, "'a' has a shape that is none"),
        ({"a": entry(0, 0, [0, *[2**52] * 3])}, 0, "'a' has a shape that is none"),
        ({"a": entry(0, 1, [1] * 33)}, 1, "'a' has a shape that is none"),
        ({"a": entry(0, 4, None, "F8_E4M3")}, 4, "'a' is 'F8_E4M3', which is none of F64"),
        ({"a": entry(0, 4, None, ["U8"])}, 4, "'a' is .* which is none of F64"),
        ({"a": {"dtype": "U8", "shape": [4]}}, 4, "'a' needs dtype, shape and data_offsets"),
        ({"a": {**entry(0, 4), "more": 1}}, 4, "'a' needs dtype, shape and data_offsets, and nothing else"),
        ({"a": [0, 4]}, 4, "'a' needs dtype"),
        ({"a": entry(0, 4, None, "BOOL")}, b"\0\1\2\1", "'a' has truth values beside 0 and 1"),
        ({"__metadata__": {"unlearnbench": 1}}, 0, "has metadata that is not text"),
        ({"__metadata__": ["x"]}, 0, "has metadata that is not text"),
        ([], 0, "has a header that is no object"),
    ],
)
def test_a_header_that_lies_is_refused_with_the_tensor(
    tmp_path: Path, header: Any, body: int | bytes, message: str
) -> None:
    path = put(tmp_path, header, bytes(body))
    with refused("bad-tensors", message) as caught:
        read_tensors(path)
    assert caught.value.where == str(path)
    assert caught.value.exit_code == 5


@pytest.mark.parametrize("length", [2**56, 2**63, 2**64 - 1, MOST_HEADER + 1])
def test_a_header_that_claims_to_be_huge_is_refused_without_reading_it(tmp_path: Path, length: int) -> None:
    path = put(tmp_path, {}, length=length)
    tracemalloc.start()
    with refused("bad-tensors", f"has a header of {length} bytes"):
        read_tensors(path)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


@pytest.mark.parametrize("content", [b"", b"\0\0\0", struct.pack("<Q", 100) + b'{"a"', struct.pack("<Q", 3) + b"{}"])
def test_a_truncated_header_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "short.safetensors"
    path.write_bytes(content)
    with refused("bad-tensors", "is shorter than its header says"):
        read_tensors(path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"", "is not JSON"),
        (b'{"a": ', "is not JSON, or only a part of it"),
        (b"{\xff}", "is not UTF-8"),
        (b'{"a": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}, "a": 1}', "key 'a' stands twice"),
        (b'{"a": ' + b"[" * 10_000, "nested more than"),
    ],
)
def test_a_header_that_is_no_strict_json_is_refused(tmp_path: Path, header: bytes, message: str) -> None:
    with refused("bad-json", message):
        read_tensors(put(tmp_path, header))


def test_a_model_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.bool)}, path)
    whole = path.read_bytes()
    read_tensors(path)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(Unreadable):
            read_tensors(path)


# -- JSON --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "is not JSON"),
        (b'{"a": [1, 2', "is not JSON, or only a part of it: .* at line 1 column"),
        (b"{} {}", "is not JSON"),
        (b"\xef\xbb\xbf{}", "is not JSON"),
        (b'{"a": NaN}', "NaN is not a number of JSON"),
        (b"[-Infinity]", "-Infinity is not a number"),
        (b"[1e999]", "1e999 is too large"),
        (b"[9007199254740992]", "9007199254740992 is too large for a whole number"),
        (b"[-9007199254740992]", "-9007199254740992 is too large for a whole number"),
        (b"[" + b"9" * 5000 + b"]", "9999 is too large for a whole number"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "key 'c' stands twice"),
        (b'{"a": 1, "\\u0061": 2}', "key 'a' stands twice"),
        (b"[" * 10_000 + b"]" * 10_000, "is nested more than 64 levels deep"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "is nested more than 64 levels deep"),
        (b"[" * 10_000, "is nested more than 64 levels deep"),
        (b'"\xe9"', "is not UTF-8 text"),
        ('{"a": "x"}'.encode("utf-16"), "is not UTF-8 text"),
        (b'["\\ud800"]', "is not UTF-8 text"),
        (b'{"\\uDC00": 1}', "is not UTF-8 text"),
        (b"[" + b"0," * MOST_VALUES + b"0]", f"has more than {MOST_VALUES} values"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_not_strict_json_is_refused_in_one_line(tmp_path: Path, text: bytes, message: str) -> None:
    path = tmp_path / "hostile.json"
    path.write_bytes(text)
    with refused("bad-json", message) as caught:
        read_json(path)
    assert caught.value.where == str(path)
    assert caught.value.exit_code == 5
    assert "\n" not in str(caught.value)


def test_brackets_and_quotes_within_strings_are_no_levels() -> None:
    hostile = ["[" * 1000, '"' + "{" * 1000, "\\" + "[" * 1000, '\\"[' * 1000, "\U0001f600", "é"]
    for ascii_only in (False, True):
        assert load_json(json.dumps(hostile, ensure_ascii=ascii_only)) == hostile


def test_depth_is_allowed_up_to_the_limit_and_no_further() -> None:
    assert load_json("[" * MOST_DEPTH + "]" * MOST_DEPTH) is not None
    with refused("bad-json", "is nested more than"):
        load_json("[" * (MOST_DEPTH + 1) + "]" * (MOST_DEPTH + 1))


def test_a_certificate_of_100_mb_is_refused_by_its_size_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.json"
    path.touch()
    os.truncate(path, 100 * 2**20)
    tracemalloc.start()
    with refused("too-large", f"has 104857600 bytes, more than the {MOST_BYTES} allowed"):
        read_json(path)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
    (tmp_path / "small.json").write_text("[1]")
    assert read_json(tmp_path / "small.json", most_bytes=3) == [1]
    with refused("too-large", "has 3 bytes, more than the 2 allowed"):
        read_json(tmp_path / "small.json", most_bytes=2)


@pytest.mark.parametrize("read", [read_json, read_tensors, read_sample])
def test_what_is_no_file_is_refused_and_never_waited_for(tmp_path: Path, read: Any) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in (tmp_path / "missing", tmp_path, tmp_path / "pipe", Path("/dev/zero"), tmp_path / "a\0b"):
        with pytest.raises(Unreadable, match=r"^\[no-file\]"):
            read(name)


# -- samples -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(6,), (1, 6), (1, 2, 3)])
@pytest.mark.parametrize("dtype", ["<f4", "<f8", ">f4"])
def test_a_sample_is_read_flat_as_float32(tmp_path: Path, shape: tuple[int, ...], dtype: str) -> None:
    values = np.linspace(0, 1, 6).astype("f4").reshape(shape)
    np.save(tmp_path / "x.npy", np.asfortranarray(values.astype(dtype)))
    found = read_sample(tmp_path / "x.npy")
    assert found.dtype == np.float32
    assert found.tolist() == values.reshape(-1).tolist()


def npy(header: str, body: bytes = b"") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no .npy array"),
        (b"\x93NUMPY", "is no .npy array"),
        (b"not an array at all", "is no .npy array"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4,)}", bytes(15)), "is no .npy array"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,)}", bytes(16)), "is no .npy array"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-4,)}", bytes(16)), "is no .npy array"),
        (npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", b"cos\nsystem\n."), "is no .npy array"),
        (npy("{'descr': '<f4', 'fortran_order': __import__('os'), 'shape': (1,)}", bytes(4)), "is no .npy array"),
        (npy("{'descr': '<i8', 'fortran_order': False, 'shape': (2,)}", bytes(16)), "holds int64"),
        (npy("{'descr': '<f2', 'fortran_order': False, 'shape': (2,)}", bytes(4)), "holds float16"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (0,)}"), "holds float32 of shape|is no .npy array"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", b"\0\0\xc0\x7f"), "not finite"),
        (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1,)}", struct.pack("<d", 1e300)), "not finite"),
    ],
)
def test_what_is_no_sample_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.npy").write_bytes(content)
    with refused("bad-sample", message):
        read_sample(tmp_path / "x.npy")


def test_several_arrays_and_pickles_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=np.zeros(3))
    with refused("bad-sample", "holds several arrays"):
        read_sample(tmp_path / "x.npz")
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with refused("bad-sample", "is no .npy array"):
        read_sample(tmp_path / "x.npy")


# -- digests -----------------------------------------------------------------------------------------------------------

# RFC 8785 writes 1.0 as 1 and has no exponent between 1e-6 and 1e21: there the two forms differ, and ours is Python's.
BOTH = st.floats(-1e15, 1e15).filter(lambda x: x != int(x) and abs(x) >= 1e-4)
TEXT = st.text(st.characters(exclude_categories=["Cs"], max_codepoint=0xFFFF), max_size=8)
LEAVES = st.none() | st.booleans() | st.integers(-MOST_INTEGER, MOST_INTEGER) | TEXT


def documents(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4))


@settings(max_examples=150, deadline=None)
@given(documents(LEAVES | BOTH))
def test_the_canonical_form_is_that_of_rfc_8785_where_numbers_are_written_alike(document: Any) -> None:
    assert canonical(document) == rfc8785.dumps(document)


@settings(max_examples=150, deadline=None)
@given(documents(LEAVES | st.floats(allow_nan=False, allow_infinity=False)))
def test_a_round_trip_through_json_changes_no_digest(document: Any) -> None:
    expected = json_digest(document)
    for text in (json.dumps(document), json.dumps(document, indent=1, ensure_ascii=False), canonical(document)):
        assert json_digest(load_json(text)) == expected


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_no_digest_is_made_of_what_is_no_number(number: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_digest({"a": number})


def test_a_digest_is_over_all_parts_in_order() -> None:
    assert sha256(b"ab", b"", b"c") == hashlib.sha256(b"abc").hexdigest() != sha256(b"c", b"ab")
    assert json_digest({"b": 1, "a": [2.5]}) == hashlib.sha256(b'{"a":[2.5],"b":1}').hexdigest()


def test_the_digest_of_a_patched_model_is_over_names_dtypes_shapes_and_bytes() -> None:
    tensors = {"b": np.array([[1, 2]], dtype="<i8"), "a": np.array([0.5], dtype="<f4")}
    file = TensorFile(tensors, {"b": "I64", "a": "BF16"}, {})
    expected = b'{"x":1}' + b"|a|BF16|[1]|" + b"\x00\x3f" + b"|b|I64|[1,2]|" + struct.pack("<2q", 1, 2)
    assert patched_digest({"x": 1}, file) == hashlib.sha256(expected).hexdigest()
