/* tmpdir.c - a fresh folder for the files of one test. Owns: the folder. Does not: keep files open.
 * Runs on: any thread. */
#include "tests/support/tmpdir.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>

bool tmpdir_new(struct tmpdir *dir) {
    const char *base = getenv("TMPDIR");
    snprintf(dir->path, sizeof dir->path, "%s/potluck-test-XXXXXX", base && *base ? base : "/tmp");
    return mkdtemp(dir->path) != NULL;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *where) {
    (void)st;
    (void)kind;
    (void)where;
    return remove(path);
}

void tmpdir_remove(struct tmpdir *dir) {
    if (dir->path[0]) (void)nftw(dir->path, remove_one, 16, FTW_DEPTH | FTW_PHYS); /* best effort */
    dir->path[0] = 0;
}

const char *tmpdir_file(const struct tmpdir *dir, const char *name, char out_path[512]) {
    snprintf(out_path, 512, "%s/%s", dir->path, name);
    return out_path;
}

bool tmpdir_write(const char *path, const void *bytes, size_t n) {
    FILE *file = fopen(path, "wb");
    if (!file) return false;
    bool good = fwrite(bytes, 1, n, file) == n;
    return fclose(file) == 0 && good;
}
