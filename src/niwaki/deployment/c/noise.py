"""The runtime's noise in C (`niwaki_runtime.noise`): the same words, bit for bit."""

from __future__ import annotations

__all__ = ["NOISE"]

NOISE = """\
/* Philox4x64-10 (Salmon et al., SC 2011). The words of sample `index` are those of the runtime. */
static uint64_t niwaki_high(uint64_t a, uint64_t b)
{
    const uint64_t al = a & 0xffffffffu, ah = a >> 32, bl = b & 0xffffffffu, bh = b >> 32;
    const uint64_t ll = al * bl, lh = al * bh, hl = ah * bl;
    const uint64_t middle = (ll >> 32) + (lh & 0xffffffffu) + (hl & 0xffffffffu);
    return ah * bh + (lh >> 32) + (hl >> 32) + (middle >> 32);
}

/* Block `block` of the `blocks` that sample `index` has: four words of 64 bits. */
static void niwaki_philox(uint64_t seed, uint64_t index, uint32_t stream, uint32_t draw, uint64_t blocks,
                          uint64_t block, uint64_t out[4])
{
    uint64_t k0 = seed, k1 = (uint64_t)stream << 32 | draw;
    uint64_t c0 = index * blocks + block, c1 = niwaki_high(index, blocks) + (c0 < block), c2 = 0, c3 = 0;
    for (int i = 0; i < 10; i++) {
        const uint64_t h0 = niwaki_high(0xd2e7470ee14c6c93u, c0), l0 = 0xd2e7470ee14c6c93u * c0;
        const uint64_t h1 = niwaki_high(0xca5a826395121157u, c2), l1 = 0xca5a826395121157u * c2;
        c0 = h1 ^ c1 ^ k0;
        c1 = l1;
        c2 = h0 ^ c3 ^ k1;
        c3 = l0;
        k0 += 0x9e3779b97f4a7c15u;
        k1 += 0xbb67ae8584caa73bu;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

/* `size` words of 32 bits of one sample, from word `first` on. */
static void niwaki_words(uint64_t seed, uint64_t index, uint32_t stream, uint32_t draw, int32_t size,
                         int32_t first, int32_t n, uint32_t *out)
{
    const uint64_t blocks = ((uint64_t)size + 7) / 8;
    uint64_t block[4] = {0, 0, 0, 0};
    for (int32_t i = 0; i < n; i++) {
        const int32_t at = first + i;
        if (i == 0 || at % 8 == 0) {
            niwaki_philox(seed, index, stream, draw, blocks, (uint64_t)(at / 8), block);
        }
        out[i] = (uint32_t)(block[at % 8 / 2] >> (at % 2 * 32));
    }
}

/* Standard normals by Box and Muller (1958): the radius from the first half of a sample's words, the angle
   from the second. */
static void niwaki_normal(uint64_t seed, uint64_t index, uint32_t stream, uint32_t draw, int32_t size,
                          float *out)
{
    const int32_t half = 4 * ((size + 7) / 8);
    for (int32_t at = 0; at < half; at += 4) {
        uint32_t radii[4], angles[4];
        niwaki_words(seed, index, stream, draw, size, at, 4, radii);
        niwaki_words(seed, index, stream, draw, size, half + at, 4, angles);
        for (int32_t i = 0; i < 4; i++) {
            const float u = (float)radii[i] * 2.3283064365386963e-10f + 1.1641532182693481e-10f;
            const float v = (float)angles[i] * 2.3283064365386963e-10f + 1.1641532182693481e-10f;
            const float radius = sqrtf(-2.0f * logf(u)), angle = 6.28318548f * v;
            if (at + i < size) {
                out[at + i] = radius * cosf(angle);
            }
            if (half + at + i < size) {
                out[half + at + i] = radius * sinf(angle);
            }
        }
    }
}
"""
