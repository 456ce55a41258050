"""The page in a real browser, at the widths of a phone and of a laptop, in light and dark."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from serving.bundles import pictures

from niwaki.evaluation.preferences.ratings import read_ratings

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no browser here")]


@pytest.fixture
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as tools:
        one = tools.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield one
        one.close()


@pytest.mark.parametrize(("width", "height", "touch"), [(390, 844, True), (1280, 800, False)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pairs_are_rated_by_keys_and_by_touch(
    browser: Any,
    opened: Callable[..., Any],
    tmp_path: Path,
    width: int,
    height: int,
    touch: bool,
    scheme: str,
) -> None:
    server = opened(
        f"a={pictures(tmp_path / 'a.niwaki')}", f"b={pictures(tmp_path / 'b.niwaki', '2')}",
        out=tmp_path / "study", checks=0.0, goal=3,
    )  # fmt: skip
    context = browser.new_context(
        viewport={"width": width, "height": height}, has_touch=touch, is_mobile=touch, color_scheme=scheme
    )
    page, problems = context.new_page(), []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(server.address)
    page.get_by_label("Your name, if you like").fill("ann")
    page.get_by_role("button", name="Begin").click()
    at = page.locator("#count")
    playwright.expect(at).to_have_text("1 of 3")
    left = page.get_by_role("button", name="Left is better")
    playwright.expect(left).to_be_enabled()
    (left.tap if touch else left.click)()
    playwright.expect(at).to_have_text("2 of 3")
    playwright.expect(left).to_be_enabled()
    for key, now in (("ArrowDown", "3 of 3"), ("u", "2 of 3"), ("ArrowRight", "3 of 3"), ("s", "3 of 3")):
        page.keyboard.press(key)
        playwright.expect(at).to_have_text(now)
        playwright.expect(left).to_be_enabled()
    playwright.expect(page.locator("#told")).to_contain_text("Thank you")
    pictured = page.get_by_role("img", name="Left sample")
    assert pictured.evaluate("image => image.naturalWidth") == 6
    boxes = [page.locator("section").nth(i).bounding_box() for i in (0, 1)]
    assert boxes[0]["width"] == pytest.approx(boxes[1]["width"], abs=1)
    assert boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"]
    assert page.evaluate("document.documentElement.scrollWidth") == width
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 24, 26)"
    assert dark == (scheme == "dark")
    for button in page.locator("button:visible").all():
        assert button.bounding_box()["height"] >= 44
    assert problems == []
    context.close()
    answers = {one.k: one.winner for one in read_ratings(tmp_path / "study").answers}
    assert answers == {0: "left", 1: "right"}
