"""Models of every family beside other libraries, in turns, for the same processor time.

    python benchmarks/peers_families.py                     # every pair whose row is missing or has changed
    python benchmarks/peers_families.py vae flow --seconds 60 --seeds 3
    python benchmarks/peers_families.py --list
    python benchmarks/peers_families.py --quick             # two seconds each: whether all of it works

    pip install -c constraints.txt --no-deps pythae==0.1.2 zuko==1.6.0 normflows==1.7.3 FrEIA==0.2 \\
        vector-quantize-pytorch==1.32.0 stylegan2-pytorch==1.9.0 \\
        denoising-diffusion-pytorch==2.3.4 diffusers==0.42.1
    pip install -c constraints.txt imageio einops einx loguru torch-einops-utils fire kornia

(--no-deps, because stylegan2-pytorch pins a vector-quantize-pytorch of 2020 that only a layer off by
default needs, and wants a logger and torchvision that nothing here uses.)

A pair is one model of ours and one of a peer: the same train, validation and test split of the digits
(8×8), as many seconds of one thread's processor time, as many parameters within a tenth. Both train in one
process, in turns of a twelfth of the time, and the order rotates: A B B A. Samples per second are the
median over turns; quality is one function for both sides. What the peers' flags are, and why, is said at
the head of their files in `benchmarks/peers/`. Rows are kept in benchmarks/results and made anew where
seconds, seeds, a peer's version or that file changed (or with --again).
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import importlib.metadata
import importlib.util
import os
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peers.turns import Contender, in_turns
from rich.console import Console
from rich.table import Table

from niwaki.core.contract import NiwakiError
from niwaki.core.store import hash_json, read_json, write_json, write_text
from niwaki.deployment import machine

GROUPS = ("vaes", "densities", "codebooks", "styles", "denoisers")
TURNS = 12
HEAD = ("pair", "", "parameters", "bits/dim", "PSNR", "codes in use", "perplexity",
        "recognised", "Fréchet ÷ train's", "coverage ÷ train's", "seconds", "samples/s", "×")  # fmt: skip
FIGURES = {"bits": 3, "psnr": 2, "used": 2, "perplexity": 1, "recognised": 3, "frechet": 2, "coverage": 2}
INSTALL = "install it as the head of benchmarks/peers_families.py says, with -c constraints.txt"

Make = Callable[[int], dict[str, Contender]]


def known() -> tuple[dict[str, tuple[str, str, Make]], dict[str, str]]:
    """Pairs by name: package, version, maker. And the packages that are not here, with their versions."""
    pairs, absent = {}, {}
    for group in GROUPS:
        module = importlib.import_module(f"peers.{group}")
        missing = {p: v for p, v in module.NEEDS.items() if importlib.util.find_spec(p) is None}
        absent |= missing
        if len(missing) == len(module.NEEDS):
            continue
        for name, package, make in module.pairs():
            if package not in missing:
                pairs[name] = (package, _version(package), _code(module), make)
    return pairs, absent


def _version(package: str) -> str:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package.replace("_", "-"))
    return "?"


def _code(module: Any) -> str:
    return hashlib.sha256(Path(module.__file__).read_bytes()).hexdigest()


def row_of(make: Make, seconds: float, seeds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Both sides over trainings with seeds of their own, plain JSON."""
    sides: dict[str, dict[str, Any]] = {}
    for seed in range(seeds):
        contenders = make(seed)
        turns = in_turns(contenders, seconds, seconds / TURNS)
        for name, contender in contenders.items():
            side = sides.setdefault(
                name, {"parameters": contender.parameters, "scores": [], "seconds": [], "turns": []}
            )
            side["scores"].append(contender.score())
            side["seconds"].append(turns[name].spent)
            side["turns"].append([samples / of for samples, of in turns[name].blocks if of > 0][1:] or [0.0])
            say(
                f"  seed {seed}, {name}: {side['scores'][-1]}, "
                f"{statistics.median(side['turns'][-1]):.0f} samples/s"
            )
    return sides


def cells(name: str, sides: dict[str, Any]) -> list[list[str]]:
    """A row as lines of text: ours, then theirs."""
    lines = []
    rates = {side: [v for turns in of["turns"] for v in turns] for side, of in sides.items()}
    for side, of in sides.items():
        middle = statistics.median(rates[side])
        low, high = _quartiles(rates[side])
        others = [statistics.median(rates[o]) for o in sides if o != side]
        lines.append([
            name if side == "niwaki" else "",
            side,
            f"{of['parameters']:,}",
            *(_spread([s[key] for s in of["scores"] if key in s], digits) for key, digits in FIGURES.items()),
            f"{statistics.mean(of['seconds']):.0f}",
            f"{middle:,.0f} ({low:,.0f}–{high:,.0f})",
            f"{middle / others[0]:.1f}" if side == "niwaki" and others[0] else "",
        ])  # fmt: skip
    return lines


def _quartiles(values: list[float]) -> tuple[float, float]:
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def _spread(values: list[float], digits: int) -> str:
    if not values:
        return "–"
    wide = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{wide}"


def show(rows: list[dict[str, Any]], file: Path) -> None:
    table, text = Table(*HEAD), [f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
    for row in rows:
        for line in cells(row["name"], row["sides"]):
            table.add_row(*line)
            text.append(f"| {' | '.join(line)} |")
    Console(width=220).print(table)
    write_text(file.with_suffix(".md"), "\n".join(text) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "names", nargs="*", help="pairs, or beginnings of their names; all where none is named"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="processor time of each training (60)")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each side (1)")
    parser.add_argument("--again", action="store_true", help="rows that are there are made anew")
    parser.add_argument("--quick", action="store_true", help="two seconds each, into a file of its own")
    parser.add_argument("--list", action="store_true", help="the pairs")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/peers.json"))
    options = parser.parse_args()
    if options.seconds <= 0 or options.seeds < 1:
        parser.error("--seconds must be above 0 and --seeds at least 1")
    if options.quick:
        options.seconds, options.json = 2.0, options.json.with_stem(f"{options.json.stem}-quick")
    say = Console(stderr=True)
    pairs, absent = known()
    for package, version in absent.items():
        line = f"{package} {version} is not installed and left out; {INSTALL}"
        say.print(line, style="red", highlight=False, soft_wrap=True)
    if options.list:
        print("\n".join(pairs))
        return 0
    wanted = [n for n in pairs if not options.names or n.startswith(tuple(options.names))]
    if not wanted:
        named = f" begins with {' or '.join(options.names)}" if options.names else " can be measured"
        say.print(f"no pair{named}; --list shows what there is", style="red", highlight=False)
        return 1
    torch.set_num_threads(1)
    kept: dict[str, Any] = {}
    with contextlib.suppress(NiwakiError):
        kept = {row["name"]: row for row in read_json(options.json)["rows"]}
    failed = []
    for name in wanted:
        package, version, code, make = pairs[name]
        key = hash_json([options.seconds, options.seeds, package, version, code])
        if kept.get(name, {}).get("key") == key and not options.again:
            continue
        say.print(f"{name}: {options.seeds} × {options.seconds:g} s each", highlight=False)
        load = os.getloadavg()[0]
        try:
            sides = row_of(
                make, options.seconds, options.seeds, lambda line: say.print(line, highlight=False)
            )
        except NiwakiError as error:
            failed.append(name)
            say.print(f"{name}: {error}", style="red", highlight=False)
            continue
        facts = {"seconds": options.seconds, "seeds": options.seeds, "version": version, "load": load}
        kept[name] = {"name": name, "key": key, **facts, "sides": sides}
        write_json(options.json, {"machine": machine(), "rows": list(kept.values())})
    show([kept[n] for n in pairs if n in kept], options.json)
    return 1 if failed or absent else 0


if __name__ == "__main__":
    sys.exit(main())
