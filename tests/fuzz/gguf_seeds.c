/* gguf_seeds.c - makes seeds for gguf_fuzz: gguf_seeds FOLDER [MODEL.gguf ...]
 *
 * The example file, a file with an entry of every kind and a tensor of every type, and the heads of
 * the given models, which are what the parser reads. */
#include "tests/support/gguf_example.h"
#include "tests/support/gguf_writer.h"
#include "tests/support/tmpdir.h"

#include <stdio.h>
#include <string.h>

#define HEAD_BYTES 8192

static const char *in_folder(const char *folder, const char *name, char out_path[512]) {
    snprintf(out_path, 512, "%s/%s", folder, name);
    return out_path;
}

static int make_varied(const char *path, struct err *err) {
    struct gguf_writer w;
    gguf_writer_begin(&w);
    gguf_writer_u32(&w, "general.alignment", 8);
    w.alignment = 8;
    gguf_writer_i8(&w, "i8", -1);
    gguf_writer_u16(&w, "split.count", 0);
    gguf_writer_i16(&w, "i16", -2);
    gguf_writer_i32(&w, "split.tensors.count", 1);
    gguf_writer_u64(&w, "u64", UINT64_MAX);
    gguf_writer_i64(&w, "i64", INT64_MIN);
    gguf_writer_f32(&w, "f32", 1.5f);
    gguf_writer_f64(&w, "f64", 2.5);
    gguf_writer_array(&w, "floats", GGUF_F32, 3, (const float[]){1, 2, 3});
    gguf_writer_str_array(&w, "strings", 3, (const char *const[]){"", "a", "bcd"});
    for (uint32_t id = 0; id < DT_COUNT; id++) {
        char name[16];
        snprintf(name, sizeof name, "t%u", id);
        if (dtype_find(id)) gguf_writer_tensor(&w, name, id, 1, (const uint64_t[]){256}, NULL);
    }
    int rc = gguf_writer_finish_file(&w, path, err);
    gguf_writer_fini(&w);
    return rc;
}

static int copy_head(const char *model, const char *path, struct err *err) {
    char bytes[HEAD_BYTES];
    FILE *file = fopen(model, "rb");
    if (!file) return err_set(err, ERR_IO, "cannot open %s", model);
    size_t n = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    return tmpdir_write(path, bytes, n) ? 0 : err_set(err, ERR_IO, "cannot write %s", path);
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: gguf_seeds FOLDER [MODEL.gguf ...]\n");
        return 2;
    }
    struct err err = ERR_INIT;
    char path[512];
    uint8_t example[GGUF_EXAMPLE_BYTES];
    gguf_example(example);
    int rc = tmpdir_write(in_folder(argv[1], "example", path), example, sizeof example)
                     ? 0
                     : err_set(&err, ERR_IO, "cannot write %s", path);
    if (rc == 0) rc = make_varied(in_folder(argv[1], "varied", path), &err);
    for (int i = 2; rc == 0 && i < argc; i++) {
        char name[32];
        snprintf(name, sizeof name, "head-%d", i);
        rc = copy_head(argv[i], in_folder(argv[1], name, path), &err);
    }
    if (rc < 0) err_print(&err, "gguf_seeds", stderr);
    return rc < 0;
}
