"""A folder for any server of files: the bundle, the browser runtime and a page that draws samples."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

import niwaki_runtime
from niwaki.core.array_files import npz_bytes
from niwaki.core.contract import CallError, NiwakiError
from niwaki.core.store import atomic_directory, write_bytes, write_json
from niwaki.deployment.package import bundle_bytes
from niwaki.deployment.parity import TOLERANCE
from niwaki.deployment.targets.target import Target, register_target
from niwaki_runtime import Bundle
from niwaki_runtime.archive import pack
from niwaki_runtime.manifest import SUFFIX, Manifest
from niwaki_runtime.programs import SAMPLING
from niwaki_runtime.samplers import Sampler

__all__ = ["BrowserTarget", "sampler_kinds"]

LIBRARY = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
"""What a page needs of onnxruntime-web: its module, and the WebAssembly that it loads from beside itself."""
WEBGPU = ("ort.webgpu.bundle.min.mjs", "ort-wasm-simd-threaded.asyncify.wasm")
"""What it needs beside that for graphics processors."""
BUILDS = {"onnxruntime-web": LIBRARY, "onnxruntime-webgpu": WEBGPU}
"""By engine of the browser runtime."""
ENGINE = "onnxruntime"
REFERENCE, SEED, SAMPLES = "reference.npz", 0, 16
PAGE = "demo.json"


@register_target("browser")
class BrowserTarget(Target):
    """`index.html` and what it loads, all of it in one folder.

    library: the folder of onnxruntime-web, or one that holds it; default: `node_modules` here or above
    webgpu:  the page can compute on a graphics processor, too, where its browser has WebGPU
    """

    suffix = "-browser"
    options: ClassVar[Mapping[str, Any]] = {"library": "", "webgpu": False}

    def write(self, bundle: Path, out: Path, **options: Any) -> dict[str, Any]:
        """`out` with `index`, `bytes_in_all` and `reference` (seed, n, tolerance of the samples that the page
        makes again).

        Raises NiwakiError where the browser runtime does not have a sampler of the program `sample`, where
        onnxruntime cannot run the bundle, or where onnxruntime-web is nowhere; CallError where `out` is there
        and something else.
        """
        engines = list(BUILDS) if options["webgpu"] else list(BUILDS)[:1]
        needed = [file for engine in engines for file in BUILDS[engine]]
        modules, library = _modules(), _library(str(options["library"]), needed)
        if out.exists() and not (out / PAGE).is_file() and (not out.is_dir() or any(out.iterdir())):
            raise CallError(f"{out} is there and no page of this program; name another folder")
        manifest = niwaki_runtime.inspect(bundle)
        check_samplers(manifest, modules)
        loaded = niwaki_runtime.load(bundle, engine=ENGINE, precision="exact")
        samples = loaded.sample(SAMPLES, seed=SEED, condition=_inputs(loaded, SAMPLES))
        name = f"{bundle.name.removesuffix(SUFFIX)}{SUFFIX}"
        reference = {"file": REFERENCE, "seed": SEED, "n": SAMPLES, "tolerance": TOLERANCE}
        reference |= {"made_by": f"niwaki-runtime, onnxruntime {version(ENGINE)}"}
        with atomic_directory(out) as folder:
            if bundle.is_dir():
                pack(bundle, folder / name)
            else:
                shutil.copyfile(bundle, folder / name)
            shutil.copytree(modules / "page", folder, dirs_exist_ok=True)
            shutil.copytree(modules / "src", folder / "niwaki")
            (folder / "onnxruntime-web").mkdir()
            for file in needed:
                shutil.copyfile(library / file, folder / "onnxruntime-web" / file)
            write_bytes(folder / REFERENCE, npz_bytes(samples=samples))
            about = {"name": manifest.name, "bundle": name, "bytes": bundle_bytes(folder / name)}
            write_json(folder / PAGE, about | {"engines": engines, "reference": reference})
        everything = sum(p.stat().st_size for p in out.rglob("*") if p.is_file())
        return {"out": out, "index": out / "index.html", "bytes_in_all": everything, "reference": reference}

    def lines(self, written: Mapping[str, Any]) -> list[str]:
        return [
            f"{written['index']}  {written['bytes_in_all'] / 1e6:.1f} MB in all, serve it: "
            f"python -m http.server -d {written['out']}"
        ]


def check_samplers(manifest: Manifest, modules: Path) -> None:
    """Raises NiwakiError where `sample` cannot be run by the modules: each sampler is a file of its kind."""
    known = sorted(path.stem for path in (modules / "src" / "samplers").glob("*.js"))
    for kind in sampler_kinds(manifest.sampler):
        if kind not in known:
            raise NiwakiError(f"the browser runtime has no sampler '{kind}', it has {', '.join(known)}")


def sampler_kinds(value: Any) -> Iterator[str]:
    """Of a sampler and of all that are its fields."""
    if isinstance(value, Sampler):
        yield value.kind
        value = [getattr(value, field.name) for field in fields(value)]
    for one in value if isinstance(value, list | tuple) else ():
        yield from sampler_kinds(one)


def _inputs(bundle: Bundle, n: int) -> dict[str, np.ndarray]:
    """Examples for what a sample cannot be made without."""
    examples = bundle.example_inputs(SAMPLING, n)
    return {name: rows for name, rows in examples.items() if bundle.conditions[name].default(0, n) is None}


def _modules() -> Path:
    """Where the browser runtime lies: in the wheel, or in the repository."""
    package = Path(__file__).resolve().parents[2]
    own = package / "browser"
    return own if own.is_dir() else package.parents[1] / "browser"


def _library(given: str, needed: Sequence[str]) -> Path:
    """The folder with these files of onnxruntime-web. Raises NiwakiError where there is none."""
    here = Path.cwd()
    roots = (
        [Path(given).expanduser()] if given else [folder / "node_modules" for folder in (here, *here.parents)]
    )
    for root in roots:
        for folder in (root, root / "dist", root / "onnxruntime-web" / "dist"):
            if all((folder / file).is_file() for file in needed):
                return folder
    where = given or "node_modules, here or above"
    raise NiwakiError(
        f"{where} does not hold onnxruntime-web ({', '.join(needed)}): npm install onnxruntime-web, "
        "or name its folder by --option library=PATH"
    )
