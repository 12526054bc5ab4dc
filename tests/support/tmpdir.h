/* tmpdir.h - a fresh folder for the files of one test. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct tmpdir {
    char path[256];
};

/* Makes an empty folder under $TMPDIR (default /tmp). False when that cannot be done. */
bool tmpdir_new(struct tmpdir *dir);

/* Removes the folder and what is in it. */
void tmpdir_remove(struct tmpdir *dir);

/* Writes the path of a file in the folder; returns out_path. */
const char *tmpdir_file(const struct tmpdir *dir, const char *name, char out_path[512]);

/* Writes n bytes to a file, over what is there. */
bool tmpdir_write(const char *path, const void *bytes, size_t n);
