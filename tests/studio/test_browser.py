"""The pages in a real browser, at the widths of a phone and of a laptop, in light and dark."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from serving.bundles import pictures, texts
from studio.bundles import forecaster, painter
from studio.test_coverage import evaluated
from studio.test_front import candidate, enter, searched

from niwaki.evaluation.preferences.ratings import read_ratings

playwright = pytest.importorskip("playwright.sync_api")
playwright.expect.set_options(timeout=60_000)  # a slow machine is no failure
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no browser here")]

DARK = "rgb(21, 24, 22)"
CONTROLS = "a[href], button, input, select, textarea, audio, [tabindex='0'], [role=img], img"
NAMELESS = """selector => [...document.querySelectorAll(selector)].filter(one => {
  if (!one.checkVisibility() || (one.tagName === 'IMG' && one.hasAttribute('alt'))) return false;
  const labels = [...(one.labels || [])].map(label => label.textContent).join('');
  const own = one.matches('input, select, textarea') ? '' : one.textContent;
  const names = [one.getAttribute('aria-label'), labels, own];
  return !names.some(name => (name || '').trim());
}).map(one => one.outerHTML.slice(0, 120))"""


def nameless(page: Any) -> list[str]:
    """What can be used or seen and has no name for those who cannot see it."""
    found: list[str] = page.evaluate(NAMELESS, CONTROLS)
    return found


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
    playwright.expect(page.locator("#said")).to_contain_text("Thank you")
    pictured = page.get_by_role("img", name="Left sample")
    assert pictured.evaluate("image => image.naturalWidth") == 6
    boxes = [page.locator("section").nth(i).bounding_box() for i in (0, 1)]
    assert boxes[0]["width"] == pytest.approx(boxes[1]["width"], abs=1)
    assert boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"]
    assert page.evaluate("document.documentElement.scrollWidth") == width
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == DARK
    assert dark == (scheme == "dark")
    for button in page.locator("button:visible").all():
        assert button.bounding_box()["height"] >= 44
    assert nameless(page) == []
    assert problems == []
    context.close()
    answers = {one.k: one.winner for one in read_ratings(tmp_path / "study").answers}
    assert answers == {0: "left", 1: "right"}


@pytest.fixture
def studio(opened: Callable[..., Any], tmp_path: Path) -> tuple[Any, Path, Path]:
    """A studio with something for every page but that of raters; a run, and the study of its search."""
    run = evaluated(tmp_path / "runs" / "one")
    _, study = searched(tmp_path / "others", "other")
    for size, value, outcome in ((12e3, 1.6, "loss"), (18e3, 0.3, "no loss")):
        enter(study, candidate(size / 24e3, size, value, outcome))
    server = opened(
        f"a={pictures(tmp_path / 'a.niwaki')}", f"b={pictures(tmp_path / 'b.niwaki', '2')}", run,
        tmp_path / "others" / "other", painter(tmp_path / "p.niwaki"), texts(tmp_path / "t.niwaki"),
        forecaster(tmp_path / "f.niwaki"), out=tmp_path / "study",
    )  # fmt: skip
    return server, run, study


def over_the_other(page: Any, run: Path) -> None:
    playwright.expect(page.locator("#rows figure")).to_have_count(20)
    page.get_by_label("One over the other").check()
    playwright.expect(page.locator(".stack")).to_have_count(10)
    line = page.get_by_label("Where the picture changes from a to b")
    line.focus()
    page.keyboard.press("Home")
    assert page.locator(".tiles").evaluate("one => one.style.getPropertyValue('--cut')") == "0%"
    page.get_by_label("class").select_option("bee")
    page.get_by_role("button", name="Make samples").click()
    playwright.expect(page.locator("figcaption").first).to_have_text("bee")
    page.get_by_label("From number").fill("-1")
    page.get_by_label("Samples", exact=True).fill("65")
    page.locator("#form").evaluate("form => (form.noValidate = true)")
    page.get_by_role("button", name="Make samples").click()
    playwright.expect(page.get_by_role("alert")).to_contain_text("1 … 64 samples are made at once")


def along_the_way(page: Any, run: Path) -> None:
    playwright.expect(page.locator("#strip button")).to_have_count(17)
    page.get_by_label("Where on the way").focus()
    page.keyboard.press("ArrowRight")
    playwright.expect(page.locator("#here figcaption")).to_have_text("6 % of the way")
    page.keyboard.press("End")
    playwright.expect(page.locator("#here figcaption")).to_have_text("sample 1")


def while_it_trains(page: Any, run: Path) -> None:
    page.get_by_label("one", exact=False).first.wait_for()
    chart = page.get_by_role("img", name="loss, last: one 0.3333")
    playwright.expect(chart).to_be_visible()
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "loss": 0.25}\n')
    playwright.expect(page.get_by_role("img", name="loss, last: one 0.25")).to_be_visible()


def tried_plans(page: Any, run: Path) -> None:
    playwright.expect(page.locator("#chart circle")).to_have_count(2)
    page.get_by_label("Up").select_option("lost")
    playwright.expect(page.get_by_role("img", name="2 plans, size (kB) against margins")).to_be_visible()


def damaged_pairs(page: Any, run: Path) -> None:
    page.get_by_label("Run").select_option(str(run))
    playwright.expect(page.locator(".worst .stack").first).to_be_visible()
    playwright.expect(page.get_by_text("0.80 → 0.10")).to_be_visible()


def painted_over(page: Any, run: Path) -> None:
    page.get_by_role("button", name="Make it anew").click()
    playwright.expect(page.get_by_role("alert")).to_contain_text("white nowhere")
    page.locator("#board").focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Space")
    page.get_by_role("button", name="Make it anew").click()
    playwright.expect(page.locator("#results figure")).to_have_count(4)
    playwright.expect(page.get_by_role("alert")).to_have_text("")


def said_in_words(page: Any, run: Path) -> None:
    page.get_by_label("As").select_option("completion")
    page.get_by_label("Prompt").fill("tree")
    page.get_by_role("button", name="Write").click()
    playwright.expect(page.locator("#text span")).not_to_be_empty()
    page.get_by_label("As").select_option("chat")
    page.get_by_label("Your message").fill("hi")
    page.keyboard.press("Enter")
    playwright.expect(page.locator(".turn.user")).to_contain_text("hi")
    playwright.expect(page.get_by_role("button", name="Send")).to_be_enabled()


def of_a_table(page: Any, run: Path) -> None:
    page.get_by_text("A table of your own").click()
    page.get_by_label("CSV").fill("level\n" + "5.0\n" * 10)
    page.get_by_role("button", name="Forecast the table").click()
    playwright.expect(page.locator("#lines tbody tr")).to_have_count(3)


PAGES = {
    "sample": over_the_other, "walk": along_the_way, "runs": while_it_trains, "front": tried_plans,
    "coverage": damaged_pairs, "inpaint": painted_over, "chat": said_in_words, "forecast": of_a_table,
}  # fmt: skip


@pytest.mark.parametrize(
    ("width", "height", "touch", "scheme"), [(390, 844, True, "dark"), (1280, 800, False, "light")]
)
def test_every_page_works_at_its_width_and_has_names_for_all_that_can_be_used(
    browser: Any, studio: tuple[Any, Path, Path], width: int, height: int, touch: bool, scheme: str
) -> None:
    server, run, _ = studio
    context = browser.new_context(
        viewport={"width": width, "height": height}, has_touch=touch, is_mobile=touch, color_scheme=scheme
    )
    problems: list[str] = []
    for name, use in PAGES.items():
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error, name=name: problems.append(f"{name}: {error}"))
        page.on("console", lambda m, name=name: problems.append(f"{name}: {m.text}"))
        page.goto(f"{server.address}/{name}")
        use(page, run)
        assert nameless(page) == [], name
        assert page.evaluate("document.documentElement.scrollWidth") == width, name
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == DARK
        assert dark == (scheme == "dark")
        small = page.locator("button:visible").evaluate_all(
            "all => all.filter(one => one.getBoundingClientRect().height < 44).map(one => one.textContent)"
        )
        assert small == [], name
        page.close()
    refused = [one for one in problems if "400" not in one]  # the browser's own note of what was refused
    assert refused == []
    context.close()


def test_the_tab_key_goes_from_the_skip_link_through_the_bar_into_the_form(
    browser: Any, studio: tuple[Any, Path, Path]
) -> None:
    page = browser.new_page()
    page.goto(f"{studio[0].address}/sample")
    playwright.expect(page.locator("#rows figure")).to_have_count(20)
    names = []
    for _ in range(12):
        page.keyboard.press("Tab")
        names.append(page.evaluate("document.activeElement.textContent.trim() || document.activeElement.id"))
        ring = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert ring != "none", names[-1]
    assert names[:3] == ["To the page", "Samples", "Runs"]
    bar = page.locator(".bar a").all_text_contents()
    assert names[1 : 1 + len(bar)] == bar
    page.locator(".skip").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('#models') !== null")
