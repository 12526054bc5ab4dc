/* aligned.c - aligned heap blocks. Owns: nothing. Runs on: any thread. */
#include "proto/base/aligned.h"

#include "proto/base/checked.h"

#include <stdlib.h>

#define BLOCK_ALIGN 64

void *aligned_new(size_t n_bytes) {
    if (n_bytes > SIZE_MAX / 2) return NULL;
    void *bytes = NULL;
    size_t n = align_up(n_bytes ? n_bytes : 1, BLOCK_ALIGN);
    return posix_memalign(&bytes, BLOCK_ALIGN, n) == 0 ? bytes : NULL;
}
