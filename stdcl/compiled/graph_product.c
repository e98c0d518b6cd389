/* CTR-GCN's product with refined graphs, float32, for processors with AVX-512. What it computes, and the PyTorch
 * operations that it stands for, are in stdcl/compiled/graph_product.py, which checks addresses and sizes.
 *
 * A sample is worked off in blocks of 16 channels, so that the graphs of a block, which are never written to memory, its
 * sums and the turned gradient stay in the second cache. Samples are spread over threads; no result depends on their
 * number. No two arrays of a call may overlap.
 */
#define PY_SSIZE_T_CLEAN
#include "avx512.h"

enum { BLOCK = 16 }; /* channels of a block */

typedef struct {
    idx batch, channels, subsets, factors, joints, frames; /* B, C, S, K, V, T */
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
                    row[j] = _mm512_maskz_loadu_ps(mask, right[j] + k);
#pragma GCC unroll 4
                for (int i = 0; i < 4; i++) {
                    __m512 own = _mm512_maskz_loadu_ps(mask, left[i] + k);
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

/* One sample: out (V, T, C) from values (C, S, V, T), basis (S, K, V V) and offset (V, C). */
VECTOR static void mix_sample(Sizes z, const float *values, const float *mixing, const float *basis,
                              const float *offset, float *out, float *scratch)
{
    idx v = z.joints, t = z.frames, pairs = v * v, rows = v * t, sources = z.subsets * v;
    float *graphs = scratch, *sums = graphs + BLOCK * z.subsets * pairs; /* (16, S, V, V), (16, V, T) */
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
                r[c] = _mm512_maskz_loadu_ps(first(left), sums + c * rows + start);
            turn(r);
            for (idx i = 0; i < left; i++) {
                idx row = start + i;
                __m512 added = _mm512_loadu_ps(offset + row / t * z.channels + channel);
                _mm512_storeu_ps(out + row * z.channels + channel, _mm512_add_ps(r[i], added));
            }
        }
    }
}

/* One sample's gradients: of values, basis and offset, and its part of that of mixing, (S, C, K). */
VECTOR static void mix_sample_backward(Sizes z, const float *values, const float *mixing, const float *basis,
                                       const float *grad, float *grad_values, float *grad_basis, float *grad_mixing,
                                       float *grad_offset, float *scratch)
{
    idx v = z.joints, t = z.frames, pairs = v * v, rows = v * t, sources = z.subsets * v;
    idx padded = (v + LANES - 1) / LANES * LANES, graph_size = z.subsets * pairs;
    float *graphs = scratch, *grad_graphs = graphs + BLOCK * graph_size; /* (16, S, V, V) each */
    float *by_joint = grad_graphs + BLOCK * graph_size;                  /* (16, V, T) */
    float *by_frame = by_joint + BLOCK * rows;                           /* (16, T, padded V) */
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
}

/* (values, mixing, basis, offset, sizes as (B, C, S, K, V, T), threads, out) */
static PyObject *mix(PyObject *self, PyObject *args)
{
    address values_address, mixing_address, basis_address, offset_address, out_address;
    Sizes z;
    int threads;
    if (!PyArg_ParseTuple(args, "KKKK(nnnnnn)iK", &values_address, &mixing_address, &basis_address, &offset_address,
                          &z.batch, &z.channels, &z.subsets, &z.factors, &z.joints, &z.frames, &threads, &out_address))
        return NULL;
    ADDRESS(const float, values);
    ADDRESS(const float, mixing);
    ADDRESS(const float, basis);
    ADDRESS(const float, offset);
    ADDRESS(float, out);
    idx pairs = z.joints * z.joints, rows = z.joints * z.frames, each;
    float *scratch = reserve(BLOCK * (z.subsets * pairs + rows), threads, &each);
    if (!scratch)
        return PyErr_NoMemory();
    Py_BEGIN_ALLOW_THREADS;
#pragma omp parallel num_threads(threads)
    {
        float *own = scratch + each * thread_number();
#pragma omp for schedule(static)
        for (idx b = 0; b < z.batch; b++)
            mix_sample(z, values + b * z.channels * z.subsets * rows, mixing, basis + b * z.subsets * z.factors * pairs,
                       offset + b * z.joints * z.channels, out + b * rows * z.channels, own);
    }
    free(scratch);
    Py_END_ALLOW_THREADS;
    Py_RETURN_NONE;
}

/* (values, mixing, basis, grad, sizes, threads, grad_values, grad_basis, grad_mixing (B, S, C, K), grad_offset) */
static PyObject *mix_backward(PyObject *self, PyObject *args)
{
    address values_address, mixing_address, basis_address, grad_address;
    address grad_values_address, grad_basis_address, grad_mixing_address, grad_offset_address;
    Sizes z;
    int threads;
    if (!PyArg_ParseTuple(args, "KKKK(nnnnnn)iKKKK", &values_address, &mixing_address, &basis_address, &grad_address,
                          &z.batch, &z.channels, &z.subsets, &z.factors, &z.joints, &z.frames, &threads,
                          &grad_values_address, &grad_basis_address, &grad_mixing_address, &grad_offset_address))
        return NULL;
    ADDRESS(const float, values);
    ADDRESS(const float, mixing);
    ADDRESS(const float, basis);
    ADDRESS(const float, grad);
    ADDRESS(float, grad_values);
    ADDRESS(float, grad_basis);
    ADDRESS(float, grad_mixing);
    ADDRESS(float, grad_offset);
    idx pairs = z.joints * z.joints, rows = z.joints * z.frames, each;
    idx padded = (z.joints + LANES - 1) / LANES * LANES;
    float *scratch = reserve(BLOCK * (2 * z.subsets * pairs + rows + z.frames * padded), threads, &each);
    if (!scratch)
        return PyErr_NoMemory();
    Py_BEGIN_ALLOW_THREADS;
#pragma omp parallel num_threads(threads)
    {
        float *own = scratch + each * thread_number();
#pragma omp for schedule(static)
        for (idx b = 0; b < z.batch; b++) {
            idx values_at = b * z.channels * z.subsets * rows, basis_at = b * z.subsets * z.factors * pairs;
            mix_sample_backward(z, values + values_at, mixing, basis + basis_at, grad + b * rows * z.channels,
                                grad_values + values_at, grad_basis + basis_at,
                                grad_mixing + b * z.subsets * z.channels * z.factors,
                                grad_offset + b * z.joints * z.channels, own);
        }
    }
    free(scratch);
    Py_END_ALLOW_THREADS;
    Py_RETURN_NONE;
}

#endif

static PyMethodDef methods[] = {
    {"supported", py_supported, METH_NOARGS, NULL},
#ifdef WITH_AVX512
    {"mix", mix, METH_VARARGS, NULL},
    {"mix_backward", mix_backward, METH_VARARGS, NULL},
#endif
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_graph_product", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__graph_product(void) { return PyModule_Create(&module); }
