/* A small all-gather between processes of one machine through shared memory. See shared_memory.py.
 *
 * The memory holds a box a rank: a cache line with the number of the last message posted, then room for two messages.
 * Message n goes into room n % 2. Nobody overwrites what another still reads: a rank posts n + 2 only after all have
 * posted n + 1, which each does only when it has read all of n.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

enum { LINE = 64, SPINS = 2000, YIELDS = 200, NAP_NANOSECONDS = 50000 };

typedef unsigned long long address;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void breathe(long turn)
{
    if (turn < SPINS) {
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#endif
    } else if (turn < SPINS + YIELDS) {
        sched_yield();
    } else {
        struct timespec nap = {0, NAP_NANOSECONDS};
        nanosleep(&nap, NULL);
    }
}

/* (memory, capacity, ranks, rank, number, source, destination, bytes, seconds) -> rank that is waited for, or -1.
 *
 * Posts message `number` of `bytes` bytes and gathers everyone's, in rank order. Calling it again with the same
 * arguments after a rank was late goes on waiting. */
static PyObject *exchange(PyObject *self, PyObject *args)
{
    address memory_address, source, destination;
    Py_ssize_t capacity, bytes;
    int ranks, rank, late = -1;
    unsigned long long number;
    double seconds;
    if (!PyArg_ParseTuple(args, "KniiKKKnd", &memory_address, &capacity, &ranks, &rank, &number, &source, &destination,
                          &bytes, &seconds))
        return NULL;
    char *memory = (char *)(uintptr_t)memory_address;
    Py_ssize_t box = LINE + 2 * capacity, room = LINE + (Py_ssize_t)(number % 2) * capacity;
    Py_BEGIN_ALLOW_THREADS;
    uint64_t *own = (uint64_t *)(memory + rank * box);
    if (__atomic_load_n(own, __ATOMIC_RELAXED) < number) {
        memcpy(memory + rank * box + room, (const void *)(uintptr_t)source, (size_t)bytes);
        __atomic_store_n(own, (uint64_t)number, __ATOMIC_RELEASE);
    }
    double end = 0.0;
    for (int q = 0; q < ranks && late < 0; q++) {
        uint64_t *posted = (uint64_t *)(memory + q * box);
        for (long turn = 0; __atomic_load_n(posted, __ATOMIC_ACQUIRE) < number; turn++) {
            breathe(turn);
            if (turn > SPINS) {
                if (end == 0.0)
                    end = now() + seconds;
                else if (now() > end) {
                    late = q;
                    break;
                }
            }
        }
        if (late < 0)
            memcpy((char *)(uintptr_t)destination + q * bytes, memory + q * box + room, (size_t)bytes);
    }
    Py_END_ALLOW_THREADS;
    return PyLong_FromLong(late);
}

static PyMethodDef methods[] = {
    {"exchange", exchange, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_shared_memory", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__shared_memory(void) { return PyModule_Create(&module); }
