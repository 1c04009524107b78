/* philox.c - Philox4x32-10 for the library's users. */
#include "fdm/random.h"

#include "base/philox.h"

void fdm_philox4x32_10(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]) {
    fdm_philox_block(out, counter, key);
}
