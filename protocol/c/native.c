/* dyn_native: what a node does with each byte of a message and with each record of a group, in C.
 *
 * The problem. The hot modules are compiled by mypyc, and spend most of their time in CPython's objects: an object for each
 * number that is read from bytes or given to a function, a slice for each comparison, a look-up for each step.
 *
 * The idea. A few functions, each of which does a whole loop that would make no object in between. Each has the same contract:
 * it does the common case, or changes nothing and says so (None, or the index that it has reached). The function in Python
 * that calls it then does the same by itself. So everything that is rare stands in Python alone, and a node without this
 * module does the same things. protocol/native.py finds it; setup.py builds it beside the compiled modules.
 *
 * What is sure here. The caller holds the GIL throughout, and no function calls Python code in the middle of a change. No
 * function believes a length or a type: each byte that is read lies within its object, whatever a peer has sent.
 * tests/protocol/test_native.py feeds hostile bytes to the same code with the compiler's address sanitizer.
 */
#include "arenas.h"
#include "messages.h"
#include "entries.h"
#include "records.h"

#define INITIALIZERS "dyn__mypyc.init_"

/* Runs the initializer of a compiled module (server/build.py), which mypyc gives as a capsule. */
static PyObject *initialize_module(PyObject *Py_UNUSED(self), PyObject *capsule) {
    const char *name = PyCapsule_CheckExact(capsule) ? PyCapsule_GetName(capsule) : NULL;
    if (name == NULL || strncmp(name, INITIALIZERS, strlen(INITIALIZERS)))
        return PyErr_Format(PyExc_TypeError, "not an initializer of a compiled module: %R", capsule);
    PyObject *(*initialize)(void) = (PyObject * (*)(void)) PyCapsule_GetPointer(capsule, name);
    return initialize == NULL ? NULL : initialize();
}

#define METHOD(name) {#name, (PyCFunction)(void (*)(void))name, METH_FASTCALL, name##_doc}

static PyMethodDef methods[] = {
    METHOD(message_at), METHOD(commands_at), METHOD(encoded), METHOD(sound_pairs),
    METHOD(merge_pairs), METHOD(storage_key), METHOD(overwrite), METHOD(sound_chunks),
    METHOD(young_of),
    {"key_slot", key_slot, METH_O, key_slot_doc},
    {"initialize_module", initialize_module, METH_O, "initialize_module(capsule): the module that mypyc has compiled"},
    {"use_huge_pages", use_huge_pages, METH_NOARGS, use_huge_pages_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "dyn_native", .m_doc = "See protocol/c/native.c.", .m_size = -1, .m_methods = methods,
};

PyMODINIT_FUNC PyInit_dyn_native(void) {
    make_crcs();
    PyObject *xxhash = PyImport_ImportModule("xxhash");
    if (xxhash == NULL) return NULL;
    digest_of_many = PyObject_GetAttrString(xxhash, "xxh3_64_intdigest");
    Py_DECREF(xxhash);
    if (digest_of_many == NULL || PyType_Ready(&ShelfType)) return NULL;
    PyObject *module = PyModule_Create(&definition);
    if (module != NULL && PyModule_AddObjectRef(module, "Shelf", (PyObject *)&ShelfType)) Py_CLEAR(module);
    return module;
}
