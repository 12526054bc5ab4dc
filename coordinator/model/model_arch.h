/* model_arch.h - what the files of this folder share: architectures, hyper-parameters, bound
 * weights, scratch. Only they and their tests include it.
 *
 * An architecture is one struct model_arch in one file and one row in model.c. Its
 * functions say which metadata and tensors a block has; the arithmetic comes from the shared
 * building blocks unless it overrides them. Binding borrows the mapped file; packing then
 * replaces the matrices that the kernels want in another layout by owned copies. */
#pragma once

#include "coordinator/model/model.h"
#include "proto/base/aligned.h"

/* Limits of what metadata may say: an order of magnitude above any published model, low enough
 * that products of three of them fit 64 bits. Tensor shapes are checked against the file
 * besides. */
#define MODEL_N_BLOCK_MAX 1024
#define MODEL_N_EMBD_MAX (1u << 17)
#define MODEL_N_FF_MAX (1u << 20)
#define MODEL_N_HEAD_MAX 4096
#define MODEL_N_DIM_HEAD_MAX 8192
#define MODEL_N_VOCAB_MAX (1u << 24)
#define MODEL_N_EXPERT_MAX 4096
#define MODEL_N_GROUP_MAX 256
#define MODEL_N_ROWS_MAX 65536

enum model_qk_norm {
    MODEL_QK_NORM_NONE = 0,
    MODEL_QK_NORM_HEAD,  /* each head by itself, weight [n_dim_k] */
    MODEL_QK_NORM_WHOLE, /* all heads together, weight [n_head * n_dim_k] */
};

/* Whether a tensor or key has to be there. */
enum model_need {
    MODEL_ABSENT = 0,
    MODEL_OPTIONAL,
    MODEL_REQUIRED,
};

/* Rotary positions as metadata describes them. */
struct model_rope_params {
    enum kern_rope kind;
    uint32_t n_rot;     /* rotated elements of a head, even */
    double base;
    double factor;      /* positions are divided by it; 1: no scaling */
    double attn_factor; /* multiplies cosine and sine */
    double ext_factor;  /* 0: linear scaling; else YaRN's mix */
    double beta_fast;
    double beta_slow;
    double n_ctx_orig;
};

/* The same as frequencies: pair i turns by position * inv_freq[i]. */
struct model_rope {
    enum kern_rope kind;
    uint32_t n_rot;
    float mag;
    double *inv_freq; /* [n_rot / 2], owned */
};

struct model_hparams {
    uint32_t n_block; /* as in the file: trunk and NextN blocks */
    uint32_t n_layer; /* trunk */
    uint32_t n_mtp;
    uint32_t n_ctx_train;
    uint32_t n_vocab;
    uint32_t n_embd;
    uint32_t n_head;
    uint32_t n_head_kv;
    uint32_t n_dim_k;
    uint32_t n_dim_v;
    uint32_t n_ff;            /* dense; 0 when the file does not say */
    uint32_t n_ff_exp;        /* one routed expert */
    uint32_t n_ff_shexp;      /* the shared expert; 0: none */
    uint32_t n_layer_dense;   /* leading dense blocks of a MoE model */
    float eps;                /* of every RMS norm */
    float attn_scale;
    struct model_rope_params rope;
    struct model_router router; /* n_expert 0: dense model; bias is per block */
};

struct model_attn {
    const float *norm; /* [n_embd] */
    struct kern_mat q, k, v, o;
    const float *q_bias, *k_bias, *v_bias, *o_bias; /* or NULL */
    enum model_qk_norm qk_norm;
    const float *q_norm, *k_norm;
};

struct model_ffn {
    struct kern_mat gate, up, down; /* gate.bytes NULL: there is none */
    const float *gate_bias, *up_bias, *down_bias; /* or NULL */
};

struct model_mtp {
    struct kern_mat eh_proj; /* [n_embd][2 n_embd] */
    const float *enorm, *hnorm;
    const float *head_norm;          /* NULL: the trunk's */
    const struct gguf_tensor *embd;  /* NULL: the trunk's */
    struct kern_mat head;            /* bytes NULL: the trunk's */
};

struct model_block {
    struct model_attn attn;
    const float *ffn_norm;
    bool is_moe;
    struct model_ffn ffn;        /* the dense FFN, or the shared expert of a MoE block */
    struct kern_mat shexp_gate;  /* [1][n_embd]: sigmoid factor of the shared expert; may be none */
    struct kern_mat router;      /* [n_expert][n_embd] */
    struct model_experts experts;
    struct model_mtp mtp;
};

struct model { /* immutable after load */
    const struct model_arch *arch;
    const struct gguf *gguf; /* borrowed */
    const struct kern_ops *kern;
    struct pool *pool; /* borrowed */
    struct model_shape shape;
    struct model_hparams hp;
    struct model_rope rope;
    const struct gguf_tensor *embd; /* rows are dequantised from the file */
    const float *output_norm;
    const float *rope_freqs; /* [n_rot / 2], or NULL */
    struct kern_mat head;
    struct model_block *blocks; /* [n_layer + n_mtp], owned */
    void **owned;               /* vectors and repacked matrices */
    size_t n_owned;
    size_t owned_capacity;
    uint64_t held_bytes; /* of what is in owned */
};

/* ---- metadata (model_hparams.c) ---- */

struct model_keys {
    const struct gguf *gguf;
    const char *arch; /* prefix of the keys */
};

/* Each reads "ARCH.suffix": 1 and the value, 0 when it is not there (value untouched;
 * ERR_BAD_INPUT when required), ERR_BAD_INPUT outside min..max or of another type. u32 also
 * takes an array with one entry per block when all entries are equal; ERR_UNSUPPORTED when they
 * are not. */
int model_key_u32(const struct model_keys *keys, const char *suffix, enum model_need need,
        uint32_t min, uint32_t max, uint32_t *value, struct err *err);
int model_key_f64(const struct model_keys *keys, const char *suffix, enum model_need need,
        double min, double max, double *value, struct err *err);
int model_key_bool(const struct model_keys *keys, const char *suffix, bool *value, struct err *err);

/* general.architecture as printable text; ERR_BAD_INPUT when there is none. */
int model_read_architecture(const struct gguf *gguf, char *out, size_t n_out, struct err *err);

/* The keys that all architectures share; arch->read() completes them. */
int model_hparams_read(const struct model_keys *keys, struct model_hparams *hp, struct err *err);

/* expert_gating_func, for architectures that read it. */
int model_read_gating(const struct model_keys *keys, enum model_gating if_absent,
        enum model_gating *gating, struct err *err);

/* What has to fit together once all is read. */
int model_hparams_check(const struct model_hparams *hp, struct err *err);

/* ---- rotary positions (model_rope.c) ---- */

int model_rope_read(const struct model_keys *keys, const struct model_hparams *hp,
        struct model_rope_params *rope, struct err *err);

/* freq_factors[n_rot / 2] divide the angles; NULL: none. ERR_NO_MEMORY, ERR_BAD_INPUT. */
int model_rope_init(struct model_rope *rope, const struct model_rope_params *params,
        const float *freq_factors, struct err *err);
void model_rope_fini(struct model_rope *rope);

/* ---- binding tensors (model_bind.c) ---- */

#define MODEL_GLOBAL UINT32_MAX /* as layer: the name stands alone, without "blk.N." */

struct model_pack {
    struct kern_mat *mat; /* to be repacked when the kernels want another layout */
    bool release;         /* the mapped range is not needed afterwards */
};

struct model_binder { /* owner: the loading thread */
    struct model *model;
    const struct gguf *gguf;
    bool dry; /* only check: vectors are not copied */
    uint32_t n_bad_type[DT_COUNT]; /* tensors of types that our kernels do not know */
    const struct gguf_tensor **used;
    size_t n_used;
    size_t used_capacity;
    struct model_pack *packs;
    size_t n_packs;
    size_t packs_capacity;
};

void model_binder_fini(struct model_binder *b);

/* True when the file has the tensor. */
bool model_bind_has(const struct model_binder *b, uint32_t layer, const char *name);

/* Binds tensor "blk.LAYER.NAME". An optional one that is absent leaves the output alone (zeroed
 * before). Types that cannot be computed with are counted, and reported by model_bind_finish().
 * ERR_BAD_INPUT (missing, or of another shape), ERR_NO_MEMORY. */
int model_bind_matrix(struct model_binder *b, uint32_t layer, const char *name,
        enum model_need need, uint32_t n_in, uint32_t n_out, struct kern_mat *mat, struct err *err);
int model_bind_vector(struct model_binder *b, uint32_t layer, const char *name,
        enum model_need need, uint32_t n, const float **vector, struct err *err);
int model_bind_table(struct model_binder *b, uint32_t layer, const char *name, enum model_need need,
        const struct gguf_tensor **table, struct err *err);

/* Embeddings, final norm, head (tied when it is optional and absent), frequency divisors. */
int model_bind_globals(struct model_binder *b, enum model_need head, enum model_need rope_freqs,
        struct err *err);

struct model_attn_form {
    enum model_need qkv_bias;
    enum model_need o_bias;
    enum model_qk_norm qk_norm;
    enum model_need qk_norm_need;
};

/* The parts of a block, by the names that most architectures use. */
int model_bind_attn(struct model_binder *b, uint32_t layer, const struct model_attn_form *form,
        struct err *err);
int model_bind_dense_ffn(struct model_binder *b, uint32_t layer, enum model_need bias,
        struct err *err);
int model_bind_experts(struct model_binder *b, uint32_t layer, enum model_need bias,
        struct err *err);
int model_bind_shexp(struct model_binder *b, uint32_t layer, bool has_gate, struct err *err);
int model_bind_mtp(struct model_binder *b, uint32_t layer, struct err *err);

/* Reports types that cannot be computed with, and tensors of the file that nobody asked for. */
int model_bind_finish(struct model_binder *b, struct err *err);

/* Keeps memory until model_free(); takes it on failure too. ERR_NO_MEMORY. */
int model_own(struct model *model, void *memory, uint64_t n_bytes, struct err *err);

/* Repacks what the binder collected. */
int model_pack_run(struct model_binder *b, const struct model_options *options, struct err *err);

/* ---- architectures ---- */

struct model_arch {
    const char *name; /* general.architecture */

    /* Reads what goes beyond model_hparams_read(). */
    int (*read)(const struct model_keys *keys, struct model_hparams *hp, struct err *err);

    /* Bind the tensors of the model and of one block (NextN blocks included). */
    int (*bind_globals)(struct model_binder *b, struct err *err);
    int (*bind_block)(struct model_binder *b, uint32_t layer, struct err *err);

    /* Optional: NULL means the model_std_ function of the same name. Contracts as in model.h. */
    bool (*attend)(const struct model *model, struct model_work *work,
            const struct model_batch *batch, uint32_t layer, struct model_routed *out_routed);
    void (*local)(const struct model *model, struct model_work *work,
            const struct model_batch *batch, uint32_t layer);
    void (*finish)(const struct model *model, struct model_work *work,
            const struct model_batch *batch, uint32_t layer, const int64_t *sums,
            const int8_t *grid, const uint8_t *poisoned);
};

extern const struct model_arch model_arch_llama, model_arch_qwen2, model_arch_qwen2moe,
        model_arch_qwen3, model_arch_qwen3moe, model_arch_olmoe, model_arch_glm4moe,
        model_arch_minimax_m2;

/* Reads and binds without repacking. dry: for summaries, the model cannot compute. The binder stays
 * with the caller; model_free() frees the model. */
int model_prepare(const struct gguf *gguf, bool dry, struct model_binder *b,
        struct model **out_model, struct err *err);

/* ---- scratch and loops (model_work.c) ---- */

/* Rows of one width in every form that weights pair with. */
struct model_act {
    uint32_t capacity; /* elements of a row */
    float *f32;        /* [n_rows][n_in]: where producers write */
    int8_t *q[ACT_KIND_COUNT];
    float *d[ACT_KIND_COUNT];
    int16_t *sum16[ACT_KIND_COUNT];
    struct kern_act form[ACT_KIND_COUNT]; /* set by model_act_make() */
};

struct model_work { /* owner: the thread that runs the batch */
    uint32_t n_rows_max;
    unsigned char *base; /* all of the below lies in here */
    float *x;            /* [n_rows][n_embd] the residual stream */
    struct model_act narrow; /* n_embd wide: normalised rows */
    struct model_act wide;   /* attention results, FFN activations, [embedding ; hidden] */
    float *q, *k, *v;        /* [n_rows][heads * width] */
    float *up;               /* [n_rows][n_ff]; the gate's side is in wide */
    float *tmp;              /* [n_rows][n_embd] a product before it joins the residual */
    float *share;            /* [n_rows][n_embd] shared expert's result */
    float *share_gate;       /* [n_rows] */
    float *logits;           /* [n_rows][n_expert] of the router */
    float *cos, *sin;        /* [n_rows][n_rot / 2] */
    float *attn_scratch;     /* [n_threads][attn_scratch_floats] */
    size_t attn_scratch_floats;
};

/* Runs fn over item ranges that cover 0 .. n_items-1. macs: an estimate of all multiply-adds, so
 * that small work stays on this thread. */
typedef void model_range_fn(void *arg, uint32_t begin, uint32_t end, uint32_t thread);
void model_run(const struct model *model, uint32_t n_items, uint64_t macs, model_range_fn *fn,
        void *arg);

/* The set of forms that a matrix needs; 0 for no matrix. */
uint32_t model_act_need(const struct kern_mat *mat);

/* Fills the forms in `need` of rows rows[n_rows][n_in]; with eps > 0 they are first normalised with
 * norm[n_in] into act->f32, else taken as they are (rows may be act->f32). */
void model_act_make(const struct model *model, struct model_act *act, uint32_t n_rows,
        uint32_t n_in, const float *rows, const float *norm, float eps, uint32_t need);

/* One product of a loop: y = W x, then + bias, then added to `add_to` (same stride as y). With
 * w2 it is a gated FFN: y2 = W2 x (+ bias2), then y = glu(y, y2). */
struct model_product {
    const struct kern_mat *w, *w2;
    const float *bias, *bias2;
    float *y, *y2;
    size_t y_stride;
    float *add_to;
};

/* Up to four products of the same rows in one loop over their outputs. */
#define MODEL_PRODUCTS_MAX 4
void model_multiply(const struct model *model, const struct model_act *act, uint32_t n_rows,
        const struct model_product *products, uint32_t n_products);

/* ---- building blocks (model_blocks.c) ---- */

/* Residual += attention of the block; appends keys and values. */
void model_attention(const struct model *model, struct model_work *work,
        const struct model_batch *batch, uint32_t layer);

/* y = ffn(narrow rows), added to add_to where it is not NULL. The forms of `narrow` that gate
 * and up need are there. */
void model_ffn_run(const struct model *model, struct model_work *work, const struct model_ffn *ffn,
        uint32_t n_rows, float *y, float *add_to);

bool model_std_attend(const struct model *model, struct model_work *work,
        const struct model_batch *batch, uint32_t layer, struct model_routed *out_routed);
void model_std_local(const struct model *model, struct model_work *work,
        const struct model_batch *batch, uint32_t layer);
void model_std_finish(const struct model *model, struct model_work *work,
        const struct model_batch *batch, uint32_t layer, const int64_t *sums, const int8_t *grid,
        const uint8_t *poisoned);
