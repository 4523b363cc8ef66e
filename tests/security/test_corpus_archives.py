"""Folders and zip archives that hold what no submission may hold, or that tools would read differently."""

from __future__ import annotations

import io
import os
import shutil
import socket
import stat
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from security.corpus import BAD_NAMES, Member, archive, deflated, members_of, overlapping, quoted_overlap, zipped
from security.honest import assert_clean, assert_refused, copied, first, honest, verified
from support import tree

from unlearnbench.leaderboard.layout import SUBMISSION

PATHS = {"nul", "nothing", "a name of ten thousand letters", "an absolute path", "a dot", "an empty part"}
PATHS |= {"a path upwards", "a path upwards within"}
POSSIBLE = {kind: name for kind, name in BAD_NAMES.items() if kind not in PATHS}
"""Names that a file system takes, as a new file of the folder."""


def packed_as(to: Path, content: bytes) -> Path:
    to.write_bytes(content)
    return to


def with_member(*members: Member) -> bytes:
    return archive([*members_of(honest()), *members])


def with_first_as(**lies: object) -> bytes:
    """The honest archive, with a lie about one record."""
    members = members_of(honest())
    place = next(i for i, m in enumerate(members) if m.name.startswith(b"records/"))
    members[place] = replace(members[place], **lies)  # type: ignore[arg-type]
    return archive(members)


def test_an_honest_zip_is_read_like_the_folder(tmp_path: Path) -> None:
    done = verified(packed_as(tmp_path / "honest.zip", zipped(honest())))
    assert done.rc == 0, done.stderr
    assert_clean(done)


def test_a_zip_of_a_common_tool_is_read(tmp_path: Path) -> None:
    made = shutil.make_archive(str(tmp_path / "made"), "zip", honest().parent, honest().name)
    assert verified(Path(made)).rc == 0


@pytest.mark.parametrize("kind", sorted(BAD_NAMES))
def test_a_name_that_is_not_allowed_is_refused_in_a_zip(kind: str, tmp_path: Path) -> None:
    assert_refused(verified(packed_as(tmp_path / "bad.zip", with_member(Member(BAD_NAMES[kind], b"{}")))))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.zip"]


@pytest.mark.parametrize("kind", sorted(POSSIBLE))
def test_a_name_that_is_not_allowed_is_refused_in_a_folder(kind: str, tmp_path: Path) -> None:
    folder = copied(tmp_path / "inner" / "copy")
    target = Path(os.fsdecode(os.fsencode(folder) + b"/" + POSSIBLE[kind]))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(b"{}")
    before = tree(folder)
    assert_refused(verified(folder))
    assert tree(folder) == before


TWINS = {
    "the same name": lambda name: name,
    "another case": lambda name: name.upper(),
    "another case of the folder": lambda name: name.replace(b"records", b"Records"),
    "a slash twice": lambda name: name.replace(b"/", b"//"),
    "a dot before": lambda name: b"./" + name,
}


@pytest.mark.parametrize("kind", sorted(TWINS))
@pytest.mark.parametrize("order", ["before", "behind"])
def test_a_second_file_of_a_name_is_refused(kind: str, order: str, tmp_path: Path) -> None:
    members = members_of(honest())
    record = next(m for m in members if m.name.startswith(b"records/"))
    twin = [Member(TWINS[kind](record.name), b'{"forged": true}')]
    content = archive([*twin, *members] if order == "before" else [*members, *twin])
    assert_refused(verified(packed_as(tmp_path / "twins.zip", content)), "twins.zip")


def test_names_that_differ_by_case_are_refused_in_a_folder(tmp_path: Path) -> None:
    folder = copied(tmp_path / "copy")
    record = first(folder, "records")
    record.with_name(record.name.upper().removesuffix(".JSON") + ".json").write_bytes(b"{}")
    if len(list((folder / "records").iterdir())) != 6:
        pytest.skip("this file system does not tell case apart")
    assert_refused(verified(folder), "records/")


KINDS_OF_FILE = {
    "a link": stat.S_IFLNK,
    "a device of characters": stat.S_IFCHR,
    "a device of blocks": stat.S_IFBLK,
    "a pipe": stat.S_IFIFO,
    "a socket": stat.S_IFSOCK,
    "a folder": stat.S_IFDIR,
}


@pytest.mark.parametrize("kind", sorted(KINDS_OF_FILE))
def test_what_is_no_plain_file_is_refused_in_a_zip(kind: str, tmp_path: Path) -> None:
    content = with_first_as(mode=KINDS_OF_FILE[kind] | 0o777, content=b"/etc/passwd")
    assert_refused(verified(packed_as(tmp_path / "kinds.zip", content)), "records/")


def _link_to(target: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        record = first(folder, "records")
        record.replace(folder.parent / "kept.json")
        record.symlink_to(target)

    return change


def _folder_link(folder: Path) -> None:
    (folder / "records").replace(folder.parent / "elsewhere")
    (folder / "records").symlink_to(folder.parent / "elsewhere")


def _pipe(folder: Path) -> None:
    record = first(folder, "records")
    record.unlink()
    os.mkfifo(record)


def _socket(folder: Path) -> None:
    record = first(folder, "records")
    record.unlink()
    here = os.open(record.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(f"/proc/self/fd/{here}/s")  # the path itself may be too long for a socket
    (record.parent / "s").replace(record)
    os.close(here)


def _folder_in_place(folder: Path) -> None:
    record = first(folder, "records")
    record.unlink()
    record.mkdir()


def _zip_in_place(folder: Path) -> None:
    first(folder, "records").write_bytes(zipped(honest()))


LAID: dict[str, Callable[[Path], None]] = {
    "a link to the same content": _link_to("../../kept.json"),
    "a link to a file of the system": _link_to("/etc/passwd"),
    "a link to nothing": _link_to("nowhere"),
    "a link to itself": lambda folder: _link_to(first(folder, "records").name)(folder),
    "a link to an endless device": _link_to("/dev/zero"),
    "a folder that is a link": _folder_link,
    "a pipe that nobody writes": _pipe,
    "a socket": _socket,
    "a folder in place of a record": _folder_in_place,
    "an archive in place of a record": _zip_in_place,
}


@pytest.mark.parametrize("kind", sorted(LAID))
def test_what_is_no_plain_file_is_refused_in_a_folder(kind: str, tmp_path: Path) -> None:
    folder = copied(tmp_path / "copy", LAID[kind])
    assert_refused(verified(folder), "records")


def test_a_submission_that_is_a_link_to_a_file_of_the_system_is_refused(tmp_path: Path) -> None:
    folder = copied(tmp_path / "copy")
    (folder / SUBMISSION).unlink()
    (folder / SUBMISSION).symlink_to("/etc/passwd")
    done = verified(folder)
    assert_refused(done, SUBMISSION)
    assert "root:" not in done.stdout + done.stderr


BOMB = bytes(16 * 2**20)
NAMES = [f"records/r{number}.json" for number in range(50)]
LIES: dict[str, Callable[[], bytes]] = {
    "fewer bytes declared": lambda: with_first_as(size=10),
    "more bytes declared": lambda: with_first_as(size=2**31),
    "no bytes declared": lambda: with_first_as(size=0, crc=0),
    "a wrong checksum": lambda: with_first_as(crc=1),
    "encrypted": lambda: with_first_as(flags=1),
    "encrypted strongly": lambda: with_first_as(flags=0x41),
    "sizes behind the data": lambda: with_first_as(flags=8, size=0),
    "bzip2": lambda: with_first_as(method=zipfile.ZIP_BZIP2),
    "lzma": lambda: with_first_as(method=zipfile.ZIP_LZMA),
    "an unknown method": lambda: with_first_as(method=99),
    "another name in the header": lambda: with_first_as(local_name=b"records/other.json"),
    "no deflate stream": lambda: with_first_as(packed=b"\xff" * 100),
    "a deflate stream that goes on": lambda: with_first_as(packed=deflated(b"{}") + deflated(b"{}")),
    "a header beyond the end": lambda: with_first_as(offset=2**31),
    "a header in the middle of another": lambda: with_first_as(offset=7),
    "a bomb in a record": lambda: with_first_as(content=BOMB),
    "a bomb that declares little": lambda: with_first_as(content=BOMB, size=100),
    "entries of one header": lambda: overlapping([SUBMISSION, *NAMES], 2**20),
    "entries that quote each other": lambda: quoted_overlap([SUBMISSION, *NAMES], 2**20),
    "an archive before it": lambda: zipped(honest()) + zipped(honest()),
    "a program before it": lambda: b"#!/bin/sh\nexit 1\n" + zipped(honest()),
    "bytes behind it": lambda: zipped(honest()) + b"\x00" * 100,
    "its end only": lambda: zipped(honest())[-22:],
    "its end cut off": lambda: zipped(honest())[:-10],
    "its middle cut out": lambda: zipped(honest())[:5000] + zipped(honest())[-5000:],
    "an empty archive": lambda: archive([]),
    "an empty file": lambda: b"",
    "a tar": lambda: b"submission.json".ljust(257, b"\x00") + b"ustar\x0000" + bytes(2000),
}


@pytest.mark.parametrize("kind", sorted(LIES))
def test_an_archive_that_lies_is_refused(kind: str, tmp_path: Path) -> None:
    assert_refused(verified(packed_as(tmp_path / "lies.zip", LIES[kind]())), "lies.zip")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lies.zip"]


def test_the_overlapping_archives_are_what_they_say() -> None:
    for made in (overlapping(NAMES[:3], 1000), quoted_overlap(NAMES[:3], 1000)):
        with zipfile.ZipFile(io.BytesIO(made)) as opened:
            assert sum(info.file_size for info in opened.infolist()) >= 3000
            assert len(opened.read(NAMES[0])) >= 1000
