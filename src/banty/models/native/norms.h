/* RMSNorm of one row, rotary positions and the gated unit, rounded as the reference does. */

#include "numbers.h"

static inline float normed(float x, float scale) { return load(store(x * scale)); } /* rounded as the reference does */

static inline float scale_of(const number *x, long dim, float eps) {
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (long d = 0; d < dim; d++) sum += load(x[d]) * load(x[d]);
    return 1.0f / sqrtf(sum / (float)dim + eps);
}

/* y = weight * x / rms(x), whose first `turned` numbers are then turned by the angles cos and sin; gives 1 / rms(x). */
static inline float norm_row(const number *x, const number *weight, const number *cos, const number *sin, number *y,
                             long dim, long turned, float eps) {
    long half = turned / 2;
    float scale = scale_of(x, dim, eps);
#pragma omp simd
    for (long d = 0; d < half; d++) {
        float one = load(weight[d]) * normed(load(x[d]), scale);
        float other = load(weight[d + half]) * normed(load(x[d + half]), scale);
        y[d] = store(one * load(cos[d]) - other * load(sin[d]));
        y[d + half] = store(other * load(cos[d + half]) + one * load(sin[d + half]));
    }
#pragma omp simd
    for (long d = turned; d < dim; d++) y[d] = store(load(weight[d]) * normed(load(x[d]), scale));
    return scale;
}

static inline number gated_unit(number gate, number up) {
    float g = load(gate);
    return store(g / (1.0f + exponential(-g)) * load(up));
}
