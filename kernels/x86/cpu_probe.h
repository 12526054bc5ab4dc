/* cpu_probe.h - which vector instructions the CPU has and the system lets programs use.
 * Built with baseline flags; pure, any thread. Internal to kernels/x86. */
#pragma once

enum cpu_feature {
    CPU_AVX2 = 1,        /* AVX2, FMA and F16C, 256-bit registers saved by the system */
    CPU_AVX512 = 2,      /* F, BW, DQ and VL besides, 512-bit and mask registers saved */
    CPU_AVX512_VNNI = 4, /* and vpdpbusd on them */
    CPU_AVX2_VNNI = 8,   /* AVX2 with vpdpbusd on 256-bit registers */
};

/* A set of enum cpu_feature. */
unsigned cpu_probe(void);
