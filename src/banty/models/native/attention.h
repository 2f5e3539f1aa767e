/* One row's attention over the keys and values of a key head. DIM is the heads' dimension, GROUP how many query heads
   share a key head. */

#pragma once

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
