/* gguf_example.h - the smallest interesting GGUF file, byte for byte, and small helpers to open it.
 *
 * Version 3, 384 bytes: general.architecture = "toy", toy.n = u32 7, toy.flag = true,
 * toy.arr = i32[1, -2, 3], toy.names = ["a", "bc"]; tensors a.weight F32 [3, 2] = 1..6 at byte 288
 * and q Q8_0 [32] with scale 1 and quants -16..15 at byte 320. */
#pragma once

#include <stdint.h>

#define GGUF_EXAMPLE_BYTES 384
#define GGUF_EXAMPLE_DATA 288 /* where the data section starts */
#define GGUF_EXAMPLE_END 354  /* where the last tensor ends; the rest is padding */

/* Writes the file. */
void gguf_example(uint8_t out_bytes[GGUF_EXAMPLE_BYTES]);
