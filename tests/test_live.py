"""`shiftwatch serve` as clients meet it: a server in a process, trainings that write, real requests."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
import pytest

import shiftwatch
from shiftwatch import wording
from shiftwatch.live.finding import Finder
from shiftwatch.live.listing import Listing, _described
from shiftwatch.live.outline import Outline
from shiftwatch.live.pages import Pages
from shiftwatch.live.server import CONNECTIONS
from tests.live import Training, until
from tests.simulated import simulated
from tests.test_cli import record


class Client:
    """Asks a server; a connection for each question."""

    def __init__(self, url: str) -> None:
        self.url = urlsplit(url)
        self.cookie = ""

    def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, Any, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.url.port, timeout=30)
        if self.cookie:
            headers["Cookie"] = self.cookie
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, answer.headers, body

    def runs(self, since: int = 0) -> dict[str, Any]:
        """The list, runs by name."""
        status, _, body = self.get(f"/runs?since={since}")
        if status == 204:
            return {}
        assert status == 200
        return {line["name"]: line for line in json.loads(body)["runs"]}


@contextmanager
def served(top: Path, *options: str) -> Iterator[Client]:
    """`shiftwatch serve` in a process of its own; it must end well and quietly."""
    process = subprocess.Popen(
        [sys.executable, "-m", "shiftwatch", "serve", str(top), "--port", "0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    found = re.search(r"http://\S+", process.stdout.readline())
    assert found is not None, process.communicate()[1]
    try:
        yield Client(found[0])
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert errors == ""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good run, a bad one, and one deeper whose name is markup."""
    top = tmp_path_factory.mktemp("runs")
    record(top / "good", broken=False)
    record(top / "bad", broken=True)
    record(top / "sweep" / "<i>&%2F é", broken=True)
    return top


@pytest.fixture(scope="module")
def client(runs: Path) -> Iterator[Client]:
    with served(runs) as made:
        yield made


# -- what is listed ----------------------------------------------------------------------------


def test_the_list_tells_verdict_state_steps_loss_and_incidents(client: Client) -> None:
    lines = client.runs()
    assert list(lines) == ["bad", "good", "sweep/<i>&%2F é"]
    assert lines["good"]["level"] == "healthy" and lines["bad"]["level"] == "critical"
    assert lines["good"]["verdict"].startswith("Healthy: no alert in 120 steps over 3 layers")
    assert lines["bad"]["state"] == "ended" and lines["bad"]["steps"] == 120
    assert lines["bad"]["verdict"].startswith("1 incident. It began in fc2 at step 80")
    assert lines["bad"]["latest"] == "", "the verdict tells of the only one"
    assert lines["bad"]["marks"] == [pytest.approx(80 / 119, abs=1e-3)]
    curve = np.array(lines["good"]["curve"])
    assert curve.shape[1] == 2 and curve.min() >= 0 and curve.max() <= 1
    assert curve[0, 1] == 1 and curve[-1, 1] == 0, "the loss falls"


def test_of_several_incidents_the_latest_stands_beside_the_verdict_that_tells_of_the_first() -> (
    None
):
    run = simulated()
    line = _described(run)
    last = max(wording.raised(run), key=lambda i: i.step)
    assert len(wording.raised(run)) > 1 and last.origin not in line["verdict"]
    assert line["latest"].startswith(f"{last.origin} from step {last.step:,}: ")


def test_every_address_of_the_list_leads_to_a_report_of_that_run(client: Client) -> None:
    for line in client.runs().values():
        status, _, body = client.get("/" + line["href"])
        assert status == 200
        assert b"data-live" in body and b"All runs" in body


def test_only_what_changed_is_sent_again(tmp_path: Path) -> None:
    record(tmp_path / "old", broken=False, steps=30)
    with served(tmp_path) as client, Training(tmp_path / "new") as training:
        training.steps(40)
        until(lambda: client.runs().get("new", {}).get("steps"))
        version = json.loads(client.get("/runs")[2])["version"]
        assert client.get(f"/runs?since={version}")[0] == 204
        training.steps(40)
        assert list(until(lambda: client.runs(version))) == ["new"]


def test_a_training_is_seen_to_write_die_go_on_and_end(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with served(tmp_path) as client:

        def state() -> str:
            return str(client.runs().get("run", {}).get("state"))

        with Training(run, keep=True) as training:
            taken = training.steps(60)
            until(lambda: state() == "writing")
            training.kill()
        until(lambda: state() == "died")
        with Training(run, keep=True) as training:
            assert training.steps(60) == taken + 60
            until(lambda: state() == "writing")
            training.end()
        until(lambda: state() == "ended")
        line = client.runs()["run"]
        assert line["steps"] == taken + 60 and line["attempts"] == 1
        shutil.rmtree(run)
        until(lambda: client.runs() == {})
        assert client.get("/run/run/")[0] == client.get("/run/run/update")[0] == 404


def test_a_folder_without_an_attempt_waits_and_then_opens(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    with served(run) as client:
        assert client.runs() == {}
        (run / "lock").write_text("{}")
        until(lambda: client.runs().get("run", {}).get("state") == "empty")
        status, _, body = client.get("/run/run/")
        assert status == 200 and b"Nothing recorded yet" in body
        assert client.get("/run/run/update")[0] == 204
        with Training(run) as training:
            training.steps(8)
            until(lambda: client.get("/run/run/update", "HEAD")[0] == 200)
            assert b"data-live" in client.get("/run/run/")[2]


def test_a_single_run_can_be_served(runs: Path) -> None:
    with served(runs / "bad") as client:
        assert list(client.runs()) == ["bad"]
        assert client.get("/run/bad/")[0] == 200


def test_a_damaged_run_is_listed_beside_the_others(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "good", tmp_path / "good")
    for name in ("cut", "newer", "lost"):
        shutil.copytree(runs / "bad", tmp_path / name)
    segment = next((tmp_path / "cut").rglob("*.seg"))
    segment.write_bytes(segment.read_bytes()[:1000])
    meta = tmp_path / "newer" / "attempt-001" / "meta.json"
    meta.write_text('{"format": 99}')
    (tmp_path / "lost" / "attempt-001" / "log.jsonl").write_bytes(b"\xff{}\n[1]\nnull\n")
    with served(tmp_path) as client:
        lines = client.runs()
        assert lines["good"]["level"] == "healthy"
        assert "Update with" in lines["newer"]["verdict"]
        assert lines["cut"]["steps"] == 0
        assert lines["lost"]["steps"] == 120
        assert client.get("/run/good/")[0] == 200


# -- the report of a run -----------------------------------------------------------------------


def test_what_is_known_is_not_sent_again_and_what_is_new_is(tmp_path: Path) -> None:
    with served(tmp_path) as client, Training(tmp_path / "run") as training:
        training.steps(80)
        until(lambda: client.get("/run/run/update", "HEAD")[0] == 200)

        def settled() -> str:
            tag = client.get("/run/run/update")[1]["ETag"]
            return tag if client.get("/run/run/update", **{"If-None-Match": tag})[0] == 304 else ""

        tag = until(settled)
        training.steps(200)
        _, headers, body = until(
            lambda: (
                (answer := client.get("/run/run/update", **{"If-None-Match": tag}))[0] == 200
                and answer
            )
        )
        assert headers["ETag"] != tag
        assert json.loads(body)["slots"]["verdict"]


def test_a_run_is_read_once_for_all_tabs(runs: Path) -> None:
    made = []
    pages = Pages({"page": lambda run: made.append(len(run)) or "<p>"})  # type: ignore[func-returns-value]
    entry = Listing(runs).entry("bad")
    assert entry is not None
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: pages.get("bad", entry, "page"), range(40)))
    assert len(set(answers)) == 1 and len(made) == 1


# -- who may read ------------------------------------------------------------------------------


def test_a_name_of_the_web_that_was_bent_to_this_machine_is_refused(client: Client) -> None:
    port = client.url.port
    for host in ("127.0.0.1", "localhost", f"localhost:{port}", "[::1]:99", "127.0.0.1:8"):
        assert client.get("/runs", Host=host)[0] == 200, host
    for host in (
        "evil.example",
        f"evil.example:{port}",
        "127.0.0.1.evil.example",
        "",
        "[",
        "0.0.0.0",
    ):
        status, _, body = client.get("/runs", Host=host)
        assert status == 403 and b"verdict" not in body, host


def test_elsewhere_nothing_is_shown_without_the_token(runs: Path) -> None:
    with served(runs, "--host", "0.0.0.0") as client:
        token = client.url.query.removeprefix("token=")
        assert len(token) >= 20
        paths = ["/", "/runs", "/run/good/", "/run/good/update", "/assets/runs.js", "/nowhere"]
        for path in paths:
            for query in ("", "?token=", f"?token={token[:-1]}", "?token=%FF", f"?token={token}x"):
                status, headers, body = client.get(path + query)
                assert status == 403 and "Set-Cookie" not in headers, path + query
                assert token.encode() not in body
        status, headers, _ = client.get(f"/run/good/?token={token}")
        assert status == 303 and headers["Location"] == "/run/good/"
        assert "HttpOnly" in headers["Set-Cookie"] and "SameSite" in headers["Set-Cookie"]
        client.cookie = "other=1; " + headers["Set-Cookie"].partition(";")[0]
        assert [client.get(path)[0] for path in paths] == [200] * 5 + [404]
        assert client.get(f"//evil.example/?token={token}")[1]["Location"] == "/evil.example/"


def test_on_a_shared_machine_a_token_can_be_asked_for(runs: Path) -> None:
    with served(runs, "--token") as client:
        assert client.get("/runs")[0] == 403
        assert client.get(f"/?{client.url.query}")[0] == 303


@pytest.mark.parametrize(
    "path",
    [
        "/run/..%2F..%2Fetc/",
        "/run/../../etc/passwd",
        "/run/good%2F..%2Fgood/",
        "/run/good/attempt-001",
        "/run/good/meta.json",
        "/run/%00/",
        "/run//",
        "/assets/../server.py",
        "/assets/..%2Fserver.py",
        "/assets/runs.html",
        "/good/lock",
        "/%",
    ],
)
def test_no_path_leads_out_of_the_list(client: Client, path: str) -> None:
    status, _, body = client.get(path)
    assert status == 404
    assert body == b"There is nothing here.\n" or b"gone" in body


def test_every_answer_forbids_what_a_page_does_not_need(client: Client) -> None:
    for path in ("/", "/runs", "/run/good/", "/run/good/update", "/assets/runs.js", "/nowhere"):
        _, headers, _ = client.get(path)
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert headers["Cache-Control"] == "no-store"
        assert headers["Server"] == "shiftwatch"
    for path in ("/", "/runs", "/nowhere"):
        assert "default-src 'none'" in client.get(path)[1]["Content-Security-Policy"]
    assert b"default-src 'none'" in client.get("/run/good/")[2]


def test_other_methods_and_nonsense_are_refused_in_plain_text(client: Client) -> None:
    for method in ("POST", "PUT", "DELETE", "<b>"):
        status, headers, _ = client.get("/", method)
        assert status == 501 and headers["Content-Type"].startswith("text/plain")
    for nonsense in (
        b"\x16\x03\x01\x00\xff\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 70_000,
        b"GET http://[ HTTP/1.1\r\nHost: localhost",
        b"GET /?a&b&c&d&e&f&g&h&i HTTP/1.1\r\nHost: localhost",
    ):
        with socket.create_connection(("127.0.0.1", client.url.port or 0), 10) as raw:
            raw.sendall(nonsense + b"\r\n\r\n")
            assert raw.recv(100).startswith((b"HTTP/1.1 4", b"HTTP/1.1 505"))
    assert client.get("/runs")[0] == 200


def test_connections_are_bounded_and_those_that_close_make_room(client: Client) -> None:
    def opened() -> socket.socket:
        return socket.create_connection(("127.0.0.1", client.url.port or 0), 10)

    many = [opened() for _ in range(CONNECTIONS)]
    with opened() as one_too_many:
        one_too_many.sendall(b"GET /runs HTTP/1.1\r\nHost: localhost\r\n\r\n")
        try:
            assert one_too_many.recv(100) == b""
        except ConnectionResetError:
            pass
    for connection in many:
        connection.close()

    def answered() -> bool:
        try:
            return client.get("/runs")[0] == 200
        except OSError:
            return False

    until(answered)


def test_ctrl_c_ends_it_at_once_with_a_tab_open(runs: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "shiftwatch", "serve", str(runs), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    port = int(process.stdout.readline().rpartition(":")[2].partition("/")[0])
    tab = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    tab.request("GET", "/runs")
    tab.getresponse().read()
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=10)[1] == ""
    assert process.returncode == 0
    tab.close()


def test_a_port_that_is_taken_is_told_with_the_cure(client: Client, runs: Path) -> None:
    command = [sys.executable, "-m", "shiftwatch", "serve", str(runs)]
    again = subprocess.run(
        [*command, "--port", str(client.url.port)], capture_output=True, text=True, timeout=60
    )
    assert again.returncode == 2
    assert "cannot be bound" in again.stderr and "another --port" in again.stderr
    strange = subprocess.run(
        [*command, "--host", "192.0.2.1"], capture_output=True, text=True, timeout=60
    )
    assert strange.returncode == 2 and "192.0.2.1 port 6180" in strange.stderr
    assert "an address of this machine as --host" in strange.stderr
    lost = subprocess.run([*command[:-1], "no/such"], capture_output=True, text=True, timeout=60)
    assert lost.returncode == 2 and "is no folder" in lost.stderr


# -- how it reads ------------------------------------------------------------------------------


def test_an_outline_says_what_the_whole_run_says(runs: Path) -> None:
    for name in ("good", "bad"):
        whole = shiftwatch.open(runs / name)
        outline = Outline(runs / name / "attempt-001").read()
        for part in ("first", "steps"):
            np.testing.assert_array_equal(getattr(outline, part), getattr(whole, part))
        np.testing.assert_allclose(outline.losses, whole.losses, rtol=1e-12)
        assert outline.overhead == pytest.approx(whole.overhead, nan_ok=True)
        assert outline.alerts == whole.alerts and outline.incidents == whole.incidents
        assert outline.sites == whole.sites and outline.layers == whole.layers
        assert outline.metrics == () and outline.summary(0).count.sum() == 0


def test_an_outline_that_is_read_while_a_run_grows_misses_and_doubles_nothing(
    tmp_path: Path,
) -> None:
    """Tails fill, are packed, a process dies and goes on from a checkpoint before it."""
    run = tmp_path / "run"
    with Training(run, keep=True) as training:
        training.steps(16)
        outline = Outline(run / "attempt-001")
        for number in (100, 400, 8, 700):
            training.steps(number)
            _same(outline, run)
        before = (tmp_path / "run.state").read_bytes()
        training.steps(300)
        _same(outline, run)
        training.kill()
    (tmp_path / "run.state").write_bytes(before)
    with Training(run, keep=True) as training:
        training.steps(200)
        _same(outline, run)
        training.end()
    _same(outline, run)
    assert len(outline.read().attempts) == 1


def _same(outline: Outline, run: Path) -> None:
    """The writer's own thread may pack in this moment: then look again."""

    def alike() -> bool:
        whole, part = shiftwatch.open(run), outline.read()
        return (
            np.array_equal(whole.steps, part.steps)
            and np.array_equal(whole.first, part.first)
            and np.allclose(whole.losses, part.losses, rtol=1e-12)
            and whole.alerts == part.alerts
            and whole.events == part.events
        )

    until(alike, 10)


def test_runs_are_found_some_folders_deep_and_links_are_not_followed(tmp_path: Path) -> None:
    for name in ("a", "b/c", "b/d/e", "1/2/3/4", "1/2/3/4/5", ".hidden"):
        (tmp_path / name / "attempt-001").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path)
    finder = Finder(tmp_path)
    assert list(finder.runs()) == ["1/2/3/4", "a", "b/c", "b/d/e"]
    (tmp_path / "a" / "attempt-002").mkdir()
    shutil.rmtree(tmp_path / "b" / "c")
    found = finder.runs()
    assert list(found) == ["1/2/3/4", "a", "b/d/e"] and found["a"][1] == "attempt-002"


def test_many_may_ask_the_list_at_once(runs: Path) -> None:
    listing = Listing(runs)
    barrier = threading.Barrier(8)

    def ask(_: int) -> list[str]:
        barrier.wait()
        return [line["name"] for line in listing.since(0)["runs"]]

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(ask, range(8)))
    assert all(answer == answers[0] and len(answer) == 3 for answer in answers)


def test_names_in_any_bytes_have_an_address(tmp_path: Path) -> None:
    name = b"caf\xe9 \n".decode("utf-8", "surrogateescape")
    record(tmp_path / name, broken=False, steps=30)
    with served(tmp_path) as client:
        (line,) = client.runs().values()
        assert line["href"] == f"run/{quote(b'caf' + bytes([0xE9]) + b' ' + bytes([10]), safe='')}/"
        assert client.get("/" + line["href"])[0] == 200
