/* A linear layer in groups of channels, float32, for processors with AVX-512; stdcl/compiled/grouped.py says what it
 * computes and checks addresses and sizes.
 *
 * Rows are cut into pieces whose number does not depend on the number of threads, and sums over rows are kept a piece, so
 * no result depends on it either. No two arrays of a call may overlap.
 */
#define PY_SSIZE_T_CLEAN
#include "avx512.h"

enum { PIECE = 512 }; /* rows, as in grouped.py */

#ifdef WITH_AVX512

static idx rows_of(idx piece, idx rows) { return rows - piece * PIECE < PIECE ? rows - piece * PIECE : PIECE; }

/* (x (R, G w), weight (G, w in, w out), bias (G w), rows, groups, width, threads, out) */
static PyObject *forward(PyObject *self, PyObject *args)
{
    address x_address, weight_address, bias_address, out_address;
    idx rows, groups, width;
    int threads;
    if (!PyArg_ParseTuple(args, "KKKnnniK", &x_address, &weight_address, &bias_address, &rows, &groups, &width, &threads,
                          &out_address))
        return NULL;
    ADDRESS(const float, x);
    ADDRESS(const float, weight);
    ADDRESS(const float, bias);
    ADDRESS(float, out);
    idx row = groups * width, pieces = (rows + PIECE - 1) / PIECE;
    Py_BEGIN_ALLOW_THREADS;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (idx p = 0; p < pieces; p++)
        for (idx g = 0; g < groups; g++) {
            idx at = p * PIECE * row + g * width;
            product(rows_of(p, rows), width, (Left){x + at, row, 1, 0, width, 1},
                    (Right){weight + g * width * width, width}, (Right){bias + g * width, 0}, out + at, row);
        }
    Py_END_ALLOW_THREADS;
    Py_RETURN_NONE;
}

VECTOR static void add_rows(idx rows, idx channels, const float *x, float *sum)
{
    for (idx i = 0; i < channels; i += LANES) {
        __m512 total = _mm512_setzero_ps();
        for (idx r = 0; r < rows; r++)
            total = _mm512_add_ps(total, load(first(channels - i), x + r * channels + i));
        _mm512_mask_storeu_ps(sum + i, first(channels - i), total);
    }
}

/* (x, turned (G, w out, w in), grad, rows, groups, width, threads, grad_x, sums): sums (pieces, G w w + G w), of the
 * gradients of weight (G, w in, w out) and bias. */
static PyObject *backward(PyObject *self, PyObject *args)
{
    address x_address, turned_address, grad_address, grad_x_address, sums_address;
    idx rows, groups, width;
    int threads;
    if (!PyArg_ParseTuple(args, "KKKnnniKK", &x_address, &turned_address, &grad_address, &rows, &groups, &width, &threads,
                          &grad_x_address, &sums_address))
        return NULL;
    ADDRESS(const float, x);
    ADDRESS(const float, turned);
    ADDRESS(const float, grad);
    ADDRESS(float, grad_x);
    ADDRESS(float, sums);
    idx row = groups * width, pieces = (rows + PIECE - 1) / PIECE, weights = row * width;
    Py_BEGIN_ALLOW_THREADS;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (idx p = 0; p < pieces; p++) {
        idx taken = rows_of(p, rows);
        float *sum = sums + p * (weights + row);
        add_rows(taken, row, grad + p * PIECE * row, sum + weights);
        for (idx g = 0; g < groups; g++) {
            idx at = p * PIECE * row + g * width;
            product(taken, width, (Left){grad + at, row, 1, 0, width, 1}, (Right){turned + g * width * width, width},
                    NOTHING, grad_x + at, row);
            product(width, width, (Left){x + at, 1, 1, 0, taken, row}, (Right){grad + at, row}, NOTHING,
                    sum + g * width * width, width);
        }
    }
    Py_END_ALLOW_THREADS;
    Py_RETURN_NONE;
}

#endif

MODULE(_grouped)
