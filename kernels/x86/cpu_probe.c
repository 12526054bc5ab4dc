/* cpu_probe.c - CPUID and XCR0. A feature counts only when the CPU reports it and the system saves
 * the registers it needs: a kernel or hypervisor may leave AVX-512 state switched off.
 * Owns: nothing. Does not: choose kernels. Runs on: any thread. */
#include "kernels/x86/cpu_probe.h"

#include <cpuid.h>
#include <stdbool.h>
#include <stdint.h>

#define BIT(n) (1U << (n))

/* Register state that the system saves; only where CPUID has OSXSAVE. */
static uint32_t read_xcr0(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    (void)high;
    return low;
}

static bool has(uint32_t word, uint32_t bits) {
    return (word & bits) == bits;
}

unsigned cpu_probe(void) {
    uint32_t a, b, c, d;
    const uint32_t leaf1_ecx = BIT(12) | BIT(27) | BIT(28) | BIT(29); /* FMA OSXSAVE AVX F16C */
    if (!__get_cpuid(1, &a, &b, &c, &d) || !has(c, leaf1_ecx)) return 0;

    const uint32_t ymm_state = BIT(1) | BIT(2), zmm_state = ymm_state | BIT(5) | BIT(6) | BIT(7);
    uint32_t xcr0 = read_xcr0();
    if (!has(xcr0, ymm_state)) return 0;

    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !has(b, BIT(5))) return 0;
    unsigned found = CPU_AVX2;
    uint32_t n_subleaves = a;
    const uint32_t avx512 = BIT(16) | BIT(17) | BIT(30) | BIT(31); /* F DQ BW VL */
    if (has(b, avx512) && has(xcr0, zmm_state)) {
        found |= CPU_AVX512;
        if (has(c, BIT(11))) found |= CPU_AVX512_VNNI;
    }
    if (n_subleaves >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && has(a, BIT(4)))
        found |= CPU_AVX2_VNNI;
    return found;
}
