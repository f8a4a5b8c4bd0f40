"""The server of `mnist draw`: a port of this machine, and uvicorn until Ctrl-C."""

import logging
import os
import socket
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from mnistcli.errors import MnistError

# No other machine reaches this address.
ADDRESS = "127.0.0.1"


def listen(port: int) -> socket.socket:
    """A socket that listens on `port` of this machine; 0 stands for any free one.

    Raises:
        MnistError: the port is taken or may not be used.
    """
    try:
        return socket.create_server((ADDRESS, port))
    except OSError as error:
        raise MnistError(
            f"Port {port} cannot be used.",
            why=f"{os.strerror(error.errno or 0)}.",
            fix="Name another one, or leave out --port to use any free one.",
        ) from error


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
