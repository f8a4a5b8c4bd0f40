"""A running `mnist draw`, in a process of its own, and requests to it."""

import http.client
import io
import json
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.helpers.processes import ForkedProcess, ForkServer


@dataclass(frozen=True)
class Response:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Server:
    port: int
    process: ForkedProcess

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def request(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> Response:
        """Send a request as the page does; `headers` replace its own, or remove it if empty."""
        sent = {"Host": f"127.0.0.1:{self.port}", "Origin": self.url, **headers}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.putrequest(method, path, skip_host=True)
        for name, value in sent.items():
            if value:
                connection.putheader(name, value)
        connection.putheader("Content-Length", str(len(body or b"")))
        connection.endheaders(body)
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        result = Response(response.status, headers, response.read())
        connection.close()
        return result


def png(picture: Image.Image) -> bytes:
    """The content of a file with this picture."""
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def start_server(fork_server: ForkServer, *args: str | Path) -> Server:
    port = free_port()
    process = fork_server.start("draw", "--no-open", "--port", str(port), *args)
    server = Server(port, process)
    for _ in range(600):
        try:
            server.request("GET", "/settings")
        except ConnectionRefusedError:
            time.sleep(0.1)
        else:
            return server
    pytest.fail(f"no answer on port {port}: {process.wait()}")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that `server` keeps pictures in."""
    return tmp_path_factory.mktemp("draw") / "kept"


@pytest.fixture(scope="module")
def server(fork_server: ForkServer, kept: Path) -> Iterator[Server]:
    """`mnist draw` with two networks, for all tests of a file."""
    server = start_server(fork_server, "-c", "reader", "-c", "cnn-small", "--keep", kept)
    yield server
    server.process.kill(signal.SIGINT)
    assert server.process.wait().exit_code == 130
