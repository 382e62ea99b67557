"""The viewer's server without a browser: what a page says and hears."""

import io
import json
import threading
import time
from contextlib import closing, contextmanager

import numpy as np
import pytest
from PIL import Image

from dream_env.agents.run.cli import command
from dream_env.agents.view import command as view
from dream_env.agents.view import protocol
from dream_env.agents.view.arguments import Arguments
from dream_env.agents.view.session import DreamSession, SessionConfig
from dream_env.nicol.spec import SPEC

MOVE = np.array([0.5, -0.3, 0.1, 1.0], np.float32)


@contextmanager
def served(session, out, hosts=view.LOCAL):
    import uvicorn

    from dream_env.agents.view.server import Viewer

    with view.listen("127.0.0.1", 0) as place:
        viewer = Viewer(session, out, hosts)
        server = uvicorn.Server(uvicorn.Config(viewer.app(), log_level="warning", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [place]}, daemon=True)
        thread.start()
        try:
            yield viewer, place.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(10)


class Page:
    """A page without a browser."""

    def __init__(self, port, **headers):
        from websockets.sync.client import connect

        self.opened = connect(f"ws://127.0.0.1:{port}/socket", additional_headers=headers, max_size=None)
        self.socket = self.opened.__enter__()
        self.pictures = {}

    def say(self, **order):
        self.socket.send(json.dumps(order))

    def hear(self, kind, **wanted):
        """Returns the next message of a kind with these values."""
        until = time.monotonic() + 10
        while time.monotonic() < until:
            message = self.socket.recv(timeout=10)
            if isinstance(message, str):
                head = json.loads(message)
            else:
                head, self.pictures = protocol.unpack(message)
            if head["type"] == kind and all(head.get(name) == value for name, value in wanted.items()):
                return head
        raise AssertionError(f"no {kind} with {wanted}")


def test_a_page_drives_goes_back_and_is_told_what_is_refused(session, tmp_path):
    with served(session, tmp_path) as (_, port):
        first, page = Page(port), Page(port)
        assert page.hear("role")["driving"] is False, "one page drives at a time, and the second one is told so"
        page.say(do="step")
        assert "another page is driving" in page.hear("refused")["text"]
        first.socket.close()
        assert page.hear("role", driving=True), "until the first one is closed"
        page.say(do="play", on=False)
        page.hear("status", playing=False)
        page.say(do="reset")
        assert page.hear("begun")["points"][0]["step"] == 0
        assert set(page.pictures) == {"goal"}
        page.say(do="action", value=MOVE.tolist(), seq=7)
        page.say(do="action", value=None, seq=8)
        moved = page.hear("frame", step=1)
        np.testing.assert_allclose(moved["action"], MOVE, atol=1e-6)
        assert Image.open(io.BytesIO(page.pictures["dream"])).size == (64, 64)
        before = session.now
        page.say(do="step")
        page.hear("frame", step=2)
        page.say(do="rewind", to=1)
        assert page.hear("frame", step=1)["last"] == 2 and session.now is before
        page.say(do="reset", instruction="push the whale")
        assert "no color" in page.hear("refused", what="reset")["text"] and session.now is before
        page.say(do="look", on=True)
        assert len(page.hear("futures")["futures"]) == 6 and len(page.pictures) == 6
        page.say(do="follow", index=0)
        assert page.hear("frame", step=9)["driver"] == "future"
        page.say(do="save", what="gif")
        assert page.hear("saved")["text"].endswith("drive_001.gif") and (tmp_path / "drive_001.gif").is_file()
        (tmp_path / "drive_001.gif").rename(tmp_path / "drive_002.gif")
        page.say(do="save", what="gif")
        assert page.hear("saved")["text"].endswith("drive_003.gif"), "no other recording is overwritten"
        page.say(do="save", what="episode")
        assert "1 episode" in page.hear("saved")["text"]
        page.say(do="set", temperature=0.5, speed=4.0)
        assert page.hear("status", temperature=0.5)["speed"] == 4 and session.temperature == 0.5
        for order, said in (
            ({"do": "fly"}, "do='fly' is not known"),
            ({"do": "rewind"}, "to"),
            ({"do": "set", "speed": 3}, "speed=3"),
            ({"do": "action", "value": [1]}, "finite numbers of shape"),
            ({"do": "follow", "index": 99}, "index=99"),
            ({"do": "reset", "seed": -1}, "seed=-1; accepted: None, or an integer"),
            ([], "do=None"),
        ):
            page.socket.send(json.dumps(order))
            assert said in page.hear("refused")["text"]
        page.socket.close()


def test_time_runs_at_the_control_rate_and_stands_without_a_page(session, tmp_path):
    with served(session, tmp_path) as (_, port):
        time.sleep(0.3)
        assert session.now.step == 0
        page = Page(port)
        first = page.hear("frame", step=2)
        began = time.monotonic()
        page.hear("frame", step=first["step"] + 10)
        assert 0.8 < time.monotonic() - began < 1.6  # ten steps at 10 Hz
        page.socket.close()
        time.sleep(0.3)
        before = session.now.step
        time.sleep(0.3)
        assert session.now.step == before


def test_an_unexpected_error_is_shown_and_the_clock_goes_on(session, tmp_path, monkeypatch, caplog):
    step = session.step

    def broken(*args):
        raise RuntimeError("CUDA out of memory")

    with served(session, tmp_path) as (viewer, port):
        page = Page(port)
        page.say(do="play", on=False)
        page.hear("status", playing=False)
        monkeypatch.setattr(session, "step", broken)
        page.say(do="play", on=True)
        assert "RuntimeError: CUDA out of memory" in page.hear("refused", what="step")["text"]
        assert page.hear("status")["playing"] is False and "out of memory" in caplog.text
        page.say(do="step")
        assert "out of memory" in page.hear("refused")["text"], "the socket stays open"
        monkeypatch.setattr(session, "step", step)
        before = session.now.step
        page.say(do="play", on=True)
        page.hear("frame", step=before + 2)
        page.socket.close()


def test_a_policy_begins_anew_at_the_end_of_its_episode(folders, tmp_path, monkeypatch):
    from dream_env.agents.view import server

    world, clone = folders
    monkeypatch.setattr(server, "ENDED", 0.2)
    session = DreamSession(SessionConfig(world, {"mine": clone}, real="none"))
    with served(session, tmp_path) as (_, port):
        page = Page(port)
        page.say(do="set", speed=4.0)
        page.hear("begun")
        page.hear("frame", step=SPEC.horizon)
        assert page.hear("begun")["points"][0]["step"] == 0
        assert page.hear("frame", step=2)["driver"] == "mine"
        page.socket.close()


def test_choices_wait_for_somebody_to_choose(cartpole, tmp_path):
    with closing(DreamSession(SessionConfig(cartpole, real="none"))) as session, served(session, tmp_path) as (_, port):
        page = Page(port)
        assert page.hear("hello")["controls"]["choices"][1]["value"] == 1
        assert page.hear("status")["playing"] is False
        time.sleep(0.2)
        assert session.now.step == 0
        page.say(do="action", value=1)
        page.say(do="action", value=None)
        assert page.hear("frame", step=1)["action"] == 1 and page.pictures == {}
        page.socket.close()


def test_nobody_else_gets_in(session, tmp_path):
    import urllib.error
    import urllib.request

    from websockets.exceptions import WebSocketException

    with served(session, tmp_path) as (_, port):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as answer:
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
            assert b"http" not in answer.read(), "nothing is loaded from elsewhere"
        asked = urllib.request.Request(f"http://127.0.0.1:{port}/", headers={"Host": f"evil.example:{port}"})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(asked)
        with pytest.raises(WebSocketException):
            Page(port, Origin="http://evil.example").hear("hello")


# --- the command


def test_a_port_that_is_taken_is_told_in_one_line(toy_folder, tmp_path):
    with view.listen("127.0.0.1", 0) as place:
        words = ["--port", str(place.getsockname()[1]), "--saves", str(tmp_path / "out"), "--no-open"]
        with pytest.raises(SystemExit, match=r"port=\d+ is taken on 127.0.0.1.*accepted: --port"):
            command("view", words)
    with pytest.raises(SystemExit, match="host='nowhere.invalid' is no address"):
        command("view", ["--host", "nowhere.invalid", "--saves", str(tmp_path / "out"), "--no-open"])


def test_a_missing_extra_is_told_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(view, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r"the page needs starlette, .*: pip install 'dream_env\[view\]'"):
        command("view", ["--saves", str(tmp_path / "out")])


def test_addresses_that_others_reach_are_known():
    assert view.is_local("127.0.0.1") and view.is_local("::1") and view.is_local("localhost")
    assert not view.is_local("0.0.0.0") and not view.is_local("192.168.1.2") and not view.is_local("myhost")


def test_labels_of_policies(tmp_path):
    with pytest.raises(ValueError, match="the label 'policy' is taken"):
        view.serve(Arguments(policy=("runs/a/policy", "runs/b/policy"), saves=tmp_path), None)
    with pytest.raises(ValueError, match="the label 'you' is taken"):
        SessionConfig(policies={"you": "default"})
