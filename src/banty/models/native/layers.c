/* What stands between the matrix products of a layer: norms, rotary positions and the gated unit, forward and backward,
   each in one pass over memory, where a chain of tensor operations makes ten. Rows are divided among threads in order:
   results depend on the number of threads, and on nothing else. */

#include "norms.h"

#include <omp.h>

#define LEAST 32768 /* numbers below which waking other threads costs more than it saves */

/* y = weight * x / rms(x) for rows of [tokens, heads, dim]; then the first `turned` numbers of each, 0 or more, are
   turned by the angles of its token, cos and sin [tokens, turned]. scales [tokens, heads] are kept for the gradient. */
void norm(const number *x, const number *weight, const number *cos, const number *sin, number *y, float *scales,
          long tokens, long heads, long dim, long turned, float eps) {
#pragma omp parallel for schedule(static) if (tokens * heads * dim >= LEAST)
    for (long r = 0; r < tokens * heads; r++) {
        long angles = (r / heads) * turned;
        scales[r] = norm_row(x + r * dim, weight, cos + angles, sin + angles, y + r * dim, dim, turned, eps);
    }
}

/* dx [tokens, heads, dim] from the gradient of `norm`'s y; adds to dweight [dim]. Returns 0, or 1 without memory. */
int norm_backward(const number *x, const number *weight, const number *cos, const number *sin, const number *dout,
                  const float *scales, number *dx, float *dweight, long tokens, long heads, long dim, long turned) {
    long half = turned / 2;
    int threads = tokens * heads * dim >= LEAST ? omp_get_max_threads() : 1;
    float *space = calloc((size_t)threads * (size_t)dim * 2, sizeof(float));
    if (!space) return 1;
#pragma omp parallel num_threads(threads)
    {
        float *part = space + 2 * omp_get_thread_num() * dim, *dy = part + dim; /* part of dweight; dy before the turn */
#pragma omp for schedule(static)
        for (long r = 0; r < tokens * heads; r++) {
            const number *row = x + r * dim, *from = dout + r * dim;
            const number *c = cos + (r / heads) * turned, *s = sin + (r / heads) * turned;
            number *out = dx + r * dim;
#pragma omp simd
            for (long d = 0; d < half; d++) {
                float one = load(from[d]), other = load(from[d + half]);
                dy[d] = one * load(c[d]) + other * load(s[d + half]);
                dy[d + half] = other * load(c[d + half]) - one * load(s[d]);
            }
            for (long d = turned; d < dim; d++) dy[d] = load(from[d]);
            float scale = scales[r], along = 0.0f;
#pragma omp simd reduction(+ : along)
            for (long d = 0; d < dim; d++) {
                float unit = load(row[d]) * scale;
                along += dy[d] * load(weight[d]) * unit;
                part[d] += dy[d] * unit;
            }
            along /= (float)dim;
#pragma omp simd
            for (long d = 0; d < dim; d++)
                out[d] = store(scale * (dy[d] * load(weight[d]) - load(row[d]) * scale * along));
        }
    }
    for (int t = 0; t < threads; t++) /* in their order */
        for (long d = 0; d < dim; d++) dweight[d] += space[2 * t * dim + d];
    free(space);
    return 0;
}

/* y = silu(gate) * up, of `count` numbers. */
void gated(const number *gate, const number *up, number *y, long count) {
#pragma omp parallel for simd schedule(static) if (parallel : count >= LEAST)
    for (long i = 0; i < count; i++) y[i] = gated_unit(gate[i], up[i]);
}

void gated_backward(const number *gate, const number *up, const number *dy, number *dgate, number *dup, long count) {
#pragma omp parallel for simd schedule(static) if (parallel : count >= LEAST)
    for (long i = 0; i < count; i++) {
        float g = load(gate[i]), open = 1.0f / (1.0f + exponential(-g)), d = load(dy[i]);
        dgate[i] = store(d * load(up[i]) * open * (1.0f + g * (1.0f - open)));
        dup[i] = store(d * g * open);
    }
}

/* Puts two parts of an attention together: output [tokens, heads, dim] with the log sums of its softmaxes [tokens,
   heads], and the other part's [heads, tokens, dim] and [heads, tokens]. */
void merge(number *output, float *sums, const number *other, const float *other_sums, long tokens, long heads,
           long dim) {
#pragma omp parallel for schedule(static) if (tokens * heads * dim >= LEAST)
    for (long r = 0; r < tokens * heads; r++) {
        long place = (r % heads) * tokens + r / heads;
        number *out = output + r * dim;
        const number *from = other + place * dim;
        float one = sums[r], two = other_sums[place], most = one > two ? one : two;
        float ours = expf(one - most), rest = expf(two - most), total = ours + rest;
        sums[r] = most + logf(total);
        ours /= total;
        rest /= total;
#pragma omp simd
        for (long d = 0; d < dim; d++) out[d] = store(ours * load(out[d]) + rest * load(from[d]));
    }
}

/* scores [tiles, rows, columns], less their log sum, become probabilities exp(scale * score), and pulls their gradient
   scale * probability * pull. With a width, row m sees the columns up to begin + m % width, and has 0 beyond. */
void from_scores(number *scores, number *pulls, long tiles, long rows, long columns, long begin, long width,
                 float scale) {
#pragma omp parallel for schedule(static) if (tiles * rows * columns >= LEAST)
    for (long r = 0; r < tiles * rows; r++) {
        number *score = scores + r * columns, *pull = pulls + r * columns;
        long seen = width ? begin + r % rows % width + 1 : columns;
        seen = seen < columns ? seen : columns;
#pragma omp simd
        for (long j = 0; j < seen; j++) {
            float prob = exponential(scale * load(score[j]));
            score[j] = store(prob);
            pull[j] = store(scale * prob * load(pull[j]));
        }
        memset(score + seen, 0, sizeof(number) * (size_t)(columns - seen));
        memset(pull + seen, 0, sizeof(number) * (size_t)(columns - seen));
    }
}
