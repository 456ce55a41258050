"""`niwaki models`"""

from __future__ import annotations

from typing import Any

from niwaki.cli.common import Json, adder, at_work

__all__ = ["enter"]


@adder(
    "niwaki models --json",
    "List the models that a recipe can name, with their conditions and what they can do.",
)
def models(as_json: Json = False) -> None:
    with at_work(as_json) as work:
        from niwaki.workflow.catalogue import catalogue

        def draw(console: Any) -> None:
            from rich.markup import escape
            from rich.table import Table

            from niwaki.core.registry import BROKEN

            table = Table(box=None, padding=(0, 3, 0, 0), header_style="dim")
            for column in ("model", "family", "conditions", "also knows", "what it is"):
                table.add_column(column)
            for m in entries:
                able = [c for c in m["programs"] if c != "sample"]
                summary = f"{m['summary']} ({m['note']})" if "note" in m else m["summary"]
                cells = (m["family"], ", ".join(m["conditions"]) or "–", ", ".join(able) or "–", summary)
                table.add_row(f"[bold]{m['name']}[/]", *cells)
            console.print(table)
            for file, why in BROKEN.items():
                console.print(f"[bold yellow]{escape(file)}[/] cannot be imported ({escape(why)})")

        entries = catalogue()
        work.answer({"models": entries}, draw)


enter = models
