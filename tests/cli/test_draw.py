"""`mnist draw`: ports, addresses, the browser, the end."""

import re
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.drawing.conftest import free_port, png, start_server
from tests.helpers.cli import Mnist
from tests.helpers.processes import ForkServer
from tests.helpers.strokes import drawn


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


def test_port_0_is_any_free_one(mnist: Mnist, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnistcli.drawing.server.serve", lambda *_: None)
    result = mnist("draw", "--no-open", "--port", 0)
    assert re.fullmatch(r"http://127\.0\.0\.1:[1-9]\d*/\n", result.stdout)
    assert "taken" not in result.stderr


def test_a_taken_port_is_replaced_by_the_next_free_one(
    mnist: Mnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnistcli.drawing.server.serve", lambda *_: None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = mnist("draw", "--no-open", "--port", port)
    used = int(result.stdout.strip().rpartition(":")[2].strip("/"))
    assert port < used < port + 20
    assert f"Port {port} is taken, so the page is on {used}." in result.stderr


def test_a_missing_network_is_told_before_the_port(
    mnist: Mnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("damaged.pth").write_bytes(b"damaged")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for name in ("nothing", "damaged.pth"):
            result = mnist("draw", "--no-open", "--port", port, "-c", name)
            assert result.exit_code == 3
            assert name in result.stderr
            assert "taken" not in result.stderr
        monkeypatch.setattr("mnistcli.drawing.server.NUM_PORTS", 1)
        assert mnist("draw", "--no-open", "--port", port, "-c", "nothing").exit_code == 3


def test_without_a_free_port(mnist: Mnist, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnistcli.drawing.server.NUM_PORTS", 1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = mnist("draw", "--no-open", "--port", port)
    assert result.exit_code == 1
    assert str(port) in result.stderr
    assert not result.stdout


def test_other_machines_reach_it_by_its_address(fork_server: ForkServer) -> None:
    server = start_server(fork_server, "--host", "0.0.0.0")
    address = "127.0.0.2"  # The nearest address that is not its own name.
    host = f"{address}:{server.port}"
    picture = png(drawn("7"))
    response = server.request("POST", "/read", picture, Host=host, Origin=f"http://{host}")
    assert response.json()["read"] == "7"
    evil = "evil.example"
    assert server.request("GET", "/", Host=evil).status == 400
    assert server.request("POST", "/read", picture, Origin=f"http://{evil}").status == 403
    server.process.kill(signal.SIGINT)
    result = server.process.wait()
    assert result.stdout == f"{server.url}/\n"
    assert re.search(rf"For others: http://\S+:{server.port}/\n", result.stderr)
    assert "Warning" in result.stderr


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
def test_the_ipv6_wildcard_serves_the_address_that_it_prints(fork_server: ForkServer) -> None:
    server = start_server(fork_server, "--host", "::")
    server.process.kill(signal.SIGINT)
    assert server.process.wait().stdout == f"{server.url}/\n"


def test_a_page_that_is_closed_during_an_upload_does_no_harm(fork_server: ForkServer) -> None:
    server = start_server(fork_server)
    head = f"POST /read HTTP/1.1\r\nHost: {server.url[7:]}\r\nOrigin: {server.url}\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(f"{head}Content-Length: 9999\r\n\r\nhalf".encode())
        time.sleep(0.2)
    assert server.request("GET", "/settings").status == 200
    server.process.kill(signal.SIGINT)
    assert "Traceback" not in server.process.wait().stderr


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_no_warning_for_this_machine_only(
    mnist: Mnist, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setattr("mnistcli.drawing.server.serve", lambda *_: None)
    result = mnist("draw", "--no-open", "--port", 0, "--host", host)
    assert result.stdout.startswith(f"http://{host}:")
    assert "Warning" not in result.stderr


def test_the_page_is_opened_where_there_is_a_screen(
    mnist: Mnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("mnistcli.drawing.server.serve", lambda *_: None)
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


@pytest.mark.parametrize(
    ("options", "exit_code", "word"),
    [
        (("--port", "65536"), 2, "--port"),
        (("--host", "192.0.2.1"), 1, "192.0.2.1"),
        (("--host", "no name"), 1, "no name"),
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
    result = mnist("draw", "--no-open", "--port", free_port(), *options)
    assert result.exit_code == exit_code
    assert word in result.stderr
    assert not result.stdout
