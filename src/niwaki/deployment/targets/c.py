"""C99 for microcontrollers: one file, its header, an example, and a record of how it was checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from niwaki.core.contract import CallError, nearest
from niwaki.core.store import atomic_directory, write_json, write_text
from niwaki.deployment.c.checking import check_source
from niwaki.deployment.c.example import example
from niwaki.deployment.c.source import c_name, write_source
from niwaki.deployment.targets.target import Target, register_target
from niwaki_runtime.bundle import open_files
from niwaki_runtime.manifest import Manifest
from niwaki_runtime.unfinished import scratch_directory

__all__ = ["CTarget"]


@register_target("c")
class CTarget(Target):
    """`out` is a directory: PREFIX.c, PREFIX.h, main.c and export.json.

    program: of the bundle
    prefix:  of public names, and the file's name
    n, seed: the results that are compared with the bundle's
    """

    suffix = "-c"
    options: ClassVar[Mapping[str, Any]] = {"program": "sample", "prefix": "niwaki", "n": 64, "seed": 0}

    def write(self, bundle: Path, out: Path, **options: Any) -> dict[str, Any]:
        """`out`, `arena_bytes`, `const_bytes`, `check` and the like, as export.json has them.

        Raises CallError for a program that the bundle does not have, and NiwakiError as `Target.write` says.
        """
        program, prefix = options["program"], options["prefix"]
        if c_name(prefix) != prefix:
            raise CallError(f"'{prefix}' is no prefix of names in C; choose letters, digits and _")
        if options["n"] < 1:
            raise CallError(f"at least one result must be compared, not {options['n']}")

        def written(directory: Path, manifest: Manifest) -> dict[str, Any]:
            if program not in manifest.programs:
                raise CallError(f"{bundle} has no program '{program}'; {nearest(program, manifest.programs)}")
            source = write_source(directory, manifest, program, prefix)
            with scratch_directory() as made:
                write_text(made / f"{prefix}.c", source.text)
                write_text(made / f"{prefix}.h", source.header)
                check = check_source(source, bundle, manifest, program, made, options["n"], options["seed"])
            record = {
                "target": self.name,
                "model": manifest.name,
                "program": program,
                "arena_bytes": source.arena_bytes,
                "least_arena_bytes": source.least_bytes,
                "const_bytes": source.const_bytes,
                "quantizer_step": source.steps,
                "check": check,
                "verdict": dict(manifest.verdict),
            }
            with atomic_directory(out) as place:
                write_text(place / f"{prefix}.c", source.text)
                write_text(place / f"{prefix}.h", source.header)
                write_text(place / "main.c", example(manifest, program, prefix))
                write_json(place / "export.json", record)
            return {"out": out, **record}

        found: dict[str, Any] = open_files(bundle, written)
        return found

    def lines(self, written: Mapping[str, Any]) -> list[str]:
        check = written["check"]
        sizes = f"{written['const_bytes']} bytes constant, {written['arena_bytes']} bytes of memory"
        if check["passed"] is None:
            return [f"{written['out']}", sizes, "not compared with the bundle: there is no C compiler here"]
        step = written["quantizer_step"]
        steps = f"; the quantizer's step is {step:.2g}" if step else ""
        return [
            f"{written['out']}",
            f"{sizes}, at most {check['stack_bytes']} of stack, {check['microseconds']:.0f} µs here",
            f"largest difference from the bundle in {check['n']} results: {check['worst']:.2g}{steps}",
        ]
