/* What every kernel is called with, and the types that all of them use. */
#ifndef STDCL_CALL_H
#define STDCL_CALL_H
#include <Python.h>
#include <stdint.h>

typedef Py_ssize_t idx;

enum { MOST_GIVEN = 10, MOST_SIZES = 10, MOST_MADE = 5 };

/* As extension.py's `run` passes it: (addresses of what is read, sizes, threads, addresses of what is written). What is
 * not there has the address 0. */
typedef struct {
    const float *given[MOST_GIVEN];
    idx sizes[MOST_SIZES];
    int threads;
    float *made[MOST_MADE];
} Call;

/* Read so many addresses and sizes; return whether they were there, or set an exception. */
static int parse(PyObject *args, int given, int sizes, int made, Call *call)
{
    PyObject *parts[3];
    int lengths[] = {given, sizes, made};
    if (!PyArg_ParseTuple(args, "O!O!iO!", &PyTuple_Type, &parts[0], &PyTuple_Type, &parts[1], &call->threads,
                          &PyTuple_Type, &parts[2]))
        return 0;
    for (int p = 0; p < 3; p++)
        if (PyTuple_GET_SIZE(parts[p]) != lengths[p]) {
            PyErr_Format(PyExc_TypeError, "part %d of a kernel's arguments has %zd entries, not %d", p,
                         PyTuple_GET_SIZE(parts[p]), lengths[p]);
            return 0;
        }
    for (int i = 0; i < given; i++)
        call->given[i] = PyLong_AsVoidPtr(PyTuple_GET_ITEM(parts[0], i));
    for (int i = 0; i < sizes; i++)
        call->sizes[i] = PyLong_AsSsize_t(PyTuple_GET_ITEM(parts[1], i));
    for (int i = 0; i < made; i++)
        call->made[i] = PyLong_AsVoidPtr(PyTuple_GET_ITEM(parts[2], i));
    return !PyErr_Occurred();
}

#endif
