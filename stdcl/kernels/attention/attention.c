/* Hyperformer's attention among the joints of a frame, float32, for processors with AVX-512. What it computes, and the
 * PyTorch operations that it stands for, are in reference.py; __init__.py checks addresses and sizes.
 *
 * A frame is worked off at a time, all heads, in the first cache. Frames are cut into pieces whose number does not depend
 * on the number of threads, and sums over frames are kept a piece, so no result depends on it either. No two arrays of a
 * call may overlap.
 */
#define PY_SSIZE_T_CLEAN
#include "../avx512.h"

enum { PIECE = 32, MOST_HOPS = LANES }; /* frames; a vector holds a number per distance */

typedef struct {
    idx frames, joints, groups, hops, heads, width; /* F, V, G, J (at most MOST_HOPS), H, D */
} Sizes;

#ifdef WITH_AVX512

/* What all frames share. */
typedef struct {
    Sizes z;
    idx row, padded;            /* H D; V in whole vectors */
    const float *rpe, *w1, *outer; /* (J, H D), (H D), (H, V, V) */
    float alpha;
    const int32_t *groups, *hops; /* (V), (V, padded V) */
    const float *rpe_turned;      /* (H, D, 16) */
    const __mmask16 *at_hop;      /* (padded V / 16, J, V): the joints u, a lane each, that are j hops from w */
} Shared;

/* keys (V, H D) = k + e of the joint's group. */
VECTOR static void add_groups(const Shared *s, const float *qkv, const float *e, float *keys)
{
    for (idx w = 0; w < s->z.joints; w++) {
        const float *k = qkv + w * 3 * s->row + s->row, *of_group = e + s->groups[w] * s->row;
        for (idx i = 0; i < s->row; i += LANES) {
            __mmask16 mask = first(s->row - i);
            _mm512_mask_storeu_ps(keys + w * s->row + i, mask, _mm512_add_ps(load(mask, k + i), load(mask, of_group + i)));
        }
    }
}

INLINE float dot(idx count, const float *a, const float *b)
{
    __m512 sum = _mm512_setzero_ps();
    for (idx i = 0; i < count; i += LANES)
        sum = _mm512_fmadd_ps(load(first(count - i), a + i), load(first(count - i), b + i), sum);
    return _mm512_reduce_add_ps(sum);
}

/* Floats that a thread needs: keys; a turned matrix; two of (padded V, padded V); by hop; a row of joints. */
static idx scratch_size(const Shared *s)
{
    idx by_hop = LANES * s->padded;
    return s->z.joints * s->row + s->z.width * s->padded + 3 * s->padded * s->padded + by_hop + 2 * s->padded + LANES;
}

/* mixing (V, padded V) = alpha attention + outer, of one head. */
VECTOR static void combine(const Shared *s, idx head, const float *attention, float *mixing)
{
    idx v = s->z.joints;
    __m512 alpha = _mm512_set1_ps(s->alpha);
    for (idx u = 0; u < v; u++)
        for (idx w = 0; w < v; w += LANES) {
            __mmask16 mask = first(v - w);
            __m512 plus = load(mask, s->outer + (head * v + u) * v + w);
            _mm512_storeu_ps(mixing + u * s->padded + w, _mm512_fmadd_ps(alpha, load(mask, attention + u * v + w), plus));
        }
}

/* One frame: out (V, H D) and attention (H, V, V) from qkv (V, 3 H D) and e (G, H D). */
VECTOR static void attend(const Shared *s, const float *qkv, const float *e, float *attention, float *out, float *scratch)
{
    idx v = s->z.joints, d = s->z.width, row = s->row, padded = s->padded;
    float *keys = scratch, *keys_turned = keys + v * row, *scores = keys_turned + d * padded;
    float *by_hop = scores + padded * padded, *of_joint = by_hop + LANES * padded; /* (V, 16), (V) */
    add_groups(s, qkv, e, keys);
    for (idx head = 0; head < s->z.heads; head++, attention += v * v) {
        const float *q = qkv + head * d;
        Left queries = {q, 3 * row, 1, 0, d, 1};
        for (idx w = 0; w < v; w++)
            of_joint[w] = dot(d, e + s->groups[w] * row + head * d, s->w1 + head * d);
        turned(v, d, keys + head * d, row, keys_turned);
        product(v, v, queries, (Right){keys_turned, padded}, (Right){of_joint, 0}, scores, padded);
        product(v, s->z.hops, queries, (Right){s->rpe_turned + head * d * LANES, LANES}, NOTHING, by_hop, LANES);
        for (idx u = 0; u < v; u++) {
            float *line = scores + u * padded;
            __m512 of_hop = load(first(s->z.hops), by_hop + u * LANES);
            __m512 most = _mm512_set1_ps(-__builtin_inff()), total = _mm512_setzero_ps();
            for (idx w = 0; w < v; w += LANES) {
                __m512i hop = _mm512_loadu_si512(s->hops + u * padded + w);
                __m512 score = _mm512_add_ps(load(first(v - w), line + w), _mm512_permutexvar_ps(hop, of_hop));
                _mm512_storeu_ps(line + w, score);
                most = _mm512_mask_max_ps(most, first(v - w), most, score);
            }
            most = _mm512_set1_ps(_mm512_reduce_max_ps(most));
            for (idx w = 0; w < v; w += LANES) {
                __m512 below = _mm512_sub_ps(_mm512_loadu_ps(line + w), most);
                /* Shares below the square of the machine precision are zero: they change no result, but would become
                 * subnormal numbers, on which processors are slow. */
                __mmask16 counts = _mm512_cmp_ps_mask(below, _mm512_set1_ps(-32.0f), _CMP_NLT_UQ);
                __m512 share = _mm512_maskz_mov_ps(counts, exponential(below));
                _mm512_storeu_ps(line + w, share);
                total = _mm512_mask_add_ps(total, first(v - w), total, share);
            }
            __m512 times = _mm512_set1_ps(1.0f / _mm512_reduce_add_ps(total));
            for (idx w = 0; w < v; w += LANES)
                _mm512_mask_storeu_ps(attention + u * v + w, first(v - w), _mm512_mul_ps(_mm512_loadu_ps(line + w), times));
        }
        combine(s, head, attention, scores);
        product(v, d, (Left){scores, padded, 1, 0, v, 1}, (Right){q + 2 * row, 3 * row}, NOTHING, out + head * d, row);
    }
}

/* Sums over the frames of a piece. */
typedef struct {
    float *rpe, *w1, *outer, *alpha; /* (J, H D), (H D), (H, V, V), (1) */
} Sums;

/* One frame's gradients, of qkv and e; what it adds to the sums. */
VECTOR static void attend_backward(const Shared *s, const float *qkv, const float *e, const float *attention,
                                   const float *grad, float *grad_qkv, float *grad_e, Sums sums, float *scratch)
{
    idx v = s->z.joints, d = s->z.width, row = s->row, padded = s->padded, hops = s->z.hops;
    float *keys = scratch, *values_turned = keys + v * row, *mixing = values_turned + d * padded;
    float *slopes = mixing + padded * padded, *slopes_turned = slopes + padded * padded;
    float *by_hop = slopes_turned + padded * padded, *of_joint = by_hop + LANES * padded; /* (J, padded V), (V) */
    float *of_group = of_joint + padded;
    add_groups(s, qkv, e, keys);
    for (idx head = 0; head < s->z.heads; head++, attention += v * v) {
        const float *q = qkv + head * d, *own = grad + head * d, *w1 = s->w1 + head * d;
        float *grad_q = grad_qkv + head * d, *grad_k = grad_q + row, *grad_v = grad_k + row;
        combine(s, head, attention, mixing);
        product(v, d, (Left){mixing, 1, 1, 0, v, padded}, (Right){own, row}, NOTHING, grad_v, 3 * row);
        turned(v, d, q + 2 * row, 3 * row, values_turned);
        product(v, v, (Left){own, row, 1, 0, d, 1}, (Right){values_turned, padded}, NOTHING, slopes, padded);

        /* From the gradient of mixing to that of the scores, in place. */
        float total = 0.0f;
        memset(of_joint, 0, sizeof(float) * padded);
        for (idx u = 0; u < v; u++) {
            float *line = slopes + u * padded, *sum = sums.outer + (head * v + u) * v;
            __m512 weighted = _mm512_setzero_ps();
            for (idx w = 0; w < v; w += LANES) {
                __mmask16 mask = first(v - w);
                __m512 slope = load(mask, line + w);
                _mm512_mask_storeu_ps(sum + w, mask, _mm512_add_ps(load(mask, sum + w), slope));
                weighted = _mm512_fmadd_ps(slope, load(mask, attention + u * v + w), weighted);
            }
            float mean = _mm512_reduce_add_ps(weighted);
            total += mean;
            for (idx w = 0; w < v; w += LANES) {
                __mmask16 mask = first(v - w);
                __m512 share = _mm512_mul_ps(load(mask, attention + u * v + w), _mm512_set1_ps(s->alpha));
                __m512 slope = _mm512_mul_ps(share, _mm512_sub_ps(load(mask, line + w), _mm512_set1_ps(mean)));
                _mm512_storeu_ps(line + w, slope);
                _mm512_storeu_ps(of_joint + w, _mm512_add_ps(_mm512_loadu_ps(of_joint + w), slope));
            }
        }
        *sums.alpha += total;

        /* Sums over the joints w at each distance from u. */
        turned(v, v, slopes, padded, slopes_turned);
        for (idx start = 0; start < padded; start += LANES)
            for (idx j = 0; j < hops; j++) {
                const __mmask16 *there = s->at_hop + (start / LANES * hops + j) * v;
                __m512 sum = _mm512_setzero_ps();
                for (idx w = 0; w < v; w++)
                    sum = _mm512_mask_add_ps(sum, there[w], sum, _mm512_loadu_ps(slopes_turned + w * padded + start));
                _mm512_storeu_ps(by_hop + j * padded + start, sum);
            }

        Right queries = {q, 3 * row};
        product(v, d, (Left){slopes, 1, 1, 0, v, padded}, queries, NOTHING, grad_k, 3 * row);
        product(v, d, (Left){slopes, padded, 1, 0, v, 1}, (Right){keys + head * d, row}, NOTHING, grad_q, 3 * row);
        product(v, d, (Left){by_hop, 1, 1, 0, hops, padded}, (Right){s->rpe + head * d, row}, (Right){grad_q, 3 * row},
                grad_q, 3 * row);
        float *grad_rpe = sums.rpe + head * d;
        product(hops, d, (Left){by_hop, padded, 1, 0, v, 1}, queries, (Right){grad_rpe, row}, grad_rpe, row);

        memset(of_group, 0, sizeof(float) * s->z.groups);
        for (idx w = 0; w < v; w++)
            of_group[s->groups[w]] += of_joint[w];
        for (idx i = 0; i < d; i += LANES) {
            __mmask16 mask = first(d - i);
            __m512 sum = load(mask, sums.w1 + head * d + i), one = load(mask, w1 + i);
            for (idx g = 0; g < s->z.groups; g++) {
                __m512 slope = _mm512_set1_ps(of_group[g]);
                sum = _mm512_fmadd_ps(slope, load(mask, e + g * row + head * d + i), sum);
                _mm512_mask_storeu_ps(grad_e + g * row + head * d + i, mask, _mm512_mul_ps(slope, one));
            }
            _mm512_mask_storeu_ps(sums.w1 + head * d + i, mask, sum);
            for (idx w = 0; w < v; w++) {
                float *into = grad_e + s->groups[w] * row + head * d + i;
                _mm512_mask_storeu_ps(into, mask, _mm512_add_ps(load(mask, into), load(mask, grad_k + w * 3 * row + i)));
            }
        }
    }
}

/* Turn the table of distances, and note which joints are how far apart; NULL if memory is lacking. */
VECTOR static void *prepare(Shared *s)
{
    idx v = s->z.joints, d = s->z.width, hops = s->z.hops, blocks = s->padded / LANES;
    float *turned_rpe = malloc(sizeof(float) * s->z.heads * d * LANES + sizeof(__mmask16) * blocks * hops * v);
    if (!turned_rpe)
        return NULL;
    for (idx head = 0; head < s->z.heads; head++)
        turned(hops, d, s->rpe + head * d, s->row, turned_rpe + head * d * LANES);
    __mmask16 *at_hop = (__mmask16 *)(turned_rpe + s->z.heads * d * LANES);
    memset(at_hop, 0, sizeof(__mmask16) * blocks * hops * v);
    for (idx u = 0; u < v; u++)
        for (idx w = 0; w < v; w++)
            at_hop[(u / LANES * hops + s->hops[u * s->padded + w]) * v + w] |= (__mmask16)(1u << u % LANES);
    s->rpe_turned = turned_rpe;
    s->at_hop = at_hop;
    return turned_rpe;
}

/* The first six addresses, and the sizes (F, V, G, J, H, D). */
static Shared shared_of(const Call *call)
{
    const idx *n = call->sizes;
    Shared s = {0};
    s.z.frames = n[0], s.z.joints = n[1], s.z.groups = n[2], s.z.hops = n[3], s.z.heads = n[4], s.z.width = n[5];
    s.rpe = call->given[0];
    s.w1 = call->given[1];
    s.outer = call->given[2];
    s.groups = (const int32_t *)call->given[3];
    s.hops = (const int32_t *)call->given[4];
    s.alpha = call->given[5][0];
    s.row = s.z.heads * s.z.width;
    s.padded = (s.z.joints + LANES - 1) / LANES * LANES;
    return s;
}

/* (rpe, w1, outer, groups, hops, alpha, qkv, e), sizes, (out, attention) */
static PyObject *forward(PyObject *self, PyObject *args)
{
    Call call;
    if (!parse(args, 8, 6, 2, &call))
        return NULL;
    Shared s = shared_of(&call);
    const float *qkv = call.given[6], *e = call.given[7];
    float *out = call.made[0], *attention = call.made[1];
    int threads = call.threads;
    idx v = s.z.joints, each;
    void *prepared = prepare(&s);
    float *scratch = reserve(scratch_size(&s), threads, &each);
    if (!prepared || !scratch) {
        free(prepared);
        free(scratch);
        return PyErr_NoMemory();
    }
    Py_BEGIN_ALLOW_THREADS;
#pragma omp parallel num_threads(threads)
    {
        float *own = scratch + each * thread_number();
#pragma omp for schedule(static)
        for (idx f = 0; f < s.z.frames; f++)
            attend(&s, qkv + f * v * 3 * s.row, e + f * s.z.groups * s.row, attention + f * s.z.heads * v * v,
                   out + f * v * s.row, own);
    }
    free(prepared);
    free(scratch);
    Py_END_ALLOW_THREADS;
    Py_RETURN_NONE;
}

/* (rpe, w1, outer, groups, hops, alpha, qkv, e, attention, grad), sizes, (grad_qkv, grad_e, sums): sums (pieces,
 * J H D + H D + H V V + 1), a piece each, in the order rpe, w1, outer, alpha. */
static PyObject *backward(PyObject *self, PyObject *args)
{
    Call call;
    if (!parse(args, 10, 6, 3, &call))
        return NULL;
    Shared s = shared_of(&call);
    const float *qkv = call.given[6], *e = call.given[7], *attention = call.given[8], *grad = call.given[9];
    float *grad_qkv = call.made[0], *grad_e = call.made[1], *sums = call.made[2];
    int threads = call.threads;
    idx v = s.z.joints, each, graphs = s.z.heads * v * v, pieces = (s.z.frames + PIECE - 1) / PIECE;
    idx sums_size = s.z.hops * s.row + s.row + graphs + 1;
    void *prepared = prepare(&s);
    float *scratch = reserve(scratch_size(&s) + s.z.groups, threads, &each);
    if (!prepared || !scratch) {
        free(prepared);
        free(scratch);
        return PyErr_NoMemory();
    }
    Py_BEGIN_ALLOW_THREADS;
#pragma omp parallel num_threads(threads)
    {
        float *own = scratch + each * thread_number();
#pragma omp for schedule(static)
        for (idx p = 0; p < pieces; p++) {
            float *rpe = sums + p * sums_size;
            Sums of_piece = {rpe, rpe + s.z.hops * s.row, rpe + (s.z.hops + 1) * s.row, rpe + sums_size - 1};
            memset(rpe, 0, sizeof(float) * sums_size);
            for (idx f = p * PIECE; f < s.z.frames && f < (p + 1) * PIECE; f++)
                attend_backward(&s, qkv + f * v * 3 * s.row, e + f * s.z.groups * s.row, attention + f * graphs,
                                grad + f * v * s.row, grad_qkv + f * v * 3 * s.row, grad_e + f * s.z.groups * s.row,
                                of_piece, own);
        }
    }
    free(prepared);
    free(scratch);
    Py_END_ALLOW_THREADS;
    Py_RETURN_NONE;
}

#endif

MODULE(_kernel, {"LANES", LANES}, {"PIECE", PIECE}, {"MOST_HOPS", MOST_HOPS})
