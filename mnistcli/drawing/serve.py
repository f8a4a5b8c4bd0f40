"""The server of `mnist draw`: a free port, and uvicorn until Ctrl-C."""

import errno
import logging
import socket
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from mnistcli.errors import MnistError, SettingsError

# How many ports are tried, from the wanted one.
NUM_PORTS = 20


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on `port` or, where it is taken, on the next free one; 0 is any.

    Raises:
        SettingsError: this machine does not have the address `host`.
        MnistError: no port is free, or they may not be used.
    """
    try:
        [family, *_], *_ = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise _not_an_address(host) from error
    for candidate in range(port, min(port + NUM_PORTS, 65_536)):
        try:
            return socket.create_server((host, candidate), family=family, backlog=128)
        except PermissionError as error:
            raise MnistError(
                f"Port {candidate} may not be used.",
                why="Ports below 1024 are for the system's administrator.",
                fix="Name a higher one: --port 8000",
            ) from error
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise _not_an_address(host) from error
            if error.errno != errno.EADDRINUSE:
                raise
    raise MnistError(
        f"The ports from {port} to {candidate} are taken.", fix="Name another: --port 9000"
    )


def serve(app: ASGIApp, listening: socket.socket) -> None:
    """Serve until Ctrl-C or SIGTERM, which then arrives here again as KeyboardInterrupt."""
    config = uvicorn.Config(
        app,
        lifespan="off",
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


def _not_an_address(host: str) -> SettingsError:
    return SettingsError(
        f"'{host}' is not an address of this machine.",
        fix="Leave out --host, or name 0.0.0.0 for all of its addresses.",
    )
