"""One file from mirrors that are slow, broken or wrong: real sockets, scripted answers."""

import gzip
import hashlib
import random
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from mnistcli.data import mirrors
from mnistcli.data.mirrors import Fetched, check_address, fetch
from mnistcli.errors import DataError, SettingsError

NAME = "train-images-idx3-ubyte.gz"
# Real handwriting would add nothing: a file is its bytes here.
CONTENT = gzip.compress(random.Random(0).randbytes(40_000), mtime=0)
MD5 = hashlib.md5(CONTENT).hexdigest()
HALF = len(CONTENT) // 2


@dataclass(frozen=True)
class Asked:
    """A request: where for, its headers in small letters, when."""

    path: str
    headers: dict[str, str]
    seconds: float

    @property
    def start(self) -> int:
        """The first byte that is wanted."""
        return int(self.headers.get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))


Answer = Callable[["Server", socket.socket, Asked], None]


@dataclass
class Server:
    """Gives one scripted answer after another, the last one ever after, and closes each time."""

    listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    answers: list[Answer] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}/"

    def script(self, *answers: Answer) -> None:
        self.answers = list(answers)

    def serve(self) -> None:
        while True:
            connection, _ = self.listener.accept()
            if self.closing.is_set():
                connection.close()
                return
            thread = threading.Thread(target=self._answer, args=(connection,))
            self.threads.append(thread)
            thread.start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            lines = connection.makefile("rb")
            path = lines.readline().decode("latin-1").split()[1]
            headers = {}
            while line := lines.readline().decode("latin-1").strip():
                key, _, value = line.partition(":")
                headers[key.lower()] = value.strip()
            lines.close()
            asked = Asked(path, headers, time.monotonic())
            answer = self.answers[min(len(self.asked), len(self.answers) - 1)]
            self.asked.append(asked)
            answer(self, connection, asked)

    def starts(self) -> list[int]:
        return [asked.start for asked in self.asked]


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve)
    thread.start()
    yield server
    server.closing.set()
    socket.create_connection(server.listener.getsockname()).close()
    for each in (thread, *server.threads):
        each.join()
    server.listener.close()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture
def other_server() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirrors, "WINDOW_SECONDS", 0.2)
    monkeypatch.setattr(mirrors, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(mirrors, "GAIN_BYTES", 4000)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def refusing_url() -> str:
    """An address on this machine where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}/"


def head(status: str, *headers: str) -> bytes:
    return "\r\n".join((f"HTTP/1.1 {status}", *headers, "", "")).encode("latin-1")


def says(*pieces: bytes, pause_seconds: float = 0.0) -> Answer:
    """Send this, with pauses, and close."""

    def answer(server: Server, connection: socket.socket, asked: Asked) -> None:
        for piece in pieces:
            connection.sendall(piece)
            if pause_seconds and server.closing.wait(pause_seconds):
                return

    return answer


def whole(*headers: str, content: bytes = CONTENT, num_bytes: int | None = None) -> Answer:
    """All of it, with an answer's usual header; `num_bytes` cuts it off."""
    return says(head("200 OK", f"Content-Length: {len(content)}", *headers), content[:num_bytes])


def rest(*headers: str, content: bytes = CONTENT, shift: int = 0, end: int | None = None) -> Answer:
    """What a request with a Range wants, up to `end`; `shift` is how wrong the answer is."""

    def answer(server: Server, connection: socket.socket, asked: Asked) -> None:
        assert asked.start
        start = asked.start + shift
        part = content[start:end]
        about = f"Content-Range: bytes {start}-{start + len(part) - 1}/{len(content)}"
        length = f"Content-Length: {len(part)}"
        connection.sendall(head("206 Partial Content", about, length, *headers) + part)

    return answer


def stays_open(*pieces: bytes) -> Answer:
    """Send this, then nothing, without closing."""

    def answer(server: Server, connection: socket.socket, asked: Asked) -> None:
        connection.sendall(b"".join(pieces))
        server.closing.wait(20)

    return answer


def repeats(beginning: bytes, piece: bytes, pause_seconds: float = 0.0) -> Answer:
    """Send `piece` again and again until nobody listens."""

    def answer(server: Server, connection: socket.socket, asked: Asked) -> None:
        connection.sendall(beginning)
        while not server.closing.wait(pause_seconds):
            connection.sendall(piece)

    return answer


def redirects(location: str, status: str = "302 Found") -> Answer:
    return says(head(status, f"Location: {location}", "Content-Length: 0"))


def chunks(content: bytes, size: int = 5000) -> list[bytes]:
    pieces = [content[start : start + size] for start in range(0, len(content), size)]
    return [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]


HANGS_UP = says()
CUT = whole('ETag: "one"', num_bytes=HALF)
STATUS_503 = says(head("503 Service Unavailable", "Content-Length: 0"))
CHUNKED = head("200 OK", "Transfer-Encoding: chunked")
OTHER = CONTENT[:HALF] + bytes(len(CONTENT) - HALF)


def fetch_from(*servers: Server) -> Fetched:
    return fetch(NAME, [server.url for server in servers], md5=MD5)


def reason(server: Server) -> str:
    """Why the only mirror did not give the file."""
    with pytest.raises(DataError, match=re.escape(f"No mirror gave {NAME}.")) as caught:
        fetch_from(server)
    address, _, why = caught.value.why.partition(": ")
    assert address == server.url
    assert "\n" not in why
    return why


# What the mirror answers to one request after another, and the bytes it is asked to begin with.
GOOD: dict[str, tuple[list[Answer], list[int]]] = {
    "whole": ([whole()], [0]),
    "503, then whole": ([STATUS_503, whole()], [0, 0]),
    "429, then whole": ([says(head("429 Slow Down")), whole()], [0, 0]),
    "hangs up, then whole": ([HANGS_UP, whole()], [0, 0]),
    "no length": ([says(head("200 OK"), CONTENT)], [0]),
    "chunked": ([says(CHUNKED, *chunks(CONTENT), b"0\r\n\r\n")], [0]),
    "chunked, cut off": (
        [says(CHUNKED, *chunks(CONTENT)[:3]), rest()],
        [0, 15_000],
    ),
    "slow but steady": (
        [
            says(
                head("200 OK", f"Content-Length: {len(CONTENT)}"),
                *[CONTENT[start : start + 2000] for start in range(0, len(CONTENT), 2000)],
                pause_seconds=0.05,
            )
        ],
        [0],
    ),
    "stays open after the last byte": (
        [stays_open(head("200 OK", f"Content-Length: {len(CONTENT)}"), CONTENT)],
        [0],
    ),
    "cut off, then the rest": ([CUT, rest('ETag: "one"')], [0, HALF]),
    "cut off, the rest has no ETag": ([CUT, rest()], [0, HALF]),
    "cut off, then 503, then the rest": ([CUT, STATUS_503, rest()], [0, HALF, HALF]),
    "cut off again and again": (
        [CUT, *[rest(end=HALF + size) for size in range(4000, 20_000, 4000)], rest()],
        [0, *range(HALF, HALF + 20_000, 4000)],
    ),
    "cut off, the rest of another state": ([CUT, rest('ETag: "two"'), whole()], [0, HALF, 0]),
    "cut off, then whole": ([CUT, whole()], [0, HALF]),
    "cut off, then 416": ([CUT, says(head("416 Range Not Satisfiable")), whole()], [0, HALF, 0]),
    "cut off, then an earlier part": ([CUT, rest(shift=-9), whole()], [0, HALF, 0]),
    "cut off, then a later part": ([CUT, rest(shift=9), whole()], [0, HALF, 0]),
    "cut off, then a part without a range": (
        [CUT, says(head("206 Partial Content"), CONTENT[HALF:]), whole()],
        [0, HALF, 0],
    ),
    "cut off, then parts of several ranges": (
        [
            CUT,
            says(head("206 Partial Content", "Content-Type: multipart/byteranges"), b"--"),
            whole(),
        ],
        [0, HALF, 0],
    ),
    "cut off, then wrong bytes": ([CUT, rest(content=OTHER), whole()], [0, HALF, 0]),
    "part of another file first": (
        [whole(content=OTHER[::-1], num_bytes=HALF), rest(), whole()],
        [0, HALF, 0],
    ),
    "length too long, closes": (
        [says(head("200 OK", f"Content-Length: {len(CONTENT) + 1}"), CONTENT)],
        [0],
    ),
    "length too long, stays open": (
        [stays_open(head("200 OK", f"Content-Length: {len(CONTENT) + 1}"), CONTENT)],
        [0],
    ),
    "length of no digits": ([says(head("200 OK", "Content-Length: many"), CONTENT)], [0]),
    "negative length": ([says(head("200 OK", "Content-Length: -5"), CONTENT)], [0]),
    "length of 5000 digits": (
        [says(head("200 OK", f"Content-Length: {'9' * 5000}"), CONTENT)],
        [0],
    ),
    "marked as packed for the way": ([whole("Content-Encoding: gzip")], [0]),
    "redirected": ([redirects("/elsewhere"), whole()], [0, 0]),
    "redirected for ever": ([redirects("there", "308 Permanent Redirect"), whole()], [0, 0]),
    "redirected with odd characters": ([redirects("/a b\xe9"), whole()], [0, 0]),
    "a part that is all of it": (
        [
            says(
                head(
                    "206 Partial Content",
                    f"Content-Range: bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}",
                ),
                CONTENT,
            )
        ],
        [0],
    ),
}


@pytest.mark.parametrize(("answers", "starts"), GOOD.values(), ids=GOOD)
def test_the_right_file_comes(server: Server, answers: list[Answer], starts: list[int]) -> None:
    server.script(*answers)
    assert fetch_from(server) == Fetched(CONTENT, f"{server.url}{NAME}")
    assert server.starts() == starts


TOO_LONG = head("200 OK", f"Content-Length: {len(CONTENT) + 500}")
# What the mirror answers, why it is left, and how often it is asked before.
BAD: dict[str, tuple[list[Answer], str, int]] = {
    "403": ([says(head("403 Forbidden"))], "HTTP status 403", 1),
    "404": ([says(head("404 Not Found"))], "HTTP status 404", 1),
    "503": ([STATUS_503], "HTTP status 503", 2),
    "503 for an hour": (
        [says(head("503 Busy", "Retry-After: 3600"))],
        "HTTP status 503, asks for 3,600 s of patience",
        1,
    ),
    "204": ([says(head("204 No Content"))], "HTTP status 204", 1),
    "416 to a request for all": (
        [says(head("416 Range Not Satisfiable"))],
        "cannot give the whole file",
        2,
    ),
    "says nothing": ([stays_open()], r"too slow: no answer in 0\.2 s", 2),
    "head without an end": (
        [repeats(b"HTTP/1.1 200 OK\r\nServer: ", b"x", 0.02)],
        r"too slow: no answer in 0\.2 s",
        2,
    ),
    "100 Continue for ever": (
        [repeats(b"", head("100 Continue"), 0.01)],
        r"too slow: no answer in 0\.2 s",
        2,
    ),
    "stalls after the head": ([stays_open(TOO_LONG)], r"too slow: no byte in 0\.2 s", 2),
    "stalls in the middle": (
        [stays_open(TOO_LONG, CONTENT[:HALF]), stays_open()],
        r"too slow: no answer in 0\.2 s",
        3,
    ),
    "trickles for ever": (
        [repeats(TOO_LONG, b"x", 0.02)],
        r"too slow: only \d+ bytes in 0\.2 s",
        2,
    ),
    "trailers without an end": (
        [repeats(CHUNKED + b"".join(chunks(OTHER)) + b"0\r\n", b"x: y\r\n", 0.005)],
        r"too slow: (no byte|only 0 bytes) in 0\.2 s|too slow: only",
        3,
    ),
    "cut off every time": ([whole(num_bytes=3000)], r"ended after 3,000 of [\d,]+ bytes", 2),
    "cut off, no gain": (
        [CUT, rest(end=HALF + 10)],
        r"ended after [\d,]+ of [\d,]+ bytes",
        3,
    ),
    "hangs up": ([HANGS_UP], "closed connection without response", 2),
    "not HTTP": ([says(b"220 mail.example ESMTP\r\n\x1b[2J\r\n\r\n")], "the answer is not HTTP", 2),
    "an endless line": (
        [says(b"HTTP/1.1 200 OK\r\nA: " + b"x" * 70_000)],
        "more than 65536 bytes",
        2,
    ),
    "101 headers": (
        [says(head("200 OK", *[f"A{number}: b" for number in range(101)]), CONTENT)],
        "more than 100 headers",
        2,
    ),
    "wrong bytes": ([whole(content=OTHER)], r"wrong checksum \([\d,]+ bytes came\)", 1),
    "wrong bytes in two parts": (
        [whole(content=OTHER, num_bytes=HALF), rest(content=OTHER), whole(content=OTHER)],
        r"wrong checksum \([\d,]+ bytes came\)",
        3,
    ),
    "empty": ([whole(content=b"")], "the file is empty", 1),
    "empty, no length": ([says(head("200 OK"))], "the file is empty", 1),
    "length too short": (
        [says(head("200 OK", "Content-Length: 1000"), CONTENT)],
        r"wrong checksum \(1,000 bytes came\)",
        1,
    ),
    "no length, cut off": ([says(head("200 OK"), CONTENT[:HALF])], "wrong checksum", 1),
    "length far too long": (
        [stays_open(head("200 OK", f"Content-Length: {10**14}"), CONTENT[:3000])],
        "too slow|ended after",
        2,
    ),
    "never ends": ([repeats(head("200 OK"), bytes(1 << 16))], "more than 1 MiB came", 1),
    "never ends in chunks": (
        [repeats(CHUNKED, b"".join(chunks(bytes(1 << 16))))],
        "more than 1 MiB came",
        1,
    ),
    "chunks of nonsense": ([says(CHUNKED, b"zz\r\nabc\r\n")], "ended after 0 bytes", 2),
    "a negative chunk": (
        [says(CHUNKED, b"-5\r\nabcde\r\n0\r\n\r\n")],
        "ended after|wrong checksum",
        2,
    ),
    "redirects to itself": ([redirects("")], "redirects without saying where to", 1),
    "redirects in a circle": (
        [redirects("/a"), redirects("/b", "307 Temporary Redirect"), redirects("/a")],
        "redirects in a circle",
        3,
    ),
    "redirects to a file": (
        [redirects("file:///etc/hostname")],
        "redirects to what is no http or https address",
        1,
    ),
    "redirects by FTP": (
        [redirects("ftp://127.0.0.1/file")],
        "redirects to what is no http or https address",
        1,
    ),
    "redirects to nonsense": (
        [redirects("http://[::1")],
        "Invalid IPv6 URL",
        1,
    ),
}


@pytest.mark.parametrize(("answers", "why", "num_asked"), BAD.values(), ids=BAD)
def test_a_mirror_that_does_not_give_the_file_is_left_with_a_reason(
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    answers: list[Answer],
    why: str,
    num_asked: int,
) -> None:
    monkeypatch.setattr(mirrors, "MAX_FILE_BYTES", 1 << 20)
    server.script(*answers)
    begin = time.monotonic()
    assert re.search(why, reason(server))
    assert len(server.asked) == num_asked
    assert time.monotonic() - begin < 3


@pytest.mark.parametrize("kind", ["404", "503", "trickles for ever", "wrong bytes", "never ends"])
def test_the_next_mirror_gives_what_the_first_does_not(
    server: Server, other_server: Server, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(mirrors, "MAX_FILE_BYTES", 1 << 20)
    server.script(*BAD[kind][0])
    other_server.script(whole())
    assert fetch_from(server, other_server) == Fetched(CONTENT, f"{other_server.url}{NAME}")
    assert other_server.starts() == [0]


def test_redirections_end_after_ten(server: Server) -> None:
    server.script(*[redirects(f"/{number}") for number in range(20)])
    assert reason(server) == "redirects more than 10 times"
    assert len(server.asked) == 11


def test_a_redirection_to_another_server_keeps_the_range(
    server: Server, other_server: Server
) -> None:
    server.script(CUT, redirects(f"{other_server.url}file"))
    other_server.script(rest())
    assert fetch_from(server).content == CONTENT
    assert other_server.starts() == [HALF]
    assert other_server.asked[0].path == "/file"
    assert other_server.asked[0].headers["host"] == other_server.url.split("/")[2]


@pytest.mark.parametrize(
    ("headers", "condition"),
    [
        (['ETag: "one"'], '"one"'),
        (['ETag: "one"', "Last-Modified: Mon, 02 Jan 2006 15:04:05 GMT"], '"one"'),
        (
            ['ETag: W/"one"', "Last-Modified: Mon, 02 Jan 2006 15:04:05 GMT"],
            "Mon, 02 Jan 2006 15:04:05 GMT",
        ),
        (['ETag: W/"one"'], None),
        ([], None),
    ],
    ids=["ETag", "ETag and date", "weak ETag and date", "weak ETag", "none"],
)
def test_the_rest_is_asked_for_on_condition_that_the_file_is_the_same(
    server: Server, headers: list[str], condition: str | None
) -> None:
    server.script(whole(*headers, num_bytes=HALF), rest())
    assert fetch_from(server).content == CONTENT
    assert "range" not in server.asked[0].headers
    assert server.asked[1].headers["range"] == f"bytes={HALF}-"
    assert server.asked[1].headers.get("if-range") == condition


def test_a_mirror_with_inconsistent_parts_is_asked_for_parts_no_more(server: Server) -> None:
    server.script(CUT, rest(content=OTHER), CUT, whole())
    assert fetch_from(server).content == CONTENT
    assert server.starts() == [0, HALF, 0, 0]


def test_no_packing_is_asked_for(server: Server) -> None:
    server.script(whole())
    fetch_from(server)
    assert server.asked[0].headers["accept-encoding"] == "identity"
    assert server.asked[0].headers["user-agent"].startswith("mnistcli/")


@pytest.mark.parametrize(("retry_after", "least", "most"), [("1", 1.0, 3.0), ("0", 0.0, 0.4)])
def test_a_mirror_is_given_the_seconds_that_it_asks_for(
    server: Server, monkeypatch: pytest.MonkeyPatch, retry_after: str, least: float, most: float
) -> None:
    monkeypatch.setattr(mirrors, "PAUSE_SECONDS", 0.5)
    server.script(says(head("503 Busy", f"Retry-After: {retry_after}")), whole())
    fetch_from(server)
    [(before, after)] = pairwise(asked.seconds for asked in server.asked)
    assert least <= after - before < most


@pytest.mark.parametrize("retry_after", ["soon", "-1", "1e9", "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_there_is_a_pause_of_our_own_where_no_seconds_are_named(
    server: Server, monkeypatch: pytest.MonkeyPatch, retry_after: str
) -> None:
    monkeypatch.setattr(mirrors, "PAUSE_SECONDS", 0.2)
    server.script(says(head("503 Busy", f"Retry-After: {retry_after}")), whole())
    fetch_from(server)
    [(before, after)] = pairwise(asked.seconds for asked in server.asked)
    assert 0.2 <= after - before < 1


def test_where_nobody_listens_the_next_mirror_is_asked(server: Server) -> None:
    server.script(whole())
    refusing = refusing_url()
    assert fetch(NAME, [refusing, server.url], md5=MD5).url == f"{server.url}{NAME}"
    with pytest.raises(DataError, match="No mirror") as caught:
        fetch(NAME, [refusing], md5=MD5)
    assert caught.value.why == f"{refusing}: Connection refused"
    assert caught.value.exit_code == 3


def test_no_mirror_at_all_is_an_error_too() -> None:
    with pytest.raises(DataError, match="No mirror"):
        fetch(NAME, [], md5=MD5)


def test_progress_tells_all_that_has_come_of_the_whole_file(server: Server) -> None:
    server.script(CUT, rest())
    seen: list[tuple[int, int | None]] = []
    fetch(NAME, [server.url], md5=MD5, on_progress=lambda *numbers: seen.append(numbers))
    assert {total for _, total in seen} == {len(CONTENT)}
    assert [num_bytes for num_bytes, _ in seen] == sorted({num_bytes for num_bytes, _ in seen})
    assert HALF in dict(seen)
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_an_exception_of_the_caller_ends_the_connection(server: Server) -> None:
    server.script(repeats(head("200 OK"), bytes(1 << 10)))

    def interrupt(num_bytes: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(NAME, [server.url], md5=MD5, on_progress=interrupt)
    server.threads[0].join(timeout=5)
    assert not server.threads[0].is_alive()


@pytest.mark.parametrize("address", ["http://127.0.0.1/", "https://mirror.example/mnist"])
def test_a_web_address_is_a_mirror(address: str) -> None:
    check_address(address)


@pytest.mark.parametrize("address", ["", "/tmp", "ftp://127.0.0.1/", "http://", "http://[::1/"])
def test_another_address_is_none(address: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(f"'{address}' is no mirror")):
        check_address(address)
