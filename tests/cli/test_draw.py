"""`mnist draw`: ports, the browser, the end."""

import re
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.drawing.conftest import start_server
from tests.helpers.cli import Mnist
from tests.helpers.processes import ForkServer


def test_ctrl_c_and_sigterm_end_it_at_once(fork_server: ForkServer) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        server = start_server(fork_server)
        with socket.create_connection(("127.0.0.1", server.port)) as unfinished:
            head = f"POST /read HTTP/1.1\r\nHost: {server.url[7:]}\r\nOrigin: {server.url}\r\n"
            unfinished.sendall(f"{head}Content-Length: 99\r\n\r\nhalf".encode())
            time.sleep(0.2)
            server.process.kill(number)
            result = server.process.wait()
        assert result.exit_code == 130
        assert result.stdout == f"{server.url}/\n"
        assert "Traceback" not in result.stderr


def test_without_a_port_a_free_one_is_found(mnist: Mnist, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnistcli.drawing.server.serve", lambda *_: None)
    assert re.fullmatch(r"http://127\.0\.0\.1:[1-9]\d*/\n", mnist("draw", "--no-open").stdout)


def test_a_taken_port_is_refused(mnist: Mnist) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = mnist("draw", "--no-open", "--port", port)
    assert result.exit_code == 1
    assert str(port) in result.stderr
    assert not result.stdout


def test_the_page_is_opened_where_there_is_a_screen(
    mnist: Mnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("mnistcli.drawing.server.serve", lambda *_: None)
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    mnist("draw")
    assert not opened
    monkeypatch.setenv("DISPLAY", ":0")
    mnist("draw", "--no-open")
    assert not opened
    result = mnist("draw")
    assert opened == [result.stdout.strip()]


@pytest.mark.parametrize(
    ("options", "exit_code", "word"),
    [
        (("--port", "65536"), 2, "--port"),
        (("-c", "nothing"), 3, "nothing"),
        (("--keep", "file/deep"), 1, "file"),
        (("--keep", "mine"), 3, "labels.csv"),
    ],
)
def test_wrong_options_are_refused(
    mnist: Mnist, options: tuple[str, ...], exit_code: int, word: str
) -> None:
    """Nothing is served, and nothing is written."""
    Path("file").touch()
    Path("mine").mkdir()
    Path("mine/labels.csv").write_text("mine\n")
    result = mnist("draw", "--no-open", *options)
    assert result.exit_code == exit_code
    assert word in result.stderr
    assert not result.stdout
