"""What `mnist draw` serves, and to whom."""

from collections.abc import Awaitable, Callable
from importlib.resources import files
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mnistcli.drawing.keep import KeptPictures
from mnistcli.drawing.readings import PageReader
from mnistcli.errors import DataError, MnistError

# All files that are served: no path of a request is opened.
PAGE_FILES = {
    "/": ("index.html", "text/html"),
    "/style.css": ("style.css", "text/css"),
    "/script.js": ("script.js", "text/javascript"),
}
# Photos of telephones have up to 12 MB.
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

Answer = Callable[[Request], Awaitable[Response]]


class BodyTooLargeError(DataError):
    """The body of a request has more than `MAX_BODY_BYTES`."""


def create_app(reader: PageReader, kept: KeptPictures | None, *, host: str) -> ASGIApp:
    """The application of a server that listens on `host`.

    It reads in the event loop, one picture after the other: two at a time would take as long.
    """

    async def settings(_: Request) -> Response:
        return JSONResponse(
            {
                "networks": reader.names,
                "classes": reader.networks.models[0].card.classes,
                "keep": str(kept.directory) if kept else None,
            }
        )

    async def read(request: Request) -> Response:
        return JSONResponse(reader.read(await _body(request)))

    async def feature_maps(request: Request) -> Response:
        return JSONResponse(reader.feature_maps(await _body(request)))

    async def keep(request: Request) -> Response:
        data = await _body(request)
        if kept is None:
            raise MnistError("No directory was named.", fix="Start again with --keep drawings.")
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
            exception_handlers={MnistError: _refuse, OSError: _refuse},
        ),
        host,
    )


class GuardMiddleware:
    """Answers only requests for this server and from its own page, with headers that keep it so.

    Another site's page can make a browser send requests here. Where its name was made to resolve
    to this machine (DNS rebinding), the Host header has that name; elsewhere a POST has its Origin.
    """

    def __init__(self, app: ASGIApp, host: str) -> None:
        self._app, self._host = app, host.lower()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request as ASGI has it."""
        if scope["type"] != "http":
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        app, headers = self._app, Headers(scope=scope)
        if not self._is_ours(headers.get("host", "")):
            app = PlainTextResponse("This name is not served here.", status_code=400)
        elif scope["method"] == "POST" and headers.get("origin") != f"http://{headers['host']}":
            app = PlainTextResponse("Only its own page may send this.", status_code=403)
        await app(scope, receive, send_with_headers)

    def _is_ours(self, authority: str) -> bool:
        """Whether the Host header names this server; an address cannot be rebound by DNS."""
        try:
            name = urlsplit(f"//{authority}").hostname or ""
        except ValueError:
            return False
        return name in ("127.0.0.1", "::1", "localhost", self._host) or (
            self._host in ("0.0.0.0", "::") and _is_address(name)  # noqa: S104 (compared only)
        )


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _page_file(name: str, media_type: str) -> Answer:
    content = files("mnistcli.drawing").joinpath("page", name).read_bytes()

    async def answer(_: Request) -> Response:
        return Response(content, media_type=media_type)

    return answer


async def _body(request: Request) -> bytes:
    """The body of a request; raises BodyTooLargeError."""
    body = bytearray()
    async for chunk in request.stream():
        # The rest is received and dropped: a browser hears no answer before it has sent all.
        if len(body) <= MAX_BODY_BYTES:
            body += chunk
    if len(body) > MAX_BODY_BYTES:
        raise BodyTooLargeError(
            f"The picture has more than {MAX_BODY_BYTES // 1_000_000} MB.",
            fix="Save it smaller, or read it with mnist predict.",
        )
    return bytes(body)


async def _refuse(_: Request, error: Exception) -> Response:
    if isinstance(error, MnistError):
        status = 413 if isinstance(error, BodyTooLargeError) else 422
        return JSONResponse({"error": f"{error.what} {error.fix or error.why}"}, status_code=status)
    return JSONResponse({"error": f"It cannot be written: {error}."}, status_code=500)
