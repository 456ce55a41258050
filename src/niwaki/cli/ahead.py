"""What verbs that train say before they do: `--estimate`, and `--time`, which they keep to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from niwaki.cli.common import Work

__all__ = ["Estimate", "Price", "Time", "answer_estimate"]

Time = Annotated[
    str | None,
    typer.Option(metavar="20m", help="All that it may take: the training gets as many steps as fit."),
]
Estimate = Annotated[
    bool, typer.Option("--estimate", help="Only say what it would take in time, memory and money.")
]
Price = Annotated[float | None, typer.Option(min=0.0, help="Of an hour of this machine, for --estimate.")]


def answer_estimate(
    work: Work,
    what: str,
    overrides: list[str] | None,
    out: Path | None,
    price: float | None,
    *,
    training: bool = False,
) -> None:
    """Time, memory and money of the call, in the place of its work."""
    from niwaki.api.estimate import estimate

    found = estimate(what, overrides or (), out=out, training=training, price=price, reporter=work.reporter)

    def draw(console: Any) -> None:
        from rich.table import Table

        from niwaki.workflow.pace import about_text

        if not found["parts"]:
            console.print(f"nothing is left to do in [bold]{what}[/]")
            return
        table = Table(box=None, show_header=False, padding=(0, 3, 0, 0))
        summed: dict[str, float] = {}
        for part in found["parts"]:
            if part["seconds"] is not None:
                named = part["what"] + (", as before" if part["before"] else "")
                summed[named] = summed.get(named, 0.0) + part["seconds"]
        for named, seconds in summed.items():
            table.add_row(named, about_text(seconds))
        table.add_row("[bold]all that can be told[/]", f"[bold]{about_text(found['seconds'])}[/]")
        if found["unknown"]:
            table.add_row("[dim]on top[/]", f"[dim]{', '.join(found['unknown'])}[/]")
        if found["parameters"]:
            table.add_row("parameters", f"{found['parameters']:,}")
        table.add_row("memory", f"{found['memory_bytes'] / 1e9:.2f} GB")
        if found["cost"] is not None:
            table.add_row("cost", f"{found['cost']:.2f}")
        console.print(table)

    work.answer(found, draw)
