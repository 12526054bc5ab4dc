/* sha256.h - SHA-256 (FIPS 180-4) as a stream, by libsodium. Plain data, any thread. */
#pragma once

#include <sodium/crypto_hash_sha256.h>
#include <stddef.h>

struct sha256 {
    crypto_hash_sha256_state state;
};

void sha256_init(struct sha256 *sha);
void sha256_update(struct sha256 *sha, const void *bytes, size_t n_bytes);

/* Writes 64 lower-case hexadecimal digits and a terminator. The stream is used up. */
void sha256_final_hex(struct sha256 *sha, char out_hex[65]);
