"""`niwaki sample`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from niwaki.cli.common import Json, adder, at_work
from niwaki.cli.evaluate import Devices, Engine, Memory
from niwaki.cli.outside import OUTSIDE, Loras, Weights, beside_parameters, opened

__all__ = ["enter", "read_condition"]


@adder(
    "niwaki sample runs/digits-gan -n 100 --seed 7 --out digits.png --out digits.npz",
    "Run a program of a run, a model or a bundle; write pictures, text, sound, tables or arrays.",
)
def sample(
    what: Annotated[
        str, typer.Argument(metavar="RUN|MODEL|BUNDLE", help=f"What to sample from; also {OUTSIDE}.")
    ],
    options: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            help="The sampler's own options, as in Python: steps=10 guidance=2 of a diffusion, "
            "temperature=0.8 top_k=40 top_p=0.9 of tokens, truncation=0.7 of styles …",
        ),
    ] = None,
    n: Annotated[int, typer.Option("-n", help="How many.")] = 60,
    program: Annotated[
        str, typer.Option("--program", "-p", help="What to run: sample, encode, translate_ab, continue …")
    ] = "sample",
    seed: Annotated[int, typer.Option(help="Sample i of a seed is always the same.")] = 0,
    start: Annotated[int, typer.Option(help="Index of the first sample.")] = 0,
    condition: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            "--condition",
            "-c",
            help="A class, by number or name, or a prompt; again for several; name=value for others.",
        ),
    ] = None,
    weights: Weights = None,
    lora: Loras = None,
    engine: Engine = "auto",
    memory: Memory = None,
    device: Annotated[str, typer.Option(help="For a run or a model: auto, cpu, cuda …")] = "auto",
    devices: Devices = 1,
    batch: Annotated[int | None, typer.Option(help="Samples worked on at once.")] = None,
    data: Annotated[
        str | None,
        typer.Option(metavar="SOURCE|RECIPE|RUN", help="Where inputs come from that must be given."),
    ] = None,
    out: Annotated[
        list[Path] | None,
        typer.Option(
            "--out",
            "-o",
            help="File to write, or a folder for a file each; may be given twice. "
            "[dim]default: samples.png, .txt … in the working directory[/]",
        ),
    ] = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="Write texts as they are made, one sample after another.")
    ] = False,
    watermark: Annotated[
        Path | None,
        typer.Option(
            metavar="KEYFILE", help="Mark the samples by this key; `niwaki detect` makes one, and finds it."
        ),
    ] = None,
    sign: Annotated[
        Path | None,
        typer.Option(
            metavar="CERTIFICATE", help="Sign files by the certificate in this folder (C2PA, niwaki detect)."
        ),
    ] = None,
    filter: Annotated[
        str | None,
        typer.Option(metavar="FILTER", help="Withhold what it flags; FILTER,threshold=0.9 sets another one."),
    ] = None,
    filter_action: Annotated[
        str, typer.Option("--filter-action", help="withhold, or mark: write all, with their scores.")
    ] = "withhold",
    balance: Annotated[
        str | None,
        typer.Option(help="Make every value equally often: class, an attribute, or class+attribute."),
    ] = None,
    as_json: Json = False,
) -> None:
    with at_work(as_json) as work:
        from niwaki.api.sample import sample
        from niwaki.core.contract import NiwakiError
        from niwaki.recipe import parse_overrides

        source, rest = opened(what, options or (), weights, lora, device=device)
        overrides = beside_parameters(parse_overrides(rest), sample)
        made = sample(
            source, n, program=program, seed=seed, start=start, condition=read_condition(condition),
            data=data, engine=engine, memory=memory, device=device, devices=devices, batch=batch,
            out=out or (), stream=work.say if stream else None, watermark=watermark, sign=sign, filter=filter,
            filter_action=filter_action, balance=balance, reporter=work.reporter, **overrides,
        )  # fmt: skip
        if not out and not len(made.x):
            raise NiwakiError(f"all {n} samples were withheld by the filter; nothing is written")
        places = out or [made.write(default_place(made))]

        def draw(console: Any) -> None:
            for text in [""] if stream else made.say():
                console.print(text, markup=False, highlight=False)
                console.print()
            for place in places:
                console.print(f"[bold]{place}[/]  {len(made.x)} samples of seed {seed}")
            for line in _further(made):
                console.print(line, markup=False)

        work.answer(
            {
                "files": places,
                "n": len(made.x),
                "seed": seed,
                "start": start,
                "program": program,
                "shape": made.spec.shape,
                "condition": {k: v for k, v in made.condition.items() if v.ndim <= 2},
                **made.further(),
            },
            draw,
        )


_NAMED = 8


def _further(made: Any) -> list[str]:
    """What was withheld and why, and how many candidates a balance took."""
    found, lines = made.further(), []
    if "filter" in found:
        screened = found["filter"]
        flagged, named = screened["flagged"], screened["flagged"][:_NAMED]
        done = "withheld" if screened["action"] == "withhold" else "marked"
        each = ", ".join(f"{one['index']} ({one['score']:.3f})" for one in named)
        more = f" and {len(flagged) - len(named)} more" if len(flagged) > len(named) else ""
        text = f"filter {screened['name']}: {len(flagged)} of {screened['samples']} samples {done}"
        lines.append(f"{text}, above {screened['threshold']:.3f}" + (f": {each}{more}" if named else ""))
    if "balance" in found:
        balance = found["balance"]
        lines.append(
            f"balance of {balance['by']}: {len(made.x)} of {balance['candidates']} candidates, "
            f"as {balance['recognised_by']} sees them"
        )
    return lines


def default_place(made: Any) -> Path:
    """`samples.` with the first ending that such samples are written with."""
    from niwaki.modalities import modality_of

    return Path("samples" + next(iter(modality_of(made.spec).writers(made.spec)), ".npz"))


def read_condition(given: list[str] | None) -> Any:
    """`["3"]` → `"3"`, `["3", "4"]` → both, in turn, `["mask=1"]` → a mapping."""
    if not given:
        return None
    if all("=" in g for g in given):
        from niwaki.recipe import parse_yaml

        return {
            name: parse_yaml(value, f"--condition {name}")
            for name, _, value in (g.partition("=") for g in given)
        }
    return given[0] if len(given) == 1 else given


enter = sample
