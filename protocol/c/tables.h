/* Look-ups in the dictionaries of the record cache, by the fields of CPython's dictionaries.
 *
 * The problem. A record's key is looked up twice where it is written: for the record before, and to put the new one there.
 * CPython does that for keys of any type: it calls the key's comparison through two tables of functions, and for a write it
 * also judges anew whether the dictionary has to grow and whether the collector has to know of it. A SET of three nodes has
 * nine look-ups, and they took a tenth of its instructions.
 *
 * The idea. The keys of the cache are bytes, and a key whose record is replaced is there already. So a look-up is a walk over
 * the table, as `do_lookup` in CPython's Objects/dictobject.c has it, and the write changes one pointer. Nothing here makes
 * an object, or calls Python: the record before is bytes or None.
 *
 * The fields are those of CPython 3.11 to 3.13; a process of another version uses the functions that all have. */
#ifndef DYN_TABLES_H
#define DYN_TABLES_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <string.h>

#if PY_VERSION_HEX >= 0x030B0000 && PY_VERSION_HEX < 0x030E0000

#define Py_BUILD_CORE 1
#undef _PyGC_FINALIZED  /* 3.12 defines it for others as a macro, and in the header below as a function */
#include <internal/pycore_dict.h>
#undef Py_BUILD_CORE

#define KNOWS_TABLES 1
#define PERTURB_BITS 5  /* PERTURB_SHIFT in dictobject.c */

/* The address of a place in the table of a dictionary. */
static const void *place_at(PyDictKeysObject *table, size_t place) {
    return &table->dk_indices[place << (table->dk_log2_index_bytes - table->dk_log2_size)];
}

/* The number of the entry that a place leads to; negative: it is empty, or its entry was deleted. */
static Py_ssize_t number_at(PyDictKeysObject *table, size_t place) {
    const void *at = place_at(table, place);
    switch (table->dk_log2_index_bytes - table->dk_log2_size) {
        case 0: return *(const int8_t *)at;
        case 1: return *(const int16_t *)at;
        case 2: return *(const int32_t *)at;
        default: return (Py_ssize_t)*(const int64_t *)at;
    }
}

static bool is_same_key(PyObject *one, PyObject *other) {
    if (!PyBytes_CheckExact(one) || PyBytes_GET_SIZE(one) != PyBytes_GET_SIZE(other)) return false;
    return !memcmp(PyBytes_AS_STRING(one), PyBytes_AS_STRING(other), PyBytes_GET_SIZE(one));
}

/* The entry of a key, which is bytes. NULL: there is none, or the dictionary has keys of another type. */
static PyDictKeyEntry *entry_in(PyObject *dictionary, PyObject *key) {
    Py_hash_t hash = PyObject_Hash(key);  /* bytes keep it */
    PyDictKeysObject *table = ((PyDictObject *)dictionary)->ma_keys;
    if (table->dk_kind != DICT_KEYS_GENERAL) return NULL;
    size_t last = (size_t)DK_SIZE(table) - 1, rest = (size_t)hash, place = rest & last;
    for (Py_ssize_t number; (number = number_at(table, place)) != DKIX_EMPTY; place = (place * 5 + rest + 1) & last) {
        PyDictKeyEntry *entry = number < 0 ? NULL : &DK_ENTRIES(table)[number];
        if (entry != NULL && (entry->me_key == key || (entry->me_hash == hash && is_same_key(entry->me_key, key)))) return entry;
        rest >>= PERTURB_BITS;
    }
    return NULL;
}

/* The value of a key, borrowed; NULL without an exception: there is none. */
static PyObject *value_in(PyObject *dictionary, PyObject *key) {
    PyDictKeyEntry *entry = entry_in(dictionary, key);
    return entry == NULL ? NULL : entry->me_value;
}

/* Puts a value in the place of another one, both of them bytes or None. -1: nothing has changed, and an exception is set. */
static int put_in(PyObject *dictionary, PyObject *key, PyObject *value) {
    PyDictKeyEntry *entry = entry_in(dictionary, key);
    if (entry == NULL) return PyDict_SetItem(dictionary, key, value);
    PyObject *before = entry->me_value;
    entry->me_value = Py_NewRef(value);
    Py_DECREF(before);
    return 0;
}

#else

static PyObject *value_in(PyObject *dictionary, PyObject *key) { return PyDict_GetItemWithError(dictionary, key); }
static int put_in(PyObject *dictionary, PyObject *key, PyObject *value) { return PyDict_SetItem(dictionary, key, value); }

#endif
#endif
