/* Records in their common form, and what a node does with each of them (server/core/records/).
 *
 * Theory. versions.py has the layout of a record, and what a merge is. Nearly all records have one sibling, and a clock that
 * differs from that of the record before in one entry. For these, the functions below do in one pass what the modules
 * versions, structure, trees and records do in several calls: check the bytes, compare the clocks, and enter the later record
 * in the cache, the batch of the turn, and the hash tree. What they meet of any other form they leave as it is, and say so;
 * the modules in Python then do the whole. So each rule stands there, and here is a copy of its common case, which a test
 * compares with it (tests/core/records/test_native_records.py).
 *
 * Nothing is changed before everything has been looked at. The three changes that come then cannot fail halfway: only the
 * entry in the batch may need memory, and it comes first. */
#ifndef DYN_RECORDS_H
#define DYN_RECORDS_H

#include "hashes.h"

#define KEY_AT 6             /* in a storage key: behind slot and hash */
#define SHARD_BYTE 5
#define SLOTS 16384
#define SLOT_END 0x40        /* greater than the first byte of all storage keys */
#define CLOCK_AT 12
#define ENTRY_BYTES 16
#define SIBLING_BYTES 29     /* without the value */
#define COUNTER_MAX ((1ULL << 60) - 1)  /* protocol/bounds.py */

static PyObject *digest_of_many;  /* xxhash.xxh3_64_intdigest */

/* XXH3-64 of any bytes. If it cannot be computed for want of memory, an exception is set. */
static uint64_t xxh3(const uint8_t *at, Py_ssize_t size) {
    if (size <= XXH3_SHORT_BYTES_MAX) return xxh3_short(at, (size_t)size);
    PyObject *view = PyMemoryView_FromMemory((char *)at, size, PyBUF_READ);
    PyObject *number = view == NULL ? NULL : PyObject_CallOneArg(digest_of_many, view);
    uint64_t hash = number == NULL ? 0 : PyLong_AsUnsignedLongLong(number);
    Py_XDECREF(view);
    Py_XDECREF(number);
    return hash;
}

typedef struct {
    const uint8_t *at;
    Py_ssize_t size, entries, sibling;  /* `sibling`: where the only sibling begins; 0: there is none, or there are others */
} Record;

/* Looks at bytes as a record. Only if `sibling` is not 0 may anything but the first 12 bytes be read. */
static Record record_of(PyObject *bytes) {
    Record record = {(uint8_t *)PyBytes_AS_STRING(bytes), PyBytes_GET_SIZE(bytes), 0, 0};
    if (record.size < CLOCK_AT) return record;
    record.entries = be16(record.at + 8);
    Py_ssize_t sibling = CLOCK_AT + ENTRY_BYTES * record.entries;
    if (record.entries && be16(record.at + 10) == 1 && sibling + SIBLING_BYTES <= record.size) record.sibling = sibling;
    return record;
}

static bool is_storage_key(PyObject *key) {
    return PyBytes_CheckExact(key) && PyBytes_GET_SIZE(key) >= KEY_AT && (uint8_t)PyBytes_AS_STRING(key)[0] < SLOT_END;
}

/* Whether the newest sibling is a value without an expiry. */
static bool is_persistent(const Record *record) {
    return record->sibling && !be64(record->at + record->sibling + 16) && !record->at[record->sibling + 24];
}

/* The place of the clock entry of an actor, or of the entry before which it belongs. */
static const uint8_t *entry_of(const Record *record, const uint8_t *actor) {
    const uint8_t *entry = record->at + CLOCK_AT, *end = entry + ENTRY_BYTES * record->entries;
    while (entry < end && memcmp(entry, actor, 8) < 0) entry += ENTRY_BYTES;
    return entry;
}

/* structure.verify of a record with one sibling. False also for all other records, be they sound or not. */
static bool is_sound(PyObject *bytes) {
    Record record = record_of(bytes);
    if (!record.sibling || xxh3(record.at + 8, record.size - 8) != be64(record.at)) return false;
    const uint8_t *entry = record.at + CLOCK_AT, *sibling = record.at + record.sibling;
    for (Py_ssize_t index = 0; index < record.entries; index++, entry += ENTRY_BYTES)
        if ((index && memcmp(entry - ENTRY_BYTES, entry, 8) >= 0) || be64(entry + 8) > COUNTER_MAX) return false;
    entry = entry_of(&record, sibling);
    return entry < sibling && !memcmp(entry, sibling, 8) && be64(sibling + 8) <= be64(entry + 8) &&
           !(be64(sibling + 16) >> 63) && sibling[24] <= 1 &&
           be32(sibling + 25) <= INT32_MAX && (Py_ssize_t)be32(sibling + 25) == record.size - record.sibling - SIBLING_BYTES;
}

PyDoc_STRVAR(sound_pairs_doc,
    "The index, from `first` on, of the first storage key whose record is not of the common form or not sound.");

static PyObject *sound_pairs(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    Py_ssize_t index = count == 2 ? PyLong_AsSsize_t(args[1]) : -1;
    if (index < 0 || !PyList_CheckExact(args[0])) return PyErr_Occurred() ? NULL : PyLong_FromLong(0);
    for (; index + 1 < PyList_GET_SIZE(args[0]); index += 2) {
        PyObject *key = PyList_GET_ITEM(args[0], index), *record = PyList_GET_ITEM(args[0], index + 1);
        if (!is_storage_key(key) || !PyBytes_CheckExact(record) || !is_sound(record)) break;
    }
    return PyErr_Occurred() ? NULL : PyLong_FromSsize_t(index);
}

/* Whether `late` is the merge of both, as `versions._newer_of_one_writer` has it: their clocks have the same actors and
 * differ in one entry, which is greater in `late` and is the dot of its only sibling. */
static bool is_newer(const Record *late, const Record *early) {
    if (!late->sibling || !early->sibling || late->entries != early->entries) return false;
    const uint8_t *dot = late->at + late->sibling, *entry = entry_of(late, dot);
    if (entry >= dot || memcmp(entry, dot, ENTRY_BYTES)) return false;
    Py_ssize_t offset = entry - late->at, after = offset + ENTRY_BYTES;
    return be64(early->at + offset + 8) < be64(entry + 8) &&
           !memcmp(late->at + CLOCK_AT, early->at + CLOCK_AT, offset + 8 - CLOCK_AT) &&
           !memcmp(late->at + after, early->at + after, late->sibling - after);
}

/* --- the store of the records as a turn sees it */

typedef struct {
    PyObject_HEAD
    PyObject *young;                 /* the young shards of the cache: a list of dictionaries (cache.py) */
    Py_buffer leaves, counts, live;  /* of the hash tree (trees.py) */
    int shift;                       /* from a position to its leaf */
    Py_ssize_t record_bytes_max;     /* longer records get patches */
    PyObject *mark;                  /* the keys of databases other than 0 begin with it, and have counts of their own */
} Shelf;

static PyTypeObject ShelfType;

static void shelf_dealloc(Shelf *shelf) {
    Py_XDECREF(shelf->young);
    Py_XDECREF(shelf->mark);
    Py_buffer *views[] = {&shelf->leaves, &shelf->counts, &shelf->live};
    for (int index = 0; index < 3; index++)
        if (views[index]->obj != NULL) PyBuffer_Release(views[index]);
    Py_TYPE(shelf)->tp_free((PyObject *)shelf);
}

static PyObject *shelf_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(keywords)) {
    PyObject *young, *leaves, *counts, *live, *mark;
    int shift;
    Py_ssize_t bytes_max;
    if (!PyArg_ParseTuple(args, "O!OOOinS", &PyList_Type, &young, &leaves, &counts, &live, &shift, &bytes_max, &mark))
        return NULL;
    if (shift < 0 || shift > 30) return PyErr_Format(PyExc_ValueError, "a shift of %d bits", shift);
    Shelf *shelf = (Shelf *)type->tp_alloc(type, 0);
    if (shelf == NULL) return NULL;
    shelf->young = Py_NewRef(young);
    shelf->mark = Py_NewRef(mark);
    shelf->shift = shift;
    shelf->record_bytes_max = bytes_max;
    if (PyObject_GetBuffer(leaves, &shelf->leaves, PyBUF_SIMPLE) || PyObject_GetBuffer(counts, &shelf->counts, PyBUF_SIMPLE) ||
        PyObject_GetBuffer(live, &shelf->live, PyBUF_SIMPLE)) {
        Py_DECREF(shelf);
        return NULL;
    }
    return (PyObject *)shelf;
}

static PyTypeObject ShelfType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "dyn_native.Shelf",
    .tp_basicsize = sizeof(Shelf),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "The cache and the hash tree that `merge_pairs` and `overwrite` change.",
    .tp_new = shelf_new,
    .tp_dealloc = (destructor)shelf_dealloc,
};

/* The young shard of a storage key; NULL without an exception if there is none. */
static PyObject *shard_of(Shelf *shelf, PyObject *key) {
    Py_ssize_t index = (uint8_t)PyBytes_AS_STRING(key)[SHARD_BYTE];
    PyObject *shard = index < PyList_GET_SIZE(shelf->young) ? PyList_GET_ITEM(shelf->young, index) : NULL;
    return shard != NULL && PyDict_CheckExact(shard) ? shard : NULL;
}

#include "prefetch.h"

PyDoc_STRVAR(young_of_doc, "The records of storage keys, in order, if the cache has all of them; else None.");

static PyObject *young_of(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    if (count != 2 || !Py_IS_TYPE(args[0], &ShelfType) || !PyList_CheckExact(args[1]))
        return PyErr_Format(PyExc_TypeError, "young_of takes a Shelf and a list");
    Shelf *shelf = (Shelf *)args[0];
    Py_ssize_t size = PyList_GET_SIZE(args[1]);
    PyObject *records = PyList_New(size);
    for (Py_ssize_t index = 0; records != NULL && index < size; index++) {
        if (index % PREFETCH_MAX == 0) prefetch(shelf, &PyList_GET_ITEM(args[1], index), size - index, 1);
        PyObject *key = PyList_GET_ITEM(args[1], index), *shard = is_storage_key(key) ? shard_of(shelf, key) : NULL;
        PyObject *record = shard == NULL ? NULL : value_in(shard, key);
        if (record != NULL) PyList_SET_ITEM(records, index, Py_NewRef(record));
        else Py_CLEAR(records);
    }
    if (records == NULL && !PyErr_Occurred()) Py_RETURN_NONE;
    return records;
}

/* Whether `enter` may put a record in the place of another one, or of none (`old` is None). */
static bool may_enter(Shelf *shelf, PyObject *key, PyObject *old, const Record *before, const Record *after) {
    Py_ssize_t position = be32((uint8_t *)PyBytes_AS_STRING(key)), slot = position >> 16;
    if (after->size > shelf->record_bytes_max || !is_persistent(after)) return false;
    if ((position >> shelf->shift) * 8 + 8 > shelf->leaves.len || slot * 4 + 4 > shelf->counts.len || slot * 4 + 4 > shelf->live.len)
        return false;
    if (old != Py_None) return is_persistent(before);
    Py_ssize_t size = PyBytes_GET_SIZE(shelf->mark), given = PyBytes_GET_SIZE(key) - KEY_AT;
    return given < size || memcmp(PyBytes_AS_STRING(key) + KEY_AT, PyBytes_AS_STRING(shelf->mark), size);
}

/* Enters a record in the batch, the cache and the tree. `old` is a borrowed reference, and gone after it. -1: nothing has
 * changed, and an exception is set. */
static int enter(Shelf *shelf, PyObject *writes, PyObject *shard, PyObject *key, PyObject *old, PyObject *record) {
    int64_t checksum, before = 0;
    Py_ssize_t position = be32((uint8_t *)PyBytes_AS_STRING(key));
    memcpy(&checksum, PyBytes_AS_STRING(record), 8);
    if (old != Py_None) memcpy(&before, PyBytes_AS_STRING(old), 8);
    bool is_new = old == Py_None;
    if (PyDict_SetItem(writes, key, record) || put_in(shard, key, record)) return -1;
    ((int64_t *)shelf->leaves.buf)[position >> shelf->shift] ^= checksum ^ before;
    if (is_new) {
        ((int32_t *)shelf->counts.buf)[position >> 16]++;
        ((int32_t *)shelf->live.buf)[position >> 16]++;
    }
    return 0;
}

PyDoc_STRVAR(merge_pairs_doc,
    "Merges storage key, record, … from `index` on into what the cache has. Returns where it has stopped, how many records "
    "have changed, how many of them are new, and by how many bytes the cache has grown.");

static PyObject *merge_pairs(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    if (count != 4 || !Py_IS_TYPE(args[0], &ShelfType) || !PyList_CheckExact(args[1]) || !PyDict_CheckExact(args[3]))
        return PyErr_Format(PyExc_TypeError, "merge_pairs takes a Shelf, a list, an index and a dictionary");
    Shelf *shelf = (Shelf *)args[0];
    Py_ssize_t index = PyLong_AsSsize_t(args[2]), changed = 0, created = 0, grown = 0;
    if (index < 0) return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_ValueError, "a negative index");
    for (; index + 1 < PyList_GET_SIZE(args[1]); index += 2) {
        if (index % (2 * PREFETCH_MAX) == 0)  /* so once for each key, however often the caller comes back */
            prefetch(shelf, &PyList_GET_ITEM(args[1], index), (PyList_GET_SIZE(args[1]) - index) / 2, 2);
        PyObject *key = PyList_GET_ITEM(args[1], index), *record = PyList_GET_ITEM(args[1], index + 1);
        if (!is_storage_key(key) || !PyBytes_CheckExact(record)) break;
        PyObject *shard = shard_of(shelf, key), *old = shard == NULL ? NULL : value_in(shard, key);
        if (old == NULL || (old != Py_None && !PyBytes_CheckExact(old))) break;
        Record after = record_of(record), before = {NULL, 0, 0, 0};
        if (old != Py_None) {
            before = record_of(old);
            if (before.size == after.size && !memcmp(before.at, after.at, after.size)) continue;
            if (!is_newer(&after, &before)) {
                if (is_newer(&before, &after)) continue;
                break;
            }
        }
        if (!may_enter(shelf, key, old, &before, &after)) break;
        Py_ssize_t size = before.size;
        bool is_new = old == Py_None;
        if (enter(shelf, args[3], shard, key, old, record)) break;
        changed++;
        created += is_new;
        grown += after.size - size;
    }
    PyErr_Clear();  /* for want of memory, say: the caller goes on from here, and meets the same */
    return Py_BuildValue("(nnnn)", index, changed, created, grown);
}

/* --- writes */

static PyObject *storage_key_of(Py_ssize_t slot, PyObject *key) {
    Py_ssize_t size = PyBytes_GET_SIZE(key);
    PyObject *made = PyBytes_FromStringAndSize(NULL, KEY_AT + size);
    if (made == NULL) return NULL;
    uint8_t *at = (uint8_t *)PyBytes_AS_STRING(made);
    at[0] = (uint8_t)(slot >> 8), at[1] = (uint8_t)slot;
    put_be32(at + 2, xxh32((uint8_t *)PyBytes_AS_STRING(key), (size_t)size));
    memcpy(at + KEY_AT, PyBytes_AS_STRING(key), size);
    return made;
}

PyDoc_STRVAR(key_slot_doc, "The slot of an inner key; -1 if it may have a hash tag.");

static PyObject *key_slot(PyObject *Py_UNUSED(module), PyObject *key) {
    if (!PyBytes_Check(key)) return PyErr_Format(PyExc_TypeError, "key_slot takes bytes");
    uint16_t crc = 0;
    const uint8_t *at = (uint8_t *)PyBytes_AS_STRING(key), *end = at + PyBytes_GET_SIZE(key);
    for (; at < end && *at != '{'; at++) crc = (uint16_t)(crc << 8 ^ crcs[crc >> 8 ^ *at]);
    return PyLong_FromLong(at < end ? -1 : crc & (SLOTS - 1));
}

PyDoc_STRVAR(storage_key_doc, "The storage key of a key whose slot is known.");

static PyObject *storage_key(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    Py_ssize_t slot = count == 2 ? PyLong_AsSsize_t(args[0]) : -1;
    if (slot < 0 || slot > 0xFFFF || !PyBytes_Check(args[1]))
        return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_TypeError, "storage_key takes a slot and a key");
    return storage_key_of(slot, args[1]);
}

/* The record with one sibling, that of the write (actor, counter), which has seen all of `old`. NULL without an exception:
 * `old` has a later dot of the actor. */
static PyObject *superseding(const Record *old, const uint8_t *actor, uint64_t counter, PyObject *value) {
    Py_ssize_t entries = 1, before = 0, after = 0, size = PyBytes_GET_SIZE(value);
    const uint8_t *clock = NULL;
    if (old != NULL) {
        const uint8_t *entry = entry_of(old, actor), *end = old->at + old->sibling;
        bool is_known = entry < end && !memcmp(entry, actor, 8);
        if (is_known && be64(entry + 8) >= counter) return NULL;
        clock = old->at + CLOCK_AT;
        before = entry - clock;
        after = end - entry - (is_known ? ENTRY_BYTES : 0);
        entries = old->entries + !is_known;
    }
    if (entries > 0xFFFF || size > INT32_MAX) return NULL;
    Py_ssize_t sibling = CLOCK_AT + ENTRY_BYTES * entries;
    PyObject *made = PyBytes_FromStringAndSize(NULL, sibling + SIBLING_BYTES + size);
    if (made == NULL) return NULL;
    uint8_t *at = (uint8_t *)PyBytes_AS_STRING(made), *entry = at + CLOCK_AT + before;
    put_be32(at + 8, (uint32_t)entries << 16 | 1);
    if (before) memcpy(at + CLOCK_AT, clock, before);
    if (after) memcpy(entry + ENTRY_BYTES, old->at + old->sibling - after, after);
    memcpy(entry, actor, 8);
    put_be64(entry + 8, counter);
    memcpy(at + sibling, entry, ENTRY_BYTES);
    memset(at + sibling + 16, 0, 9);  /* no expiry, a value */
    put_be32(at + sibling + 25, (uint32_t)size);
    memcpy(at + sibling + SIBLING_BYTES, PyBytes_AS_STRING(value), size);
    put_be64(at, xxh3(at + 8, PyBytes_GET_SIZE(made) - 8));
    if (PyErr_Occurred()) Py_CLEAR(made);
    return made;
}

PyDoc_STRVAR(overwrite_doc,
    "Writes a value that supersedes all that the cache has of a key. Returns its storage key, its new record, and the one "
    "before; or None, if that is not so simple, and then nothing has changed.");

static PyObject *overwrite(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    if (count != 7 || !Py_IS_TYPE(args[0], &ShelfType) || !PyDict_CheckExact(args[6])) Py_RETURN_NONE;
    Shelf *shelf = (Shelf *)args[0];
    PyObject *key = args[1], *actor = args[3], *value = args[5], *writes = args[6];
    Py_ssize_t slot = PyLong_AsSsize_t(args[2]);
    int overflow;  /* counter is -1 then. PyLong_AsLongLong takes 260 instructions for 60 bits, and this function 30 */
    long long counter = PyLong_AsLongLongAndOverflow(args[4], &overflow);
    if (PyErr_Occurred()) return NULL;
    if (!PyBytes_CheckExact(key) || !PyBytes_CheckExact(value) || !PyBytes_CheckExact(actor)) Py_RETURN_NONE;
    if (slot < 0 || slot >> 8 >= SLOT_END || counter < 0 || PyBytes_GET_SIZE(actor) != 8) Py_RETURN_NONE;
    PyObject *made = storage_key_of(slot, key), *record = NULL, *found = NULL;
    PyObject *shard = made == NULL ? NULL : shard_of(shelf, made);
    PyObject *old = shard == NULL ? NULL : value_in(shard, made);
    if (old != NULL && (old == Py_None || PyBytes_CheckExact(old))) {
        Record before = {NULL, 0, 0, 0};
        if (old != Py_None) before = record_of(old);
        if (old == Py_None || before.sibling)
            record = superseding(old == Py_None ? NULL : &before, (uint8_t *)PyBytes_AS_STRING(actor), counter, value);
        if (record != NULL) {
            Record after = record_of(record);
            found = PyTuple_Pack(3, made, record, old);  /* it also keeps `old` alive */
            if (found != NULL && (!may_enter(shelf, made, old, &before, &after) || enter(shelf, writes, shard, made, old, record)))
                Py_CLEAR(found);
        }
    }
    Py_XDECREF(made);
    Py_XDECREF(record);
    if (found == NULL && !PyErr_Occurred()) Py_RETURN_NONE;
    return found;
}

#endif
