/* exec_run.c - the three phases of a batch: gate and up, quantise, down and merge.
 * Owns: the run under way. Does not: hold weights (store) or allocate once scratch has grown.
 * Runs on: the executor's owner; pieces on all threads of the pool.
 *
 *   routes by expert        slice of hidden rows            sums, one range of columns a piece
 *   +--------------+  A     +-------------------+  B    +--------+  C     +--+--+--+--+
 *   | e0 r0 r3 r4  | -----> | h f32 [route][ff] | ----> | q d sum| -----> |  |  |  |  | [row][embd]
 *   | e1 r1        |        +-------------------+       +--------+        +--+--+--+--+
 *
 * A piece of phase C owns its columns of every row, so sums need no lock; they are integers, so the
 * number of pieces, slices and threads leaves no trace in them. */
#include "worker/exec/exec.h"

#include "proto/base/checked.h"
#include "worker/exec/exec_internal.h"

#include <string.h>

/* Pieces that each thread should find, so that one which is held up costs an eighth of its share. */
#define PIECES_PER_THREAD 8

/* Weights below which a piece is not worth the handing out. */
#define PIECE_BYTES_MIN (32u << 10)

/* Elements of hidden rows that are quantised sooner than other threads would have woken up. */
#define QUANTISE_ALONE (16u << 10)

/* A contribution is below 2^52 steps, so this many cannot overflow a sum. */
#define ROUTES_PER_ROW_MAX 1024

/* Grid exponents that merging is defined for (docs/numerics.md, rule 6). */
#define GRID_MIN (-118)
#define GRID_MAX 100

/* One call of exec_run; read by all threads, written by the owner between phases. */
struct run {
    struct exec *exec;
    const struct exec_batch *batch;
    const struct store_layer *layer;
    const struct kern_act *gate_act;
    const struct kern_act *up_act;
    int64_t *sums;

    struct exec_slice slice;
    float *h;                        /* [slice.n_routes][n_ff] */
    struct kern_act hidden;          /* the same as down takes it */
    const struct exec_group *groups; /* of this slice */
    uint32_t n_groups;
    uint32_t first; /* route where the slice starts */
    uint32_t n;     /* its routes */

    uint32_t width;      /* output rows of a piece of the present phase */
    uint32_t n_pieces;   /* pieces of one expert (A), of the whole (C) */
    uint32_t n_quantise; /* routes of a piece of phase B */
};

/* --------------------------------------------------------------- checking -- */

static int check_act(const struct exec_batch *batch, const struct store_layer *layer,
        enum dtype type, const struct kern_act **out_act, struct err *err) {
    enum act_kind kind = dtype_find(type)->act;
    const struct kern_act *act = batch->acts[kind];
    if (!act)
        return err_set(err, ERR_BAD_INPUT,
                "layer %u needs rows in the form for %s, which are missing", batch->layer,
                dtype_name(type));
    if (act->kind != kind || act->n_in != layer->n_embd || act->n_rows < batch->n_rows)
        return err_set(err, ERR_BAD_INPUT, "layer %u needs %u rows of %u elements; got %u of %u",
                batch->layer, batch->n_rows, layer->n_embd, act->n_rows, act->n_in);
    *out_act = act;
    return 0;
}

static int check_route(const struct run *run, uint32_t i, struct err *err) {
    const struct exec_batch *batch = run->batch;
    const struct exec_route *route = &batch->routes[i];
    if (route->row >= batch->n_rows || route->expert >= run->layer->n_expert)
        return err_set(err, ERR_BAD_INPUT,
                "layer %u: route %u sends row %u of %u to expert %u of %u", batch->layer, i,
                route->row, batch->n_rows, route->expert, run->layer->n_expert);

    const struct exec_route *last = i ? route - 1 : NULL;
    if (last && (last->expert > route->expert ||
                        (last->expert == route->expert && last->row >= route->row)))
        return err_set(err, ERR_BAD_INPUT,
                "layer %u: route %u (expert %u, row %u) comes after (expert %u, row %u)",
                batch->layer, i, route->expert, route->row, last->expert, last->row);
    if (++run->exec->n_routes_of[route->row] > ROUTES_PER_ROW_MAX)
        return err_set(err, ERR_BAD_INPUT, "layer %u: more than %d experts for row %u",
                batch->layer, ROUTES_PER_ROW_MAX, route->row);
    return 0;
}

/* Checks the routes and groups them by expert, cut where slices end. Returns the groups. */
static int group_routes(struct run *run, struct err *err) {
    struct exec *exec = run->exec;
    const struct exec_batch *batch = run->batch;
    uint32_t n_groups = 0;
    memset(exec->n_routes_of, 0, batch->n_rows * sizeof *exec->n_routes_of);

    for (uint32_t i = 0; i < batch->n_routes; i++) {
        int rc = check_route(run, i, err);
        if (rc < 0) return rc;
        const struct exec_route *route = &batch->routes[i];
        exec->row_of[i] = route->row;
        bool new_expert = i == 0 || route[-1].expert != route->expert;
        if (new_expert || i % run->slice.n_routes == 0) {
            const struct store_expert *expert =
                    store_find(exec->store, batch->layer, route->expert);
            if (!expert)
                return err_set(err, ERR_NOT_FOUND, "expert %u of layer %u is not held here",
                        route->expert, batch->layer);
            exec->groups[n_groups++] = (struct exec_group){.expert = expert, .first = i};
        }
        exec->groups[n_groups - 1].n++;
    }
    return (int)n_groups;
}

static int check_batch(struct run *run, struct err *err) {
    const struct exec_batch *batch = run->batch;
    run->layer = store_find_layer(run->exec->store, batch->layer);
    if (!run->layer) return err_set(err, ERR_NOT_FOUND, "layer %u was not announced", batch->layer);

    int rc = check_act(batch, run->layer, run->layer->gate_type, &run->gate_act, err);
    if (rc == 0) rc = check_act(batch, run->layer, run->layer->up_type, &run->up_act, err);
    if (rc < 0) return rc;
    for (uint32_t r = 0; r < batch->n_rows; r++)
        if (batch->grid[r] < GRID_MIN || batch->grid[r] > GRID_MAX)
            return err_set(err, ERR_BAD_INPUT,
                    "layer %u: grid exponent %d of row %u; %d to %d are possible", batch->layer,
                    batch->grid[r], r, GRID_MIN, GRID_MAX);
    return 0;
}

/* ---------------------------------------------------------------- cutting -- */

/* Output rows of a piece: `units` matrices of n_out rows are cut, bytes_per_out weights stand behind
 * one output row of a piece. */
static uint32_t piece_width(
        const struct run *run, uint32_t n_out, uint64_t units, uint64_t bytes_per_out) {
    uint64_t steps = units * ((n_out + KERN_OUT_STEP - 1) / KERN_OUT_STEP);
    uint64_t step_bytes = bytes_per_out * KERN_OUT_STEP;
    uint64_t least = (PIECE_BYTES_MIN + step_bytes - 1) / step_bytes;
    uint64_t even = steps / ((uint64_t)pool_n_threads(run->exec->pool) * PIECES_PER_THREAD);
    uint64_t width = max_u64(max_u64(even, least), 1) * KERN_OUT_STEP;
    return (uint32_t)min_u64(width, EXEC_WIDTH_MAX);
}

static uint64_t row_bytes(const struct kern_mat *mat) {
    return dtype_row_bytes(mat->type, mat->n_in);
}

/* Output rows [o0, o1) as a matrix of their own; groups of KERN_OUT_STEP rows are units of every
 * layout. */
static struct kern_mat cut_mat(const struct kern_mat *mat, uint32_t o0, uint32_t o1) {
    uint64_t at = o0 ? kern_mat_bytes(mat->type, mat->layout, mat->n_in, o0) : 0;
    struct kern_mat cut = *mat;
    cut.n_out = o1 - o0;
    cut.bytes = (const unsigned char *)mat->bytes + at;
    return cut;
}

/* n rows from row0 on. */
static struct kern_act cut_act(const struct kern_act *act, uint32_t row0, uint32_t n) {
    struct kern_act cut = *act;
    cut.n_rows = n;
    if (act->kind == ACT_F32) {
        cut.f32 += (size_t)row0 * act->n_in;
        return cut;
    }
    cut.q += (size_t)row0 * act->n_in;
    cut.d += (size_t)row0 * (act->n_in / act_block(act->kind));
    cut.sum16 += (size_t)row0 * (act->n_in / 16);
    return cut;
}

static float *scratch_of(const struct run *run, uint32_t thread) {
    return run->exec->thread_scratch + (size_t)thread * EXEC_ROWS * EXEC_WIDTH_MAX;
}

/* ----------------------------------------------------------------- phases -- */

/* A: h = glu(gate x, up x) for one expert and one range of n_ff. */
static void gate_up_piece(void *arg, uint32_t task, uint32_t thread) {
    const struct run *run = arg;
    const struct kern_ops *kern = run->exec->kern;
    const struct exec_group *group = &run->groups[task / run->n_pieces];
    uint32_t n_ff = run->layer->n_ff;
    uint32_t o0 = task % run->n_pieces * run->width;
    uint32_t o1 = (uint32_t)min_u64((uint64_t)o0 + run->width, n_ff);
    uint32_t width = o1 - o0;
    struct kern_mat up = cut_mat(&group->expert->up, o0, o1);
    float *y = scratch_of(run, thread);

    for (uint32_t done = 0; done < group->n; done += EXEC_ROWS) {
        uint32_t n = (uint32_t)min_u64(EXEC_ROWS, group->n - done);
        uint32_t route = group->first + done;
        const uint32_t *rows = run->exec->row_of + route;
        float *h = run->h + (size_t)(route - run->first) * n_ff;
        kern->matmul(&group->expert->gate, o0, o1, run->gate_act, rows, n, h, n_ff);
        kern->matmul(&up, 0, width, run->up_act, rows, n, y, width);
        for (uint32_t i = 0; i < n; i++) {
            float *at = h + (size_t)i * n_ff + o0;
            kern->glu(run->layer->glu, at, at, y + (size_t)i * width, width);
        }
    }
}

/* B: hidden rows in the form that down takes. */
static void quantise_piece(void *arg, uint32_t task, uint32_t thread) {
    (void)thread;
    const struct run *run = arg;
    uint32_t n_ff = run->layer->n_ff;
    uint32_t row0 = task * run->n_quantise;
    uint32_t n = (uint32_t)min_u64(run->n_quantise, run->n - row0);
    unsigned char *slice = run->exec->slice;
    size_t n_blocks = n_ff / act_block(run->slice.kind);

    run->exec->kern->quantise(run->slice.kind, run->h + (size_t)row0 * n_ff, n_ff, n, n_ff,
            (int8_t *)(slice + run->slice.q_at) + (size_t)row0 * n_ff,
            (float *)(void *)(slice + run->slice.d_at) + row0 * n_blocks,
            (int16_t *)(void *)(slice + run->slice.sum16_at) + (size_t)row0 * (n_ff / 16));
}

static void zero_columns(const struct run *run, uint32_t o0, uint32_t width) {
    for (uint32_t r = 0; r < run->batch->n_rows; r++)
        memset(run->sums + (size_t)r * run->layer->n_embd + o0, 0, width * sizeof *run->sums);
}

/* C: down for all experts of the slice and one range of columns, added to the rows' sums. */
static void down_piece(void *arg, uint32_t task, uint32_t thread) {
    const struct run *run = arg;
    const struct kern_ops *kern = run->exec->kern;
    uint32_t n_embd = run->layer->n_embd;
    uint32_t o0 = task * run->width;
    uint32_t o1 = (uint32_t)min_u64((uint64_t)o0 + run->width, n_embd);
    uint32_t width = o1 - o0;
    float *y = scratch_of(run, thread);
    if (run->first == 0) zero_columns(run, o0, width);

    for (uint32_t g = 0; g < run->n_groups; g++) {
        const struct exec_group *group = &run->groups[g];
        struct kern_mat down = cut_mat(&group->expert->down, o0, o1);
        for (uint32_t done = 0; done < group->n; done += EXEC_ROWS) {
            uint32_t n = (uint32_t)min_u64(EXEC_ROWS, group->n - done);
            uint32_t route = group->first + done;
            struct kern_act act = cut_act(&run->hidden, route - run->first, n);
            kern->matmul(&down, 0, width, &act, NULL, n, y, width);
            for (uint32_t i = 0; i < n; i++) {
                uint32_t row = run->exec->row_of[route + i];
                bool ok = kern->merge_add(run->sums + (size_t)row * n_embd + o0,
                        y + (size_t)i * width, run->batch->routes[route + i].weight,
                        run->batch->grid[row], width);
                /* relaxed: read after the pool's barrier */
                if (!ok) atomic_store_explicit(&run->exec->poison[row], 1, memory_order_relaxed);
            }
        }
    }
}

/* ---------------------------------------------------------------- running -- */

static void run_gate_up(struct run *run) {
    uint32_t n_ff = run->layer->n_ff;
    const struct store_expert *any = run->groups[0].expert;
    run->width = piece_width(run, n_ff, run->n_groups, row_bytes(&any->gate) + row_bytes(&any->up));
    run->n_pieces = (n_ff + run->width - 1) / run->width;
    pool_run(run->exec->pool, run->n_pieces * run->n_groups, gate_up_piece, run);
}

static void run_quantise(struct run *run) {
    if (run->slice.kind == ACT_F32) return;

    uint64_t n_elems = (uint64_t)run->n * run->layer->n_ff;
    uint32_t n_tasks = pool_n_threads(run->exec->pool) * PIECES_PER_THREAD;
    run->n_quantise = n_elems <= QUANTISE_ALONE ? run->n : (run->n + n_tasks - 1) / n_tasks;
    pool_run(
            run->exec->pool, (run->n + run->n_quantise - 1) / run->n_quantise, quantise_piece, run);
}

static void run_down(struct run *run) {
    uint32_t n_embd = run->layer->n_embd;
    uint64_t bytes_per_out = row_bytes(&run->groups[0].expert->down) * run->n_groups;
    run->width = piece_width(run, n_embd, 1, bytes_per_out);
    run->n_pieces = (n_embd + run->width - 1) / run->width;
    pool_run(run->exec->pool, run->n_pieces, down_piece, run);
}

static void run_slices(struct run *run, uint32_t n_groups) {
    struct exec *exec = run->exec;
    unsigned char *slice = exec->slice;
    run->h = (float *)(void *)slice;
    run->hidden = (struct kern_act){.kind = run->slice.kind,
            .n_in = run->layer->n_ff,
            .f32 = run->h,
            .q = (int8_t *)(slice + run->slice.q_at),
            .d = (float *)(void *)(slice + run->slice.d_at),
            .sum16 = (int16_t *)(void *)(slice + run->slice.sum16_at)};

    for (uint32_t g = 0; g < n_groups; g += run->n_groups) {
        run->groups = &exec->groups[g];
        run->first = run->groups[0].first;
        run->n_groups = run->n = 0;
        while (g + run->n_groups < n_groups &&
                run->n + run->groups[run->n_groups].n <= run->slice.n_routes)
            run->n += run->groups[run->n_groups++].n;
        run->hidden.n_rows = run->n;
        run_gate_up(run);
        run_quantise(run);
        run_down(run);
    }
}

int exec_run(struct exec *exec, const struct exec_batch *batch, int64_t *sums, uint8_t *poisoned,
        struct err *err) {
    if (batch->n_rows == 0) return 0;
    struct run run = {.exec = exec, .batch = batch, .sums = sums};
    int rc = check_batch(&run, err);
    if (rc < 0) return rc;

    uint32_t n_embd = run.layer->n_embd;
    if (batch->n_routes == 0) {
        memset(sums, 0, (size_t)batch->n_rows * n_embd * sizeof *sums);
        memset(poisoned, 0, batch->n_rows);
        return 0;
    }
    run.slice = exec_slice_of(run.layer, batch->n_routes);
    if (batch->n_rows > exec->n_rows_max || batch->n_routes > exec->n_routes_max ||
            run.slice.n_bytes > exec->slice_bytes)
        rc = exec_reserve(exec, batch->n_rows, batch->n_routes, err);
    if (rc < 0) return rc;
    int n_groups = group_routes(&run, err);
    if (n_groups < 0) return n_groups;

    for (uint32_t r = 0; r < batch->n_rows; r++)
        atomic_store_explicit(&exec->poison[r], 0, memory_order_relaxed);
    run_slices(&run, (uint32_t)n_groups);
    for (uint32_t r = 0; r < batch->n_rows; r++) {
        poisoned[r] = atomic_load_explicit(&exec->poison[r], memory_order_relaxed);
        if (poisoned[r]) memset(sums + (size_t)r * n_embd, 0, n_embd * sizeof *sums);
    }
    return 0;
}
