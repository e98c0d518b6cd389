/* Batch normalisation of float32 rows (rows, channels) on CPUs: what a chain of PyTorch operations would do in several
 * passes over memory, in one. Addresses and sizes are checked by the caller, __init__.py.
 *
 * No two arrays of a call may overlap.
 *
 * Work is cut into pieces whose number does not depend on the number of threads, and partial sums are added up in the
 * order of the pieces, so results have the same bits with any number of threads.
 */
#define PY_SSIZE_T_CLEAN
#include "../call.h"
#include <stdlib.h>
#include <string.h>

/* The best version for the processor is chosen when the library is loaded. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CLONES
#endif

enum { ROWS = 256 }; /* rows of a piece: few enough for float sums, many enough to hide the bookkeeping */

/* Sums of d = x - origin and of d * d over one piece. */
CLONES void piece_moments(const float *restrict x, const float *restrict origin, idx rows, idx channels,
                          float *restrict sum, float *restrict square)
{
    memset(sum, 0, sizeof(float) * channels);
    memset(square, 0, sizeof(float) * channels);
    idx r = 0;
    for (; r + 4 <= rows; r += 4) {
        const float *a = x + r * channels, *b = a + channels, *c = b + channels, *d = c + channels;
        for (idx i = 0; i < channels; i++) {
            float o = origin[i], p = a[i] - o, q = b[i] - o, s = c[i] - o, t = d[i] - o;
            sum[i] += (p + q) + (s + t);
            square[i] += (p * p + q * q) + (s * s + t * t);
        }
    }
    for (; r < rows; r++)
        for (idx i = 0; i < channels; i++) {
            float p = x[r * channels + i] - origin[i];
            sum[i] += p;
            square[i] += p * p;
        }
}

/* Sums of the gradient and of the gradient times (x - mean) over one piece; the gradient is zero where out is not > 0. */
CLONES void piece_gradients(const float *restrict grad, const float *restrict out, const float *restrict x,
                            const float *restrict mean, idx rows, idx channels, float *restrict sum,
                            float *restrict product)
{
    memset(sum, 0, sizeof(float) * channels);
    memset(product, 0, sizeof(float) * channels);
    for (idx r = 0; r < rows; r++) {
        const float *g = grad + r * channels, *v = x + r * channels;
        if (out) {
            const float *o = out + r * channels;
            for (idx i = 0; i < channels; i++) {
                float kept = o[i] > 0.0f ? g[i] : 0.0f;
                sum[i] += kept;
                product[i] += kept * (v[i] - mean[i]);
            }
        } else {
            for (idx i = 0; i < channels; i++) {
                sum[i] += g[i];
                product[i] += g[i] * (v[i] - mean[i]);
            }
        }
    }
}

CLONES void piece_apply(const float *restrict x, const float *restrict residual, const float *restrict factor,
                        const float *restrict shift, int relu, idx rows, idx channels, float *restrict out)
{
    for (idx r = 0; r < rows; r++) {
        const float *v = x + r * channels, *e = residual ? residual + r * channels : NULL;
        float *y = out + r * channels;
        if (e && relu)
            for (idx i = 0; i < channels; i++) {
                float z = v[i] * factor[i] + shift[i] + e[i];
                y[i] = z < 0.0f ? 0.0f : z;
            }
        else if (e)
            for (idx i = 0; i < channels; i++)
                y[i] = v[i] * factor[i] + shift[i] + e[i];
        else if (relu)
            for (idx i = 0; i < channels; i++) {
                float z = v[i] * factor[i] + shift[i];
                y[i] = z < 0.0f ? 0.0f : z;
            }
        else
            for (idx i = 0; i < channels; i++)
                y[i] = v[i] * factor[i] + shift[i];
    }
}

CLONES void piece_backward(const float *restrict grad, const float *restrict out, const float *restrict x,
                           const float *restrict a, const float *restrict b, const float *restrict c, idx rows,
                           idx channels, float *restrict grad_x, float *restrict kept_grad)
{
    for (idx r = 0; r < rows; r++) {
        const float *g = grad + r * channels, *v = x + r * channels;
        float *y = grad_x + r * channels;
        if (!out) {
            for (idx i = 0; i < channels; i++)
                y[i] = a[i] * g[i] + (b[i] * v[i] + c[i]);
            continue;
        }
        const float *o = out + r * channels;
        if (kept_grad) {
            float *k = kept_grad + r * channels;
            for (idx i = 0; i < channels; i++) {
                float kept = o[i] > 0.0f ? g[i] : 0.0f;
                k[i] = kept;
                y[i] = a[i] * kept + (b[i] * v[i] + c[i]);
            }
        } else
            for (idx i = 0; i < channels; i++) {
                float kept = o[i] > 0.0f ? g[i] : 0.0f;
                y[i] = a[i] * kept + (b[i] * v[i] + c[i]);
            }
    }
}

static idx rows_of(idx piece, idx rows) { return rows - piece * ROWS < ROWS ? rows - piece * ROWS : ROWS; }

/* Pairs of sums per channel over all rows, (2, channels): of `grad` as in piece_gradients, or, where `grad` is NULL, of
 * x - mean as in piece_moments. To be freed by the caller; NULL, with an exception set, if memory is lacking. */
static double *sums_over_rows(const float *grad, const float *out, const float *x, const float *mean, idx rows,
                              idx channels, int threads)
{
    idx pieces = (rows + ROWS - 1) / ROWS;
    double *total = calloc(2 * channels, sizeof(double));
    float *partial = malloc(sizeof(float) * pieces * 2 * channels); /* (pieces, 2, channels) */
    if (!total || !partial) {
        free(total);
        free(partial);
        PyErr_NoMemory();
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (idx p = 0; p < pieces; p++) {
        float *own = partial + p * 2 * channels;
        idx start = p * ROWS * channels;
        if (grad)
            piece_gradients(grad + start, out ? out + start : NULL, x + start, mean, rows_of(p, rows), channels, own,
                            own + channels);
        else
            piece_moments(x + start, mean, rows_of(p, rows), channels, own, own + channels);
    }
    for (idx p = 0; p < pieces; p++)
        for (idx i = 0; i < 2 * channels; i++)
            total[i] += partial[p * 2 * channels + i];
    free(partial);
    Py_END_ALLOW_THREADS;
    return total;
}

/* (x), (rows, channels), (out): out = mean, then sum of squared deviations. */
static PyObject *moments(PyObject *self, PyObject *args)
{
    Call call;
    if (!parse(args, 1, 2, 1, &call))
        return NULL;
    const float *x = call.given[0];
    float *out = call.made[0];
    idx rows = call.sizes[0], channels = call.sizes[1];
    double *total = sums_over_rows(NULL, NULL, x, x, rows, channels, call.threads); /* of x less its first row */
    if (!total)
        return NULL;
    for (idx i = 0; i < channels; i++) {
        double mean = total[i] / rows, deviation = total[channels + i] - mean * total[i];
        out[i] = (float)(x[i] + mean);
        out[channels + i] = deviation > 0.0 ? (float)deviation : 0.0f;
    }
    free(total);
    Py_RETURN_NONE;
}

/* (grad, out or 0, x, mean), (rows, channels), (sums): sums = of the gradient, then of the gradient times (x - mean). */
static PyObject *gradient_sums(PyObject *self, PyObject *args)
{
    Call call;
    if (!parse(args, 4, 2, 1, &call))
        return NULL;
    idx rows = call.sizes[0], channels = call.sizes[1];
    double *total =
        sums_over_rows(call.given[0], call.given[1], call.given[2], call.given[3], rows, channels, call.threads);
    if (!total)
        return NULL;
    for (idx i = 0; i < 2 * channels; i++)
        call.made[0][i] = (float)total[i];
    free(total);
    Py_RETURN_NONE;
}

/* (x, residual or 0, factor, shift), (rows, channels, relu), (out) */
static PyObject *normalise(PyObject *self, PyObject *args)
{
    Call call;
    if (!parse(args, 4, 3, 1, &call))
        return NULL;
    const float *x = call.given[0], *residual = call.given[1], *factor = call.given[2], *shift = call.given[3];
    float *out = call.made[0];
    idx rows = call.sizes[0], channels = call.sizes[1], pieces = (rows + ROWS - 1) / ROWS;
    int relu = call.sizes[2] != 0;
    Py_BEGIN_ALLOW_THREADS;
#pragma omp parallel for num_threads(call.threads) schedule(static)
    for (idx p = 0; p < pieces; p++) {
        idx start = p * ROWS * channels;
        piece_apply(x + start, residual ? residual + start : NULL, factor, shift, relu, rows_of(p, rows), channels,
                    out + start);
    }
    Py_END_ALLOW_THREADS;
    Py_RETURN_NONE;
}

/* (grad, out or 0, x, a, b, c), (rows, channels), (grad_x, kept_grad or 0): grad_x = a grad + b x + c. */
static PyObject *normalise_backward(PyObject *self, PyObject *args)
{
    Call call;
    if (!parse(args, 6, 2, 2, &call))
        return NULL;
    const float *grad = call.given[0], *out = call.given[1], *x = call.given[2];
    const float *a = call.given[3], *b = call.given[4], *c = call.given[5];
    float *grad_x = call.made[0], *kept = call.made[1];
    idx rows = call.sizes[0], channels = call.sizes[1], pieces = (rows + ROWS - 1) / ROWS;
    Py_BEGIN_ALLOW_THREADS;
#pragma omp parallel for num_threads(call.threads) schedule(static)
    for (idx p = 0; p < pieces; p++) {
        idx start = p * ROWS * channels;
        piece_backward(grad + start, out ? out + start : NULL, x + start, a, b, c, rows_of(p, rows), channels,
                       grad_x + start, kept ? kept + start : NULL);
    }
    Py_END_ALLOW_THREADS;
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"moments", moments, METH_VARARGS, NULL},
    {"gradient_sums", gradient_sums, METH_VARARGS, NULL},
    {"normalise", normalise, METH_VARARGS, NULL},
    {"normalise_backward", normalise_backward, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_kernel", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__kernel(void) { return PyModule_Create(&module); }
