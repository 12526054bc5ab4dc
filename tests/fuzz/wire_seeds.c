/* wire_seeds.c - writes one seed for wire_fuzz per example message into a folder. */
#include "tests/support/wire_example.h"

#include <stdio.h>

static int write_seed(const char *folder, const struct wire_example *example) {
    char path[512];
    struct wire_out out;
    example->encode(&out);
    snprintf(path, sizeof path, "%s/%s", folder, example->name);
    FILE *file = fopen(path, "wb");
    if (!file) return 1;
    for (uint32_t i = 0; i < out.n_frames; i++) {
        size_t n = out.frames[i].n_bytes;
        fputc((int)(n & 255), file);
        fputc((int)(n >> 8), file);
        fwrite(out.frames[i].bytes, 1, n, file);
    }
    return fclose(file) != 0;
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: wire_seeds FOLDER\n");
        return 2;
    }
    for (int i = 0; i < WIRE_EXAMPLES; i++)
        if (write_seed(argv[1], &wire_examples[i])) {
            fprintf(stderr, "wire_seeds: cannot write into %s\n", argv[1]);
            return 1;
        }
    return 0;
}
