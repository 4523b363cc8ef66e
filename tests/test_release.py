"""What a release needs, and that each thing that can be wrong with it is caught and named in one line."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PYPI_ACTION = "pypa/gh-action-pypi-publish"
RENDERED = sorted((ROOT / "unlearnbench" / "scaffold").rglob("workflows/*.yml"))


def load_tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# In this order: each one imports those before it.
distributions = load_tool("distributions")
gather_changelog = load_tool("gather_changelog")
load_tool("smoke_wheels")
release_check = load_tool("release_check")

ALL = distributions.distributions()
HOST = ALL[0].version
PLUGINS = [distribution for distribution in ALL if distribution.is_plugin]


def copied(target: Path) -> Any:
    """A copy of the baselines plugin that a test may spoil."""
    ignored = shutil.ignore_patterns("__pycache__", "tests")
    shutil.copytree(ROOT / "plugins" / "baselines", target, ignore=ignored)
    return distributions.read(target)


@pytest.fixture
def project(tmp_path: Path) -> Any:
    return copied(tmp_path / "baselines")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, list[Path]]:
    """A plugin that is right, with its wheel and its sdist."""
    folder = tmp_path_factory.mktemp("built")
    right = copied(folder / "baselines")
    files, found = release_check.build(right, folder / "dist")
    assert found == []
    return right, files


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


# -- the distributions of this repository ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "distribution", [d for d in ALL if (d.folder / "CITATION.cff").is_file()], ids=lambda d: d.short
)
def test_the_citation_of_every_distribution_has_its_version(distribution: Any) -> None:
    cited = yaml.safe_load((distribution.folder / "CITATION.cff").read_text("utf-8"))["version"]
    assert cited == distribution.version


@pytest.mark.parametrize("distribution", ALL, ids=lambda d: d.short)
def test_what_lies_in_the_changelog_of_every_distribution_can_be_gathered(distribution: Any) -> None:
    for path in gather_changelog.fragments(distribution.folder):
        assert not path.read_text("utf-8").startswith(("#", "-"))  # it becomes an item of a list


def test_everything_but_the_host_and_the_verifier_is_a_plugin() -> None:
    assert [d.short for d in ALL if not d.is_plugin] == ["unlearnbench", "verifier"]
    assert {d.short: d.folder.parent for d in PLUGINS} == {d.short: ROOT / "plugins" for d in ALL[1:-1]}


def test_the_verifier_needs_numpy_and_nothing_of_ours() -> None:
    (verifier,) = [d for d in ALL if d.short == "verifier"]
    assert verifier.requires == {"numpy"}
    assert verifier.commands == ["unlearnbench-verify-certificate"]


@pytest.mark.parametrize("distribution", ALL, ids=lambda d: d.short)
def test_what_a_distribution_needs_of_ours_is_released_here(distribution: Any) -> None:
    ours = {name for name in distribution.requires if name.startswith("unlearnbench")}
    assert ours <= {d.name for d in ALL}
    assert ("unlearnbench-verifier" in ours) == (distribution.short == "prune")


@pytest.mark.parametrize("distribution", PLUGINS, ids=lambda d: d.short)
def test_every_plugin_asks_for_the_host_as_the_policy_says(distribution: Any) -> None:
    assert release_check.check_requirement(distribution.settings["project"]["dependencies"], HOST) == []


def test_the_host_states_its_version_once() -> None:
    stated = [path for path in (ROOT / "unlearnbench").rglob("*.py") if f'"{HOST}"' in path.read_text("utf-8")]
    assert stated == []


def test_the_host_is_checked_with_its_schemas_and_templates() -> None:
    expected = release_check.expected_files(ALL[0])
    assert ALL[0].package == "unlearnbench"
    assert {f"unlearnbench/_schemas/{path.name}" for path in (ROOT / "schemas").iterdir()} <= expected
    assert "unlearnbench/scaffold/template/project/.github/workflows/publish.yml" in expected
    assert "unlearnbench/py.typed" in expected


# -- wheels ------------------------------------------------------------------------------------------------------------


def test_a_plugin_that_is_right_passes(built: tuple[Any, list[Path]]) -> None:
    distribution, files = built
    assert [path.suffix for path in files] == [".whl", ".gz"]
    assert release_check.check_wheel(distribution, files[0], HOST) == []
    assert release_check.check_twine(files) == []


def rewritten(wheel: Path, target: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """The wheel with other files, and a RECORD that fits them."""
    with zipfile.ZipFile(wheel) as archive:
        files = {name: archive.read(name) for name in archive.namelist() if not name.endswith("/RECORD")}
    change(files)
    (info,) = {name.partition("/")[0] for name in files if ".dist-info/" in name}
    lines = [
        f"{name},sha256={urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b'=').decode()},{len(content)}"
        for name, content in files.items()
    ]
    path = target / wheel.name
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**files, f"{info}/RECORD": "\n".join([*lines, f"{info}/RECORD,,", ""]).encode()}.items():
            archive.writestr(name, content)
    return path


PACKAGE, INFO = "unlearnbench_baselines", "unlearnbench_baselines-0.1.0.dist-info"


def without(*names: str) -> Callable[[dict[str, bytes]], None]:
    def change(files: dict[str, bytes]) -> None:
        for name in names:
            del files[name]

    return change


def adding(name: str) -> Callable[[dict[str, bytes]], None]:
    def change(files: dict[str, bytes]) -> None:
        files[name] = b"x = 1\n"

    return change


def replacing(name: str, old: bytes, new: bytes) -> Callable[[dict[str, bytes]], None]:
    def change(files: dict[str, bytes]) -> None:
        assert old in files[name]
        files[name] = files[name].replace(old, new)

    return change


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        (
            without(f"{INFO}/licenses/LICENSE"),
            ["has no licence file; add LICENSE, and license-files to pyproject.toml"],
        ),
        (
            without(f"{PACKAGE}/py.typed"),
            [f"misses {PACKAGE}/py.typed", "has no py.typed"],
        ),
        (without(f"{PACKAGE}/method.py"), [f"misses {PACKAGE}/method.py"]),
        (adding("helpers/__init__.py"), ["holds helpers/__init__.py, which the package does not"]),
        (
            adding(f"{PACKAGE}/test_method.py"),
            [
                f"holds {PACKAGE}/test_method.py, which the package does not",
                f"installs tests: {PACKAGE}/test_method.py",
            ],
        ),
        (
            replacing(f"{INFO}/METADATA", b"Version: 0.1.0\n", b"Version: 0.2.0\n"),
            [
                "is unlearnbench-baselines 0.2.0 by its metadata, unlearnbench-baselines 0.1.0 by pyproject.toml",
            ],
        ),
        (
            without(f"{INFO}/entry_points.txt"),
            [
                "has entry points [], pyproject.toml [('unlearnbench', 'baselines', 'unlearnbench_baselines.plugin')]",
            ],
        ),
        (
            replacing(f"{INFO}/METADATA", b"unlearnbench<0.2,>=0.1", b"unlearnbench>=0.1"),
            [
                "requires unlearnbench>=0.1, which admits unlearnbench 0.3, beyond what its API is promised for; "
                "ask for unlearnbench>=0.1,<0.2",
            ],
        ),
    ],
    ids=["licence", "py.typed", "module", "stray", "tests", "version", "entry-points", "requirement"],
)  # fmt: skip
def test_each_fault_of_a_wheel_is_a_line(
    built: tuple[Any, list[Path]], tmp_path: Path, change: Callable[[dict[str, bytes]], None], lines: list[str]
) -> None:
    distribution, files = built
    assert release_check.check_wheel(distribution, rewritten(files[0], tmp_path, change), HOST) == lines


def test_rewriting_alone_is_no_fault(built: tuple[Any, list[Path]], tmp_path: Path) -> None:
    distribution, files = built
    assert release_check.check_wheel(distribution, rewritten(files[0], tmp_path, lambda files: None), HOST) == []


def test_a_project_without_its_licence_builds_a_wheel_that_is_refused(project: Any, tmp_path: Path) -> None:
    (project.folder / "LICENSE").unlink()
    files, found = release_check.build(project, tmp_path / "dist")
    found = found or release_check.check_wheel(project, files[0], HOST)
    assert len(found) == 1
    assert re.search("licen[cs]e", found[0], re.IGNORECASE)


def test_a_project_that_does_not_build_says_why_in_a_line(project: Any, tmp_path: Path) -> None:
    edit(project.folder / "pyproject.toml", "hatchling.build", "no_such_backend")
    files, found = release_check.build(project, tmp_path / "dist")
    assert files == []
    assert len(found) == 1
    assert "no_such_backend" in found[0]


def test_an_index_that_could_not_show_the_readme_is_a_line(project: Any, tmp_path: Path) -> None:
    edit(project.folder / "pyproject.toml", 'readme = "README.md"\n', "")
    files, found = release_check.build(distributions.read(project.folder), tmp_path / "dist")
    assert found == []
    said = release_check.check_twine(files)
    assert any("long_description" in line for line in said)
    assert all("\n" not in line for line in said)


@pytest.mark.parametrize(
    ("requirement", "words"),
    [
        ("unlearnbench>=0.1,<0.2", ""),
        ("unlearnbench>=0.1,<0.3", ""),
        ("unlearnbench~=0.1.0", ""),
        ("unlearnbench", "without a lower bound"),
        ("unlearnbench<0.2", "without a lower bound"),
        ("unlearnbench>=0.1", "admits unlearnbench 0.3"),
        ("unlearnbench>=0.1,<1", "admits unlearnbench 0.3"),
        ("unlearnbench>=0.2,<0.3", "excludes this host, 0.1.0"),
        ("torch>=2.6", "does not require unlearnbench"),
    ],
)
def test_a_plugin_asks_for_the_host_within_the_promise(requirement: str, words: str) -> None:
    found = release_check.check_requirement([requirement], "0.1.0")
    assert bool(found) == bool(words)
    assert words in " ".join(found)
    assert all(line.endswith("ask for unlearnbench>=0.1,<0.2") for line in found)


def test_from_1_0_on_the_promise_counts_major_versions() -> None:
    assert release_check.check_requirement(["unlearnbench>=1.4,<3"], "1.4.2") == []
    assert len(release_check.check_requirement(["unlearnbench>=1.4,<4"], "1.4.2")) == 1


# -- versions and changelog --------------------------------------------------------------------------------------------


def test_a_version_that_differs_is_a_line(project: Any) -> None:
    edit(project.folder / "pyproject.toml", 'version = "0.1.0"', 'version = "0.2.0"')
    found = release_check.check_source(distributions.read(project.folder), released=False)
    assert found == ["CITATION.cff says version 0.1.0, pyproject.toml 0.2.0"]


def test_a_version_that_nobody_wrote_about_is_a_line(project: Any) -> None:
    shutil.rmtree(project.folder / "changelog")
    found = release_check.check_source(project, released=False)
    assert found == ["nothing about 0.1.0: no section in CHANGELOG.md, no fragment in changelog/"]


def test_a_release_with_its_changelog_not_gathered_is_a_line_and_gathering_mends_it(project: Any) -> None:
    waiting = gather_changelog.fragments(project.folder)
    assert len(waiting) >= 1
    (line,) = release_check.check_source(project, released=True)
    assert "not in CHANGELOG.md yet; run tools/gather_changelog.py baselines" in line
    texts = [path.read_text("utf-8").strip().splitlines()[0] for path in waiting]
    assert gather_changelog.gather(project, "2026-01-31") == len(waiting)
    assert release_check.check_source(project, released=True) == []
    written = (project.folder / "CHANGELOG.md").read_text("utf-8")
    assert written.startswith("# Changelog of unlearnbench-baselines\n\n## 0.1.0 (2026-01-31)\n\n### Added\n\n- ")
    assert all(f"- {text}" in written for text in texts)
    assert gather_changelog.fragments(project.folder) == []


def test_fragments_are_gathered_by_kind_above_older_versions(project: Any) -> None:
    gather_changelog.gather(project, "2026-01-31")
    edit(project.folder / "pyproject.toml", 'version = "0.1.0"', 'version = "0.1.1"')
    newer = distributions.read(project.folder)
    (project.folder / "changelog" / "0008-b.fixed.md").write_text("It is\nmended.\n", "utf-8")
    (project.folder / "changelog" / "0009-a.added.md").write_text("It is new.\n", "utf-8")
    assert gather_changelog.gather(newer, "2026-02-28") == 2
    written = (project.folder / "CHANGELOG.md").read_text("utf-8")
    top = (
        "## 0.1.1 (2026-02-28)\n\n### Added\n\n- It is new.\n\n### Fixed\n\n- It is\n  mended.\n\n## 0.1.0 (2026-01-31)"
    )
    assert written.startswith(f"# Changelog of unlearnbench-baselines\n\n{top}")
    assert written.count("# Changelog") == 1


def test_a_version_is_gathered_once(project: Any) -> None:
    with pytest.raises(ValueError, match="there are no fragments"):
        (gather_changelog.gather(project, "2026-01-31"), gather_changelog.gather(project, "2026-01-31"))
    (project.folder / "changelog" / "0009-late.fixed.md").write_text("Late.\n", "utf-8")
    with pytest.raises(ValueError, match=r"0\.1\.0 has a section already; raise the version"):
        gather_changelog.gather(project, "2026-01-31")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("notes.md", "x", "must be called <issue>-<short-name>.<kind>.md"),
        ("0009-x.improved.md", "x", "must be called"),
        ("0009-x.added.md", " \n", "is empty"),
    ],
)
def test_a_file_that_is_no_fragment_is_a_line(project: Any, name: str, text: str, words: str) -> None:
    (project.folder / "changelog" / name).write_text(text, "utf-8")
    (line,) = release_check.check_source(project, released=False)
    assert line.startswith(f"changelog/{name} ")
    assert words in line


# -- the report --------------------------------------------------------------------------------------------------------


def test_the_table_shows_every_distribution_and_what_was_not_tried(built: tuple[Any, list[Path]]) -> None:
    distribution, _ = built
    report = release_check.Report()
    assert report.add(distribution.name, "build", [])
    assert not report.add(distribution.name, "wheel", ["has no py.typed"])
    head, row = report.table([distribution]).splitlines()
    assert head.split() == ["distribution", "version", *release_check.STEPS]
    assert row.split() == ["unlearnbench-baselines", "0.1.0", "-", "ok", "-", "FAILED", "-", "-"]
    assert report.problems == ["unlearnbench-baselines: wheel: has no py.typed"]


def test_a_tag_for_another_version_is_refused_before_any_work() -> None:
    command = [sys.executable, str(ROOT / "tools" / "release_check.py"), "--tag", "salun-v99.0.0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("tag salun-v99.0.0 is none of v0")


# -- workflows ---------------------------------------------------------------------------------------------------------


def workflow(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    return {
        "on" if key is True else key: value for key, value in found.items()
    }  # YAML 1.1 takes `on` for a truth value


def steps(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, job in workflow(path)["jobs"].items():
        for step in job["steps"]:
            yield name, step


RELEASE = ROOT / ".github" / "workflows" / "release.yml"
TEST = ROOT / ".github" / "workflows" / "test.yml"


@pytest.mark.parametrize("distribution", ALL, ids=lambda d: d.short)
def test_every_distribution_has_a_tag_that_publishes_it(distribution: Any) -> None:
    patterns = workflow(RELEASE)["on"]["push"]["tags"]
    # Patterns of GitHub are those of shells, but for `+`: one or more of what stands before it.
    assert any(fnmatchcase(distribution.tag, pattern.replace("+", "*")) for pattern in patterns)
    # ${TAG%-v*} of the workflow, which names the environment
    assert (distribution.tag.rpartition("-v")[0] or "unlearnbench") == distribution.short
    # the name of its folder, so that a reader of a tag finds it
    assert distribution.short == (distribution.folder.name if distribution.folder != ROOT else "unlearnbench")


def test_a_release_publishes_the_files_that_were_checked_and_no_others() -> None:
    jobs = workflow(RELEASE)["jobs"]
    checks = [step for name, step in steps(RELEASE) if name == "build" and "release_check.py" in step.get("run", "")]
    assert [step["run"] for step in checks] == ['.venv/bin/python tools/release_check.py --tag "$TAG" --out dist']
    up = [step for name, step in steps(RELEASE) if name == "build"][-1]
    down, publish = (step for name, step in steps(RELEASE) if name == "publish")
    assert up["uses"].startswith("actions/upload-artifact@")
    assert down["uses"].startswith("actions/download-artifact@")
    assert up["with"]["name"] == down["with"]["name"]
    assert up["with"]["path"] == down["with"]["path"] == "dist"
    assert publish["uses"].startswith(f"{PYPI_ACTION}@")
    assert "with" not in publish  # neither a password nor another index
    assert jobs["publish"]["needs"] == "build"
    assert jobs["publish"]["environment"] == "pypi-${{ needs.build.outputs.project }}"


@pytest.mark.parametrize("path", [RELEASE, TEST, *RENDERED], ids=lambda p: p.name)
def test_only_the_job_that_publishes_may_ask_for_an_identity_and_nothing_may_write(path: Path) -> None:
    text = path.read_text("utf-8")
    assert workflow(path)["permissions"] == {"contents": "read"}
    for name, job in workflow(path)["jobs"].items():
        publishes = any(PYPI_ACTION in step.get("uses", "") for step in job["steps"])
        assert job.get("permissions", {}) == ({"id-token": "write"} if publishes else {}), name
        assert not publishes or not any("run" in step for step in job["steps"]), name
        assert job["timeout-minutes"] <= 60
    assert "secrets." not in text
    assert "pull_request_target" not in text
    assert not re.search(r"https?://|pypi\.org", text)


@pytest.mark.parametrize("path", [*WORKFLOWS, *RENDERED], ids=lambda p: p.name)
def test_actions_are_pinned_and_scripts_hold_no_expressions(path: Path) -> None:
    for _, step in steps(path):
        assert ("uses" in step) != ("run" in step)
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step.get("uses", "a/b@" + "0" * 40))
        assert "${{" not in step.get("run", "")  # what somebody calls a tag must not become a script
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False
    pinned = re.findall(r"uses: (\S+)@\w+ # (v\S+)", path.read_text("utf-8"))
    assert len(pinned) == sum("uses" in step for _, step in steps(path))


def test_an_action_has_one_version_here_and_in_the_plugins_that_are_rendered() -> None:
    pins = {
        use for path in [*WORKFLOWS, *RENDERED] for use in re.findall(r"uses: (\S+ # \S+)", path.read_text("utf-8"))
    }
    assert len(pins) == len({pin.partition("@")[0] for pin in pins}) >= 5


def test_the_tests_run_with_every_python_that_the_distributions_name() -> None:
    matrix = workflow(TEST)["jobs"]["all"]["strategy"]["matrix"]["python"]
    for distribution in ALL:
        project = tomllib.loads((distribution.folder / "pyproject.toml").read_text("utf-8"))["project"]
        named = [c.rpartition(" ")[2] for c in project["classifiers"] if re.search(r":: 3\.\d+$", c)]
        assert named == matrix
    assert [step["run"] for _, step in steps(TEST) if "run" in step] == ["bash .ci/run"]
