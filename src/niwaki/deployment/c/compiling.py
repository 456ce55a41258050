"""What a compiler of this machine makes of the written file, and what the program then says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from niwaki.core.contract import NiwakiError

__all__ = ["FLAGS", "build", "compiler", "run_samples", "stack_bytes"]

FLAGS = ("-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror", "-O2")
"""What the file is compiled with, without a warning. Standard C contracts no product and sum into one."""

HELPERS = ("niwaki_quantize", "niwaki_normal", "niwaki_words", "niwaki_philox", "niwaki_high")
"""What the file's functions share: the quantizer, and what noise is drawn by, each calling the next."""

_MAIN = """\
#include "{prefix}.c"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* stdin: for each sample its seed and number and then its conditions; stdout: the results, and behind them
   the microseconds that one takes. */
int main(void)
{{
    static float out[{upper}_SIZE];
    uint64_t at[2];
{declared}    double count = 0.0;
    clock_t spent = 0;
    while (fread(at, sizeof at, 1, stdin) == 1) {{
{read}        const clock_t begun = clock();
        if ({call} != 0) {{
            return 2;
        }}
        spent += clock() - begun;
        count += 1.0;
        fwrite(out, sizeof out, 1, stdout);
    }}
    const double each = 1e6 * (double)spent / CLOCKS_PER_SEC / count;
    fwrite(&each, sizeof each, 1, stdout);
    return 0;
}}
"""


def compiler() -> str | None:
    """The C compiler of this machine: `CC`, or the first of cc, gcc and clang; None where there is none."""
    asked = os.environ.get("CC", "").split()
    return next(filter(None, map(shutil.which, [*asked[:1], "cc", "gcc", "clang"])), None)


def build(
    directory: Path, prefix: str, call: str, conditions: Sequence[tuple[str, str, int]], *flags: str
) -> Path:
    """A program around the file in `directory`. Raises NiwakiError where it does not compile.

    call:       name of the function that makes a sample
    conditions: of each its C type, what it is called with (`*` for an array) and its number of values
    """
    declared, reads, handed = "", "", []
    for k, (kind, star, size) in enumerate(conditions):
        declared += f"    static {kind} given_{k}[{size}];\n"
        reads += f"        if (fread(given_{k}, sizeof given_{k}, 1, stdin) != 1) {{\n"
        reads += "            return 3;\n        }\n"
        handed.append(f"given_{k}" if star else f"given_{k}[0]")
    asked = ", ".join(["at[0]", "at[1]", *handed, "out"])
    text = _MAIN.format(
        prefix=prefix, upper=prefix.upper(), declared=declared, read=reads, call=f"{call}({asked})"
    )
    (directory / "check.c").write_text(text)
    cc = compiler()
    if cc is None:
        raise NiwakiError("there is no C compiler here; install gcc or clang, or set CC")
    made = directory / "check"
    command = [cc, *FLAGS, *flags, "check.c", "-o", "check", "-lm"]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode:
        said = next((x for x in done.stderr.splitlines() if "error" in x), done.stderr)
        raise NiwakiError(f"the C file does not compile: {said.strip()[:300]}")
    return made


def run_samples(
    program: Path, samples: Sequence[tuple[int, int]], conditions: Sequence[np.ndarray], size: int
) -> tuple[np.ndarray, float]:
    """Results `(n, size)` float32 of (seed, number), and the microseconds of one. Raises NiwakiError where
    the program fails.

    conditions: of each an array with a row for every sample
    """
    fed = b""
    for k, (seed, index) in enumerate(samples):
        fed += np.array([seed & (1 << 64) - 1, index], np.uint64).tobytes()
        fed += b"".join(np.ascontiguousarray(c[k]).tobytes() for c in conditions)
    done = subprocess.run([program], input=fed, capture_output=True, check=False)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()[:300]
        raise NiwakiError(f"the compiled C file fails with status {done.returncode}: {said}")
    values, spent = done.stdout[:-8], done.stdout[-8:]
    return np.frombuffer(values, np.float32).reshape(len(samples), size), float(np.frombuffer(spent)[0])


def stack_bytes(directory: Path, prefix: str) -> int | None:
    """An upper bound of the stack that the written file takes without libc's functions: the frames of the
    entry, the sampler, the largest network and the largest operators; None where the compiler does not say.
    """
    cc = compiler()
    if cc is None:
        return None
    command = [cc, "-std=c99", "-O2", "-fno-inline", "-fstack-usage", "-c", f"{prefix}.c", "-o", "stack.o"]
    done = subprocess.run(command, cwd=directory, capture_output=True, check=False)
    found = list(directory.glob("*.su"))
    if done.returncode or not found:
        return None
    frames = dict[str, int]()
    for line in found[0].read_text().splitlines():
        seen = re.match(r".*:(\w+)(?:\.\w+)*\t(\d+)\t", line)
        if seen:
            frames[seen[1]] = max(frames.get(seen[1], 0), int(seen[2]))
    helpers = {name: frames.pop(name, 0) for name in HELPERS}
    largest = [
        max((size for name, size in frames.items() if re.search(kind, name)), default=0)
        for kind in (rf"^{prefix}_", r"^run_steps$", r"^network_", r"_\d+$")
    ]
    entry, sampler, network, operator = largest
    drawn = sum(size for name, size in helpers.items() if name != "niwaki_quantize")
    return entry + sampler + max(network + operator + helpers["niwaki_quantize"], drawn)
