"""The viewer in a real browser: what a person does there, and what they see."""

import pytest

from dream_env.agents.view import bench
from dream_env.agents.view.bench import until

try:
    bench.chromium()
except (FileNotFoundError, ImportError) as error:
    pytest.skip(f"no browser: {error}", allow_module_level=True)

PIXELS = """() => {
  const canvas = document.querySelector('#dream canvas');
  const image = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  return [...image.data].filter((_, i) => i % 53 == 0);
}"""


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """The page of NICOL's own world model, by itself: what a newcomer's command shows."""
    out = tmp_path_factory.mktemp("view")
    with bench.viewer("--real", "none", "--policy", "bc5", "--saves", str(out)) as (url, _):
        yield url


@pytest.fixture(scope="module")
def chromium():
    with bench.browser() as opened:
        yield opened


@pytest.fixture
def page(chromium, url):
    """A page that has begun, with nobody at the keys; what it asks for and complains of is noted."""
    page = chromium.new_page(viewport={"width": 1280, "height": 800})
    page.asked, page.errors = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("websocket", lambda one: page.asked.append(one.url))
    page.on("console", lambda message: page.errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.goto(url)
    until(lambda: page.evaluate("dreamView.frames"))
    page.select_option("#driver", "you")
    until(lambda: status(page)["driver"] == "you")
    if status(page)["playing"]:
        page.keyboard.press("p")
    until(lambda: not status(page)["playing"])
    page.keyboard.press("n")
    until(lambda: now(page)["step"] == 0)
    yield page
    assert page.errors == []
    page.close()


def now(page):
    return page.evaluate("dreamView.now()")


def status(page):
    return page.evaluate("dreamView.status()")


def hold(page, key, steps):
    """Holds a key for some steps."""
    first = now(page)["step"]
    page.keyboard.down(key)
    until(lambda: now(page)["step"] >= first + steps)
    page.keyboard.up(key)
    page.wait_for_timeout(150)
    return now(page)


def test_keys_move_the_arm_and_the_curve_and_going_back_is_exact(page, url):
    before, seen = now(page), page.evaluate(PIXELS)
    moved = hold(page, "d", 4)
    assert max(abs(a - b) for a, b in zip(moved["vectors"]["proprio"], before["vectors"]["proprio"], strict=True)) > 0.1
    changed = sum(abs(a - b) > 30 for a, b in zip(page.evaluate(PIXELS), seen, strict=True))
    assert changed > 20, "the picture shows it"
    curve = [point["distance"] for point in page.evaluate("dreamView.points()")]
    assert len(curve) == moved["step"] + 1 and len(set(curve)) == len(curve)
    page.evaluate("document.querySelector('#history').value = 0, document.querySelector('#history').oninput()")
    until(lambda: now(page)["step"] == 0)
    back = now(page)
    assert {**before, "last": 0, "seq": 0} == {**back, "last": 0, "seq": 0}
    page.wait_for_timeout(100)
    assert page.evaluate(PIXELS) == seen
    assert page.evaluate("dreamView.latency.length") >= 1
    assert all(one.startswith((url, url.replace("http", "ws"), "data:", "blob:")) for one in page.asked), page.asked


def test_the_pad_a_tap_and_a_single_step(page):
    start = now(page)["step"]
    page.keyboard.press("w")
    until(lambda: now(page)["step"] == start + 1)
    assert any(now(page)["action"][:2]) and now(page)["action"][2] == 0
    page.keyboard.press(".")
    until(lambda: now(page)["step"] == start + 2)
    assert not any(now(page)["action"])
    page.keyboard.press(" ")
    until(lambda: now(page)["step"] >= start + 3)
    assert now(page)["action"][3] == 1, "space closes the hand"
    box = page.locator("#pad").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"], box["y"] + box["height"] / 2)
    until(lambda: abs(now(page)["action"][0]) > 0.9)
    page.mouse.up()


def test_a_gamepad_moves_the_arm(page):
    start = now(page)["step"]
    held = "{axes: [0.8, 0, 0, -0.5], buttons: [{pressed: false}]}"
    page.evaluate(f"navigator.getGamepads = () => [{held}], window.dispatchEvent(new Event('gamepadconnected'))")
    until(lambda: now(page)["step"] > start and any(now(page)["action"]))
    assert now(page)["action"][2] == pytest.approx(0.5) and abs(now(page)["action"][0]) > 0.5
    page.evaluate("navigator.getGamepads = () => []")


def test_a_sentence_is_taken_or_refused(page):
    page.fill("#sentence", "push the golden block")
    page.press("#sentence", "Enter")
    page.wait_for_timeout(400)
    assert page.locator("#refused").is_hidden() and page.input_value("#sentence") == "push the golden block"
    page.fill("#sentence", "push the purple whale")
    page.press("#sentence", "Enter")
    page.wait_for_selector("#refused:not([hidden])")
    assert "names no color; accepted: one of red" in page.inner_text("#refused")


def test_futures_are_shown_and_followed_and_a_policy_drives(page):
    page.check("#look")
    until(lambda: page.locator("#futures button").count() == 6)
    page.locator("#futures button").first.click()
    until(lambda: now(page)["step"] == 8)
    assert now(page)["driver"] == "future"
    page.uncheck("#look")
    page.select_option("#driver", "bc5")
    until(lambda: now(page)["driver"] == "bc5" and now(page)["step"] > 10)


def test_a_second_page_looks_on(page, chromium, url):
    other = chromium.new_page(viewport={"width": 390, "height": 844})
    other.goto(url)
    until(lambda: "another page is driving" in other.inner_text("#banner"))
    hold(page, "a", 2)
    until(lambda: now(other)["step"] == now(page)["step"])
    assert other.evaluate("document.documentElement.scrollWidth") <= 390, "it fits a phone"
    other.close()
