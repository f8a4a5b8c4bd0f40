"""What the server of `mnist draw` answers, and to whom, over real connections."""

import base64
import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnistcli.drawing import app
from mnistcli.drawing.app import MAX_BODY_BYTES
from tests.drawing.conftest import Server, png
from tests.helpers.cli import Mnist
from tests.helpers.strokes import drawn


def picture_of(digits: str) -> bytes:
    return png(drawn(digits))


@pytest.mark.parametrize(
    ("path", "media_type"),
    [("/", "text/html"), ("/style.css", "text/css"), ("/script.js", "text/javascript")],
)
def test_the_page_is_served_with_headers_against_other_sites(
    server: Server, path: str, media_type: str
) -> None:
    response = server.request("GET", path)
    assert response.status == 200
    assert response.headers["content-type"].startswith(media_type)
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'")
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in response.headers


def test_the_page_is_short_enough_to_be_read() -> None:
    page = Path(app.__file__).with_name("page")
    lines = [line for file in page.iterdir() for line in file.read_text().splitlines()]
    assert sum(bool(line.strip()) for line in lines) < 600


def test_a_reading_has_digits_boxes_inputs_and_networks(server: Server) -> None:
    reading = server.request("POST", "/read", picture_of("74")).json()
    assert reading["read"] == "74"
    assert reading["size"] == [280, 160]
    assert reading["left_out"] == []
    for digit, label in zip(reading["digits"], "74", strict=True):
        assert digit["digit"] == label
        assert len(digit["probabilities"]) == 10
        assert sum(digit["probabilities"]) == pytest.approx(1, abs=1e-5)
        assert digit["digit_probability"] > 0.5
        pixels = np.frombuffer(base64.b64decode(digit["input"]), np.uint8)
        assert pixels.shape == (28 * 28,)
        assert pixels.max() > 200
        averaged = np.mean(digit["networks"], axis=0)
        assert averaged == pytest.approx(digit["probabilities"], abs=1e-5)
        assert digit["networks"][0] != digit["networks"][1]
    left, top, right, bottom = reading["digits"][0]["box"]
    assert 20 <= left < right <= 140
    assert 10 <= top < bottom <= 150


def test_the_page_reads_as_predict_does(server: Server, mnist: Mnist) -> None:
    Path("drawing.png").write_bytes(picture_of("174"))
    result = mnist("predict", "drawing.png", "-c", "reader", "-c", "cnn-small", "-q")
    reading = server.request("POST", "/read", Path("drawing.png").read_bytes()).json()
    assert result.stdout == f"{reading['read']}\n"


def test_an_empty_sheet_has_no_digits(server: Server) -> None:
    reading = server.request("POST", "/read", png(Image.new("L", (200, 200), 255))).json()
    assert (reading["read"], reading["digits"]) == ("", [])


def test_feature_maps_of_each_network(server: Server) -> None:
    digit = server.request("POST", "/read", picture_of("7")).json()["digits"][0]
    layers = server.request("POST", "/feature-maps", base64.b64decode(digit["input"])).json()
    assert {layer["network"] for layer in layers} == {"reader", "cnn-small"}
    for layer in layers:
        values = np.frombuffer(base64.b64decode(layer["maps"]), np.uint8)
        assert values.size == np.prod(layer["shape"])
        assert values.max() > 100


@pytest.mark.parametrize(
    ("path", "body", "word"),
    [
        ("/read", b"", "empty"),
        ("/read", b"no picture", "not a picture"),
        ("/read", picture_of("7")[:100], "damaged"),
        ("/feature-maps", b"abc", "784"),
        ("/keep?label=7", b"no picture", "not a picture"),
        ("/keep", picture_of("7"), "label"),
        ("/keep?label=..%2F7", picture_of("7"), "label"),
        ("/keep?label=7%2C8%0A9", picture_of("7"), "label"),
        ("/keep?label=%3D7", picture_of("7"), "label"),
        ("/keep?label=seven", picture_of("7"), "label"),
        (f"/keep?label={'7' * 101}", picture_of("7"), "label"),
    ],
)
def test_bad_input_is_refused_with_a_reason(
    server: Server, kept: Path, path: str, body: bytes, word: str
) -> None:
    before = sorted(kept.iterdir())
    response = server.request("POST", path, body)
    assert response.status == 422
    assert word in response.json()["error"]
    assert sorted(kept.iterdir()) == before


def test_a_large_body_is_refused_and_the_server_goes_on(server: Server) -> None:
    response = server.request("POST", "/read", bytes(MAX_BODY_BYTES + 1))
    assert response.status == 413
    assert "16 MB" in response.json()["error"]
    assert server.request("POST", "/read", picture_of("7")).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/../app.py",
        "/%2e%2e/app.py",
        "/..%2f..%2f..%2fetc%2fpasswd",
        "//etc/passwd",
        "/style.css/../app.py",
        "/page/index.html",
        "/labels.csv",
        "/docs",
    ],
)
def test_no_other_file_is_served(server: Server, path: str) -> None:
    assert server.request("GET", path).status == 404


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example", "0.0.0.0:{port}", ":"]
)
def test_other_names_are_refused(server: Server, host: str) -> None:
    host = host.format(port=server.port)
    response = server.request("POST", "/read", picture_of("7"), Host=host, Origin=f"http://{host}")
    assert response.status == 400
    assert server.request("GET", "/", Host=host).status == 400


@pytest.mark.parametrize(
    "host", ["localhost:{port}", "LOCALHOST:{port}", "localhost:80", "127.0.0.1"]
)
def test_names_of_this_machine_are_served(server: Server, host: str) -> None:
    """With any port: it may be forwarded from another one."""
    host = host.format(port=server.port)
    response = server.request("POST", "/read", picture_of("7"), Host=host, Origin=f"http://{host}")
    assert response.json()["read"] == "7"


@pytest.mark.parametrize("origin", ["", "null", "http://evil.example", "http://127.0.0.1:1"])
@pytest.mark.parametrize("path", ["/read", "/feature-maps", "/keep?label=7"])
def test_only_its_own_page_may_post(server: Server, kept: Path, path: str, origin: str) -> None:
    before = sorted(kept.iterdir())
    assert server.request("POST", path, picture_of("7"), Origin=origin).status == 403
    assert sorted(kept.iterdir()) == before


@pytest.mark.parametrize("data", [b"\x00\xff\n\n", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"])
def test_bytes_that_are_not_a_request_do_no_harm(server: Server, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(data)
        assert connection.recv(100).startswith(b"HTTP/1.1 400")
    assert server.request("GET", "/").status == 200


def test_kept_pictures_are_scored_by_predict(server: Server, kept: Path, mnist: Mnist) -> None:
    photo = Path("photo.jpg")
    Image.new("L", (120, 160), 255).save(photo)
    names = [
        server.request("POST", f"/keep?label={label}", data).json()["file"]
        for label, data in [
            ("7", picture_of("7")),
            ("1", picture_of("7")),
            ("9", photo.read_bytes()),
        ]
    ]
    assert [Path(name).suffix for name in names] == [".png", ".png", ".jpg"]
    assert (kept / names[0]).read_bytes() == picture_of("7")
    lines = (kept / "labels.csv").read_text().splitlines()
    assert lines[0] == "file,label"
    assert lines[-3:] == [f"{names[0]},7", f"{names[1]},1", f"{names[2]},9"]
    result = mnist("predict", kept, "--labels", kept / "labels.csv", "-q")
    assert result.stdout == "33.33\n"
