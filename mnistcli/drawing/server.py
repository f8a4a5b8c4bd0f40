"""The server of `mnist draw`: a free port, and uvicorn until Ctrl-C."""

import errno
import logging
import socket
from socket import has_dualstack_ipv6
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from mnistcli.errors import MnistError

LOOPBACK = "127.0.0.1"
# Names that reach only this machine.
LOCAL_NAMES = (LOOPBACK, "::1", "localhost")
# All addresses of this machine.
WILDCARDS = ("", "0.0.0.0", "::")  # noqa: S104 (only where --host says so)
# How many ports are tried, from the wanted one on.
NUM_PORTS = 20


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on `port` of `host` or, if it is taken, on the next free one.

    A port of 0 stands for any free one.

    Raises:
        MnistError: `host` is not an address of this machine, or no port can be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for candidate in range(port, min(port + NUM_PORTS, 65_536)):
        try:
            return socket.create_server(
                (host, candidate),
                family=family,
                dualstack_ipv6=host == "::" and has_dualstack_ipv6(),
            )
        except (OSError, UnicodeError) as error:
            reason = error
            if getattr(error, "errno", None) != errno.EADDRINUSE:
                break
    why = str(getattr(reason, "strerror", reason)).partition(" (while")[0]
    raise MnistError(
        f"Port {candidate} of {host} cannot be used.",
        why=f"{why}.",
        fix="Name another --port, or leave out --host.",
    ) from reason


def page_url(host: str, port: int) -> str:
    """The page's address for the browser on this machine."""
    name = LOOPBACK if host in WILDCARDS else host
    return f"http://[{name}]:{port}/" if ":" in name else f"http://{name}:{port}/"


def url_for_others(host: str, port: int) -> str | None:
    """The page's address for other machines in the same network; None if it is not known."""
    if host in WILDCARDS:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                # Chooses the way to another network, and so an address of ours, but sends nothing.
                probe.connect(("192.0.2.1", 9))
                host = probe.getsockname()[0]
            except OSError:
                return None
    return page_url(host, port)


def serve(app: ASGIApp, listening: socket.socket) -> None:
    """Serve until Ctrl-C or SIGTERM, which is raised again as KeyboardInterrupt."""
    config = uvicorn.Config(
        app,
        lifespan="off",
        http="h11",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=0,
    )
    _Server(config).run(sockets=[listening])


class _Server(uvicorn.Server):
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End at once, without a traceback for each request that is cut off."""
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        super().handle_exit(sig, frame)
