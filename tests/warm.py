"""The command line in processes that have their libraries already: each is a fork of one that did nothing but import.

Most of a short command is the import of torch and what it brings. Where a test is about what commands do and print,
that is paid for once a session: ``unlearnbench`` in the folder ``scripts()`` sends its words, folder, environment and
open files to a server, which forks. What imports do is not seen this way; for that is ``support.spawn``.

Most of the rest is training the same originals and gold models, since every page has a store of its own. Here a recipe
trains what it trains once, and each store gets a copy as if it had been trained there.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unlearnbench.phases import Made
    from unlearnbench.stages import Stages
    from unlearnbench.store import Entry

LIBRARIES = (
    "torch._dynamo",
    "scipy.stats",
    "sklearn.linear_model",
    "sklearn.svm",
    "sklearn.datasets",
    "matplotlib.figure",
    "unlearnbench.cli.run",
    "unlearnbench.session",
    "unlearnbench.builtin.measures",
)
"""What most runs import. While it is imported nothing looks at words, folder or environment but for the threads."""

_CLIENT = """#!{python} -IS
import json, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
words = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(server, [len(words).to_bytes(4, "big")], [0, 1, 2])
server.sendall(words)
sys.exit(int.from_bytes(server.recv(1) or b"\\xff", "big"))
"""


@functools.cache
def scripts() -> Path:
    """A folder for ``PATH`` with an ``unlearnbench`` that starts warm, as long as this process lives."""
    folder = Path(tempfile.mkdtemp(prefix="unlearnbench-warm-"))
    client = folder / "bin" / "unlearnbench"
    client.parent.mkdir()
    client.write_text(_CLIENT.format(python=sys.executable, address=str(folder / "server")), "utf-8")
    client.chmod(0o755)
    server = subprocess.Popen(
        [sys.executable, "-P", __file__, str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert server.stdin is not None
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"
    atexit.register(server.wait)
    atexit.register(server.stdin.close)  # of two, the last is called first
    return client.parent


def command() -> str:
    """``unlearnbench`` as the first word of a command."""
    return str(scripts() / "unlearnbench")


def _serve(folder: Path) -> list[str]:
    """Wait for commands, one at a time; returns the words of each in a process of its own.

    It ends when standard input does, which happens also when the process on its other side was killed.
    """
    for library in LIBRARIES:
        importlib.import_module(library)
    gc.freeze()  # or the first collection of each fork would copy all of it
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "server"))
        listener.listen()
        os.write(1, b"ready\n")
        while 0 not in select.select([listener.fileno(), 0], [], [])[0]:
            connection, _ = listener.accept()
            with connection:
                size, files, _, _ = socket.recv_fds(connection, 4, 3)
                asked = connection.makefile("rb").read(int.from_bytes(size, "big"))
                child = os.fork()
                if not child:
                    return _entered(files, *json.loads(asked))
                for file in files:
                    os.close(file)
                _, status = os.waitpid(child, 0)
                connection.sendall(bytes([os.waitstatus_to_exitcode(status) % 256]))
    shutil.rmtree(folder)
    os._exit(0)  # an orderly end would free what it imported, with complaints about leaks


def _entered(files: list[int], words: list[str], folder: str, environment: dict[str, str]) -> list[str]:
    """Be where the command was given."""
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    sys.stdin, sys.stdout = open(0, encoding="utf-8"), open(1, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1)  # noqa: SIM115
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = [place for place in environment.get("PYTHONPATH", "").split(os.pathsep) if place]
    return words


def _share_training(folder: Path) -> None:
    """Train by recipe only what no other command has trained; what is printed and counted is the same."""
    from unlearnbench import stages
    from unlearnbench.identity import digest
    from unlearnbench.store import Store

    trained, made = Store(folder), stages.Stages._made

    def once_a_session(
        self: Stages, phase: str, inputs: Mapping[str, Any], make: Callable[[], Made], step: int = 0, steps: int = 1
    ) -> Entry:
        if phase != "train" or inputs.get("trainer", {}).keys() != {"recipe"}:  # an unlearner trains, or nobody
            return made(self, phase, inputs, make, step, steps)
        key = digest(inputs)
        known = None if self.store.path(phase, key).exists() else trained.get(phase, key)
        if known is not None:
            self._keep(phase, known)
        entry = made(self, phase, inputs, make, step, steps)
        if not trained.path(phase, key).exists():
            trained.put(phase, entry)
        return entry

    stages.Stages._made = once_a_session


if __name__ == "__main__":
    place = Path(sys.argv[1])
    given = _serve(place)
    _share_training(place / "trained")
    sys.argv[:] = ["unlearnbench", *given]

    from unlearnbench.cli import main

    try:
        main(given)
    finally:
        gc.unfreeze()  # what is frozen would not be freed at the end, and libraries complain of leaks
