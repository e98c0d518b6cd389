/* The branches of the multi-scale temporal block, float32, for processors with AVX-512. What they compute, and the PyTorch
 * operations that they stand for, are in __init__.py, which checks addresses and sizes.
 *
 * The frames of one joint of one sample are worked off at a time: they are normalised into a padded buffer that the first
 * cache holds, so normalised features are never written to memory. Samples are spread over threads; no result depends on
 * their number. No two arrays of a call may overlap.
 */
#define PY_SSIZE_T_CLEAN
#include "../avx512.h"

enum { TAPS = 5, PAD = 2 * (TAPS / 2) }; /* frames of a convolution; of padding that a dilation of 2 asks for */

typedef struct {
    idx batch, joints, frames, width, stride, joint_step, frame_step; /* steps in rows, of the input */
    idx out_frames, out_joint_step, out_frame_step;                   /* of the output */
} Sizes;

#ifdef WITH_AVX512

/* hidden (PAD + T + PAD, 3 w) = ReLU(x factor + shift) of one joint, zero in the padding. */
VECTOR static void normalise(Sizes z, const float *x, const float *factor, const float *shift, float *hidden)
{
    idx columns = 3 * z.width, row = 4 * z.width * z.frame_step;
    memset(hidden, 0, sizeof(float) * PAD * columns);
    memset(hidden + (PAD + z.frames) * columns, 0, sizeof(float) * PAD * columns);
    for (idx i = 0; i < columns; i += LANES) {
        __mmask16 mask = first(columns - i);
        __m512 times = load(mask, factor + i), plus = load(mask, shift + i), zero = _mm512_setzero_ps();
        for (idx t = 0; t < z.frames; t++) {
            __m512 y = _mm512_fmadd_ps(load(mask, x + t * row + i), times, plus);
            /* The second operand is returned where one is not a number, so it is not lost. */
            _mm512_mask_storeu_ps(hidden + (PAD + t) * columns + i, mask, _mm512_max_ps(zero, y));
        }
    }
}

/* Where the frames that tap 0 of output frame 0 reads begin. */
static const float *tap_zero(Sizes z, const float *hidden, idx dilation)
{
    return hidden + (PAD - dilation * (TAPS / 2)) * 3 * z.width;
}

/* One joint: out (T', 4 w) = both convolutions, max-pool, and the fourth branch as it is. */
VECTOR static void branch_joint(Sizes z, const float *x, const float *factor, const float *shift, const float *weights,
                                const float *biases, float *hidden, float *out)
{
    idx w = z.width, columns = 3 * w, row = 4 * w * z.frame_step, out_row = 4 * w * z.out_frame_step;
    normalise(z, x, factor, shift, hidden);
    for (idx branch = 0; branch < 2; branch++) {
        idx dilation = branch + 1;
        product(z.out_frames, w,
                (Left){tap_zero(z, hidden, dilation) + branch * w, z.stride * columns, TAPS, dilation * columns, w, 1},
                (Right){weights + branch * TAPS * w * w, w}, (Right){biases + branch * w, 0}, out + branch * w, out_row);
    }
    for (idx t = 0; t < z.out_frames; t++) {
        const float *centre = hidden + (PAD + t * z.stride) * columns + 2 * w;
        const float *fourth = x + t * z.stride * row + columns;
        float *to = out + t * out_row;
        for (idx i = 0; i < w; i += LANES) {
            __mmask16 mask = first(w - i);
            /* What is pooled is not negative, so the padding's zeros change nothing. */
            __m512 most = _mm512_max_ps(load(mask, centre - columns + i), load(mask, centre + i));
            _mm512_mask_storeu_ps(to + 2 * w + i, mask, _mm512_max_ps(most, load(mask, centre + columns + i)));
            _mm512_mask_storeu_ps(to + columns + i, mask, load(mask, fourth + i));
        }
    }
}

/* One joint: grad_x (T, 4 w), of the normalised features where they are positive and of the fourth branch as it is; what
 * the joint adds to the gradients of weights (2, TAPS, w, w) and biases (2, w). `turned` are the weights with their last
 * two axes exchanged. `spread` holds (PAD + T + PAD, 2 w), `hidden` as in `branch_joint`. */
VECTOR static void branch_joint_backward(Sizes z, const float *x, const float *factor, const float *shift,
                                         const float *turned, const float *grad, float *hidden, float *spread,
                                         float *grad_x, float *grad_weights, float *grad_biases)
{
    idx w = z.width, columns = 3 * w, row = 4 * w * z.frame_step, out_row = 4 * w * z.out_frame_step;
    normalise(z, x, factor, shift, hidden);
    /* The gradient of the convolutions' outputs, a row for each input frame: zero where a stride leaves frames out. */
    memset(spread, 0, sizeof(float) * (z.frames + 2 * PAD) * 2 * w);
    for (idx i = 0; i < 2 * w; i += LANES) {
        __mmask16 mask = first(2 * w - i);
        __m512 total = load(mask, grad_biases + i);
        for (idx t = 0; t < z.out_frames; t++) {
            __m512 y = load(mask, grad + t * out_row + i);
            total = _mm512_add_ps(total, y);
            _mm512_mask_storeu_ps(spread + (PAD + t * z.stride) * 2 * w + i, mask, y);
        }
        _mm512_mask_storeu_ps(grad_biases + i, mask, total);
    }
    for (idx branch = 0; branch < 2; branch++) {
        idx dilation = branch + 1, at = branch * TAPS * w * w;
        product(z.frames, w,
                (Left){spread + (PAD + dilation * (TAPS / 2)) * 2 * w + branch * w, 2 * w, TAPS, -dilation * 2 * w, w, 1},
                (Right){turned + at, w}, NOTHING, grad_x + branch * w, row);
        for (idx tap = 0; tap < TAPS; tap++) {
            float *sum = grad_weights + at + tap * w * w;
            const float *read = tap_zero(z, hidden, dilation) + tap * dilation * columns + branch * w;
            product(w, w, (Left){read, 1, 1, 0, z.out_frames, z.stride * columns}, (Right){grad + branch * w, out_row},
                    (Right){sum, w}, sum, w);
        }
    }
    for (idx t = 0; t < z.frames; t++)
        memset(grad_x + t * row + 2 * w, 0, sizeof(float) * 2 * w);
    for (idx t = 0; t < z.out_frames; t++) {
        const float *centre = hidden + (PAD + t * z.stride) * columns + 2 * w, *from = grad + t * out_row;
        float *to = grad_x + t * z.stride * row;
        for (idx i = 0; i < w; i += LANES) {
            __mmask16 mask = first(w - i);
            __m512 before = load(mask, centre - columns + i), at = load(mask, centre + i);
            __m512 after = load(mask, centre + columns + i), y = load(mask, from + 2 * w + i);
            /* The gradient of a maximum goes to the first frame that reaches it. The padding reaches none but zero, whose
             * gradient ReLU drops. */
            __mmask16 rest = _mm512_cmp_ps_mask(_mm512_max_ps(at, after), before, _CMP_GT_OQ);
            __mmask16 last = rest & _mm512_cmp_ps_mask(after, at, _CMP_GT_OQ);
            float *pooled = to + 2 * w + i;
            if (t * z.stride > 0)
                _mm512_mask_storeu_ps(pooled - row, mask & ~rest, _mm512_add_ps(load(mask, pooled - row), y));
            _mm512_mask_storeu_ps(pooled, mask & rest & ~last, _mm512_add_ps(load(mask, pooled), y));
            if (t * z.stride + 1 < z.frames)
                _mm512_mask_storeu_ps(pooled + row, mask & last, _mm512_add_ps(load(mask, pooled + row), y));
            _mm512_mask_storeu_ps(to + columns + i, mask, load(mask, from + columns + i));
        }
    }
    for (idx t = 0; t < z.frames; t++)
        for (idx i = 0; i < columns; i += LANES) {
            __mmask16 mask = first(columns - i);
            __m512 own = load(mask, hidden + (PAD + t) * columns + i);
            __mmask16 dropped = mask & _mm512_cmp_ps_mask(own, _mm512_setzero_ps(), _CMP_LE_OQ);
            _mm512_mask_storeu_ps(grad_x + t * row + i, dropped, _mm512_setzero_ps());
        }
}

static Sizes sizes_of(const Call *call)
{
    const idx *n = call->sizes;
    return (Sizes){n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8], n[9]};
}

/* (x, factor, shift, weights, biases), sizes, (out) */
static PyObject *forward(PyObject *self, PyObject *args)
{
    Call call;
    if (!parse(args, 5, 10, 1, &call))
        return NULL;
    Sizes z = sizes_of(&call);
    const float *x = call.given[0], *factor = call.given[1], *shift = call.given[2];
    const float *weights = call.given[3], *biases = call.given[4];
    float *out = call.made[0];
    int threads = call.threads;
    idx row = 4 * z.width, each;
    float *scratch = reserve((z.frames + 2 * PAD) * 3 * z.width, threads, &each);
    if (!scratch)
        return PyErr_NoMemory();
    Py_BEGIN_ALLOW_THREADS;
#pragma omp parallel num_threads(threads)
    {
        float *hidden = scratch + each * thread_number();
#pragma omp for schedule(static)
        for (idx b = 0; b < z.batch; b++)
            for (idx v = 0; v < z.joints; v++)
                branch_joint(z, x + (b * z.joints * z.frames + v * z.joint_step) * row, factor, shift, weights, biases,
                             hidden, out + (b * z.joints * z.out_frames + v * z.out_joint_step) * row);
    }
    free(scratch);
    Py_END_ALLOW_THREADS;
    Py_RETURN_NONE;
}

/* (x, factor, shift, turned, grad), sizes, (grad_x, grad_weights (B, 2, TAPS, w, w), grad_biases (B, 2, w)) */
static PyObject *backward(PyObject *self, PyObject *args)
{
    Call call;
    if (!parse(args, 5, 10, 3, &call))
        return NULL;
    Sizes z = sizes_of(&call);
    const float *x = call.given[0], *factor = call.given[1], *shift = call.given[2];
    const float *turned = call.given[3], *grad = call.given[4];
    float *grad_x = call.made[0], *grad_weights = call.made[1], *grad_biases = call.made[2];
    int threads = call.threads;
    idx row = 4 * z.width, weights_size = 2 * TAPS * z.width * z.width, each;
    idx hidden_size = (z.frames + 2 * PAD) * 3 * z.width;
    float *scratch = reserve((z.frames + 2 * PAD) * 5 * z.width, threads, &each);
    if (!scratch)
        return PyErr_NoMemory();
    Py_BEGIN_ALLOW_THREADS;
#pragma omp parallel num_threads(threads)
    {
        float *hidden = scratch + each * thread_number();
#pragma omp for schedule(static)
        for (idx b = 0; b < z.batch; b++) {
            float *own_weights = grad_weights + b * weights_size, *own_biases = grad_biases + b * 2 * z.width;
            memset(own_weights, 0, sizeof(float) * weights_size);
            memset(own_biases, 0, sizeof(float) * 2 * z.width);
            for (idx v = 0; v < z.joints; v++) {
                idx at = (b * z.joints * z.frames + v * z.joint_step) * row;
                branch_joint_backward(z, x + at, factor, shift, turned,
                                      grad + (b * z.joints * z.out_frames + v * z.out_joint_step) * row, hidden,
                                      hidden + hidden_size, grad_x + at, own_weights, own_biases);
            }
        }
    }
    free(scratch);
    Py_END_ALLOW_THREADS;
    Py_RETURN_NONE;
}

#endif

MODULE(_kernel, {"TAPS", TAPS})
