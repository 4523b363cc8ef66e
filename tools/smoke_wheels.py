"""Install built wheels into an environment of their own and use them there.

An editable install hides what a wheel forgot: package data, entry points, ``py.typed``. So this script builds a fresh
virtual environment outside the checkout, installs nothing but the wheels and their dependencies (versions from
``constraints.txt``), and does what a first user does. It stops with a message and exit code 1 at the first thing that
is not right. Standard library only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT_S = 900

# Runs inside the new environment. Prints, as JSON, what is installed and where it is loaded from.
PROBE = """
import importlib, json
from importlib.metadata import entry_points
from importlib.resources import files
import unlearnbench

def typed(module):
    return files(module.partition(".")[0]).joinpath("py.typed").is_file()

print(json.dumps({
    "host": {"file": unlearnbench.__file__, "typed": typed("unlearnbench"), "version": unlearnbench.__version__},
    "schemas": sorted(p.name for p in files("unlearnbench").joinpath("_schemas").iterdir()),
    "others": {
        e.dist.name: {"entry": e.name, "file": importlib.import_module(e.module).__file__, "typed": typed(e.module)}
        for group in ("unlearnbench", "unlearnbench.verifiers") for e in entry_points(group=group)
    },
}))
"""


class Failure(Exception):
    """Something about the wheels is not right."""


def expect(condition: object, message: str) -> None:
    """Raise ``Failure`` with the message unless the condition holds."""
    if not condition:
        raise Failure(message)


class Environment:
    """A virtual environment with the wheels in it, and a home and a working folder that hold nothing else."""

    def __init__(self, folder: Path) -> None:
        self.prefix = folder / "venv"
        self.work = folder / "work"
        self.work.mkdir()
        home = folder / "home"
        home.mkdir()
        venv.create(self.prefix, with_pip=True)
        self.bin = self.prefix / ("Scripts" if os.name == "nt" else "bin")
        # The checkout must not be importable, and caches, settings and stored models of the person who runs this must
        # neither help nor be touched.
        hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
        hidden_prefixes = ("UNLEARNBENCH_", "MLFLOW_", "XDG_")
        self.variables = {
            **{k: v for k, v in os.environ.items() if k not in hidden and not k.startswith(hidden_prefixes)},
            "HOME": str(home),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
        }

    def install(self, wheels: list[Path]) -> None:
        constraint = ["--constraint", str(ROOT / "constraints.txt")]
        pip = [str(self.bin / "python"), "-m", "pip"]
        # pip itself keeps the caller's home: its cache saves some gigabytes of downloads.
        for arguments in (["install", "-qq", *constraint, "pip"], ["install", "-qq", *constraint, *wheels]):
            subprocess.run([*pip, *arguments], cwd=self.work, check=True)
        self.run("python", "-m", "pip", "check")

    def run(self, program: str, *arguments: str) -> str:
        """Run a program of the environment and return what it wrote to stdout; its stderr is shown.

        Raises:
            Failure: it did not end with 0, or not in time.
        """
        shown = " ".join([program, *(a if len(a) < 60 else "..." for a in arguments)])
        print(f"$ {shown}", flush=True)
        command = [str(self.bin / program), *arguments]
        try:
            done = subprocess.run(
                command, cwd=self.work, env=self.variables, stdout=subprocess.PIPE, text=True, timeout=LIMIT_S
            )
        except subprocess.TimeoutExpired as slow:
            raise Failure(f"{shown} took more than {LIMIT_S} s") from slow
        expect(done.returncode == 0, f"{shown} ended with {done.returncode}:\n{done.stdout}")
        return done.stdout


def check_contents(environment: Environment, wheels: list[Path]) -> str:
    """Check that everything comes from the environment and nothing is missing; returns the host's version."""
    found = json.loads(environment.run("python", "-I", "-c", PROBE))
    parts = {"unlearnbench": found["host"], **found["others"]}
    for name, part in parts.items():
        inside = Path(part["file"]).resolve().is_relative_to(environment.prefix.resolve())
        expect(inside, f"{name} is imported from {part['file']}, not from the environment")
        expect(part["typed"], f"the wheel of {name} has no py.typed")
    built = {wheel.name.split("-")[0].replace("_", "-") for wheel in wheels}
    expect(built == set(parts), f"wheels of {sorted(built)}, but the environment has {sorted(parts)}")
    schemas = sorted(path.name for path in (ROOT / "schemas").iterdir())
    expect(found["schemas"] == schemas, f"the host's wheel has schemas {found['schemas']}, the checkout {schemas}")
    return str(found["host"]["version"])


def check_commands(environment: Environment, version: str) -> None:
    """Do what a first user does, up to a validated record."""
    expect(version in environment.run("unlearnbench", "--version"), f"--version does not say {version}")
    expect(
        "unlearnbench-salun" in environment.run("unlearnbench", "plugins"), "plugins does not show unlearnbench-salun"
    )
    expect("salun" in environment.run("unlearnbench", "list", "unlearners").split(), "salun is not listed")
    printed = environment.run("unlearnbench", "run", "--unlearner", "salun", "--json", "--out", "runs")
    expect(json.loads(printed), "run --json printed an empty document")
    records = sorted(environment.work.glob("runs/**/record.json"))
    expect(records, "run left no record.json under the folder given with --out")
    for record in records:
        environment.run("unlearnbench", "validate", str(record))


def check_verifier(environment: Environment, wheels: list[Path]) -> None:
    """Install the verifier as a stranger does, who has neither the host nor torch, and ask for its help."""
    environment.install([wheel for wheel in wheels if wheel.name.startswith("unlearnbench_verifier-")])
    listed = json.loads(environment.run("python", "-m", "pip", "list", "--format", "json"))
    names = {found["name"] for found in listed} - {"pip", "setuptools"}
    expect(names == {"numpy", "unlearnbench-verifier"}, f"the verifier brings {sorted(names)}")
    said = environment.run("unlearnbench-verify-certificate", "--help")
    expect("--model" in said, "the verifier's help does not name --model")


def check_new_plugin(environment: Environment) -> None:
    """Do what a method author does: render a plugin, install it, hold it to the contract, run it."""
    environment.run("unlearnbench", "new", "unlearner", "tiny", "--author", "Ada Lovelace")
    environment.run("python", "-m", "pip", "install", "-qq", "./unlearnbench-tiny")
    verdict = environment.run("unlearnbench", "check", "unlearnbench-tiny")
    expect(verdict.rstrip().endswith(" 0 failed"), f"the rendered plugin fails the kit:\n{verdict}")
    print(verdict, end="")
    environment.run("unlearnbench", "run", "--unlearner", "tiny")


def main() -> int:
    """Run the smoke test over one folder of wheels; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("dist", type=Path, help="folder with the wheels of host, verifier and plugins")
    wheels = sorted(parser.parse_args().dist.resolve().glob("*.whl"))
    try:
        expect(wheels, "no wheels there; run `make build` first")
        with tempfile.TemporaryDirectory(prefix="unlearnbench-verifier-") as folder:
            check_verifier(Environment(Path(folder).resolve()), wheels)
        with tempfile.TemporaryDirectory(prefix="unlearnbench-smoke-") as folder:
            environment = Environment(Path(folder).resolve())
            environment.install(wheels)
            version = check_contents(environment, wheels)
            check_commands(environment, version)
            check_new_plugin(environment)
    except (Failure, subprocess.CalledProcessError) as problem:
        print(f"smoke test failed: {problem}", file=sys.stderr)
        return 1
    print(f"the wheels work: {', '.join(wheel.name for wheel in wheels)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
