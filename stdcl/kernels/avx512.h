/* Building blocks of the compiled kernels for processors with AVX-512: small products of float32 matrices held in
 * registers, and turned blocks. Everything is static: each extension module has its own copy.
 */
#include "call.h"
#include <stdlib.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

enum { LANES = 16 }; /* floats of a vector */

#if defined(__x86_64__) && defined(__GNUC__)

#define WITH_AVX512 1
#include <immintrin.h>
#define VECTOR __attribute__((target("avx512f")))
#define INLINE static inline __attribute__((always_inline, target("avx512f")))

static int supported(void) { return __builtin_cpu_supports("avx512f") ? 1 : 0; }

static inline int thread_number(void)
{
#ifdef _OPENMP
    return omp_get_thread_num();
#else
    return 0;
#endif
}

/* Reserve `count` floats for each thread, a whole number of vectors each. */
static inline float *reserve(idx count, int threads, idx *each)
{
    *each = (count + LANES - 1) / LANES * LANES;
    return aligned_alloc(sizeof(float) * LANES, sizeof(float) * *each * threads);
}

/* The lanes that are left, at most all. */
INLINE __mmask16 first(idx lanes) { return lanes >= LANES ? 0xffff : (__mmask16)((1u << lanes) - 1); }

INLINE __m512 load(__mmask16 mask, const float *at) { return _mm512_maskz_loadu_ps(mask, at); }

/* e^x for x <= 0: a power of two times the series of the rest, which is at most ln(2) / 2 and leaves 1e-8 behind. */
INLINE __m512 exponential(__m512 x)
{
    __m512 power = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 8); /* to nearest */
    __m512 rest = _mm512_fnmadd_ps(power, _mm512_set1_ps(0.693359375f), x);
    rest = _mm512_fnmadd_ps(power, _mm512_set1_ps(-2.12194440e-4f), rest);
    const float inverse[] = {1.0f / 5040, 1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 1.0f / 2, 1.0f, 1.0f};
    __m512 sum = _mm512_set1_ps(inverse[0]);
#pragma GCC unroll 8
    for (int i = 1; i < 8; i++)
        sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(inverse[i]));
    return _mm512_scalef_ps(sum, power);
}

/* The series for small arguments, where the quotient would cancel. */
INLINE __m512 hyperbolic_tangent(__m512 x)
{
    __m512 one = _mm512_set1_ps(1.0f), size = _mm512_abs_ps(x), square = _mm512_mul_ps(x, x);
    __m512 e = exponential(_mm512_mul_ps(size, _mm512_set1_ps(-2.0f)));
    __m512 large = _mm512_div_ps(_mm512_sub_ps(one, e), _mm512_add_ps(one, e));
    __mmask16 negative = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ);
    large = _mm512_mask_sub_ps(large, negative, _mm512_setzero_ps(), large);
    const float factors[] = {62.0f / 2835, -17.0f / 315, 2.0f / 15, -1.0f / 3, 1.0f};
    __m512 sum = _mm512_set1_ps(factors[0]);
#pragma GCC unroll 4
    for (int i = 1; i < 5; i++)
        sum = _mm512_fmadd_ps(sum, square, _mm512_set1_ps(factors[i]));
    return _mm512_mask_mul_ps(large, _mm512_cmp_ps_mask(size, _mm512_set1_ps(0.25f), _CMP_LT_OQ), x, sum);
}

/* A matrix that is read number by number: row m, and column (o, i) of `outer` times `inner`, lies at
 * at[m row + o outer_step + i inner_step]. */
typedef struct {
    const float *at;
    idx row, outer, outer_step, inner, inner_step;
} Left;

/* A matrix whose rows are contiguous. */
typedef struct {
    const float *at;
    idx row;
} Right;

/* out(m, n) = start(m, n) + sum over k of a(m, k) b(k, n), for M rows and N vectors, the last of them with the lanes of
 * `mask`; without `start`, from zero. M and N are constants wherever this is inlined. */
INLINE void tile(const int M, const int N, __mmask16 mask, Left a, Right b, Right start, float *out, idx out_row)
{
    __m512 sum[10][4], row[4]; /* as large as any; only [M][N] are used */
#pragma GCC unroll 16
    for (int m = 0; m < M; m++)
#pragma GCC unroll 4
        for (int n = 0; n < N; n++)
            sum[m][n] = start.at ? load(n == N - 1 ? mask : 0xffff, start.at + m * start.row + n * LANES)
                                 : _mm512_setzero_ps();
    for (idx o = 0; o < a.outer; o++) {
        const float *left = a.at + o * a.outer_step;
        for (idx i = 0; i < a.inner; i++) {
#pragma GCC unroll 4
            for (int n = 0; n < N; n++)
                row[n] = n == N - 1 ? load(mask, b.at + n * LANES) : _mm512_loadu_ps(b.at + n * LANES);
#pragma GCC unroll 16
            for (int m = 0; m < M; m++) {
                __m512 scalar = _mm512_set1_ps(left[m * a.row]);
#pragma GCC unroll 4
                for (int n = 0; n < N; n++)
                    sum[m][n] = _mm512_fmadd_ps(scalar, row[n], sum[m][n]);
            }
            left += a.inner_step;
            b.at += b.row;
        }
    }
#pragma GCC unroll 16
    for (int m = 0; m < M; m++)
#pragma GCC unroll 4
        for (int n = 0; n < N; n++)
            _mm512_mask_storeu_ps(out + m * out_row + n * LANES, n == N - 1 ? mask : 0xffff, sum[m][n]);
}

#define ROWS_CASE(M, N)                                                                                                \
    case M:                                                                                                            \
        tile(M, N, mask, a, b, start, out, out_row);                                                                   \
        break;

/* Strips of N vectors: as many rows a tile as the 32 registers hold, and about equally many in each. */
#define STRIP(N, MOST, CASES)                                                                                          \
    VECTOR static void strip_##N(__mmask16 mask, idx rows, Left a, Right b, Right start, float *out, idx out_row)      \
    {                                                                                                                  \
        for (idx tiles = (rows + MOST - 1) / MOST; tiles > 0; tiles--) {                                               \
            idx taken = (rows + tiles - 1) / tiles;                                                                    \
            switch (taken) {                                                                                           \
                CASES                                                                                                  \
            }                                                                                                          \
            rows -= taken;                                                                                             \
            a.at += taken * a.row;                                                                                     \
            out += taken * out_row;                                                                                    \
            if (start.at)                                                                                              \
                start.at += taken * start.row;                                                                         \
        }                                                                                                              \
    }

#define CASES_5(N) ROWS_CASE(1, N) ROWS_CASE(2, N) ROWS_CASE(3, N) ROWS_CASE(4, N) ROWS_CASE(5, N)
#define CASES_10(N) CASES_5(N) ROWS_CASE(6, N) ROWS_CASE(7, N) ROWS_CASE(8, N) ROWS_CASE(9, N) ROWS_CASE(10, N)
STRIP(1, 10, CASES_10(1))
STRIP(2, 10, CASES_10(2))
STRIP(3, 5, CASES_5(3))
STRIP(4, 5, CASES_5(4))

/* out(m, n) = start(m, n) + sum over k of a(m, k) b(k, n), for any numbers of rows and columns. `start` may be `out`
 * itself, one row for all (its row step 0), or nothing (its address 0). */
VECTOR static void product(idx rows, idx columns, Left a, Right b, Right start, float *out, idx out_row)
{
    for (idx done = 0; done < columns; done += 4 * LANES) {
        idx left = columns - done < 4 * LANES ? columns - done : 4 * LANES;
        idx vectors = (left + LANES - 1) / LANES;
        __mmask16 mask = first(left - (vectors - 1) * LANES);
        Right from = {start.at ? start.at + done : NULL, start.row};
        (vectors == 1   ? strip_1
         : vectors == 2 ? strip_2
         : vectors == 3 ? strip_3
                        : strip_4)(mask, rows, a, (Right){b.at + done, b.row}, from, out + done, out_row);
    }
}

static const Right NOTHING = {NULL, 0};

/* Turn 16 vectors of 16 lanes. */
INLINE void turn(__m512 r[LANES])
{
    __m512 pairs[LANES], fours[LANES];
#pragma GCC unroll 8
    for (int i = 0; i < LANES; i += 2) {
        pairs[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < LANES; i += 4)
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
            __m512d low = _mm512_castps_pd(pairs[i + h]), high = _mm512_castps_pd(pairs[i + h + 2]);
            fours[i + 2 * h] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
            fours[i + 2 * h + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
        }
    /* fours[4 q + j] holds, in its quarter p, elements 4 q to 4 q + 3 of column 4 p + j. */
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        __m512 ab = _mm512_shuffle_f32x4(fours[j], fours[4 + j], 0x44);
        __m512 cd = _mm512_shuffle_f32x4(fours[8 + j], fours[12 + j], 0x44);
        __m512 ef = _mm512_shuffle_f32x4(fours[j], fours[4 + j], 0xee);
        __m512 gh = _mm512_shuffle_f32x4(fours[8 + j], fours[12 + j], 0xee);
        r[j] = _mm512_shuffle_f32x4(ab, cd, 0x88);
        r[4 + j] = _mm512_shuffle_f32x4(ab, cd, 0xdd);
        r[8 + j] = _mm512_shuffle_f32x4(ef, gh, 0x88);
        r[12 + j] = _mm512_shuffle_f32x4(ef, gh, 0xdd);
    }
}

/* to (columns, padded rows) = from (rows, columns) turned; rows are padded with zeros to whole vectors. */
INLINE void turned(idx rows, idx columns, const float *from, idx from_row, float *to)
{
    idx padded = (rows + LANES - 1) / LANES * LANES;
    for (idx n = 0; n < columns; n += LANES)
        for (idx m = 0; m < rows; m += LANES) {
            __m512 r[LANES];
            for (idx i = 0; i < LANES; i++)
                r[i] = m + i < rows ? load(first(columns - n), from + (m + i) * from_row + n)
                                    : _mm512_setzero_ps();
            turn(r);
            for (idx i = 0; i < LANES && n + i < columns; i++)
                _mm512_storeu_ps(to + (n + i) * padded + m, r[i]);
        }
}

#else

static int supported(void) { return 0; }

#endif

/* Whether this build, on this processor, can compute. */
static PyObject *py_supported(PyObject *self, PyObject *nothing) { return PyBool_FromLong(supported()); }

#ifdef WITH_AVX512
#define DIRECTIONS {"forward", forward, METH_VARARGS, NULL}, {"backward", backward, METH_VARARGS, NULL},
#else
#define DIRECTIONS
#endif

/* A module's end: functions `supported` and, where they can be compiled, `forward` and `backward`; then the constants that
 * the Python side needs, as {name, value}, .... */
#define MODULE(name, ...)                                                                                              \
    static PyMethodDef methods[] = {                                                                                   \
        {"supported", py_supported, METH_NOARGS, NULL}, DIRECTIONS{NULL, NULL, 0, NULL}};                              \
    static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, #name, NULL, -1, methods, NULL, NULL, NULL, NULL};      \
    static const struct {                                                                                              \
        const char *key;                                                                                               \
        long value;                                                                                                    \
    } constants[] = {__VA_ARGS__};                                                                                     \
    PyMODINIT_FUNC PyInit_##name(void)                                                                                 \
    {                                                                                                                  \
        PyObject *made = PyModule_Create(&module);                                                                     \
        for (size_t i = 0; made && i < sizeof constants / sizeof *constants; i++)                                      \
            if (PyModule_AddIntConstant(made, constants[i].key, constants[i].value) < 0)                               \
                Py_CLEAR(made);                                                                                        \
        return made;                                                                                                   \
    }
