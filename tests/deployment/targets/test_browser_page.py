"""The page in a real browser: its samples are those of `niwaki_runtime`, on a phone and a laptop."""

from __future__ import annotations

import functools
import http.server
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deployment.test_quantize import calibration
from runtime.browser.node import library
from serving.bundles import pictures, sounds, texts

import niwaki_runtime
from niwaki.api.export import export
from niwaki.deployment import package, quantize_onnx
from niwaki_runtime.tokenizer import tokenizer_of

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no browser here"),
    pytest.mark.skipif(library() is None, reason="there is no onnxruntime-web here"),
]


NO_ADAPTER = "No available adapters."
"""What Chromium says where a page asks for a graphics processor and there is none."""
SOON = 300_000
"""Milliseconds: a graphics processor in software is slow on a machine with other work."""


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Callable[[Path], str]]:
    """(bundle, options of the target) → the address of its page, from a server of files."""
    servers = []

    def serve(bundle: Path, **options: Any) -> str:
        out = tmp_path / f"{bundle.stem}-page"
        export(bundle, target="browser", out=out, options={"library": str(library()), **options})
        handler = functools.partial(_Quiet, directory=str(out))
        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/index.html"

    yield serve
    for server in servers:
        server.shutdown()


@pytest.fixture
def opened(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """A page of a browser, which fails the test where it has said anything to the console. The test may name
    flags of the browser."""
    flags = getattr(request, "param", [])
    with playwright.sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *flags])
        problems: list[str] = []

        def open_(address: str, **context: Any) -> Any:
            page = browser.new_context(**context).new_page()
            page.set_default_timeout(120_000)
            page.on("console", lambda message: problems.append(message.text))  # the browser's own among them
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.goto(address)
            page.wait_for_selector("#parity.equal, #parity.error, #status.error")
            return page

        yield open_
        browser.close()
        assert [text for text in problems if text != NO_ADAPTER] == []


def int8(model: Any, paths: dict[str, Path], out: Path) -> Path:
    (name, path), file = next(iter(paths.items())), out.with_suffix(".onnx")
    quantize_onnx(path, file, calibration(model.graphs()[name]))
    return package(model, {name: file}, out)


@pytest.mark.parametrize(
    ("name", "of"), [("conv", package), ("conv", int8), ("denoiser", package), ("flow", package)]
)
def test_the_samples_of_the_page_are_those_of_the_runtime(
    name: str, of: Callable[..., Path], exported: Callable, served: Callable, opened: Callable, tmp_path: Path
) -> None:
    model, paths = exported(name)
    page = opened(served(of(model, paths, tmp_path / f"{name}.niwaki")))
    assert page.inner_text("#parity").startswith("Equal to the 16 reference samples of seed 0")
    assert float(page.get_attribute("#parity", "data-largest")) < 2e-5


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 800)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_used_by_keys_and_fits(
    served: Callable, opened: Callable, tmp_path: Path, width: int, height: int, scheme: str
) -> None:
    context = {"viewport": {"width": width, "height": height}, "color_scheme": scheme}
    page = opened(served(pictures(tmp_path / "a.niwaki")), **context)
    assert page.title() == "insects"
    assert page.locator("#samples figure").count() == 16
    page.get_by_label("Class").select_option("bee")
    page.get_by_label("Seed").fill("7")
    page.get_by_label("Samples", exact=True).fill("3")
    page.keyboard.press("Enter")
    playwright.expect(page.locator("#samples figure")).to_have_count(3)
    playwright.expect(page.locator("#status")).to_contain_text("3 samples in")
    assert page.locator("figcaption").all_inner_texts() == ["bee"] * 3
    playwright.expect(page.get_by_role("img", name="Sample 2: bee")).to_be_visible()
    shades = page.evaluate(
        "[...document.querySelector('canvas').getContext('2d').getImageData(0, 0, 6, 6).data]"
    )
    bundle = niwaki_runtime.load(tmp_path / "a.niwaki", engine="onnxruntime")
    wanted = bundle.spec.to_uint8(bundle.sample(3, seed=7, condition="bee"))[0, 0]
    found = np.array(shades).reshape(6, 6, 4)
    np.testing.assert_allclose(found[..., 0], wanted, atol=1)
    assert (found[..., 3] == 255).all()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 24, 26)"
    assert dark == (scheme == "dark")
    for control in page.locator("button:visible, input:visible, select:visible").all():
        assert control.bounding_box()["height"] >= 44


def test_sounds_are_drawn_and_can_be_played_and_a_wrong_option_is_a_sentence(
    served: Callable, opened: Callable, tmp_path: Path
) -> None:
    page = opened(served(sounds(tmp_path / "s.niwaki")))
    assert page.locator("figure canvas").count() == 16
    page.get_by_role("button", name="Play").first.click()
    page.evaluate("document.getElementById('n').removeAttribute('min')")
    page.get_by_label("Samples", exact=True).fill("-1")
    page.get_by_role("button", name="Sample", exact=True).click()
    playwright.expect(page.locator("#status")).to_have_class("error")
    playwright.expect(page.locator("#status")).to_contain_text("n and start must not be negative")


def test_texts_are_written_out(served: Callable, opened: Callable, tmp_path: Path) -> None:
    page = opened(served(texts(tmp_path / "t.niwaki")))
    assert page.inner_text("#parity").endswith("token by token.")
    bundle = niwaki_runtime.load(tmp_path / "t.niwaki", engine="onnxruntime")
    wanted = map(tokenizer_of(bundle).decode, bundle.sample(16, seed=0))
    assert page.locator("figure pre").all_text_contents() == list(wanted)


IN_SOFTWARE = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"]
"""A graphics processor that is a program, for machines without one."""


@pytest.mark.parametrize("opened", [IN_SOFTWARE], indirect=True)
@pytest.mark.parametrize("name", ["conv", "denoiser"])
def test_a_graphics_processor_makes_the_same_samples(
    name: str, exported: Callable, served: Callable, opened: Callable, tmp_path: Path
) -> None:
    model, paths = exported(name)
    page = opened(served(package(model, paths, tmp_path / "g.niwaki"), webgpu=True))
    if not page.evaluate("navigator.gpu && navigator.gpu.requestAdapter().then((one) => one !== null)"):
        pytest.skip("this browser has no WebGPU")
    page.get_by_label("Computed by").select_option("the graphics processor")
    assert page.inner_text("#parity") == ""
    playwright.expect(page.locator("#about")).to_contain_text("onnxruntime-webgpu", timeout=SOON)
    said = page.locator("#parity")
    playwright.expect(said).to_contain_text("Equal to the 16 reference samples of seed 0", timeout=SOON)
    assert float(page.get_attribute("#parity", "data-largest")) < 1e-4


def test_without_a_graphics_processor_nothing_is_offered_and_asking_for_one_is_a_sentence(
    exported: Callable, served: Callable, opened: Callable, tmp_path: Path
) -> None:
    page = opened(served(package(*exported("conv"), tmp_path / "g.niwaki"), webgpu=True))
    assert page.inner_text("#parity").startswith("Equal to the 16 reference samples of seed 0")
    assert page.get_by_label("Computed by").count() == 0
    asking = """async () => {
      const { load } = await import("./niwaki/index.js");
      const bundle = await load("g.niwaki", { engine: "onnxruntime-webgpu" });
      return bundle.prepare().then(() => "", (error) => error.message);
    }"""
    assert page.evaluate(asking).startswith("there is no WebGPU here; choose the engine 'onnxruntime-web'")


def test_changed_reference_samples_are_not_called_equal(
    served: Callable, opened: Callable, tmp_path: Path
) -> None:
    address = served(pictures(tmp_path / "a.niwaki"))
    file = tmp_path / "a-page" / "reference.npz"
    with np.load(file) as known:
        samples = known["samples"]
    samples[0, 0, 0, 0] += 0.5
    np.savez(file, samples=samples)
    page = opened(address)
    assert page.inner_text("#parity").startswith("Not equal to the 16 reference samples of seed 0")
    assert "99.83 % of the values are within 0.0001" in page.inner_text("#parity")
