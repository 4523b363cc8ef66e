"""Points of a region are uniform in it, servers are asked within limits, and who answers otherwise is caught."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from patched_models import Made, certificate, local, outputs_of, patched
from scipy.stats import kstest

from unlearnbench_verifier import answers
from unlearnbench_verifier.challenge import CHAINS, ask, detection, draw, hit_and_run, judge, said, write_points
from unlearnbench_verifier.files import read_tensors
from unlearnbench_verifier.findings import Refusal, Unreadable
from unlearnbench_verifier.form import parse
from unlearnbench_verifier.model import read_model

NOTHING = (np.zeros((0, 3)), np.zeros(0))


def cube(k: int, seed: int = 0, start: float = 0.5) -> np.ndarray:
    return hit_and_run(*NOTHING, np.zeros(3), np.ones(3), np.full(3, start), k, np.random.default_rng(seed))


def simplex(d: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rows and box of {x >= 0, sum x <= 1}, with the box as rows."""
    return np.vstack([np.eye(d), -np.ones((1, d))]), np.r_[np.zeros(d), 1.0], np.full(d, -2.0), np.full(d, 2.0)


def slack_of(g: np.ndarray, h: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Least slack of each point, worked out in double precision from what is served."""
    return (points.astype(np.float64) @ g.T + h).min(axis=1)


# -- points ------------------------------------------------------------------------------------------------------------


def test_points_of_a_box_are_uniform_and_independent_between_axes() -> None:
    points = cube(2000, seed=1)
    assert points.shape == (2000, 3)
    assert points.dtype == np.float32
    assert all(kstest(points[:, axis], "uniform").pvalue > 0.01 for axis in range(3))
    assert np.abs(np.corrcoef(points.T) - np.eye(3)).max() < 0.07  # three standard errors
    assert abs(np.corrcoef(points[:-1, 0], points[1:, 0])[0, 1]) < 0.07  # one point says nothing of the next


def test_points_of_a_simplex_have_its_moments_and_its_margins() -> None:
    d = 4
    points = hit_and_run(*simplex(d), np.full(d, 0.1), 3000, np.random.default_rng(1)).astype(np.float64)
    # Dirichlet(1, ..., 1) over d + 1 parts: Beta(1, d) on each axis.
    assert np.abs(points.mean(axis=0) - 1 / (d + 1)).max() < 0.01
    covariance = -np.full((d, d), 1.0) + (d + 1) * np.eye(d)
    assert np.abs(np.cov(points.T) - covariance / ((d + 1) ** 2 * (d + 2))).max() < 0.003
    assert all(kstest(points[:, axis], "beta", (1, d)).pvalue > 0.01 for axis in range(d))
    assert kstest(1 - points.sum(axis=1), "beta", (1, d)).pvalue > 0.01  # the part that no axis goes along


def test_points_of_a_narrow_strip_along_a_diagonal_reach_both_of_its_ends() -> None:
    g, h = np.array([[1.0, -1.0], [-1.0, 1.0]]), np.array([0.05, 0.05])
    points = hit_and_run(g, h, np.zeros(2), np.ones(2), np.zeros(2), 2000, np.random.default_rng(2))
    along = (points[:, 0].astype(np.float64) + points[:, 1]) / 2
    assert along.min() < 0.05
    assert along.max() > 0.95
    assert np.abs(points[:, 0] - points[:, 1]).max() < 0.05


def test_points_stay_inside_when_they_are_rounded_to_single_precision() -> None:
    rng = np.random.default_rng(3)
    g = rng.normal(size=(60, 20)) * 10.0 ** rng.integers(-3, 4, size=(60, 1))
    inner = rng.uniform(0.4, 0.6, size=20)
    h = 1e-3 * np.abs(g).sum(axis=1) - g @ inner
    low, high = np.zeros(20), np.ones(20)
    points = hit_and_run(g, h, low, high, inner, 300, np.random.default_rng(4))
    assert slack_of(g, h, points).min() > 0
    assert points.min() > 0
    assert points.max() < 1


def test_more_points_than_go_at_the_same_time_are_all_different() -> None:
    points = cube(CHAINS + 1)
    assert len(np.unique(points, axis=0)) == CHAINS + 1


def test_the_same_seed_gives_the_same_points_and_another_one_others() -> None:
    assert np.array_equal(cube(5, seed=7), cube(5, seed=7))
    assert not np.isin(cube(5, seed=8), cube(5, seed=7)).any()


@pytest.mark.parametrize("start", [0.0, 1.0, 0.5, 3.0])
def test_a_start_on_a_facet_or_outside_is_brought_inside_first(start: float) -> None:
    points = cube(1000, start=start)
    assert points.min() > 0
    assert points.max() < 1
    assert kstest(points[:, 0], "uniform").pvalue > 0.01


def test_a_start_on_a_corner_of_many_rows_is_brought_inside() -> None:
    d = 30
    g, h, low, high = simplex(d)
    points = hit_and_run(g, h, low, high, np.eye(d)[0], 50, np.random.default_rng(5))
    assert slack_of(g, h, points).min() > 0
    assert points[:, 0].max() < 0.9  # and away from the corner


def test_rows_that_no_feature_changes_do_not_stop_it_unless_they_are_negative() -> None:
    g, low, high, start = np.zeros((1, 2)), np.zeros(2), np.ones(2), np.full(2, 0.5)
    points = hit_and_run(g, np.zeros(1), low, high, start, 4, np.random.default_rng(0))
    assert points.shape == (4, 2)
    with pytest.raises(Refusal, match="negative everywhere") as refused:
        hit_and_run(g, -np.ones(1), low, high, start, 4, np.random.default_rng(0))
    assert refused.value.code == "thin-region"


@pytest.mark.parametrize(
    ("g", "h", "high"),
    [
        ([[1.0, 1.0], [-1.0, -1.0]], [-1.0, 1.0], 1.0),  # a line
        ([[1.0, 1.0]], [-3.0], 1.0),  # nothing
        ([[1.0, 1.0], [-1.0, -1.0]], [-1.0, 1.0 + 1e-7], 1.0),  # thinner than rounding
        ([[1.0, 0.0]], [0.0], 0.0),  # a box without width
    ],
)
def test_a_region_without_an_inside_is_refused(g: Any, h: Any, high: float) -> None:
    with pytest.raises(Refusal, match="points of the region") as refused:
        hit_and_run(
            np.array(g), np.array(h), np.zeros(2), np.full(2, high), np.full(2, 0.5), 4, np.random.default_rng(0)
        )
    assert refused.value.code == "thin-region"
    assert refused.value.exit_code == 2


# -- points of certificates --------------------------------------------------------------------------------------------

POINT = (0.3, -0.2, 0.5)


def drawn(made: Made, tmp_path: Path, sample: np.ndarray | None = None, **of_certificate: Any) -> np.ndarray:
    """Points of the first member's region as the verifier draws them."""
    model = read_model(read_tensors(made.save(tmp_path / "model.safetensors")))
    return draw(model, parse(certificate(made, **of_certificate)), 200, 3, sample)


@pytest.mark.parametrize("gate", ["support", "exact"])
@pytest.mark.parametrize("owner", [True, False])
@pytest.mark.parametrize("radius", [0.05, None])
def test_points_of_a_certificate_lie_in_its_region_and_are_sent_to_its_target(
    gate: str, owner: bool, radius: float | None, tmp_path: Path
) -> None:
    made = patched(3, [POINT], gate=gate, radius=radius)
    points = drawn(made, tmp_path, owner=owner)
    _, rows, _ = local(made.tensors, made.points[0])
    assert slack_of(rows[:, :3], rows[:, 3], points).min() > 0
    distance = np.abs(points.astype(np.float64) - made.points[0]).max()
    assert distance < 0.05 if radius else distance > 0.3
    assert np.abs(points).max() < 1
    answers = outputs_of(made, points)
    assert judge(points, answers, made.targets[0], 0.01) == 0
    unpatched = outputs_of(patched(3, []), points)
    assert judge(points, unpatched, made.targets[0], 0.01) == 200  # the base model would be caught every time


def test_a_hash_of_the_region_needs_the_sample_and_its_label_nobody(tmp_path: Path) -> None:
    made = patched(3, [POINT], gate="committed")
    with pytest.raises(Refusal, match="--sample") as refused:
        drawn(made, tmp_path, owner=False)
    assert refused.value.code == "needs-sample"
    of_owner = drawn(made, tmp_path)
    assert np.array_equal(drawn(made, tmp_path, made.points[0].astype(np.float64), owner=False), of_owner)
    assert judge(of_owner, outputs_of(made, of_owner), made.targets[0], 0.01) == 0


def test_a_committed_region_whose_sample_cannot_be_placed_is_refused(tmp_path: Path) -> None:
    made = patched(3, [POINT], gate="committed")
    rows = local(made.tensors, made.points[0])[1]
    gap = rows[0] @ np.append(made.points[0].astype(np.float64), 1.0)
    on_facet = made.points[0] - gap * rows[0, :3] / (rows[0, :3] @ rows[0, :3])
    with pytest.raises(Refusal, match="on the border of its region"):
        drawn(made, tmp_path, on_facet, owner=False)


# -- judging -----------------------------------------------------------------------------------------------------------


def test_labels_other_than_the_target_are_violations() -> None:
    points = cube(4)
    assert judge(points, np.array([1, 1, 2, 0]), 1, 0.01) == 2


def test_outputs_are_held_to_the_margin_but_for_rounding() -> None:
    points = cube(6)
    outputs = np.array(
        [
            [1.0, 3.0, 2.0],  # leads by 1
            [1.0, 2.0, 3.0],  # another leads
            [1.0, 2.0, 2.0],  # a tie
            [1.0, 2.005, 2.0],  # leads by half the margin
            [1.0, 2.00999, 2.0],  # short of it by less than single precision can tell of sums of this size
            [1.0, np.nan, 2.0],
        ]
    )
    assert [judge(points[:1], row[None], 1, 0.01) for row in outputs] == [0, 1, 1, 1, 0, 1]
    assert judge(points, outputs, 1, 0.01) == 4
    assert judge(points[:1], np.array([[9e3, 9e3]]), 1, 0.01) == 1  # rounding excuses no tie, however large the outputs


def test_answers_to_other_points_are_refused() -> None:
    with pytest.raises(Refusal, match="3 answers to 4 points"):
        judge(cube(4), np.array([1, 1, 1]), 1, 0.01)
    with pytest.raises(Refusal, match="3 outputs for a point, and the target is 3"):
        judge(cube(4), np.zeros((4, 3)), 3, 0.01)


def test_the_probability_of_detection_is_that_of_drawing_a_cheated_point() -> None:
    rng = np.random.default_rng(0)
    for share, k in ((0.01, 200), (0.05, 20), (0.3, 3)):
        cheated = rng.random((20_000, k)) < share
        assert cheated.any(axis=1).mean() == pytest.approx(detection(share, k), abs=0.012)


def test_a_server_that_cheats_on_a_part_of_the_region_is_caught_as_often_as_it_says() -> None:
    share, k, tries = 0.05, 20, 200
    points = cube(tries * k, seed=11).reshape(tries, k, 3)
    caught = [judge(of, np.where(of[:, 1] < share, 0, 1), 1, 0.01) > 0 for of in points]
    assert np.mean(caught) == pytest.approx(detection(share, k), abs=0.1)  # three standard errors


def test_the_line_says_how_many_points_and_what_would_have_been_caught() -> None:
    assert said(200, 0) == (
        "200 points of the region: 0 violations; a server that answers otherwise on 1 % (5 %) of them is caught with "
        "probability 0.866 (1.000)"
    )
    assert "10 points of the region: 1 violation;" in said(10, 1)


# -- servers -----------------------------------------------------------------------------------------------------------

Answer = Callable[[np.ndarray], Any]
WEIGHT = np.array([[1.0, -1.0, 0.5], [2.0, 0.0, 1.0]])


@contextmanager
def serving(answer: Answer, status: int = 200, **headers: str) -> Iterator[str]:
    """The address of a server that answers points by a function; bytes go out as they are, others as JSON."""

    class Server(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            said = answer(np.array(asked["inputs"], dtype=np.float32))
            body = said if isinstance(said, bytes) else json.dumps(said).encode()
            self.send_response(status)
            for name, value in {"Content_Length": str(len(body)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    server.daemon_threads = False  # so that closing waits for slow answers and nothing is left behind
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/answer"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def honest(x: np.ndarray) -> dict[str, Any]:
    return {"outputs": (x @ WEIGHT.T).tolist()}


def test_an_honest_server_answers_the_points_as_they_are() -> None:
    points = cube(50)
    with serving(honest) as url:
        found = ask(url, points)
    assert np.array_equal(found, points @ WEIGHT.T)  # not one bit was lost on the way
    assert judge(points, found, 1, 0.0) == 0


def test_a_server_may_answer_labels() -> None:
    points = cube(20)
    with serving(lambda x: {"labels": [1] * len(x)}) as url:
        found = ask(url, points)
    assert found.dtype == np.int64
    assert judge(points, found, 1, 0.01) == 0


def test_a_server_that_cheats_on_a_share_of_the_region_is_caught_with_exactly_those_points() -> None:
    points = cube(200, seed=5)
    share = 0.1

    def cheating(x: np.ndarray) -> dict[str, Any]:
        outputs = x @ WEIGHT.T
        outputs[x[:, 0] < share] *= -1
        return {"outputs": outputs.tolist()}

    with serving(cheating) as url:
        violations = judge(points, ask(url, points), 1, 0.0)
    assert violations == int((points[:, 0] < share).sum())
    assert violations > 0


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda x: b'{"outputs": [[1, 2]', "is not JSON, or only a part of it"),
        (lambda x: b'{"outputs": [[NaN, 2]]}', "NaN is not a number of JSON"),
        (lambda x: [[1.0, 2.0]], "says neither outputs nor labels, or both"),
        (lambda x: {"labels": [1], "outputs": [[1.0, 2.0]]}, "says neither outputs nor labels, or both"),
        (lambda x: {"labels": [1] * (len(x) + 1)}, "answers 5 points of 4"),
        (lambda x: {"outputs": []}, "answers 0 points of 4"),
        (lambda x: {"labels": [1.5] * len(x)}, "has labels that are no whole numbers"),
        (lambda x: {"labels": [True] * len(x)}, "has labels that are no whole numbers"),
        (lambda x: {"labels": 1}, "has answers that are no list"),
        (lambda x: {"outputs": [["1", "2"]] * len(x)}, "has outputs that are no rows of numbers"),
        (lambda x: {"outputs": [1.0] * len(x)}, "has outputs that are no rows of numbers"),
        (lambda x: {"outputs": [[1.0], [1.0, 2.0], [], [0.0]]}, "has outputs of different lengths"),
    ],
)
def test_an_answer_that_is_none_is_one_line(answer: Answer, words: str) -> None:
    with serving(answer) as url, pytest.raises(Refusal) as refused:
        ask(url, cube(4))
    assert words in str(refused.value)
    assert url in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("status", "words"), [(500, "answers 500"), (404, "answers 404"), (302, "answers 302")])
def test_a_server_that_fails_or_sends_one_elsewhere_is_one_line(status: int, words: str) -> None:
    with (
        serving(honest) as elsewhere,
        serving(honest, status, Location=elsewhere) as url,
        pytest.raises(Refusal, match=words) as refused,
    ):
        ask(url, cube(2))
    assert refused.value.code == "no-answer"


def test_an_answer_that_is_cut_short_is_one_line() -> None:
    with serving(lambda x: b'{"labels": [1, 1', Content_Length="1000") as url, pytest.raises(Refusal) as refused:
        ask(url, cube(2))
    assert "stops in the middle of its answer" in str(refused.value)


def test_an_answer_without_end_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "MOST_BYTES", 1 << 20)
    with serving(lambda x: b" " * (2 << 20)) as url, pytest.raises(Refusal, match="more than 1 MiB"):
        ask(url, cube(2))


def slow(x: np.ndarray) -> dict[str, Any]:
    time.sleep(0.4)
    return honest(x)


def test_a_slow_server_is_waited_for_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(slow) as url:
        assert len(ask(url, cube(2))) == 2
        monkeypatch.setattr(answers, "TIMEOUT_S", 0.1)
        with pytest.raises(Refusal, match=r"does not answer in 0\.1 s") as refused:
            ask(url, cube(2))
    assert refused.value.code == "no-answer"


def test_an_answer_that_trickles_in_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "TIMEOUT_S", 0.3)

    class Trickle(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            try:
                for _ in range(30):
                    self.wfile.write(b" ")
                    time.sleep(0.05)
            except OSError:
                pass  # the other side hung up

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Trickle)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    began = time.monotonic()
    try:
        with pytest.raises(Refusal, match="does not answer in"):
            ask(f"http://127.0.0.1:{server.server_port}", cube(2))
        assert time.monotonic() - began < 1.2
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_nobody_there_is_one_line() -> None:
    with serving(honest) as url:
        pass
    with pytest.raises(Refusal, match="cannot be reached") as refused:
        ask(url, cube(2))
    assert refused.value.code == "no-answer"


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("file:///etc/passwd", "bad-url"), ("ftp://127.0.0.1/x", "bad-url"), ("://", "bad-url"),
        ("http://", "no-answer"), ("http://127.0.0.1:notaport/", "no-answer"), ("http://[::1", "no-answer"),
    ],
)  # fmt: skip
def test_a_place_that_is_no_address_is_one_line(url: str, code: str) -> None:
    with pytest.raises(Refusal) as refused:
        ask(url, cube(2))
    assert refused.value.code == code
    assert "\n" not in str(refused.value)


# -- files -------------------------------------------------------------------------------------------------------------


def test_answers_may_lie_in_a_file(tmp_path: Path) -> None:
    points = cube(3)
    (tmp_path / "a.json").write_text('{"labels": [1, 0, 1]}', "utf-8")
    np.save(tmp_path / "b.npy", np.array([1, 0, 1], dtype=np.uint8))
    np.save(tmp_path / "c.npy", np.array([[0, 1], [1, 0], [0, 1]], dtype=np.float32))
    assert [judge(points, ask(str(tmp_path / name), points), 1, 0.5) for name in ("a.json", "b.npy", "c.npy")] == [
        1
    ] * 3


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing.npy", None, "is no file"),
        ("missing.json", None, "is no file"),
        ("notes.txt", b"1", "is neither a .npy nor a .json file"),
        ("broken.npy", b"\x93NUMPY\x01\x00", "is no .npy array"),
        ("broken.json", b"[", "is not JSON"),
        ("pickled.npy", "objects", "is no .npy array"),
        ("cube.npy", "three axes", "is an array of float64 [2, 1, 1]"),
        ("words.npy", "words", "is an array of <U1 [2]"),
    ],
)  # fmt: skip
def test_a_file_that_holds_no_answers_is_one_line(tmp_path: Path, name: str, content: Any, words: str) -> None:
    arrays = {"objects": np.array([{}, {}]), "three axes": np.zeros((2, 1, 1)), "words": np.array(["a", "b"])}
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    elif content:
        np.save(tmp_path / name, arrays[content], allow_pickle=True)
    with pytest.raises(Refusal) as refused:
        ask(str(tmp_path / name), cube(2))
    assert words in str(refused.value)
    assert isinstance(refused.value, Unreadable) == (words in ("is no file", "is no .npy array", "is not JSON"))


def test_points_are_written_as_an_array_or_as_what_a_server_is_asked(tmp_path: Path) -> None:
    points = cube(3)
    write_points(tmp_path / "points.npy", points)
    write_points(tmp_path / "points.json", points)
    assert np.array_equal(np.load(tmp_path / "points.npy"), points)
    asked = json.loads((tmp_path / "points.json").read_bytes())
    assert np.array_equal(np.array(asked["inputs"], dtype=np.float32), points)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["points.json", "points.npy"]
    with pytest.raises(Refusal, match=r"neither in \.npy nor in \.json"):
        write_points(tmp_path / "points.csv", points)
    with pytest.raises(Refusal, match=r"cannot-write"):
        write_points(tmp_path / "nowhere" / "points.npy", points)
