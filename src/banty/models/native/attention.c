/* Attention of new tokens over what their slots keep, for machines without a GPU. Compiled once for each kind of
   model: DIM is the heads' dimension, GROUP how many query heads share a key head.

   A step of decoding reads every key and value once and does little with each, so what counts is that they are read
   in order, that query heads which share a key head read it together, and that rows of different lengths cost what
   they hold. Rows that begin with the same prefix read it from one place, which then stays in the cache. Every row is
   computed by one thread in one order: the result does not depend on the other rows or on the number of threads. For
   that, rows of scores are aligned and padded: compilers divide a sum into vectors by where it lies in memory. */

#include "attention.h"

/* A row is a token of slot slots[r] behind lengths[r] others. Keeps every row's key and value in its slot, then attends to
   all up to its own: rows of one slot may follow one another. Where prefix_lengths[r] > 0 the first so many are read from
   slot prefix_slots[r] of the prefix tensors. A row of length -1 rests: nothing is kept, and its output is 0. Tensors are
   contiguous: query and output [rows, heads, DIM], key and value [rows, heads / GROUP, DIM], kept ones [slots, heads /
   GROUP, capacity, DIM]. Returns 0, or 1 without memory. */
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
