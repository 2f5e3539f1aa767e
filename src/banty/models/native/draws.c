/* One token a row from its logits, by the inverse of the cumulative distribution. A row is computed by one thread in one
   order: its token depends on nothing but its own logits, temperature and uniform number. */

#include "numbers.h"

#define CHUNK 256 /* weights are summed in floats so many at a time, and those sums in doubles */

static inline float weight(number logit, float temperature, float most) {
    float x = (load(logit) - most) / temperature;
    return x < -87.0f ? 0.0f : exponential(x); /* 0 for what was ruled out */
}

/* From logits [rows, vocabulary] and uniform numbers in [0, 1): tokens, and their natural logprobs at the row's
   temperature, which is above 0. A row without a distribution gets a logprob that is not finite. */
void draw(const number *logits, const float *temperatures, const double *uniforms, int64_t *tokens, float *logprobs,
          long rows, long vocabulary) {
#pragma omp parallel for schedule(static)
    for (long r = 0; r < rows; r++) {
        const number *row = logits + r * vocabulary;
        float most = load(row[0]), temperature = temperatures[r];
        double total = 0.0, before = 0.0;
#pragma omp simd reduction(max : most)
        for (long v = 0; v < vocabulary; v++) most = load(row[v]) > most ? load(row[v]) : most;
        for (int pass = 0; pass < 2; pass++) { /* the total, then the chunk that the point lies in */
            double point = uniforms[r] * total;
            long chunk = 0, last = 0;
            for (; chunk < vocabulary; chunk += CHUNK) {
                long end = chunk + CHUNK < vocabulary ? chunk + CHUNK : vocabulary;
                float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
                for (long v = chunk; v < end; v++) sum += weight(row[v], temperature, most);
                if (sum > 0.0f) last = chunk;
                if (pass == 0)
                    total += sum;
                else if (before + sum > point)
                    break;
                else
                    before += sum;
            }
            if (pass == 0) continue;
            if (chunk >= vocabulary) chunk = last; /* rounding may leave the point behind all of them */
            long chosen = -1;
            for (long v = chunk; v < chunk + CHUNK && v < vocabulary; v++) {
                float one = weight(row[v], temperature, most);
                if (one > 0.0f) chosen = v; /* or behind the last of these */
                before += one;
                if (before > point) break;
            }
            tokens[r] = chosen < 0 ? vocabulary - 1 : chosen;
        }
        logprobs[r] = (load(row[tokens[r]]) - most) / temperature - (float)log(total);
    }
}
