"""What the server of `mnist draw` answers, and to whom."""

from collections.abc import Awaitable, Callable
from importlib.resources import files
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mnistcli.drawing.kept_pictures import KeptPictures
from mnistcli.drawing.picture_reader import PictureReader
from mnistcli.drawing.server import LOCAL_NAMES, LOOPBACK, WILDCARDS
from mnistcli.errors import DataError, MnistError
from mnistcli.reading.annotate import DOUBTED, LEFT_OUT, READ

# The only files that are served; the path of a request never names a file.
PAGE_FILES = {
    "/": ("index.html", "text/html"),
    "/style.css": ("style.css", "text/css"),
    "/script.js": ("script.js", "text/javascript"),
}
# Photos from phones have up to 12 MB.
MAX_BODY_BYTES = 16_000_000
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}

Endpoint = Callable[[Request], Awaitable[Response]]


class BodyTooLargeError(DataError):
    """The body of a request is larger than `MAX_BODY_BYTES`."""


def create_app(
    reader: PictureReader, kept: KeptPictures | None, *, host: str = LOOPBACK
) -> ASGIApp:
    """The page, served on `host`, and what it asks for; pictures are kept if `kept` is not None.

    Pictures are read in the event loop, one at a time: two at once would be no faster.
    """

    async def settings(_: Request) -> Response:
        return JSONResponse(
            {
                "networks": reader.names,
                "classes": reader.networks.models[0].card.classes,
                "keep": kept is not None,
                "colors": {
                    name: f"rgb{color}"
                    for name, color in (
                        ("read", READ),
                        ("doubted", DOUBTED),
                        ("left-out", LEFT_OUT),
                    )
                },
            }
        )

    async def read(request: Request) -> Response:
        return JSONResponse(reader.read(await _body(request)))

    async def feature_maps(request: Request) -> Response:
        return JSONResponse(reader.feature_maps(await _body(request)))

    async def keep(request: Request) -> Response:
        data = await _body(request)
        if kept is None:
            raise MnistError("Pictures are not kept.", fix="Start mnist draw with --keep DIR.")
        return JSONResponse({"file": kept.add(data, request.query_params.get("label", ""))})

    return GuardMiddleware(
        Starlette(
            routes=[
                *(Route(path, _page_file(*file)) for path, file in PAGE_FILES.items()),
                Route("/settings", settings),
                Route("/read", read, methods=["POST"]),
                Route("/feature-maps", feature_maps, methods=["POST"]),
                Route("/keep", keep, methods=["POST"]),
            ],
            exception_handlers={
                MnistError: _answer_error,
                OSError: _answer_os_error,
                ClientDisconnect: _answer_nobody,
            },
        ),
        host,
    )


class GuardMiddleware:
    """Answers requests for `host` or this machine, and POST requests only from the page itself.

    A page of another site can make the browser send requests here. If its name was made to resolve
    to this machine (DNS rebinding), that name is in the Host header; otherwise it is in a POST's
    Origin header, and without CORS headers it cannot read the answer to a GET.
    """

    def __init__(self, app: ASGIApp, host: str) -> None:
        self._app, self._host = app, host.lower()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request (ASGI's interface)."""
        if scope["type"] != "http":
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        app, headers = self._app, Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_served(host):
            app = PlainTextResponse("Unknown host.", status_code=400)
        elif scope["method"] == "POST" and headers.get("origin") != f"http://{host}":
            app = PlainTextResponse("Requests from other sites are refused.", status_code=403)
        await app(scope, receive, send_with_headers)

    def _is_served(self, host: str) -> bool:
        """Whether a Host header names this server; an address cannot be rebound by DNS."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in LOCAL_NAMES or name == self._host:
            return True
        return self._host in WILDCARDS and _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _page_file(name: str, media_type: str) -> Endpoint:
    content = files("mnistcli.drawing").joinpath("page", name).read_bytes()

    async def endpoint(_: Request) -> Response:
        return Response(content, media_type=media_type)

    return endpoint


async def _body(request: Request) -> bytes:
    """The body of a request; raises BodyTooLargeError."""
    body = bytearray()
    async for chunk in request.stream():
        # The rest is received and dropped: browsers read no answer before they have sent all.
        if len(body) <= MAX_BODY_BYTES:
            body += chunk
    if len(body) > MAX_BODY_BYTES:
        raise BodyTooLargeError(
            f"The picture is larger than {MAX_BODY_BYTES // 1_000_000} MB.",
            fix="Save a smaller copy, or read it with mnist predict.",
        )
    return bytes(body)


async def _answer_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, MnistError)
    status = 413 if isinstance(error, BodyTooLargeError) else 422
    return JSONResponse(
        {"error": f"{error.what} {error.fix or error.why}".strip()}, status_code=status
    )


async def _answer_os_error(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": f"The picture was not kept: {error}."}, status_code=500)


async def _answer_nobody(*_: object) -> Response:
    """A page that was closed or loaded again during an upload."""
    return Response(status_code=400)
