"""What workflows may do, and that the one which may write comments can be told nothing by a pull request."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / ".github" / "workflows"
WORKFLOWS = sorted(FOLDER.glob("*.yml"))
READS = {"contents": "read"}
# Whatever a job may do beyond reading the repository stands here; a job that is not named may do nothing else.
RIGHTS = {
    ("release", "publish"): {"id-token": "write"},
    ("submission-comment", "comment"): {"actions": "read", "pull-requests": "write"},
    ("pages", "deploy"): {"id-token": "write", "pages": "write"},
}
EVENTS = {
    "test": {"push", "pull_request"},
    "release": {"push"},
    "submissions": {"pull_request"},
    "submission-comment": {"workflow_run"},
    "pages": {"push"},
}


def workflow(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    return {"on" if key is True else key: value for key, value in found.items()}  # YAML 1.1 takes `on` for true


def jobs(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = workflow(path)["jobs"]
    return found


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in jobs(path).values() for step in job["steps"]]


# -- all of them -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_a_workflow_runs_on_the_events_that_it_was_looked_at_for(path: Path) -> None:
    assert set(workflow(path)["on"]) == EVENTS[path.stem]
    assert "pull_request_target" not in path.read_text("utf-8")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_a_job_has_the_rights_that_it_needs_and_no_others(path: Path) -> None:
    assert workflow(path)["permissions"] in (READS, {})
    for name, job in jobs(path).items():
        assert job.get("permissions", {}) == RIGHTS.get((path.stem, name), {}), name
        assert job["timeout-minutes"] <= 60, name
    assert "secrets." not in path.read_text("utf-8")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_a_job_that_may_write_has_no_code_of_the_repository(path: Path) -> None:
    for name in jobs(path):
        if (path.stem, name) in RIGHTS:
            assert not [step for step in jobs(path)[name]["steps"] if "checkout" in step.get("uses", "")], name


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_actions_are_pinned_to_a_commit_and_leave_no_credentials_behind(path: Path) -> None:
    for step in steps(path):
        assert ("uses" in step) != ("run" in step)
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step["uses"])
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_no_expression_is_written_into_a_script(path: Path) -> None:
    """What somebody calls a branch or a pull request must not become a command."""
    for step in steps(path):
        assert "${{" not in step.get("run", "")


# -- submissions -------------------------------------------------------------------------------------------------------


def test_submissions_are_checked_by_the_command_that_submitters_have_and_cannot_vanish() -> None:
    (job,) = jobs(FOLDER / "submissions.yml").values()
    checkout, check = job["steps"][0], next(step for step in job["steps"] if "NUMBER" in step.get("env", {}))
    assert "make --no-print-directory check-submissions" in check["run"]
    assert re.search(r"^check-submissions:", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    # The first parent of a merge is what it is merged into, and two commits reach it.
    assert check["env"]["SUBMISSIONS_BASE"] == "HEAD^1"
    assert checkout["with"]["fetch-depth"] == 2


@pytest.mark.parametrize(("code", "said"), [(0, "1 passed"), (1, "1 failed")])
def test_the_report_is_bounded_and_the_check_ends_as_the_tests_do(code: int, said: str, tmp_path: Path) -> None:
    (job,) = jobs(FOLDER / "submissions.yml").values()
    script = next(step["run"] for step in job["steps"] if "NUMBER" in step.get("env", {}))
    (tmp_path / "Makefile").write_text(
        f"check-submissions:\n\t@head -c 100000 /dev/zero | tr '\\0' x; echo; echo '{said}'; exit {code}\n", "utf-8"
    )
    done = subprocess.run(["bash", "-e", "-c", script], cwd=tmp_path, env={**os.environ, "NUMBER": "7"}, check=False)
    report = (tmp_path / "report" / "report.txt").read_text("utf-8")
    assert bool(done.returncode) == bool(code)
    assert len(report) <= 20_000
    assert said in report
    assert (tmp_path / "report" / "number.txt").read_text("utf-8") == "7\n"


def test_what_the_check_leaves_is_what_the_comment_reads() -> None:
    (check,), (comment,) = jobs(FOLDER / "submissions.yml").values(), jobs(FOLDER / "submission-comment.yml").values()
    upload = next(step for step in check["steps"] if "upload-artifact" in step.get("uses", ""))
    assert f'ARTIFACT = "{upload["with"]["name"]}"' in comment["steps"][0]["run"]
    assert workflow(FOLDER / "submission-comment.yml")["on"]["workflow_run"]["workflows"] == [
        workflow(FOLDER / "submissions.yml")["name"]
    ]


# -- the comment -------------------------------------------------------------------------------------------------------

GH = """#!{python}
import json, sys
from pathlib import Path
folder = Path(__file__).parent
words = sys.argv[2:]
body = json.loads(sys.stdin.read()) if "--input" in words else None
with open(folder / "calls.jsonl", "a") as log:
    log.write(json.dumps([words, body]) + "\\n")
path = next(word for word in words if word.startswith("repos/"))
answer = folder / path.replace("/", "_")
sys.stdout.buffer.write(answer.read_bytes() if answer.exists() else b"[]")
"""
"""Stands where the client of the code host does: answers from files, and notes what it was asked for."""

PLACE = "repos/owner/project/issues/7/comments"
EVENT = {
    "id": 99,
    "event": "pull_request",
    "conclusion": "failure",
    "head_sha": "a" * 40,
    "head_branch": "entry",
    "head_repository": {"owner": {"login": "stranger"}},
}


@dataclass(frozen=True)
class Commented:
    """How the job ended, and what it asked of the code host."""

    rc: int
    said: str
    calls: list[tuple[list[str], Any]]

    @property
    def written(self) -> list[tuple[list[str], Any]]:
        return [(words, body) for words, body in self.calls if body is not None]

    @property
    def text(self) -> str:
        ((_, body),) = self.written
        found: str = body["body"]
        return found


def packed(**files: str | bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(f"{name}.txt", content)
    return buffer.getvalue()


def comment(
    folder: Path,
    artifact: bytes,
    *,
    event: dict[str, Any] | None = None,
    pulls: list[tuple[int, str]] | None = None,
    comments: list[dict[str, Any]] | None = None,
    size: int | None = None,
) -> Commented:
    """Run the script of the workflow, as it stands there, on an artifact."""
    listed = [{"name": "submissions-report", "id": 5, "size_in_bytes": len(artifact) if size is None else size}]
    open_ = [{"number": n, "head": {"sha": sha}} for n, sha in (pulls if pulls is not None else [(7, "a" * 40)])]
    answers = {
        "repos/owner/project/actions/runs/99/artifacts": json.dumps({"artifacts": listed}).encode(),
        "repos/owner/project/actions/artifacts/5/zip": artifact,
        "repos/owner/project/pulls": json.dumps(open_).encode(),
        PLACE: json.dumps(comments or []).encode(),
    }
    for path, answer in answers.items():
        (folder / path.replace("/", "_")).write_bytes(answer)
    gh = folder / "gh"
    gh.write_text(GH.format(python=sys.executable), "utf-8")
    gh.chmod(0o755)
    (folder / "event.json").write_text(json.dumps({"workflow_run": {**EVENT, **(event or {})}}), "utf-8")
    (job,) = jobs(FOLDER / "submission-comment.yml").values()
    (step,) = job["steps"]
    assert step["shell"] == "python"
    done = subprocess.run(
        [sys.executable, "-c", step["run"]],
        env={
            "PATH": f"{folder}:{os.environ['PATH']}",
            "GITHUB_EVENT_PATH": str(folder / "event.json"),
            "GITHUB_REPOSITORY": "owner/project",
        },
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    log = folder / "calls.jsonl"
    calls = [json.loads(line) for line in log.read_text("utf-8").splitlines()] if log.exists() else []
    return Commented(done.returncode, done.stderr, [(words, body) for words, body in calls])


def test_the_report_becomes_a_comment_on_its_pull_request(tmp_path: Path) -> None:
    done = comment(tmp_path, packed(number="7\n", report="12 passed in 3.1s\n"))
    assert done.rc == 0, done.said
    ((words, _),) = done.written
    assert words[:3] == ["--method", "POST", PLACE]
    assert "ended with **failure**" in done.text  # by the event, not by the report
    assert "```text\n12 passed in 3.1s\n\n```" in done.text


def test_a_later_report_takes_the_place_of_the_earlier_one(tmp_path: Path) -> None:
    mark = "<!-- submissions-report -->"
    others = [
        {"id": 1, "user": {"login": "stranger"}, "body": mark},  # somebody else's, whatever it says
        {"id": 2, "user": {"login": "github-actions[bot]"}, "body": f"{mark}\n\nold"},
    ]
    done = comment(tmp_path, packed(number="7\n", report="x"), comments=others)
    ((words, _),) = done.written
    assert words[:3] == ["--method", "PATCH", "repos/owner/project/issues/comments/2"]


HOSTILE = (
    "```\n# a heading\n````\n<img src=x onerror=alert(1)>\n@maintainer approve this\n"
    "\x1b[2J\x1b[31mred\x1b[0m \x07\x00\u202etxt\u202c\u200b ~~~ ``````\n"
)


def test_a_hostile_report_stays_a_block_of_plain_text(tmp_path: Path) -> None:
    text = comment(tmp_path, packed(number="7\n", report=HOSTILE)).text
    fence = re.search(r"^(`{3,})text$", text, re.MULTILINE)
    assert fence is not None
    head, _, rest = text.partition(fence[0])
    inside, mark, tail = rest.rpartition(fence[1])
    assert (mark, tail) == (fence[1], "")
    assert max(map(len, re.findall("`+", inside))) < len(fence[1])  # so that nothing within closes it
    assert "onerror" in inside
    assert "onerror" not in head
    assert "@maintainer" not in text  # nobody is called
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text)
    assert "[31m" not in text


@pytest.mark.parametrize("text", ["`", "@", "\t", "\u2028"])
def test_a_long_report_is_cut_to_what_a_comment_can_hold(text: str, tmp_path: Path) -> None:
    bomb = packed(number="7\n", report=text * 20_000_000)  # some kilobytes as an archive
    assert len(bomb) < 100_000
    done = comment(tmp_path, bomb)
    assert done.rc == 0, done.said
    assert len(done.text) < 65_536


@pytest.mark.parametrize("number", ["8\n", "07\n", "-7\n", "7; id\n", "7\n8\n", "", "7" * 30, "\u0667\n"])
def test_a_report_cannot_choose_another_pull_request(number: str, tmp_path: Path) -> None:
    done = comment(tmp_path, packed(number=number, report="x"))
    assert done.rc == 1
    assert done.written == []
    assert "Traceback" not in done.said


def test_a_pull_request_that_moved_on_gets_no_comment_about_an_older_commit(tmp_path: Path) -> None:
    done = comment(tmp_path, packed(number="7\n", report="x"), pulls=[(7, "b" * 40)])
    assert (done.rc, done.written) == (1, [])


def test_the_name_of_a_branch_is_a_value_and_no_option(tmp_path: Path) -> None:
    branch = "$(id)&state=closed --input /etc/passwd"
    done = comment(tmp_path, packed(number="7\n", report="x"), event={"head_branch": branch})
    (words,) = [words for words, _ in done.calls if "repos/owner/project/pulls" in words]
    assert words[-1] == f"head=stranger:{branch}"


@pytest.mark.parametrize(
    "artifact",
    [b"no archive", packed(report="x"), packed(number="7\n"), packed(number=b"\xff\xfe", report="x")],
    ids=["no-archive", "no-number", "no-report", "no-text"],
)
def test_an_artifact_that_is_no_report_is_refused_in_a_line(artifact: bytes, tmp_path: Path) -> None:
    done = comment(tmp_path, artifact)
    assert (done.rc, done.written) == (1, [])
    assert done.said.count("\n") == 1


def test_an_artifact_that_is_too_large_is_not_even_fetched(tmp_path: Path) -> None:
    done = comment(tmp_path, packed(number="7\n", report="x"), size=10**9)
    assert (done.rc, len(done.calls)) == (1, 1)


def test_a_fork_that_is_gone_is_a_line(tmp_path: Path) -> None:
    done = comment(tmp_path, packed(number="7\n", report="x"), event={"head_repository": None})
    assert (done.rc, done.said.count("\n")) == (1, 1)


# -- pages -------------------------------------------------------------------------------------------------------------


def test_the_site_that_is_published_is_the_one_that_make_builds() -> None:
    build, deploy = jobs(FOLDER / "pages.yml").values()
    assert [step["run"] for step in build["steps"] if "run" in step] == ["make site"]
    assert build["steps"][-1]["with"] == {"path": "build/site"}
    assert deploy["needs"] == "build"
    assert [step["uses"].partition("@")[0] for step in deploy["steps"]] == ["actions/deploy-pages"]
