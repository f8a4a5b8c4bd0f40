"""`mnist draw`: ports, addresses, the browser, the end."""

import signal
import socket
import time
from pathlib import Path

import pytest

from tests.drawing.conftest import free_port, start_server
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


def test_a_taken_port_is_replaced_by_the_next_one(
    mnist: Mnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnistcli.drawing.serve.serve", lambda *_: None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = mnist("draw", "--no-open", "--port", port)
    assert result.exit_code == 0
    url = result.stdout.strip()
    assert port < int(url.rpartition(":")[2].strip("/")) < port + 20
    assert f"Port {port} is taken" in result.stderr


def test_without_a_free_port(mnist: Mnist, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnistcli.drawing.serve.NUM_PORTS", 1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = mnist("draw", "--no-open", "--port", taken.getsockname()[1])
    assert result.exit_code == 1
    assert "--port" in result.stderr


def test_the_page_is_opened_where_there_is_a_screen(
    mnist: Mnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("mnistcli.drawing.serve.serve", lambda *_: None)
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    mnist("draw", "--port", 0)
    assert not opened
    monkeypatch.setenv("DISPLAY", ":0")
    mnist("draw", "--port", 0, "--no-open")
    assert not opened
    result = mnist("draw", "--port", 0)
    assert opened == [result.stdout.strip()]


def test_an_address_for_others_comes_with_a_warning(
    mnist: Mnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnistcli.drawing.serve.serve", lambda *_: None)
    assert "Warning" in mnist("draw", "--no-open", "--port", 0, "--host", "0.0.0.0").stderr
    assert "Warning" not in mnist("draw", "--no-open", "--port", 0).stderr


@pytest.mark.parametrize(
    ("options", "exit_code", "word"),
    [
        (("--host", "192.0.2.1"), 2, "192.0.2.1"),
        (("--host", "no name"), 2, "no name"),
        (("--port", "65536"), 2, "--port"),
        (("-c", "nothing"), 3, "nothing"),
        (("--keep", "file/deep"), 1, "file"),
        (("--keep", "mine"), 3, "labels.csv"),
    ],
)
def test_wrong_options_are_refused(
    mnist: Mnist, options: tuple[str, ...], exit_code: int, word: str
) -> None:
    Path("file").touch()
    Path("mine").mkdir()
    Path("mine/labels.csv").write_text("mine\n")
    result = mnist("draw", "--no-open", "--port", free_port(), *options)
    assert result.exit_code == exit_code
    assert word in result.stderr
    assert not result.stdout
