/* Attention of new tokens over what their slots keep, for machines without a GPU. Compiled once for each kind of
   model: DIM is the heads' dimension, GROUP how many query heads share a key head.

   A step of decoding reads every key and value once and does little with each, so what counts is that they are read
   in order, that query heads which share a key head read it together, and that rows of different lengths cost what
   they hold. Rows that begin with the same prefix read it from one place, which then stays in the cache. Every row is
   computed by one thread in one order: the result does not depend on the other rows or on the number of threads. For
   that, rows of scores are aligned and padded: compilers divide a sum into vectors by where it lies in memory. */

#include "numbers.h"

#define LANES 16 /* scores are padded to so many */
#define AHEAD 24 /* keys to fetch before they are needed: the processor does not look ahead across pages */

static inline void fetch(const number *row) {
    for (size_t byte = 0; byte < DIM * sizeof(number); byte += 64) __builtin_prefetch((const char *)row + byte);
}

/* scores[h * stride + j] of GROUP queries on `count` keys [count, DIM]. */
static void score(const float query[GROUP][DIM], const number *keys, long count, float *scores, long stride) {
    for (long j = 0; j < count; j++) {
        const number *key = keys + j * DIM;
        fetch(key + AHEAD * DIM);
        for (int h = 0; h < GROUP; h++) {
            float dot = 0.0f;
#pragma omp simd reduction(+ : dot)
            for (int d = 0; d < DIM; d++) dot += query[h][d] * load(key[d]);
            scores[h * stride + j] = dot;
        }
    }
}

/* Adds `count` values [count, DIM], weighted by weights[h * stride + j], to sums. */
static void mix(float sums[GROUP][DIM], const number *values, long count, const float *weights, long stride) {
    float kept[GROUP][DIM]; /* in registers: `sums` could be anywhere */
    memcpy(kept, sums, sizeof kept);
    for (long j = 0; j < count; j++) {
        const number *value = values + j * DIM;
        fetch(value + AHEAD * DIM);
        for (int h = 0; h < GROUP; h++) {
            float weight = weights[h * stride + j];
#pragma omp simd
            for (int d = 0; d < DIM; d++) kept[h][d] += weight * load(value[d]);
        }
    }
    memcpy(sums, kept, sizeof kept);
}

static inline long padded(long count) { return (count + LANES - 1) / LANES * LANES; }

/* The GROUP queries of one row and key head: `shared` keys and values come first, then `own` ones. */
static void attend_head(const number *queries, const number *shared_keys, const number *shared_values, long shared,
                        const number *keys, const number *values, long own, float scale, float *scores,
                        number *output) {
    float query[GROUP][DIM], sums[GROUP][DIM], totals[GROUP];
    long count = shared + own, stride = padded(count);
    for (int h = 0; h < GROUP; h++)
        for (int d = 0; d < DIM; d++) {
            query[h][d] = load(queries[h * DIM + d]) * scale;
            sums[h][d] = 0.0f;
        }
    score(query, shared_keys, shared, scores, stride);
    score(query, keys, own, scores + shared, stride);
    for (int h = 0; h < GROUP; h++) {
        float *row = scores + h * stride, most = row[0], total = 0.0f;
        for (long j = count; j < stride; j++) row[j] = -INFINITY;
#pragma omp simd reduction(max : most) aligned(row : 64)
        for (long j = 0; j < stride; j++) most = row[j] > most ? row[j] : most;
#pragma omp simd reduction(+ : total) aligned(row : 64)
        for (long j = 0; j < stride; j++) {
            row[j] = exponential(row[j] - most);
            total += row[j];
        }
        totals[h] = total;
    }
    mix(sums, shared_values, shared, scores, stride);
    mix(sums, values, own, scores + shared, stride);
    for (int h = 0; h < GROUP; h++)
        for (int d = 0; d < DIM; d++) output[h * DIM + d] = store(sums[h][d] / totals[h]);
}

/* A row is a token of slot slots[r] behind lengths[r] others. Keeps every row's key and value in its slot, then attends to
   all up to its own: rows of one slot may follow one another. Where prefix_lengths[r] > 0 the first so many are read from
   slot prefix_slots[r] of the prefix tensors. A row of length -1 rests: nothing is kept, and its output is 0. Tensors are contiguous: query and output [rows, heads, DIM], key and
   value [rows, heads / GROUP, DIM], kept ones [slots, heads / GROUP, capacity, DIM]. Returns 0, or 1 without memory. */
int attend(const number *query, const number *key, const number *value, number *keys, number *values, long capacity,
           const number *prefix_keys, const number *prefix_values, long prefix_capacity, const int64_t *slots,
           const int64_t *lengths, const int64_t *prefix_slots, const int64_t *prefix_lengths, number *output, long rows,
           long heads, float scale) {
    long key_heads = heads / GROUP, most = 0;
    int failed = 0;
    for (long r = 0; r < rows; r++) most = lengths[r] > most ? lengths[r] : most;
#pragma omp parallel
    {
        float *scores = aligned_alloc(64, sizeof(float) * (size_t)(GROUP * padded(most + 1)));
        if (!scores) {
#pragma omp atomic write
            failed = 1;
        }
#pragma omp for schedule(static)
        for (long item = 0; item < rows * key_heads; item++) { /* all, before any is read */
            long r = item / key_heads, h = item % key_heads;
            long place = ((slots[r] * key_heads + h) * capacity + lengths[r]) * DIM;
            if (lengths[r] < 0) continue;
            memcpy(keys + place, key + item * DIM, sizeof(number) * DIM);
            memcpy(values + place, value + item * DIM, sizeof(number) * DIM);
        }
#pragma omp for schedule(dynamic, 4)
        for (long item = 0; item < rows * key_heads; item++) {
            long r = item / key_heads, h = item % key_heads, count = lengths[r], shared = prefix_lengths[r];
            number *mine = output + (r * heads + h * GROUP) * DIM;
            if (count < 0 || !scores) {
                memset(mine, 0, sizeof(number) * GROUP * DIM);
                continue;
            }
            long place = (slots[r] * key_heads + h) * capacity * DIM;
            long prefix = shared > 0 ? (prefix_slots[r] * key_heads + h) * prefix_capacity * DIM : 0;
            attend_head(query + (r * heads + h * GROUP) * DIM, prefix_keys + prefix, prefix_values + prefix, shared,
                        keys + place + shared * DIM, values + place + shared * DIM, count + 1 - shared, scale, scores,
                        mine);
        }
        free(scores);
    }
    return failed;
}
