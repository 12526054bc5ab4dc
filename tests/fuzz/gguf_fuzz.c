/* gguf_fuzz.c - any bytes as a GGUF file: opening gives an error or a file whose every key, array
 * and tensor can be read. Seeds come from gguf_seeds. */
#include "tests/support/gguf_walk.h"

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
    struct gguf *gguf = NULL;
    struct err err = ERR_INIT;
    int rc = gguf_open_bytes(bytes, n, &gguf, &err);
    if (rc < 0) {
        ASSERT(gguf == NULL);
        ASSERT(err.code == rc);
        return 0;
    }
    (void)gguf_walk(gguf);
    gguf_free(gguf);
    return 0;
}
