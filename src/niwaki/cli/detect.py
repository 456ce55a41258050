"""`niwaki detect`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from niwaki.cli.common import Json, adder, at_work

__all__ = ["enter"]

_SHOWN = 12


@adder(
    "niwaki detect pictures/ --key my.key",
    "Tell whether files carry a key's watermark, and with what chance of a false alarm.",
)
def detect(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE|FOLDER", help="Pictures, sounds, .txt, .npz, .npy: of one kind."),
    ] = None,
    key: Annotated[
        Path | None, typer.Option("--key", "-k", metavar="KEYFILE", help="The key to look for.")
    ] = None,
    new_key: Annotated[
        Path | None,
        typer.Option("--new-key", metavar="KEYFILE", help="Write a random key, and look for nothing."),
    ] = None,
    bundle: Annotated[
        str | None,
        typer.Option(metavar="RUN|BUNDLE", help="Whose tokenizer texts are read by; what arrays hold."),
    ] = None,
    signatures: Annotated[
        bool, typer.Option("--signatures", help="Say who signed the files, and whether they were changed.")
    ] = False,
    trust: Annotated[
        Path | None, typer.Option(metavar="PEM", help="Certificates of those whose signature counts.")
    ] = None,
    new_certificate: Annotated[
        Path | None,
        typer.Option(
            "--new-certificate", metavar="FOLDER", help="Write a certificate to try signing with (--sign)."
        ),
    ] = None,
    decoys: Annotated[int, typer.Option(min=0, help="Keys that marked nothing, to compare with.")] = 19,
    as_json: Json = False,
) -> None:
    with at_work(as_json) as work:
        from niwaki.api import detect as api
        from niwaki_runtime.errors import CallError

        if new_key is not None:
            name = api.new_key(new_key).name()
            work.answer(
                {"file": new_key, "key": name},
                lambda console: console.print(f"[bold]{new_key}[/]  key {name}: keep it, and keep it secret"),
            )
            return
        if new_certificate is not None:
            made = api.new_certificate(new_certificate)
            words = "chain.pem, key.pem; nobody vouches for it but you (authority.pem)"
            work.answer({"folder": made}, lambda console: console.print(f"[bold]{made}[/]  {words}"))
            return
        if signatures and files:
            signed = api.signatures(files, trust=trust)
            work.answer(signed, lambda console: _draw_signatures(console, signed))
            return
        if key is None or not files:
            raise CallError("name files and --key KEYFILE, or --signatures; --new-key KEYFILE makes a key")
        found = api.detect(files, key, bundle=bundle, decoys=decoys)

        def draw(console: Any) -> None:
            for one in found["files"][:_SHOWN]:
                console.print(f"p = {one['p']:8.2g}  {one['name']}", markup=False)
            more = len(found["files"]) - _SHOWN
            if more > 0:
                console.print(f"… and {more} more")
            rank = f", {found['p_rank']:.2g} by rank among {decoys} other keys" if decoys else ""
            console.print(
                f"[bold]{found['n']} together: p = {found['p']:.2g}[/]{rank}: the chance of so much "
                "agreement where this key marked none of them"
            )

        work.answer(found, draw)


def _draw_signatures(console: Any, found: dict[str, Any]) -> None:
    for one in found["files"]:
        said = one["provenance"] or {}
        if not one["signed"]:
            words = "not signed"
        elif not one["whole"]:
            words = f"CHANGED since {one['by'] or 'somebody'} signed it ({', '.join(one['wrong'])})"
        else:
            vouched = "" if one["trusted"] else ", whom nobody vouches for here"
            words = f"signed by {one['by']}{vouched}"
            words += f": {said['model']}, seed {said['seed']}, {said['index']}" if said else ""
        console.print(f"{one['name']}  {words}", markup=False, highlight=False)


enter = detect
