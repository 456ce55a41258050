"""`python -m niwaki_runtime`: sample from a bundle, or read what it says about itself."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from niwaki_runtime.errors import CallError, NiwakiError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 1 the work failed, 2 the call was wrong."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except CallError as error:
        print(f"niwaki-runtime: {error}", file=sys.stderr)
        return 2
    except NiwakiError as error:
        print(f"niwaki-runtime: {error}", file=sys.stderr)
        return 1
    except OSError as error:  # a file that cannot be read, a pipe whose reader has gone
        name = f"{error.filename}: " if error.filename else ""
        print(f"niwaki-runtime: {name}{error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="niwaki-runtime",
        description="Samples from niwaki bundles with numpy and an inference engine.",
        epilog="example: niwaki-runtime sample digits.niwaki -n 16 --condition 3 --out samples.npz",
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    sample = verbs.add_parser(
        "sample", help="draw samples into an .npz, .npy, (images) .png or (sound) .wav file"
    )
    sample.add_argument("bundle", type=Path)
    sample.add_argument("-n", type=int, default=16, help="how many (16)")
    sample.add_argument("--seed", type=int, default=0)
    sample.add_argument("--start", type=int, default=0, help="index of the first sample of the seed (0)")
    sample.add_argument("--batch", type=int, help="samples worked on at once (64)")
    sample.add_argument(
        "--condition", help="a number, name=number, or JSON; the classes in turn where not given"
    )
    sample.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="OPTION=VALUE",
        help="an option of the sampler, as steps=10",
    )
    sample.add_argument(
        "--out", type=Path, default=Path("samples.npz"), help="samples.npz, or a .npy, .png or .wav file"
    )
    sample.add_argument("--engine", default="auto", help="auto, openvino or onnxruntime")
    sample.add_argument("--memory", help="with auto: an engine that needs no more, as 32MB")
    sample.add_argument("--precision", default="fast", help="fast or exact (float32)")
    sample.add_argument("--threads", type=int, help="CPU threads (the engine's choice)")
    sample.set_defaults(run=_sample)

    chat = verbs.add_parser("chat", help="answer a question, by a model that was trained on chats")
    chat.add_argument("bundle", type=Path)
    chat.add_argument("question", help="words, or a .json file of messages (role and content)")
    chat.add_argument("--system", default="", help="what is said before the question")
    chat.add_argument("--seed", type=int, default=0)
    chat.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE", help="as temperature=0")
    chat.add_argument("--engine", default="auto", help="auto, openvino or onnxruntime")
    chat.add_argument("--threads", type=int, help="CPU threads (the engine's choice)")
    chat.set_defaults(run=_chat)

    extract = verbs.add_parser("extract", help="write the networks as plain ONNX files")
    extract.add_argument("bundle", type=Path)
    extract.add_argument("out", type=Path, help="a directory, which is made")
    extract.set_defaults(run=_extract)

    info = verbs.add_parser("info", help="verify a bundle and print its manifest")
    info.add_argument("bundle", type=Path)
    info.set_defaults(run=_info)
    return parser


def _sample(options: argparse.Namespace) -> None:
    import numpy as np

    from niwaki_runtime.bundle import load
    from niwaki_runtime.pictures import contact_sheet
    from niwaki_runtime.sounds import one_after_another
    from niwaki_runtime.unfinished import partial_file

    drawn = {".png": contact_sheet, ".wav": one_after_another}
    if options.out.suffix not in (".npz", ".npy", *drawn):
        raise CallError(f"samples are written as .npz, .npy, .png or .wav, not '{options.out.suffix}'")
    overrides = dict(_assignment(text) for text in options.set)
    bundle = load(
        options.bundle,
        engine=options.engine,
        precision=options.precision,
        threads=options.threads,
        memory=options.memory,
    )
    samples = bundle.sample(
        options.n,
        seed=options.seed,
        condition=_condition(options.condition),
        start=options.start,
        batch=options.batch,
        progress=_bar() if sys.stderr.isatty() else None,
        **overrides,
    )
    draw = drawn.get(options.out.suffix)
    seen = draw(samples, bundle.spec) if draw else b""
    try:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        with partial_file(options.out) as file:
            if draw:
                file.write(seen)
            elif options.out.suffix == ".npy":
                np.save(file, samples, allow_pickle=False)
            else:
                np.savez(file, samples=samples, seed=options.seed, start=options.start)
    except OSError as error:
        raise NiwakiError(f"{options.out} could not be written: {error.strerror or error}") from error
    print(f"{options.out}: {samples.shape[0]} samples of {tuple(samples.shape[1:])}, by {bundle.engine}")


def _chat(options: argparse.Namespace) -> None:
    from niwaki_runtime.bundle import load
    from niwaki_runtime.chat import stream_answer

    place, messages = Path(options.question), [{"role": "user", "content": options.question}]
    if place.suffix == ".json":
        messages = _value(place.read_text())
    if options.system:
        messages = [{"role": "system", "content": options.system}, *messages]
    bundle = load(options.bundle, engine=options.engine, threads=options.threads)
    overrides = dict(_assignment(text) for text in options.set)
    for piece in stream_answer(bundle, messages, seed=options.seed, **overrides):
        print(piece, end="", flush=True)
    print()


def _extract(options: argparse.Namespace) -> None:
    from niwaki_runtime.bundle import extract

    for path in extract(options.bundle, options.out):
        print(path)


def _info(options: argparse.Namespace) -> None:
    from niwaki_runtime.bundle import inspect

    print(json.dumps(inspect(options.bundle).to_json(), indent=2, ensure_ascii=False))


def _value(text: str) -> Any:
    """JSON where it is, text where it is not."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _assignment(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise CallError(f"an option is set as name=value, not '{text}'")
    return name.strip(), _value(value)


def _condition(text: str | None) -> Any:
    if text is None:
        return None
    return dict([_assignment(text)]) if "=" in text else _value(text)


def _bar() -> Callable[[int, int], None]:
    """A progress bar with rate and time left, on stderr."""
    began = time.monotonic()

    def show(done: int, total: int) -> None:
        spent = time.monotonic() - began
        rate = done / spent if spent > 0 else 0.0
        left = (total - done) / rate if rate > 0 else 0.0
        filled = 30 * done // max(total, 1)
        bar = "█" * filled + "·" * (30 - filled)
        end = "\n" if done >= total else ""
        print(
            f"\r{bar} {done}/{total}  {rate:.1f}/s  {left:.0f} s left ", end=end, file=sys.stderr, flush=True
        )

    return show


if __name__ == "__main__":
    sys.exit(main())
