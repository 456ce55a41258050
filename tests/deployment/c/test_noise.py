"""The noise of the C file is the runtime's: words bit for bit, normals up to libm's rounding."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from niwaki.deployment.c.compiling import FLAGS, compiler
from niwaki.deployment.c.noise import NOISE
from niwaki_runtime import noise
from niwaki_runtime.noise import STREAMS

pytestmark = pytest.mark.skipif(compiler() is None, reason="there is no C compiler")

CASES = [
    # seed, index, stream, draw, size
    (0, 0, "latent", 0, 1),
    (0, 3, "latent", 0, 64),
    (7, 1, "step", 29, 64),
    (-1, 5, "latent", 1 << 24, 9),
    ((1 << 63) - 1, (1 << 62) + 11, "step", (1 << 32) - 1, 67),
    (-(1 << 63), 1 << 40, "token", 2, 8),
]

MAIN = """
#include <math.h>
#include <stdint.h>
#include <stdio.h>
{noise}
int main(void)
{{
    static uint32_t words[256];
    static float normals[256];
    uint64_t at[5];
    while (fread(at, sizeof at, 1, stdin) == 1) {{
        const int32_t size = (int32_t)at[4];
        niwaki_words(at[0], at[1], (uint32_t)at[2], (uint32_t)at[3], size, 0, size, words);
        niwaki_normal(at[0], at[1], (uint32_t)at[2], (uint32_t)at[3], size, normals);
        fwrite(words, sizeof *words, (size_t)size, stdout);
        fwrite(normals, sizeof *normals, (size_t)size, stdout);
    }}
    return 0;
}}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("noise")
    (directory / "noise.c").write_text(MAIN.format(noise=NOISE))
    command = [compiler(), *FLAGS, "-fsanitize=undefined", "noise.c", "-o", "noise", "-lm"]
    subprocess.run(command, cwd=directory, check=True)
    return directory / "noise"


@pytest.mark.parametrize(("seed", "index", "stream", "draw", "size"), CASES)
def test_words_are_bit_equal_and_normals_equal_up_to_libm(
    program: Path, seed: int, index: int, stream: str, draw: int, size: int
) -> None:
    asked = np.array([seed & (1 << 64) - 1, index, STREAMS[stream], draw, size], np.uint64)
    made = subprocess.run([program], input=asked.tobytes(), capture_output=True, check=True).stdout
    words = np.frombuffer(made[: 4 * size], np.uint32)
    normals = np.frombuffer(made[4 * size :], np.float32)
    np.testing.assert_array_equal(words, noise.raw(seed, index, 1, size, stream=stream, draw=draw)[0])
    wanted = noise.normal(seed, index, 1, (size,), stream=stream, draw=draw)[0]
    np.testing.assert_allclose(normals, wanted, rtol=2e-6, atol=2e-6)
