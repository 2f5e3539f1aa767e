/* All layers of a small dense decoder over a stream of rows, in one call, for processors with AMX.

   A step of decoding is some thirty products of small matrices with a little between them. Called one by one from
   outside, more time goes into calling them, and into laying weights out for the tile unit each time, than into
   computing. Here weights are laid out once, what stands between two products is done where its numbers still are in
   the cache, and threads meet five times a layer. Every number is rounded where the reference rounds it; a row's result
   does not depend on the other rows, on where its prefix is read, or on the number of threads.

   DIM, GROUP: see attention.h. Matrices are packed in tiles of 16 outputs and 32 inputs, [outputs / 16, inputs / 32, 16,
   16, 2]: in a tile, pairs of inputs, outputs, the pair. */

#include "norms.h"
#include "tiles.h"

#include <omp.h>

#define BLOCK 32 /* rows that a product takes at once: two tiles */
#define SPAN 8 /* blocks that are taken through a part of a matrix while it is in the cache */
#define PACKED 512 /* numbers of a packed tile */

/* 0 if this process may use the tile unit. */
int ready(void) { return tiles_denied(); }

/* The library of matrix products remembers how it configured the tiles of a thread: it finds them as it left them. */
static void end_tiles(const configuration *before) {
    if (before->palette)
        configure(before);
    else
        _tile_release();
}

/* Of up to 32 rows [rows, inputs] by two packed tiles' worth of 16 outputs each: c[0] and c[1] for the first 16 rows,
   c[2] and c[3] for the rest, each [16, 16]. */
static void product(const number *rows, long inputs, int two, const number *one, const number *other,
                    float c[4][TILE * TILE]) {
    written();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (long k = 0; k < inputs / 32; k++) {
        _tile_loadd(4, rows + k * 32, inputs * sizeof(number));
        _tile_loadd(6, one + k * PACKED, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, other + k * PACKED, 64);
        _tile_dpbf16ps(1, 4, 7);
        if (!two) continue;
        _tile_loadd(5, rows + TILE * inputs + k * 32, inputs * sizeof(number));
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, c[0], 64);
    _tile_stored(1, c[1], 64);
    if (two) {
        _tile_stored(2, c[2], 64);
        _tile_stored(3, c[3], 64);
    }
}

typedef struct {
    long rows, hidden, inner, heads, layers, capacity, prefix_capacity, threads;
    float eps, scale;
} sizes;

typedef struct { /* of one layer; the weights packed, what is kept as in attention.c */
    const number *query, *key, *value, *output, *gate, *up, *down;
    const number *input_norm, *post_norm, *query_norm, *key_norm;
    number *keys, *values;
    const number *prefix_keys, *prefix_values;
} layer;

typedef struct { /* by row, as in attention.c, and the angles by position */
    const int64_t *slots, *lengths, *prefix_slots, *prefix_lengths;
    const number *cos, *sin;
} places;

static void norm_block(const number *x, const number *weight, number *y, long rows, long dim, float eps) {
    for (long r = 0; r < rows; r++) norm_row(x + r * dim, weight, NULL, NULL, y + r * dim, dim, 0, eps);
}

/* A block's query, key or value of one head: normed, turned, and put where it belongs. */
static void project_head(const sizes *s, const layer *l, const places *p, const number *normed_rows, long block,
                         long item, number *queries) {
    long key_heads = s->heads / GROUP, left = s->rows - block * BLOCK;
    int is_query = item < s->heads, is_key = !is_query && item < s->heads + key_heads;
    long head = is_query ? item : is_key ? item - s->heads : item - s->heads - key_heads;
    const number *packed = is_query ? l->query : is_key ? l->key : l->value;
    number raw[BLOCK][DIM];
    float c[4][TILE * TILE] __attribute__((aligned(64)));
    for (long pair = 0; pair < DIM / 32; pair++) {
        const number *one = packed + (head * DIM / TILE + 2 * pair) * (s->hidden / 32) * PACKED;
        product(normed_rows, s->hidden, left > TILE, one, one + s->hidden / 32 * PACKED, c);
        for (long r = 0; r < BLOCK && r < left; r++)
            for (long half = 0; half < 2; half++) {
                const float *from = c[(r / TILE) * 2 + half] + (r % TILE) * TILE;
#pragma omp simd
                for (long n = 0; n < TILE; n++) raw[r][pair * 32 + half * TILE + n] = store(from[n]);
            }
    }
    for (long r = 0; r < BLOCK && r < left; r++) {
        long row = block * BLOCK + r, length = p->lengths[row];
        if (length < 0) {
            if (is_query) memset(queries + (row * s->heads + head) * DIM, 0, sizeof(number) * DIM);
            continue;
        }
        long kept = ((p->slots[row] * key_heads + head) * s->capacity + length) * DIM;
        number *target = is_query ? queries + (row * s->heads + head) * DIM : (is_key ? l->keys : l->values) + kept;
        if (is_query || is_key)
            norm_row(raw[r], is_query ? l->query_norm : l->key_norm, p->cos + length * DIM, p->sin + length * DIM,
                     target, DIM, DIM, s->eps);
        else
            memcpy(target, raw[r], sizeof(number) * DIM);
    }
}

/* hidden += rows by a packed matrix, for 32 of its outputs. */
static void add_product(const sizes *s, const number *rows, long inputs, const number *packed, long block, long pair,
                        number *hidden) {
    float c[4][TILE * TILE] __attribute__((aligned(64)));
    long left = s->rows - block * BLOCK;
    const number *one = packed + 2 * pair * (inputs / 32) * PACKED;
    product(rows + block * BLOCK * inputs, inputs, left > TILE, one, one + inputs / 32 * PACKED, c);
    for (long r = 0; r < BLOCK && r < left; r++)
        for (long half = 0; half < 2; half++) {
            const float *from = c[(r / TILE) * 2 + half] + (r % TILE) * TILE;
            number *to = hidden + (block * BLOCK + r) * s->hidden + pair * 32 + half * TILE;
#pragma omp simd
            for (long n = 0; n < TILE; n++) to[n] = store(load(to[n]) + load(store(from[n])));
        }
}

/* 16 of a block's inner numbers. */
static void gate_block(const sizes *s, const layer *l, const number *normed_rows, long block, long place,
                       number *inner) {
    float c[4][TILE * TILE] __attribute__((aligned(64)));
    long left = s->rows - block * BLOCK, tile = place * (s->hidden / 32) * PACKED;
    product(normed_rows, s->hidden, left > TILE, l->gate + tile, l->up + tile, c);
    for (long r = 0; r < BLOCK && r < left; r++) {
        const float *gate = c[(r / TILE) * 2] + (r % TILE) * TILE, *up = c[(r / TILE) * 2 + 1] + (r % TILE) * TILE;
        number *to = inner + (block * BLOCK + r) * s->inner + place * TILE;
#pragma omp simd
        for (long n = 0; n < TILE; n++) to[n] = gated_unit(store(gate[n]), store(up[n]));
    }
}

typedef struct { /* a block of rows and a part of a matrix */
    long block, part;
} task;

/* The n-th of all pairs of `blocks` blocks and `parts` parts, in the order in which both stay in the cache. */
static task task_of(long n, long blocks, long parts) {
    long begin = n / (SPAN * parts) * SPAN, width = blocks - begin < SPAN ? blocks - begin : SPAN;
    n -= begin * parts;
    return (task){begin + n % width, n / width};
}

/* Rows of a block that are asked for, normed into its place in `space` unless they are `there`. */
static const number *normed_of(const sizes *s, const number *hidden, const number *weight, long block, long *there,
                               number *space) {
    long place = block % SPAN, left = s->rows - block * BLOCK;
    number *rows = space + place * BLOCK * s->hidden;
    if (there[place] != block)
        norm_block(hidden + block * BLOCK * s->hidden, weight, rows, left < BLOCK ? left : BLOCK, s->hidden, s->eps);
    there[place] = block;
    return rows;
}

/* Attention of one key head for rows first to last - 1, which are consecutive tokens of one slot. */
static void attend_block(const sizes *s, const layer *l, const places *p, const number *queries, long first, long last,
                         long key_head, float *space, number *mixed) {
    const number *from[TILE];
    number *to[TILE];
    long seen[TILE], key_heads = s->heads / GROUP, columns = 0;
    /* The slot has the prefix as well: read from where keys fall into the same tiles as without one. */
    long shared = p->prefix_lengths[first] / KEYS * KEYS;
    for (long r = first; r < last; r++)
        for (long h = 0; h < GROUP; h++, columns++) {
            long place = (r * s->heads + key_head * GROUP + h) * DIM;
            from[columns] = queries + place;
            to[columns] = mixed + place;
            seen[columns] = p->lengths[r] + 1 - shared;
        }
    long place = ((p->slots[first] * key_heads + key_head) * s->capacity + shared) * DIM;
    long prefix = shared > 0 ? (p->prefix_slots[first] * key_heads + key_head) * s->prefix_capacity * DIM : 0;
    stretch common = {l->prefix_keys + prefix, l->prefix_values + prefix, shared};
    stretch own = {l->keys + place, l->values + place, p->lengths[last - 1] + 1 - shared};
    tile_attend(from, to, seen, columns, common, own, s->scale, space);
}

/* Blocks of consecutive tokens of one slot, as many as the unit takes at once: where each begins, and then the number of
   rows; how many there are. */
static long in_blocks(const sizes *s, const places *p, long *begins) {
    long count = 0;
    for (long r = 0; r < s->rows; r++) {
        int follows = r > 0 && p->lengths[r] > 0 && p->slots[r] == p->slots[r - 1] && p->lengths[r] == p->lengths[r - 1] + 1;
        if (!follows || r - begins[count - 1] == TILE / GROUP) begins[count++] = r;
    }
    begins[count] = s->rows;
    return count;
}

/* Takes `hidden`, the embeddings [rows, hidden], through all layers, in place, then norms it into `output`. Keys and
   values are kept, and attended to, as `attend` of attention.c does. `space` is queries [rows, heads * DIM], mixed (the
   same), inner [rows, inner] and for each thread as many rows of hidden numbers as there are, but up to SPAN blocks; all
   rows rounded up to 32. Returns 0, or 1 without memory. */
int decode(const sizes *s, const layer *layers, const places *p, const number *last_norm, number *hidden, number *output,
           number *space) {
    long blocks = (s->rows + BLOCK - 1) / BLOCK, padded_rows = blocks * BLOCK, key_heads = s->heads / GROUP, most = 0;
    long *begins = malloc(sizeof(long) * (size_t)(s->rows + 1));
    if (!begins) return 1;
    long stretches = in_blocks(s, p, begins);
    long width = s->heads * DIM;
    number *queries = space, *mixed = queries + padded_rows * width, *inner = mixed + padded_rows * width;
    number *own = inner + padded_rows * s->inner;
    long own_rows = padded_rows < SPAN * BLOCK ? padded_rows : SPAN * BLOCK;
    int failed = 0;
    for (long r = 0; r < s->rows; r++) most = p->lengths[r] > most ? p->lengths[r] : most;
#pragma omp parallel num_threads(s->threads) /* for which there is space */
    {
        configuration before, products = for_products();
        configured(&before);
        configure(&products);
        number *normed_rows = own + omp_get_thread_num() * own_rows * s->hidden;
        float *scores = aligned_alloc(64, sizeof(float) * (size_t)padded(tile_space(most + 1)));
        if (!scores) {
#pragma omp atomic write
            failed = 1;
        }
        for (long i = 0; i < s->layers; i++) {
            const layer *l = layers + i;
            long there[SPAN], items = s->heads + 2 * key_heads;
            for (long place = 0; place < SPAN; place++) there[place] = -1;
#pragma omp for schedule(static)
            for (long item = 0; item < blocks * items; item++) {
                task t = task_of(item, blocks, items);
                const number *from = normed_of(s, hidden, l->input_norm, t.block, there, normed_rows);
                project_head(s, l, p, from, t.block, t.part, queries);
            }
            long columns = 0;
#pragma omp for schedule(dynamic, 4)
            for (long item = 0; item < stretches * key_heads; item++) {
                long first = begins[item / key_heads], last = begins[item / key_heads + 1], h = item % key_heads;
                if (p->lengths[first] < 0 || !scores) {
                    memset(mixed + first * width, 0, sizeof(number) * (size_t)((last - first) * width));
                    continue;
                }
                if (columns != (last - first) * GROUP) {
                    columns = (last - first) * GROUP;
                    configuration attention = for_attention(columns);
                    configure(&attention);
                }
                attend_block(s, l, p, queries, first, last, h, scores, mixed);
            }
            configure(&products);
            items = s->hidden / 32;
#pragma omp for schedule(static)
            for (long item = 0; item < blocks * items; item++) {
                task t = task_of(item, blocks, items);
                add_product(s, mixed, width, l->output, t.block, t.part, hidden);
            }
            for (long place = 0; place < SPAN; place++) there[place] = -1;
            items = s->inner / TILE;
#pragma omp for schedule(static)
            for (long item = 0; item < blocks * items; item++) {
                task t = task_of(item, blocks, items);
                const number *from = normed_of(s, hidden, l->post_norm, t.block, there, normed_rows);
                gate_block(s, l, from, t.block, t.part, inner);
            }
            items = s->hidden / 32;
#pragma omp for schedule(static)
            for (long item = 0; item < blocks * items; item++) {
                task t = task_of(item, blocks, items);
                add_product(s, inner, s->inner, l->down, t.block, t.part, hidden);
            }
        }
#pragma omp for schedule(static)
        for (long r = 0; r < s->rows; r++)
            norm_row(hidden + r * s->hidden, last_norm, NULL, NULL, output + r * s->hidden, s->hidden, 0, s->eps);
        free(scores);
        end_tiles(&before);
    }
    free(begins);
    return failed;
}
