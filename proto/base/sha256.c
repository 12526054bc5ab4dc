/* sha256.c - a thin face over libsodium. Owns: nothing. Runs on: any thread. */
#include "proto/base/sha256.h"

#include <sodium/utils.h>

void sha256_init(struct sha256 *sha) {
    crypto_hash_sha256_init(&sha->state);
}

void sha256_update(struct sha256 *sha, const void *bytes, size_t n_bytes) {
    crypto_hash_sha256_update(&sha->state, bytes, n_bytes);
}

void sha256_final_hex(struct sha256 *sha, char out_hex[65]) {
    unsigned char digest[crypto_hash_sha256_BYTES];
    crypto_hash_sha256_final(&sha->state, digest);
    sodium_bin2hex(out_hex, 65, digest, sizeof digest);
}
