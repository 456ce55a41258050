"""A small program that shows what the written file makes: `main.c`."""

from __future__ import annotations

from niwaki.deployment.c.source import c_name
from niwaki_runtime.manifest import Manifest
from niwaki_runtime.specs import ConditionSpec, ValueSpec

__all__ = ["example"]

_MAIN = """\
/* {name}: results 0 … {last} of seed 0 on stdout.
   cc -std=c99 -O2 main.c {prefix}.c -lm && ./a.out */
#include "{prefix}.h"

#include <stdio.h>

static float out[{upper}_SIZE];
{given}
int main(void)
{{
    for (uint64_t i = 0; i < {count}; i++) {{
        if ({call} != 0) {{
            return 1;
        }}
{shown}        putchar('\\n');
    }}
    return 0;
}}
"""

_PICTURE = """\
        for (int row = 0; row < {height}; row++) {{
            for (int column = 0; column < {width}; column++) {{
                const float v = (out[row * {width} + column] - ({low}f)) * {scale}f;
                const int shade = v < 0.0f ? 0 : v > 9.0f ? 9 : (int)v;
                putchar(" .:-=+*#%@"[shade]);
                putchar(" .:-=+*#%@"[shade]);
            }}
            putchar('\\n');
        }}
"""
_NUMBERS = """\
        for (int k = 0; k < {upper}_SIZE; k++) {{
            printf("%g ", (double)out[k]);
        }}
"""


def example(manifest: Manifest, program: str, prefix: str) -> str:
    """The first plane of a picture as characters, of all else the numbers."""
    asked, upper = manifest.programs[program], prefix.upper()
    handed, given = [], ""
    for name in asked.sampler.conditions_used():
        spec = asked.inputs[name]
        if spec.is_label:
            handed.append(f"(int32_t)(i % {spec.size})")
        else:
            given += _given(c_name(name), spec)
            handed.append(c_name(name))
    call = f"{prefix}_{c_name(program)}({', '.join(['0', 'i', *handed, 'out'])})"
    count = min([10, *(asked.inputs[n].size for n in asked.inputs if asked.inputs[n].is_label)])
    return _MAIN.format(
        name=manifest.name, prefix=prefix, upper=upper, given=given, call=call,
        count=count, last=count - 1, shown=_shown(asked.output, upper),
    )  # fmt: skip


def _given(name: str, spec: ConditionSpec) -> str:
    kind = "int32_t" if spec.integer else "float"
    return f"static const {kind} {name}[{max(spec.value.size, 1)}] = {{0}}; /* what is asked for */\n"


def _shown(output: ValueSpec, upper: str) -> str:
    if not (output.axes or "").endswith("HW"):
        return _NUMBERS.format(upper=upper)
    height, width = output.shape[-2:]
    scale = 9.99 / (output.high - output.low)
    return _PICTURE.format(height=height, width=width, low=f"{output.low:.6f}", scale=f"{scale:.6f}")
