"""Check that distributions could be released: build, metadata, content, changelog, and the kit with wheels alone.

    make release-check              every distribution
    make release-check ONLY=salun   one of them

Each one goes sdist -> wheel of that sdist -> ``twine check --strict`` -> a look into the wheel; then all wheels are
installed together into a virtual environment that holds nothing else, and ``unlearnbench check`` runs there. Every
distribution is looked at to the end: the table shows all of them, and each problem is one line below it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PathDistribution
from itertools import chain
from pathlib import Path, PurePosixPath

import gather_changelog
import yaml
from distributions import HOST, Distribution, distributions
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from smoke_wheels import Environment, Failure, check_contents

STEPS = ("source", "build", "twine", "wheel", "install", "kit")


@dataclass
class Report:
    """What came out: by distribution and step, a word for the table; and a line for every problem."""

    cells: dict[tuple[str, str], str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def add(self, name: str, step: str, found: Sequence[str], fine: str = "ok") -> bool:
        """Note the outcome of a step; true if there was no problem."""
        self.cells[name, step] = "FAILED" if found else fine
        self.problems += [f"{name}: {step}: {line}" for line in found]
        return not found

    def table(self, chosen: Sequence[Distribution]) -> str:
        """One line for each distribution; ``-`` is what was not tried, because of a problem before it."""
        rows = [["distribution", "version", *STEPS]]
        rows += [[d.name, d.version, *(self.cells.get((d.name, step), "-") for step in STEPS)] for d in chosen]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def check_source(distribution: Distribution, *, released: bool) -> list[str]:
    """The version stands in pyproject.toml; CITATION.cff and the changelog must agree with it."""
    citation = distribution.folder / "CITATION.cff"
    if not citation.is_file():
        return ["CITATION.cff is missing"]
    cited = str(yaml.safe_load(citation.read_text("utf-8")).get("version"))
    differs = [f"CITATION.cff says version {cited}, pyproject.toml {distribution.version}"]
    return (differs if cited != distribution.version else []) + gather_changelog.problems(
        distribution, released=released
    )


def build(distribution: Distribution, out: Path) -> tuple[list[Path], list[str]]:
    """Build the sdist, and the wheel from that sdist; returns both files, or why there are none."""
    made = _tool("build", "--no-isolation", "--outdir", str(out), str(distribution.folder))
    if made.returncode:
        return [], [_last_line(made.stdout + made.stderr)]
    files = sorted(path for path in out.iterdir() if path.suffix in (".whl", ".gz"))
    kinds = [path.suffix for path in files]
    return files, [] if kinds == [".whl", ".gz"] else [f"built {kinds} instead of one wheel and one sdist"]


def check_twine(files: Sequence[Path]) -> list[str]:
    """The index would take the files and can show the long description."""
    done = _tool("twine", "--no-color", "check", "--strict", *map(str, files))
    if not done.returncode:
        return []
    said = [line.split(maxsplit=1)[1] for line in done.stdout.splitlines() if line.startswith(("ERROR", "WARNING"))]
    return list(dict.fromkeys(said)) or [_last_line(done.stdout + done.stderr)]


def check_wheel(distribution: Distribution, wheel: Path, host: str) -> list[str]:
    """The wheel holds the whole package and nothing else, and its metadata say what pyproject.toml says.

    ``host`` is the version of the host that it is released beside.
    """
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        infos = {PurePosixPath(name).parts[0] for name in names if PurePosixPath(name).parts[0].endswith(".dist-info")}
        if len(infos) != 1:
            return [f"has {len(infos)} .dist-info folders"]
        (info,) = infos
        installed = PathDistribution(zipfile.Path(archive, f"{info}/"))
        metadata, requires = installed.metadata, installed.requires or []
        declared = {(point.group, point.name, point.value) for point in installed.entry_points}
    inside = {name for name in names if not name.startswith(f"{info}/")}
    project = distribution.settings["project"]
    found = [*_differences(inside, expected_files(distribution)), *_tests(inside)]
    if f"{distribution.package}/py.typed" not in inside:
        found.append("has no py.typed")
    licences = [f"{info}/licenses/{name}" for name in project.get("license-files", ())]
    if not licences or not names.issuperset(licences):
        found.append("has no licence file; add LICENSE, and license-files to pyproject.toml")
    if metadata["Name"] != distribution.name or metadata["Version"] != distribution.version:
        was = f"{metadata['Name']} {metadata['Version']}"
        found.append(f"is {was} by its metadata, {distribution.name} {distribution.version} by pyproject.toml")
    wanted = {"console_scripts": project.get("scripts", {}), **project.get("entry-points", {})}
    points = {(group, name, value) for group, table in wanted.items() for name, value in table.items()}
    if not points or declared != points:
        found.append(f"has entry points {sorted(declared)}, pyproject.toml {sorted(points)}")
    return found + (check_requirement(requires, host) if distribution.is_plugin else [])


def check_requirement(requires: Sequence[str], host: str) -> list[str]:
    """A plugin asks for the host with a lower bound, and with an upper one that the promise of the API covers."""
    release = Version(host)
    advice = f"ask for {HOST}>={release.major}.{release.minor},<{release.major}.{release.minor + 1}"
    asked = [requirement for requirement in map(Requirement, requires) if canonicalize_name(requirement.name) == HOST]
    if not asked:
        return [f"does not require {HOST}; {advice}"]
    specifier = asked[0].specifier
    found = []
    if not {item.operator for item in specifier} & {">=", "==", "~="}:
        found.append(f"requires {asked[0]} without a lower bound; {advice}")
    if not specifier.contains(host, prereleases=True):
        found.append(f"requires {asked[0]}, which excludes this host, {host}; {advice}")
    too_new = f"{release.major}.{release.minor + 2}" if release.major == 0 else f"{release.major + 2}.0"
    if specifier.contains(too_new):
        found.append(
            f"requires {asked[0]}, which admits {HOST} {too_new}, beyond what its API is promised for; {advice}"
        )
    return found


def expected_files(distribution: Distribution) -> set[str]:
    """Every file of the package in the checkout, under the path that it has in the wheel."""
    return {
        f"{target}/{path.relative_to(root).as_posix()}"
        for root, target in distribution.roots.items()
        for path in root.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def _differences(inside: set[str], expected: set[str]) -> list[str]:
    missing, stray = sorted(expected - inside), sorted(inside - expected)
    found = [f"misses {_some(missing)}"] if missing else []
    return found + ([f"holds {_some(stray)}, which the package does not"] if stray else [])


def _tests(inside: set[str]) -> list[str]:
    """Tests that would be installed; templates of tests, with a suffix of their own, are data."""
    names = {name: PurePosixPath(name).name for name in inside if name.endswith(".py")}
    tests = sorted(path for path, name in names.items() if name == "conftest.py" or name.startswith("test_"))
    return [f"installs tests: {_some(tests)}"] if tests else []


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def check_kit(environment: Environment, name: str) -> tuple[list[str], int]:
    """Run ``unlearnbench check`` where only wheels are installed; returns its complaints and the number of checks."""
    try:
        printed = environment.run("unlearnbench", "check", "--json", name)
    except Failure as problem:
        first, _, printed = str(problem).partition("\n")
        try:
            outcomes = json.loads(printed)
        except ValueError:
            return [first], 0
        failed = [outcome for outcome in outcomes if outcome["status"] == "failed"]
        return [f"{o['kind']} {o['component']}: {o['check']}: {o['message']}" for o in failed] or [first], len(outcomes)
    return [], len(json.loads(printed))


def check_commands(environment: Environment, commands: Sequence[str]) -> list[str]:
    """Ask each command for its help, where only wheels are installed; returns what went wrong."""
    found = []
    for command in commands:
        try:
            environment.run(command, "--help")
        except Failure as problem:
            found.append(str(problem).partition("\n")[0])
    return found


def check_installed(chosen: Sequence[Distribution], wheels: list[Path], report: Report) -> None:
    """Install all wheels together into an environment of their own, and run the kit there for the chosen ones.

    What is no plugin has nothing that the kit could look at; its commands must answer.
    """
    with tempfile.TemporaryDirectory(prefix="unlearnbench-release-") as folder:
        environment = Environment(Path(folder).resolve())
        try:
            environment.install(wheels)
            check_contents(environment, wheels)
        except (Failure, subprocess.CalledProcessError) as problem:
            report.problems.append(f"all wheels together: install: {problem}")
            report.cells.update({(distribution.name, "install"): "FAILED" for distribution in chosen})
            return
        for distribution in chosen:
            report.add(distribution.name, "install", [])
            if distribution.is_plugin or distribution.name == HOST:
                found, count = check_kit(environment, distribution.name)
                report.add(distribution.name, "kit", found, f"{count} checks")
            else:
                report.add(distribution.name, "kit", check_commands(environment, distribution.commands), "answers")


def _tool(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "ended without a word")


def release_check(
    everything: Sequence[Distribution], chosen: Sequence[Distribution], *, released: bool, out: Path | None
) -> Report:
    """Take the chosen distributions through all steps; the host and what they need of ours are built in any case.

    ``out`` receives the files of the chosen distributions, if all of them passed.
    """
    report = Report()
    host = next(distribution for distribution in everything if distribution.name == HOST)
    with tempfile.TemporaryDirectory(prefix="unlearnbench-dist-") as folder:
        files: dict[str, list[Path]] = {}
        needed = {HOST}.union(*(d.requires for d in chosen)) - {d.name for d in chosen}
        for distribution in (*(d for d in everything if d.name in needed), *chosen):
            print(f"building {distribution.name} {distribution.version}", flush=True)
            files[distribution.name], found = build(distribution, Path(folder, distribution.short))
            report.add(distribution.name, "build", found)
        for distribution in chosen:
            name = distribution.name
            report.add(name, "source", check_source(distribution, released=released))
            if files[name]:
                report.add(name, "twine", check_twine(files[name]))
                report.add(name, "wheel", check_wheel(distribution, files[name][0], host.version))
        built = [distribution for distribution in chosen if files[distribution.name]]
        if built and files[HOST]:
            check_installed(built, [made[0] for made in files.values() if made], report)
        if out is not None and not report.problems:
            out.mkdir(parents=True, exist_ok=True)
            for path in chain.from_iterable(files[distribution.name] for distribution in chosen):
                shutil.copy2(path, out)
    return report


def main() -> int:
    """Check the chosen distributions, show the table; returns the exit code."""
    everything = distributions()
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--only", action="append", choices=[d.short for d in everything], help="this one alone; may be repeated"
    )
    parser.add_argument("--tag", help="what this tag releases (salun-v0.1.0), with its changelog gathered")
    parser.add_argument("--out", type=Path, help="folder that receives the files, if all is well")
    options = parser.parse_args()
    chosen = [d for d in everything if not options.only or d.short in options.only]
    if options.tag:
        chosen = [d for d in chosen if d.tag == options.tag]
        if not chosen:
            known = ", ".join(d.tag for d in everything)
            print(f"tag {options.tag} is none of {known}; is the version in pyproject.toml raised?", file=sys.stderr)
            return 1
    report = release_check(everything, chosen, released=bool(options.tag), out=options.out)
    print(f"\n{report.table(chosen)}\n")
    for line in report.problems:
        print(line, file=sys.stderr)
    print(f"{len(report.problems)} problems" if report.problems else "all of them could be released", flush=True)
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
