/* The tile unit (AMX) of a processor, and attention on it. DIM and GROUP: see attention.h. */

#include "attention.h"

#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#if !defined(__AMX_BF16__) || !defined(BF16)
#error "needs AMX and BF16"
#endif

#define TILE 16
#ifndef AHEAD_TILES
#define AHEAD_TILES 4
#endif
#define KEYS 32 /* keys that weights are taken for at once */

typedef struct __attribute__((aligned(64))) {
    uint8_t palette, start, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
} configuration;

/* 0 if this process may use the unit. */
static int tiles_denied(void) {
    const long request = 0x1023, tile_data = 18; /* ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA */
    return syscall(SYS_arch_prctl, request, tile_data) != 0;
}

/* All eight of 16 rows of 64 bytes. */
static configuration for_products(void) {
    configuration made = {.palette = 1};
    for (int tile = 0; tile < 8; tile++) {
        made.bytes[tile] = 64;
        made.rows[tile] = TILE;
    }
    return made;
}

/* For `columns` queries at once. 0: scores, keys by queries. 1 and 7: keys, or pairs of values. 2 and 3: queries, pairs of
   numbers by queries. 4 and 5: sums, queries by numbers. 6: weights, queries by keys. */
static configuration for_attention(long columns) {
    configuration made = for_products();
    for (int tile = 0; tile < 4; tile++)
        if (tile != 1) made.bytes[tile] = (uint16_t)(columns * 4);
    for (int tile = 4; tile < 7; tile++) made.rows[tile] = (uint8_t)columns;
    return made;
}

/* Loads of tiles do not tell the compiler that they read memory (GCC 12): what was written before is to be there, and what
   is written after is not to be there yet. */
static inline void written(void) { __asm__ volatile("" ::: "memory"); }

/* The same holds for configurations, of which the compiler believes that 8 bytes are read or written. */
static inline void configure(const configuration *wanted) {
    __asm__ volatile("" ::"r"(wanted) : "memory");
    _tile_loadconfig(wanted);
    __asm__ volatile("" ::"r"(wanted) : "memory");
}

static inline void configured(configuration *now) {
    _tile_storeconfig(now);
    __asm__ volatile("" ::"r"(now) : "memory");
}

static inline long in_keys(long count) { return (count + KEYS - 1) / KEYS * KEYS; }

/* scores[j * columns + c] of `count` keys. `turned` holds the queries in pairs of numbers, [DIM / 2, columns, 2]. */
static void tile_scores(const number *turned, long columns, const number *keys, long count, float *scores) {
    for (long j = 0; j < count; j += TILE) {
        const number *rows = keys + j * DIM;
        if (j + AHEAD_TILES * TILE < count)
            for (long byte = 0; byte < TILE * DIM * (long)sizeof(number); byte += 64)
                __builtin_prefetch((const char *)(rows + AHEAD_TILES * TILE * DIM) + byte, 0, 2);
        number last[TILE * DIM];
        if (count - j < TILE) { /* what lies behind the last key is not ours to read */
            memset(last, 0, sizeof last);
            memcpy(last, rows, sizeof(number) * (size_t)(count - j) * DIM);
            rows = last;
        }
        written();
        _tile_zero(0);
        for (long d = 0; d < DIM / 32; d += 2) {
            if (DIM > 64 || j == 0) _tile_loadd(2, turned + d * 32 * columns, columns * 4);
            _tile_loadd(1, rows + d * 32, DIM * sizeof(number));
            _tile_dpbf16ps(0, 1, 2);
            if (d + 1 == DIM / 32) break;
            if (DIM > 64 || j == 0) _tile_loadd(3, turned + (d + 1) * 32 * columns, columns * 4);
            _tile_loadd(7, rows + (d + 1) * 32, DIM * sizeof(number));
            _tile_dpbf16ps(0, 7, 3);
        }
        _tile_stored(0, scores + j * columns, columns * 4);
    }
}

/* Of up to 32 values [count, DIM] the numbers d to d + 31, in pairs of values: out[half][pair][number][2]. */
static void pair_values(const number *values, long count, long d, number out[2][TILE * KEYS]) {
    const __m512i low = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37,
                                         5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
    const __m512i high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
    for (long pair = 0; pair < TILE; pair++) {
        const number *at = values + 2 * pair * DIM + d;
        __m512i one = 2 * pair < count ? _mm512_loadu_si512(at) : _mm512_setzero_si512();
        __m512i other = 2 * pair + 1 < count ? _mm512_loadu_si512(at + DIM) : _mm512_setzero_si512();
        _mm512_store_si512(out[0] + pair * 32, _mm512_permutex2var_epi16(one, low, other));
        _mm512_store_si512(out[1] + pair * 32, _mm512_permutex2var_epi16(one, high, other));
    }
}

/* Adds values [count, DIM], weighted by weights[c * stride + j], to the sums in tiles 4 and 5: their numbers d to d + 31. */
static void tile_mix(const number *weights, long stride, const number *values, long count, long d) {
    number pairs[2][TILE * KEYS] __attribute__((aligned(64)));
    for (long j = 0; j < count; j += KEYS) {
        if (j + AHEAD_TILES * TILE < count)
            for (long k = 0; k < KEYS; k++) __builtin_prefetch(values + (j + AHEAD_TILES * TILE + k) * DIM + d, 0, 2);
        pair_values(values + j * DIM, count - j, d, pairs);
        written();
        _tile_loadd(6, weights + j, stride * sizeof(number));
        _tile_loadd(1, pairs[0], 64);
        _tile_dpbf16ps(4, 6, 1);
        _tile_loadd(7, pairs[1], 64);
        _tile_dpbf16ps(5, 6, 7);
        written(); /* before the next pairs are */
    }
}

typedef struct { /* what a block of queries sees first, and how much of it */
    const number *keys, *values;
    long count;
} stretch;

/* How many floats `tile_attend` needs for so many keys in all. */
static inline long tile_space(long count) { return (count + 2 * KEYS) * TILE * 3; }

/* `columns` queries, up to 16, over `shared` and then `own` keys, of which query c sees the first seen[c]. Each is DIM
   numbers, wherever it lies, and so is its output. The unit is configured for so many columns. Weights are rounded, as
   torch's attention rounds them. A query's result does not depend on the others. */
static void tile_attend(const number *const *queries, number *const *outputs, const long *seen, long columns,
                        stretch shared, stretch own, float scale, float *space) {
    long first = in_keys(shared.count), count = first + in_keys(own.count);
    float *scores = space, *row = space + count * columns, totals[TILE];
    number *weights = (number *)(row + count * columns), turned[DIM * TILE] __attribute__((aligned(64)));
    for (long d = 0; d < DIM / 2; d++)
        for (long c = 0; c < columns; c++) memcpy(turned + (d * columns + c) * 2, queries[c] + 2 * d, 2 * sizeof(number));
    tile_scores(turned, columns, shared.keys, shared.count, scores);
    tile_scores(turned, columns, own.keys, own.count, scores + first * columns);
    for (long c = 0; c < columns; c++) {
        float most = -INFINITY, total = 0.0f, *mine = row + c * count;
        for (long j = 0; j < shared.count; j++) mine[j] = scores[j * columns + c] * scale;
        for (long j = shared.count; j < first; j++) mine[j] = -INFINITY;
        for (long j = first; j < first + seen[c]; j++) mine[j] = scores[j * columns + c] * scale;
        for (long j = first + seen[c]; j < count; j++) mine[j] = -INFINITY;
#pragma omp simd reduction(max : most)
        for (long j = 0; j < count; j++) most = mine[j] > most ? mine[j] : most;
#pragma omp simd reduction(+ : total)
        for (long j = 0; j < count; j++) {
            float weight = mine[j] == -INFINITY ? 0.0f : exponential(mine[j] - most);
            total += weight;
            weights[c * count + j] = store(weight);
        }
        totals[c] = total;
    }
    for (long d = 0; d < DIM; d += 32) {
        float sums[2][TILE * TILE];
        written();
        _tile_zero(4);
        _tile_zero(5);
        tile_mix(weights, count, shared.values, shared.count, d);
        tile_mix(weights + first, count, own.values, own.count, d);
        _tile_stored(4, sums[0], 64);
        _tile_stored(5, sums[1], 64);
        for (long c = 0; c < columns; c++)
            for (long half = 0; half < 2; half++)
                for (long n = 0; n < TILE; n++)
                    outputs[c][d + half * TILE + n] = store(sums[half][c * TILE + n] / totals[c]);
    }
}
