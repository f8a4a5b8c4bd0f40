"""Getting one published file from mirrors that may be slow, broken or wrong.

The file's MD5 is known, so a mirror's word is never taken for anything: what
comes is the file if its checksum is right, whatever the headers said. Bodies
are taken as they are sent; no Content-Encoding is undone.

Ranges, redirections and Retry-After are those of RFC 9110 (HTTP Semantics).
"""

import hashlib
import re
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from email.message import Message
from http.client import (
    BadStatusLine,
    HTTPException,
    HTTPResponse,
    IncompleteRead,
    InvalidURL,
    RemoteDisconnected,
)
from queue import Empty, SimpleQueue
from string import punctuation
from threading import Event, Thread
from urllib.parse import quote, urljoin, urlsplit
from urllib.request import HTTPHandler, HTTPSHandler, OpenerDirector, ProxyHandler, Request

from mnistcli.errors import DataError, SettingsError
from mnistcli.version import __version__

# Called with the bytes that have come and, where known, all there are.
OnProgress = Callable[[int, int | None], None]

# A connection is given up when less than this comes on average, from the first to the last byte.
MIN_BYTES_A_SECOND = 1000
WINDOW_SECONDS = 20.0

TRIES_A_MIRROR = 2
# A lost connection that brought this much counts as no try.
GAIN_BYTES = 1 << 20
PAUSE_SECONDS = 1.0
# A mirror that asks for more patience (Retry-After) is left for the next one.
MAX_PAUSE_SECONDS = 10.0

MAX_REDIRECTS = 10
CHUNK_BYTES = 1 << 16
# The largest file, KMNIST's training images, has 18 MB; unpacked 47 MB.
MAX_FILE_BYTES = 64 << 20

_REDIRECTS = (301, 302, 303, 307, 308)
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,15})-[0-9]{1,15}/([0-9]{1,15}|\*)")
_MAY_PASS = (408, 425, 429)
# So often is looked for Ctrl-C, which interrupts no waiting thread on Windows.
_TICK_SECONDS = 0.1


@dataclass(frozen=True)
class Fetched:
    """A published file, checked, and the address that had it."""

    content: bytes
    url: str


def check_address(mirror: str) -> None:
    """Raise SettingsError unless `mirror` is an http or https address."""
    if not _is_web_address(mirror):
        raise SettingsError(
            f"'{mirror}' is no mirror.",
            why="A mirror is an http or https address that holds the .gz files.",
            fix="For files on this machine: mnist download --from DIR",
        )


def fetch(
    name: str, mirrors: Iterable[str], *, md5: str, on_progress: OnProgress | None = None
) -> Fetched:
    """The file `name` with the checksum `md5`, from the first of `mirrors` that gives it.

    Each is asked again after what may pass: a server's error, a lost or a slow
    connection. What has come of the file is kept and continued.

    Raises:
        DataError: no mirror gave the file, and of each why.
    """
    failures = []
    for mirror in mirrors:
        url = f"{mirror.rstrip('/')}/{name}"
        try:
            return Fetched(_fetch_from(url, md5, on_progress or _ignore), url)
        except _RefusedError as error:
            failures.append(f"{mirror}: {error}")
    raise DataError(
        f"No mirror gave {name}.",
        why="\n".join(failures),
        fix="Try again later, name a mirror (mnist download --mirror URL), or import files "
        "you have (mnist download --from DIR).",
    )


class _RefusedError(Exception):
    """A mirror does not have the file, or asking it again would be of no use."""


class _PassingError(Exception):
    """A mirror did not answer well, but may do so after a pause."""

    def __init__(self, reason: str, *, pause_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.pause_seconds = PAUSE_SECONDS if pause_seconds is None else pause_seconds


@dataclass
class _Partial:
    """What has come of a file, and how the mirror names this state of it (RFC 9110, 8.8)."""

    md5: str
    content: bytearray = field(default_factory=bytearray)
    validator: str = ""
    is_joined: bool = False

    def is_right(self) -> bool:
        return hashlib.md5(self.content, usedforsecurity=False).hexdigest() == self.md5


@dataclass(frozen=True)
class _Head:
    """The beginning of an answer. `num_bytes` is the length of its body, if it is told."""

    status: int
    headers: Message
    num_bytes: int | None


def _ignore(num_bytes: int, total: int | None) -> None:
    pass


def _is_web_address(text: str) -> bool:
    try:
        address = urlsplit(text)
    except ValueError:
        return False
    return address.scheme in ("http", "https") and bool(address.hostname)


def _fetch_from(url: str, md5: str, on_progress: OnProgress) -> bytes:
    """The right file from one mirror; raises _RefusedError."""
    partial = _Partial(md5)
    _complete(url, partial, on_progress)
    if partial.is_joined and not partial.is_right():
        # Two states of the file, or ranges that are none: once more, from the beginning.
        partial = _Partial(md5)
        _complete(url, partial, on_progress, may_join=False)
    if not partial.content:
        raise _RefusedError("the file is empty")
    if not partial.is_right():
        raise _RefusedError(f"wrong checksum ({len(partial.content):,} bytes came)")
    return bytes(partial.content)


def _complete(
    url: str, partial: _Partial, on_progress: OnProgress, *, may_join: bool = True
) -> None:
    """Ask until all of a file has come, right or wrong."""
    tries_left, most_bytes = TRIES_A_MIRROR, 0
    while True:
        if not may_join:
            partial.content.clear()
        try:
            return _try(url, partial, on_progress)
        except _PassingError as error:
            if partial.is_right():
                return None
            if len(partial.content) >= most_bytes + GAIN_BYTES:
                tries_left, most_bytes = TRIES_A_MIRROR, len(partial.content)
            else:
                tries_left -= 1
            if not tries_left:
                raise _RefusedError(str(error)) from error
            time.sleep(error.pause_seconds)


def _try(url: str, partial: _Partial, on_progress: OnProgress) -> None:
    """Ask for what is missing; for all of it where the mirror cannot continue."""
    try:
        if not _ask(url, partial, on_progress):
            partial.content.clear()
            if not _ask(url, partial, on_progress):
                raise _RefusedError("cannot give the whole file")
    except IncompleteRead as error:
        raise _PassingError(f"ended after {len(partial.content):,} bytes") from error
    except InvalidURL as error:
        raise _RefusedError(_in_words(error)) from error
    except (OSError, HTTPException) as error:
        raise _PassingError(_in_words(error)) from error
    except ValueError as error:  # characters that no address has
        raise _RefusedError(_in_words(error)) from error


def _in_words(error: Exception) -> str:
    """What a failed connection says of itself, without the error's number."""
    if isinstance(error, BadStatusLine) and not isinstance(error, RemoteDisconnected):
        return "the answer is not HTTP"
    reason = getattr(error, "reason", error)
    words = str(getattr(reason, "strerror", None) or reason)
    return " ".join(words.split()) or type(error).__name__


def _ask(url: str, partial: _Partial, on_progress: OnProgress) -> bool:
    """Add the answer to `partial`; false if it does not go on where that ends."""
    with closing(_arrivals(_request(url, partial))) as arrivals:
        head = next(arrivals)
        assert isinstance(head, _Head)
        _check_status(head)
        if head.status == 416 or (head.status == 206 and not _continues(head, partial)):
            return False
        _begin(head, partial)
        total = _total_bytes(head, partial)
        for chunk in arrivals:
            assert isinstance(chunk, bytes)
            partial.content += chunk
            _check_size(len(partial.content))
            on_progress(len(partial.content), total)
    if total and len(partial.content) < total:
        raise _PassingError(f"ended after {len(partial.content):,} of {total:,} bytes")
    return True


def _request(url: str, partial: _Partial) -> Request:
    """For what follows `partial`, if the file is still the same (RFC 9110, 13.1.5 and 14.2)."""
    headers = {"User-Agent": f"mnistcli/{__version__}"}
    if partial.content:
        headers["Range"] = f"bytes={len(partial.content)}-"
        if partial.validator:
            headers["If-Range"] = partial.validator
    return Request(url, headers=headers)  # noqa: S310 (http only)


def _check_status(head: _Head) -> None:
    if head.status in (200, 206, 416):
        return
    reason = f"HTTP status {head.status}"
    if head.status < 500 and head.status not in _MAY_PASS:
        raise _RefusedError(reason)
    pause_seconds = _number(head.headers.get("Retry-After", ""))
    if pause_seconds is not None and pause_seconds > MAX_PAUSE_SECONDS:
        raise _RefusedError(f"{reason}, asks for {pause_seconds:,} s of patience")
    raise _PassingError(reason, pause_seconds=pause_seconds)


def _check_size(num_bytes: int) -> None:
    if num_bytes > MAX_FILE_BYTES:
        raise _RefusedError(f"more than {MAX_FILE_BYTES >> 20} MiB came")


def _continues(head: _Head, partial: _Partial) -> bool:
    """Whether a 206 begins where `partial` ends and is of the same file (RFC 9110, 15.3.7)."""
    match = _CONTENT_RANGE.fullmatch(head.headers.get("Content-Range", ""))
    is_same = _validator(head.headers) in ("", partial.validator)
    return match is not None and int(match[1]) == len(partial.content) and is_same


def _begin(head: _Head, partial: _Partial) -> None:
    if head.status == 200:
        partial.content.clear()
        partial.validator = ""
    partial.validator = _validator(head.headers) or partial.validator
    partial.is_joined = bool(partial.content)


def _validator(headers: Message) -> str:
    """A strong ETag, else the time of the last change; a weak ETag names no bytes."""
    etag = headers.get("ETag", "")
    return etag if etag.startswith('"') else headers.get("Last-Modified", "")


def _total_bytes(head: _Head, partial: _Partial) -> int | None:
    """The length of the whole file as the mirror tells it, if it does."""
    match = _CONTENT_RANGE.fullmatch(head.headers.get("Content-Range", ""))
    if head.status == 206 and match and match[2] != "*":
        return int(match[2])
    return None if head.num_bytes is None else len(partial.content) + head.num_bytes


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,15}", text) else None


_Arrival = _Head | bytes | Exception


def _arrivals(request: Request) -> Generator[_Head | bytes]:
    """The head of an answer and the pieces of its body; raises what the connection raises.

    They are read by a thread of its own, so that nothing can hold up this one:
    a name server, a head that comes letter by letter, a body that never ends.
    """
    arrived: SimpleQueue[_Arrival] = SimpleQueue()
    is_abandoned = Event()
    Thread(target=_read, args=(request, arrived, is_abandoned), daemon=True).start()
    try:
        yield from _in_time(arrived)
    finally:
        is_abandoned.set()


def _in_time(arrived: "SimpleQueue[_Arrival]") -> Iterator[_Head | bytes]:
    """What arrives, as long as it comes fast enough (curl's --speed-limit and --speed-time)."""
    end_seconds, num_bytes, answer = time.monotonic() + WINDOW_SECONDS, 0, "answer"
    while True:
        with suppress(Empty):
            item = arrived.get(timeout=min(_TICK_SECONDS, WINDOW_SECONDS))
            if isinstance(item, Exception):
                raise item
            if item == b"":
                return
            num_bytes += len(item) if isinstance(item, bytes) else 0
            answer = "byte"
            yield item
        if time.monotonic() > end_seconds:
            if num_bytes < MIN_BYTES_A_SECOND * WINDOW_SECONDS:
                came = f"only {num_bytes:,} bytes" if num_bytes else f"no {answer}"
                raise _PassingError(f"too slow: {came} in {WINDOW_SECONDS:g} s")
            end_seconds, num_bytes = time.monotonic() + WINDOW_SECONDS, 0


def _read(request: Request, arrived: "SimpleQueue[_Arrival]", is_abandoned: Event) -> None:
    """Put what comes into the queue: the head, the body, and an empty piece or an exception."""
    try:
        with _open(request) as response:
            arrived.put(_Head(response.status, response.headers, response.length))
            while not is_abandoned.is_set() and (chunk := response.read1(CHUNK_BYTES)):
                arrived.put(chunk)
        arrived.put(b"")
    except Exception as error:  # noqa: BLE001 (it is raised again where it is waited for)
        arrived.put(error)


def _open(request: Request) -> HTTPResponse:
    """The first answer that is no redirection (RFC 9110, 15.4), over a proxy where one is set."""
    opener = OpenerDirector()  # build_opener's would follow to any ftp address
    for handler in (ProxyHandler(), HTTPHandler(), HTTPSHandler()):
        opener.add_handler(handler)
    seen: set[str] = set()
    while True:
        # Whoever waits gives up before this; it only ends the thread.
        response: HTTPResponse = opener.open(request, timeout=3 * WINDOW_SECONDS)
        if response.status not in _REDIRECTS:
            return response
        response.close()
        seen.add(request.full_url)
        url = _redirected(request.full_url, response.headers.get("Location", ""), seen)
        request = Request(url, headers=request.headers)  # noqa: S310 (http only)


def _redirected(url: str, location: str, seen: set[str]) -> str:
    target = urljoin(url, quote(location, safe=punctuation, encoding="latin-1"))
    if not location:
        raise _RefusedError("redirects without saying where to")
    if not _is_web_address(target):
        raise _RefusedError("redirects to what is no http or https address")
    if target in seen:
        raise _RefusedError("redirects in a circle")
    if len(seen) > MAX_REDIRECTS:
        raise _RefusedError(f"redirects more than {MAX_REDIRECTS} times")
    return target
