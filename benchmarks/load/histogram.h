/* A histogram of nanoseconds, exact to 3 %. */
#ifndef HISTOGRAM_H
#define HISTOGRAM_H

#include <stdint.h>

enum { STEPS = 32 }; /* in each power of two */

typedef struct {
    uint64_t count;
    uint64_t most;
    uint64_t in[64 * STEPS];
} histogram;

static inline void histogram_add(histogram *to, uint64_t value) {
    int power = value < STEPS ? 0 : 58 - __builtin_clzll(value);
    to->in[power * STEPS + (value >> power)]++;
    to->count++;
    if (value > to->most) to->most = value;
}

/* The value that the given share of *all* does not exceed; -1 if fewer were recorded. */
static inline double histogram_at(const histogram *in, double share, uint64_t all) {
    uint64_t rank = (uint64_t)(share * (double)all + 0.999999), seen = 0;
    if (rank < 1) rank = 1;
    if (!all || rank > in->count) return -1;
    for (int slot = 0; slot < 64 * STEPS; slot++) {
        seen += in->in[slot];
        if (seen >= rank) {
            int power = slot < 2 * STEPS ? 0 : slot / STEPS - 1;
            uint64_t base = (uint64_t)(slot - power * STEPS) << power;
            uint64_t middle = base + ((1ull << power) >> 1);
            return (double)(middle < in->most ? middle : in->most);
        }
    }
    return -1;
}

#endif
