"""The page of `mnist draw` in a real browser, drawn on with the mouse."""

import base64
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest
from PIL import Image

from mnistcli.data.datasets import get_dataset, load_dataset
from mnistcli.reading.annotate import DOUBTED, READ
from tests.drawing.conftest import Server, png
from tests.helpers.cli import Mnist
from tests.helpers.strokes import HANDWRITTEN, Stroke, drawn, strokes_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from playwright.sync_api import Page as Tab

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = pytest.mark.skipif(
    not BROWSER, reason="no browser is installed (apt install chromium)"
)


class Page:
    """The page, and a person with a mouse."""

    def __init__(self, page: "Tab") -> None:
        self.page = page
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda message: self.errors.append(message.text))

    def draw(
        self, strokes: list[Stroke], left: float = 0.25, top: float = 0.25, size: float = 0.5
    ) -> None:
        """Draw strokes in a square with this left, top and size, as shares of the sheet's side."""
        sheet = self.page.locator("#ink").bounding_box()
        assert sheet
        for stroke in strokes:
            points = [
                (
                    sheet["x"] + sheet["width"] * (left + size * x),
                    sheet["y"] + sheet["height"] * (top + size * y),
                )
                for x, y in stroke
            ]
            self.page.mouse.move(*points[0])
            self.page.mouse.down()
            for point in points[1:]:
                self.page.mouse.move(*point)
            self.page.mouse.up()

    def read(self) -> str:
        """What is read, when all is."""
        return self.page.locator("#text[aria-busy=false]").inner_text()

    def clear(self) -> None:
        self.page.keyboard.press("Escape")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Browser]":
    """Chromium with a camera that films a 4."""
    film = tmp_path_factory.mktemp("camera") / "film.mjpeg"
    scene = Image.new("RGB", (640, 480), "white")
    scene.paste(drawn("4", height_px=200), (200, 120))
    scene.save(film, "JPEG")
    arguments = [
        # It does not start for the root user of a container.
        "--no-sandbox",
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-video-capture={film}",
    ]
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=BROWSER, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: "Browser", server: Server) -> Iterator[Page]:
    tab = browser.new_page()
    page = Page(tab)
    tab.goto(server.url)
    page.read()
    yield page
    tab.close()
    assert not page.errors


def test_strokes_are_read_and_shown(page: Page) -> None:
    page.draw(HANDWRITTEN["7"], left=0.05, size=0.4)
    page.draw(HANDWRITTEN["4"], left=0.55, size=0.4)
    assert page.read() == "74"
    boxes = page.page.locator("#boxes .box")
    assert boxes.evaluate_all("all => all.map(each => each.dataset.label)") == ["7", "4"]
    cards = page.page.locator(".card")
    assert cards.count() == 2
    # Two networks each.
    assert cards.locator(".chart b").all_inner_texts() == ["7", "7", "4", "4"]
    shares = cards.first.locator(".bar i").evaluate_all(
        "all => all.map(each => Number(each.style.getPropertyValue('--share')))"
    )
    for network in (shares[:10], shares[10:]):
        assert sum(network) == pytest.approx(1, abs=1e-5)
        assert network[7] == max(network)
    spoken = cards.first.locator(".chart").first.get_attribute("aria-label")
    assert str(spoken).startswith("reader, 7 ")
    assert page.page.locator("#label").input_value() == "74"


def test_undo_clear_and_the_pen(page: Page) -> None:
    page.page.locator("#width").fill("30")
    page.draw(HANDWRITTEN["7"], left=0.05, size=0.4)
    page.draw(HANDWRITTEN["7"], left=0.55, size=0.4)
    assert page.read() == "77"
    page.page.locator("#undo").click()
    assert page.read() == "7"
    page.page.locator("#clear").click()
    assert page.read() == ""
    page.page.keyboard.press("Control+z")
    assert page.read() == "7"


def test_the_keyboard_draws(page: Page) -> None:
    page.page.locator("#ink").focus()
    diagonal = ["ArrowDown", "ArrowDown", "ArrowLeft"] * 8
    for key in (" ", *["ArrowRight"] * 9, *diagonal, " "):
        page.page.keyboard.press(key)
    assert page.read() == "7"


def test_feature_maps_are_shown_on_demand(page: Page) -> None:
    page.draw(HANDWRITTEN["7"])
    assert page.read() == "7"
    assert page.page.locator(".maps canvas").count() == 0
    page.page.locator("summary").click()
    page.page.locator(".maps canvas").first.wait_for()
    assert page.page.locator(".maps h2").count() == 4


def test_a_stroke_that_is_undone_while_drawn_changes_nothing(page: Page) -> None:
    page.draw(HANDWRITTEN["7"], left=0.05, size=0.4)
    page.page.locator("#ink").hover()
    page.page.mouse.down()
    page.page.keyboard.press("Control+z")
    page.page.mouse.move(5, 5, steps=5)
    page.page.mouse.up()
    assert page.read() == "7"


def test_a_picture_is_taken_with_the_camera(page: Page) -> None:
    camera = page.page.locator("#camera")
    camera.click()
    page.page.get_by_text("Take picture").click()
    page.page.locator(".box").wait_for()
    assert page.read() == "4"
    assert camera.inner_text() == "Camera"
    assert not page.page.locator("#viewfinder").is_visible()


def test_escape_closes_the_camera(page: Page) -> None:
    page.page.locator("#camera").click()
    page.page.get_by_text("Take picture").wait_for()
    page.clear()
    assert not page.page.locator("#viewfinder").is_visible()
    assert page.page.evaluate("document.getElementById('viewfinder').srcObject") is None


def test_a_file_that_cannot_be_read_leaves_the_drawing_as_it_is(page: Page) -> None:
    page.draw(HANDWRITTEN["7"])
    assert page.read() == "7"
    page.page.locator("#file").set_input_files(
        {"name": "4.png", "mimeType": "image/png", "buffer": b"not a picture"}
    )
    page.page.get_by_text("not a picture that can be read").wait_for()
    assert page.read() == "7"
    assert page.page.locator(".box").count() == 1
    assert page.page.locator("#submit").is_enabled()
    page.page.locator("#undo").click()
    assert page.page.locator("#undo").is_disabled(), "the file was not a step to undo"
    page.errors.clear()  # Chromium logs that the server refused it.


@pytest.mark.parametrize("way", ["open", "drop", "paste"])
def test_a_picture_is_read_where_it_is(page: Page, way: str) -> None:
    picture = Image.new("L", (400, 200), 255)
    picture.paste(drawn("4", height_px=100), (230, 30))
    if way == "open":
        page.page.locator("#file").set_input_files(
            {"name": "4.png", "mimeType": "image/png", "buffer": png(picture)}
        )
    else:
        page.page.evaluate(
            """([way, base64]) => {
              const bytes = Uint8Array.from(atob(base64), (each) => each.charCodeAt(0));
              const data = new DataTransfer();
              data.items.add(new File([bytes], "4.png", { type: "image/png" }));
              const event = way === "drop" ? new DragEvent("drop", { dataTransfer: data })
                : new ClipboardEvent("paste", { clipboardData: data });
              document.dispatchEvent(event);
            }""",
            [way, base64.b64encode(png(picture)).decode()],
        )
    page.page.locator(".box").wait_for()
    assert page.read() == "4"
    left, top = page.page.locator(".box").evaluate("box => [box.style.left, box.style.top]")
    # The picture is as wide as the sheet, and in its middle.
    assert float(left.strip("%")) == pytest.approx(67, abs=2)
    assert float(top.strip("%")) == pytest.approx(40, abs=2)


def test_boxes_have_the_colors_of_annotated_pictures(page: Page) -> None:
    page.draw([[(0.5, 0.0), (0.5, 1.0)]], left=0.1, size=0.4)
    page.draw(HANDWRITTEN["7"], left=0.5, size=0.4)
    assert page.read() == "17"
    colors = page.page.locator(".box").evaluate_all(
        "boxes => boxes.map(each => [each.className, getComputedStyle(each).outlineColor])"
    )
    doubted, read = (f"rgb{color}" for color in (DOUBTED, READ))
    assert colors == [["box doubtful", doubted], ["box", read]]


def test_a_corrected_reading_is_kept(page: Page, kept: Path, mnist: Mnist) -> None:
    page.draw(HANDWRITTEN["7"])
    assert page.read() == "7"
    page.page.locator("#label").fill("1")
    page.page.keyboard.press("Enter")
    page.page.get_by_text("Kept as 1").wait_for()
    assert page.read() == ""
    *_, line = (kept / "labels.csv").read_text().splitlines()
    assert line.endswith(".png,1")
    result = mnist("predict", kept / line.partition(",")[0], "-q")
    assert result.stdout == "7\n"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 768, 1440])
def test_nothing_is_wider_than_the_screen(
    page: Page, width: int, scheme: Literal["light", "dark"]
) -> None:
    page.page.emulate_media(color_scheme=scheme)
    page.page.set_viewport_size({"width": width, "height": 800})
    page.draw(HANDWRITTEN["7"])
    assert page.read() == "7"
    assert page.page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("digit", HANDWRITTEN)
def test_every_digit_is_read(page: Page, digit: str) -> None:
    page.draw(HANDWRITTEN[digit])
    assert page.read() == digit


@pytest.mark.slow
@pytest.mark.mnist
def test_mnist_drawn_with_the_mouse_is_read(page: Page, mnist_dir: Path) -> None:
    examples = load_dataset(get_dataset("mnist"), "test", mnist_dir)
    num_correct = 0
    for image_HW, label in zip(examples.images_NHW[:50], examples.labels_N[:50], strict=True):
        page.draw(strokes_of(image_HW.numpy()), left=0.2, top=0.2, size=0.6)
        num_correct += page.read() == str(int(label))
        page.clear()
        assert page.read() == ""
    assert num_correct >= 48
