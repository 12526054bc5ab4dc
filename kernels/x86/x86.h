/* x86.h - the tables of operations for x86-64 (kernels/kern.h says what they promise).
 * Read-only, any thread. */
#pragma once

struct kern_ops;

/* Tables that this CPU and system can run, best first: avx512-vnni, avx512, avx2-vnni, avx2. NULL
 * past the end. */
const struct kern_ops *kern_x86_at(unsigned index);

/* The table of that name if this machine can run it, else NULL. */
const struct kern_ops *kern_x86_find(const char *name);
