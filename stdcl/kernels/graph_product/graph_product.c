/* CTR-GCN's refined graphs and the product with them, float32, for processors with AVX-512. What is computed is said in
 * __init__.py, which checks addresses and sizes; reference.py has the same in PyTorch operations.
 *
 * A sample is worked off in blocks of 16 channels, so that the graphs of a block, which are never written to memory, its
 * sums and the turned gradient stay in the second cache. Samples are spread over threads; no result depends on their
 * number. No two arrays of a call may overlap.
 */
#define PY_SSIZE_T_CLEAN
#include "../avx512.h"

enum { BLOCK = 16 }; /* channels of a block */

typedef struct {
    idx batch, channels, subsets, reduced, joints, frames; /* B, C, S, R, V, T */
    idx factors, padded;                                   /* K = R + 2; V in whole vectors */
} Sizes;

#ifdef WITH_AVX512

/* out(m, n) = sum over k of a(m, k) b(n, k), rows of a and b contiguous. Rows past the last are read as the last. */
VECTOR static void inner_product(idx rows, idx columns, idx depth, const float *a, idx a_row, const float *b, idx b_row,
                                 float *out, idx out_row)
{
    for (idx m = 0; m < rows; m += 4)
        for (idx n = 0; n < columns; n += 4) {
            const float *left[4], *right[4];
            for (idx i = 0; i < 4; i++) {
                left[i] = a + (m + i < rows ? m + i : rows - 1) * a_row;
                right[i] = b + (n + i < columns ? n + i : columns - 1) * b_row;
            }
            __m512 sum[16];
#pragma GCC unroll 16
            for (int i = 0; i < 16; i++)
                sum[i] = _mm512_setzero_ps();
            for (idx k = 0; k < depth; k += LANES) {
                __mmask16 mask = first(depth - k);
                __m512 row[4];
#pragma GCC unroll 4
                for (int j = 0; j < 4; j++)
                    row[j] = load(mask, right[j] + k);
#pragma GCC unroll 4
                for (int i = 0; i < 4; i++) {
                    __m512 own = load(mask, left[i] + k);
#pragma GCC unroll 4
                    for (int j = 0; j < 4; j++)
                        sum[4 * i + j] = _mm512_fmadd_ps(own, row[j], sum[4 * i + j]);
                }
            }
            turn(sum);
            float total[LANES];
            __m512 all = sum[0];
#pragma GCC unroll 16
            for (int i = 1; i < 16; i++)
                all = _mm512_add_ps(all, sum[i]);
            _mm512_storeu_ps(total, all);
            for (idx i = 0; i < 4 && m + i < rows; i++)
                for (idx j = 0; j < 4 && n + j < columns; j++)
                    out[(m + i) * out_row + n + j] = total[4 * i + j];
        }
}

/* The graphs of a block of channels, (16, S, V_v, V_u). */
VECTOR static void block_graphs(Sizes z, const float *mixing, const float *basis, idx channel, float *graphs)
{
    idx pairs = z.joints * z.joints;
    for (idx s = 0; s < z.subsets; s++)
        product(BLOCK, pairs,
                (Left){mixing + (s * z.channels + channel) * z.factors, z.factors, 1, 0, z.factors, 1},
                (Right){basis + s * z.factors * pairs, pairs}, NOTHING, graphs + s * pairs, z.subsets * pairs);
}

/* basis (S, K, V_v, V_u) = [tanh(q_u - k_v); 1; A_uv], and columns (S K, padded V_u), its sums over V_v. `turned_qk` holds
 * (2 S R, padded V): q of every subset, then k. */
VECTOR static void fill_basis(Sizes z, const float *qk, const float *a, float *turned_qk, float *basis, float *columns)
{
    idx v = z.joints, pairs = v * v, half = z.subsets * z.reduced;
    turned(v, 2 * half, qk, 2 * half, turned_qk);
    for (idx s = 0; s < z.subsets; s++) {
        for (idx r = 0; r < z.reduced; r++) {
            const float *q = turned_qk + (s * z.reduced + r) * z.padded, *k = q + half * z.padded;
            float *out = basis + (s * z.factors + r) * pairs, *column = columns + (s * z.factors + r) * z.padded;
            for (idx u = 0; u < v; u += LANES) {
                __m512 own = _mm512_loadu_ps(q + u), sum = _mm512_setzero_ps();
                for (idx w = 0; w < v; w++) {
                    __m512 relation = hyperbolic_tangent(_mm512_sub_ps(own, _mm512_set1_ps(k[w])));
                    sum = _mm512_add_ps(sum, relation);
                    _mm512_mask_storeu_ps(out + w * v + u, first(v - u), relation);
                }
                _mm512_storeu_ps(column + u, sum);
            }
        }
        float *ones = basis + (s * z.factors + z.reduced) * pairs, *adjacency = ones + pairs;
        float *of_ones = columns + (s * z.factors + z.reduced) * z.padded, *of_adjacency = of_ones + z.padded;
        for (idx i = 0; i < pairs; i++)
            ones[i] = 1.0f;
        for (idx u = 0; u < v; u++) {
            of_ones[u] = (float)v;
            of_adjacency[u] = 0.0f;
            for (idx w = 0; w < v; w++) {
                adjacency[w * v + u] = a[(s * v + u) * v + w];
                of_adjacency[u] += a[(s * v + u) * v + w];
            }
        }
    }
}

/* Scratch of both directions: turned_qk, basis, columns. */
static idx basis_size(Sizes z)
{
    idx factors = z.subsets * z.factors;
    return 2 * z.subsets * z.reduced * z.padded + factors * (z.joints * z.joints + z.padded);
}

static idx mix_size(Sizes z)
{
    return basis_size(z) + z.joints * z.channels + BLOCK * z.joints * (z.subsets * z.joints + z.frames);
}

/* One sample: out (V, T, C) from values (C, S, V, T) and qk (V, 2 S R). */
VECTOR static void mix_sample(Sizes z, const float *values, const float *qk, const float *a, const float *mixing,
                              const float *biased, float *out, float *scratch)
{
    idx v = z.joints, t = z.frames, pairs = v * v, rows = v * t, sources = z.subsets * v;
    idx factors = z.subsets * z.factors;
    float *turned_qk = scratch, *basis = turned_qk + 2 * z.subsets * z.reduced * z.padded;
    float *columns = basis + factors * pairs, *offset = columns + factors * z.padded; /* (V, C) */
    float *graphs = offset + v * z.channels, *sums = graphs + BLOCK * z.subsets * pairs; /* (16, S, V, V), (16, V, T) */
    fill_basis(z, qk, a, turned_qk, basis, columns);
    product(v, z.channels, (Left){columns, 1, 1, 0, factors, z.padded}, (Right){biased, z.channels}, NOTHING, offset,
            z.channels);
    for (idx channel = 0; channel < z.channels; channel += BLOCK) {
        block_graphs(z, mixing, basis, channel, graphs);
        for (idx c = 0; c < BLOCK; c++)
            product(v, t, (Left){graphs + c * z.subsets * pairs, 1, 1, 0, sources, v},
                    (Right){values + (channel + c) * sources * t, t}, NOTHING, sums + c * rows, t);
        for (idx start = 0; start < rows; start += LANES) {
            idx left = rows - start < LANES ? rows - start : LANES;
            __m512 r[LANES];
#pragma GCC unroll 16
            for (int c = 0; c < LANES; c++)
                r[c] = load(first(left), sums + c * rows + start);
            turn(r);
            for (idx i = 0; i < left; i++) {
                idx row = start + i;
                __m512 added = _mm512_loadu_ps(offset + row / t * z.channels + channel);
                _mm512_storeu_ps(out + row * z.channels + channel, _mm512_add_ps(r[i], added));
            }
        }
    }
}

static idx mix_backward_size(Sizes z)
{
    idx v = z.joints, factors = z.subsets * z.factors;
    return basis_size(z) + factors * (v * v + v + z.padded) + v * z.channels + BLOCK * 2 * z.subsets * v * v +
           BLOCK * (v * z.frames + z.frames * z.padded);
}

/* From the gradient of basis and of its columns to those of q, k and A. */
VECTOR static void leave_basis(Sizes z, const float *basis, const float *grad_basis, const float *grad_columns,
                               float *grad_qk, float *grad_a)
{
    idx v = z.joints, pairs = v * v, half = z.subsets * z.reduced;
    for (idx s = 0; s < z.subsets; s++) {
        for (idx r = 0; r < z.reduced; r++) {
            idx at = s * z.factors + r;
            float *of_q = grad_qk + s * z.reduced + r, *of_k = of_q + half, total[LANES];
            for (idx u = 0; u < v; u += LANES) {
                __mmask16 mask = first(v - u);
                __m512 of_column = load(mask, grad_columns + at * z.padded + u), sum = _mm512_setzero_ps();
                for (idx w = 0; w < v; w++) {
                    __m512 relation = load(mask, basis + at * pairs + w * v + u);
                    __m512 slope = _mm512_add_ps(load(mask, grad_basis + at * pairs + w * v + u), of_column);
                    slope = _mm512_fnmadd_ps(slope, _mm512_mul_ps(relation, relation), slope);
                    sum = _mm512_add_ps(sum, slope);
                    float of_joint = _mm512_reduce_add_ps(slope);
                    of_k[w * 2 * half] = u ? of_k[w * 2 * half] - of_joint : -of_joint;
                }
                _mm512_storeu_ps(total, sum);
                for (idx i = 0; i < LANES && u + i < v; i++)
                    of_q[(u + i) * 2 * half] = total[i];
            }
        }
        idx at = s * z.factors + z.reduced + 1;
        for (idx u = 0; u < v; u++)
            for (idx w = 0; w < v; w++)
                grad_a[(s * v + u) * v + w] = grad_basis[at * pairs + w * v + u] + grad_columns[at * z.padded + u];
    }
}

/* What one sample's gradients are given and where they go: values (C, S, V, T), qk (V, 2 S R), A (S, V, V), mixing
 * (S, C, K), biased (S K, C); of the last three the sample's own part. */
typedef struct {
    float *values, *qk, *a, *mixing, *biased;
} Gradients;

VECTOR static void mix_sample_backward(Sizes z, const float *values, const float *qk, const float *a, const float *mixing,
                                       const float *biased_turned, const float *grad, Gradients into, float *scratch)
{
    idx v = z.joints, t = z.frames, pairs = v * v, rows = v * t, sources = z.subsets * v;
    idx graph_size = z.subsets * pairs, factors = z.subsets * z.factors, padded = z.padded;
    float *turned_qk = scratch, *basis = turned_qk + 2 * z.subsets * z.reduced * padded;
    float *columns = basis + factors * pairs, *grad_basis = columns + factors * padded;
    float *grad_rows = grad_basis + factors * pairs, *grad_columns = grad_rows + factors * v; /* (V, S K), turned */
    float *grad_offset = grad_columns + factors * padded;                                   /* (V, C) */
    float *graphs = grad_offset + v * z.channels, *grad_graphs = graphs + BLOCK * graph_size; /* (16, S, V, V) each */
    float *by_joint = grad_graphs + BLOCK * graph_size;                                     /* (16, V, T) */
    float *by_frame = by_joint + BLOCK * rows;                                              /* (16, T, padded V) */
    float *grad_values = into.values, *grad_mixing = into.mixing;
    fill_basis(z, qk, a, turned_qk, basis, columns);
    memset(grad_basis, 0, sizeof(float) * z.subsets * z.factors * pairs);
    for (idx channel = 0; channel < z.channels; channel += BLOCK) {
        const float *own = grad + channel;
        for (idx start = 0; start < rows; start += LANES) {
            idx left = rows - start < LANES ? rows - start : LANES;
            __m512 r[LANES];
            for (idx i = 0; i < LANES; i++)
                r[i] = i < left ? _mm512_loadu_ps(own + (start + i) * z.channels) : _mm512_setzero_ps();
            turn(r);
#pragma GCC unroll 16
            for (int c = 0; c < LANES; c++)
                _mm512_mask_storeu_ps(by_joint + c * rows + start, first(left), r[c]);
        }
        for (idx start = 0; start < v; start += LANES) {
            __m512 total[LANES];
            for (idx i = 0; i < LANES; i++)
                total[i] = _mm512_setzero_ps();
            for (idx frame = 0; frame < t; frame++) {
                __m512 r[LANES];
                for (idx i = 0; i < LANES; i++) {
                    r[i] = start + i < v ? _mm512_loadu_ps(own + ((start + i) * t + frame) * z.channels)
                                         : _mm512_setzero_ps();
                    total[i] = _mm512_add_ps(total[i], r[i]);
                }
                turn(r);
#pragma GCC unroll 16
                for (int c = 0; c < LANES; c++)
                    _mm512_storeu_ps(by_frame + (c * t + frame) * padded + start, r[c]);
            }
            for (idx i = 0; i < LANES && start + i < v; i++)
                _mm512_storeu_ps(grad_offset + (start + i) * z.channels + channel, total[i]);
        }
        block_graphs(z, mixing, basis, channel, graphs);
        for (idx c = 0; c < BLOCK; c++) {
            idx at = (channel + c) * sources * t;
            product(sources, t, (Left){graphs + c * graph_size, v, 1, 0, v, 1}, (Right){by_joint + c * rows, t},
                    NOTHING, grad_values + at, t);
            product(sources, v, (Left){values + at, t, 1, 0, t, 1}, (Right){by_frame + c * t * padded, padded},
                    NOTHING, grad_graphs + c * graph_size, v);
        }
        for (idx s = 0; s < z.subsets; s++) {
            idx at = (s * z.channels + channel) * z.factors;
            float *sum = grad_basis + s * z.factors * pairs;
            product(z.factors, pairs, (Left){mixing + at, 1, 1, 0, BLOCK, z.factors},
                    (Right){grad_graphs + s * pairs, graph_size}, (Right){sum, pairs}, sum, pairs);
            inner_product(BLOCK, z.factors, pairs, grad_graphs + s * pairs, graph_size, basis + s * z.factors * pairs,
                          pairs, grad_mixing + at, z.factors);
        }
    }
    product(factors, z.channels, (Left){columns, padded, 1, 0, v, 1}, (Right){grad_offset, z.channels}, NOTHING,
            into.biased, z.channels);
    product(v, factors, (Left){grad_offset, z.channels, 1, 0, z.channels, 1}, (Right){biased_turned, factors}, NOTHING,
            grad_rows, factors);
    turned(v, factors, grad_rows, factors, grad_columns);
    leave_basis(z, basis, grad_basis, grad_columns, into.qk, into.a);
}

static Sizes sizes_of(const Call *call)
{
    const idx *n = call->sizes; /* B, C, S, R, V, T */
    return (Sizes){n[0], n[1], n[2], n[3], n[4], n[5], n[3] + 2, (n[4] + LANES - 1) / LANES * LANES};
}

/* (values, qk, a, mixing, biased), sizes, (out) */
static PyObject *forward(PyObject *self, PyObject *args)
{
    Call call;
    if (!parse(args, 5, 6, 1, &call))
        return NULL;
    Sizes z = sizes_of(&call);
    const float *values = call.given[0], *qk = call.given[1], *a = call.given[2];
    const float *mixing = call.given[3], *biased = call.given[4];
    float *out = call.made[0];
    int threads = call.threads;
    idx rows = z.joints * z.frames, each;
    float *scratch = reserve(mix_size(z), threads, &each);
    if (!scratch)
        return PyErr_NoMemory();
    Py_BEGIN_ALLOW_THREADS;
#pragma omp parallel num_threads(threads)
    {
        float *own = scratch + each * thread_number();
#pragma omp for schedule(static)
        for (idx b = 0; b < z.batch; b++)
            mix_sample(z, values + b * z.channels * z.subsets * rows, qk + b * z.joints * 2 * z.subsets * z.reduced, a,
                       mixing, biased, out + b * rows * z.channels, own);
    }
    free(scratch);
    Py_END_ALLOW_THREADS;
    Py_RETURN_NONE;
}

/* (values, qk, a, mixing, biased_turned (C, S K), grad), sizes, (grad_values, grad_qk, then of every sample:
 * grad_a (B, S, V, V), grad_mixing (B, S, C, K), grad_biased (B, S K, C)) */
static PyObject *backward(PyObject *self, PyObject *args)
{
    Call call;
    if (!parse(args, 6, 6, 5, &call))
        return NULL;
    Sizes z = sizes_of(&call);
    const float *values = call.given[0], *qk = call.given[1], *a = call.given[2];
    const float *mixing = call.given[3], *biased_turned = call.given[4], *grad = call.given[5];
    float *grad_values = call.made[0], *grad_qk = call.made[1], *grad_a = call.made[2];
    float *grad_mixing = call.made[3], *grad_biased = call.made[4];
    int threads = call.threads;
    idx rows = z.joints * z.frames, each;
    float *scratch = reserve(mix_backward_size(z), threads, &each);
    if (!scratch)
        return PyErr_NoMemory();
    Py_BEGIN_ALLOW_THREADS;
#pragma omp parallel num_threads(threads)
    {
        float *own = scratch + each * thread_number();
#pragma omp for schedule(static)
        for (idx b = 0; b < z.batch; b++) {
            idx values_at = b * z.channels * z.subsets * rows, qk_at = b * z.joints * 2 * z.subsets * z.reduced;
            idx mixing_at = b * z.subsets * z.channels * z.factors;
            Gradients into = {grad_values + values_at, grad_qk + qk_at,
                              grad_a + b * z.subsets * z.joints * z.joints, grad_mixing + mixing_at,
                              grad_biased + mixing_at};
            mix_sample_backward(z, values + values_at, qk + qk_at, a, mixing, biased_turned,
                                grad + b * rows * z.channels, into, own);
        }
    }
    free(scratch);
    Py_END_ALLOW_THREADS;
    Py_RETURN_NONE;
}

#endif

MODULE(_kernel, {"BLOCK", BLOCK})
