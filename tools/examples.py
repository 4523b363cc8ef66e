"""The examples of the documents: runs the commands that they show and compares what comes out.

``python tools/examples.py PAGE...`` writes what the commands print now into the pages. The tests compare only.

An example is a block fenced as ``console`` after ``<!-- run -->`` (or ``<!-- run: exit 2 -->``): commands after ``$``,
their output below. A block after ``<!-- file: NAME -->`` is a file; several blocks of one name follow each other. In a
plugin's README, the last line before ``<!-- output: begin -->`` is the command. Output may skip lines with ``...``.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TUTORIAL_PLUGIN = ROOT / "docs" / "tutorial" / "unlearnbench-gentle"
PLUGIN_TUTORIAL = TUTORIAL_PLUGIN.with_name("first-unlearner.md")
SHOWN_FOLDER = "/home/you/unlearning"
"""What stands in the documents for the folder that commands run in."""

_FILE = re.compile(r"<!-- file: (\S+) -->\n```\w*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_RUN = re.compile(r"(<!-- run(?:: exit (\d+))? -->\n```console\n)(.*?)(^```$)", re.DOTALL | re.MULTILINE)
_OUTPUT = re.compile(r"(    (unlearnbench [^\n]+)\n\n<!-- output: begin -->\n)(.*?)(<!-- output: end -->)", re.DOTALL)
_SKIP = "..."
_TIME = re.compile(r"(?<![\w.])\d[\d.e+-]*(?= (?:CPU s|ms of CPU time)\b)")


@dataclass(frozen=True)
class Step:
    """A command, what the page shows below it, and the exit code that is expected."""

    command: str
    shown: str
    code: int = 0


def files(page: Path) -> dict[str, str]:
    """The files that a page shows, each put together from its blocks in order."""
    found: dict[str, str] = {}
    for name, content in _FILE.findall(page.read_text("utf-8")):
        found[name] = f"{found[name]}\n{content}" if name in found else content
    return found


def steps(page: Path) -> list[Step]:
    """The commands of a page in order."""
    text = page.read_text("utf-8")
    found = [step for match in _RUN.finditer(text) for step in _block(match)]
    for match in _OUTPUT.finditer(text):
        shown = match[3].strip().removeprefix("```text").removesuffix("```")
        found.append(Step(match[2], shown.strip("\n")))
    return found


def _block(match: re.Match[str]) -> Iterator[Step]:
    """The steps of a block. Only its last command may be the one that fails."""
    parts = re.split(r"^\$ ", match[3], flags=re.MULTILINE)[1:]
    for position, part in enumerate(parts, 1):
        lines = part.splitlines()
        length = next(n for n, line in enumerate(lines, 1) if not line.endswith("\\"))
        code = int(match[2] or 0) if position == len(parts) else 0
        yield Step("\n".join(lines[:length]), "\n".join(lines[length:]), code)


def prepare(page: Path, folder: Path) -> None:
    """Put what a page builds on into a folder: the tutorial's plugin, or the files that the page shows."""
    if page == PLUGIN_TUTORIAL:
        shutil.copytree(TUTORIAL_PLUGIN, folder, dirs_exist_ok=True)
        return
    for name, content in files(page).items():
        (folder / name).write_text(content, "utf-8")


def run(step: Step, folder: Path, site: Path | None = None, scripts: Path | None = None) -> str:
    """Run a command in a folder; returns what it printed, with the folder's path as the documents show it.

    ``site`` has plugins that are installed nowhere else, ``scripts`` commands that go before the installed ones.

    Raises:
        AssertionError: it ended with another exit code than the page says.
    """
    unwanted = ("UNLEARNBENCH_PLUGINS", "UNLEARNBENCH_TRACEBACK", "MLFLOW_TRACKING_URI", "COLUMNS", "PYTEST_ADDOPTS")
    environment = {name: value for name, value in os.environ.items() if name not in unwanted}
    places = [sysconfig.get_path("scripts"), environment.get("PATH", "")]
    environment["PATH"] = os.pathsep.join([*([str(scripts)] if scripts else []), *places])
    environment["OMP_NUM_THREADS"] = "1"
    if site is not None:
        environment["PYTHONPATH"] = str(site)
    done = subprocess.run(
        ["bash", "-c", step.command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    text = done.stdout.replace(str(folder), SHOWN_FOLDER)
    assert done.returncode == step.code, f"{step.command}: exit code {done.returncode}\n{text[-2000:]}"
    return "\n".join(line.rstrip() for line in text.splitlines()).strip("\n")


def install_tutorial(site: Path) -> None:
    """Install the tutorial's plugin with pip into a folder, offline."""
    offline = ["--no-deps", "--no-index", "--no-build-isolation", "--target", str(site), str(TUTORIAL_PLUGIN)]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *offline], check=True
    )


def differences(shown: str, printed: str) -> list[str]:
    """Lines in which two outputs differ, apart from blank lines, times, digests and the last digits of readings."""
    left, right = _comparable(shown), _comparable(printed)
    if [_SKIP] not in left:
        if len(left) != len(right):
            return [f"{len(left)} lines are shown, {len(right)} printed:\n{printed}"]
        pairs = zip(left, right, strict=True)
        return [f"shown: {' '.join(a)}\nprinted: {' '.join(b)}" for a, b in pairs if not _same_line(a, b)]
    missing = []
    position = 0
    for line in left:
        if line != [_SKIP]:
            after = next((n for n in range(position, len(right)) if _same_line(line, right[n])), None)
            if after is None:
                missing.append(f"shown, but not printed in this place: {' '.join(line)}\n{printed}")
            else:
                position = after + 1
    return missing


def _comparable(text: str) -> list[list[str]]:
    """The words of each line that has any, without the columns of a table that hold times."""
    found = []
    timed: int | None = None
    for line in text.splitlines():
        line = _TIME.sub("#", line)
        cells = re.split(r"\s{2,}", line.strip())
        if "CPU s" in cells:
            timed = cells.index("CPU s") + 1  # the column of names has no heading
        elif not line.startswith(" "):
            timed = None
        elif timed is not None:
            cells = cells[:timed]
        # A rule is as long as its table is wide, which is as wide as its times.
        words = ["rule" if set(word) == {"─"} else word for word in " ".join(cells).split()]
        words = [re.sub(r"\b(?=[0-9a-f]*\d)[0-9a-f]{8,}\b", "#", word) for word in words]
        words = [word for word in words if not re.fullmatch(r"\(\d+:\d\d:\d\d\)", word)]  # pytest, after a minute
        if words:
            found.append([re.sub(r"^\d+(\.\d+)?s$", "#s", word) for word in words])
    return found


def _same_line(one: list[str], other: list[str]) -> bool:
    return len(one) == len(other) and all(map(_same_word, one, other))


def _same_word(one: str, other: str) -> bool:
    """Equal, or the same reading as another processor may compute it, also with a sign or in brackets."""
    if one == other:
        return True
    left, right = (re.fullmatch(r"(\D*)(\d+\.\d+)(\D*)", word) for word in (one, other))
    if left is None or right is None or left.group(1, 3) != right.group(1, 3):
        return False
    percentage = len(left[2].partition(".")[2]) == 2  # tables give percentages two digits and shares three
    return abs(float(left[2]) - float(right[2])) <= (10 if percentage else 0.1)


def _rewrite(page: Path, site: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(page, folder)

        def console(match: re.Match[str]) -> str:
            lines = []
            for step in _block(match):
                printed = run(step, folder, site)
                output = step.shown if _SKIP in step.shown.splitlines() else printed
                lines += [f"$ {step.command}", *output.splitlines()]
            return "\n".join([f"{match[1]}{lines[0]}", *lines[1:], match[4]])

        def output(match: re.Match[str]) -> str:
            printed = run(Step(match[2], ""), folder)
            return match[0] if _SKIP in match[3].splitlines() else f"{match[1]}```text\n{printed}\n```\n\n{match[4]}"

        page.write_text(_OUTPUT.sub(output, _RUN.sub(console, page.read_text("utf-8"))), "utf-8")


def main() -> None:
    """Write what commands print now into pages."""
    parser = argparse.ArgumentParser(description="Write what commands print now into pages.")
    parser.add_argument("pages", nargs="+", type=Path)
    pages = [page.resolve() for page in parser.parse_args().pages]
    with tempfile.TemporaryDirectory() as site:
        install_tutorial(Path(site))
        for page in pages:
            _rewrite(page, Path(site))
            print(f"{page.relative_to(ROOT)}: {len(steps(page))} commands")


if __name__ == "__main__":
    main()
