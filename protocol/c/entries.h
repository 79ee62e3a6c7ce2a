/* The chunks of a record of entries, and whether they are sound (server/core/records/entry_structure.py).
 *
 * Theory. entries.py has the layout. A collection of 100,000 elements has as many entries, and each must be looked at when the
 * record comes from a disk or from another node: that takes Python 70 ms, and nobody else is served meanwhile. Here it takes
 * 1 ms. What is not of the common form ends the walk, be it sound or not, and Python looks at that chunk: texts of decimals
 * with more than digits, above all. */
#ifndef DYN_ENTRIES_H
#define DYN_ENTRIES_H

#include "hashes.h"

#define HEADER_BYTES 26
#define CLOCK_BYTES 16
#define ROW_BYTES 12
#define ENTRY_HEAD_BYTES 33  /* kind, dot, expiry, size of the field, size of the payload */
#define DOT_BYTES 16
#define BORDER_MASK 63
#define MARKED_KINDS 15
#define EXPIRY_MARK (1U << 16)
#define DIGITS_MAX 1000      /* of a decimal of the common form */
#define POSITION_BYTES 8
#define STREAM_ID_BYTES 16

enum { VALUE, TOMBSTONE, COUNTER_DELTA, HASH_FIELD, HASH_DELTA, SET_ELEMENT, MEMBER, MEMBER_DELTA, LIST_ITEM, HYPERLOGLOG,
       KEY_EXPIRY, STREAM_ENTRY };

typedef struct {
    const uint8_t *at;
    Py_ssize_t size;
} Bytes;

typedef struct {
    uint32_t kind;
    const uint8_t *dot;
    uint64_t expires_at_ms;
    Bytes field, payload;
} Entry;

typedef struct {
    const uint8_t *first, *end;  /* of the entries of the clock */
    const uint8_t *last;         /* the one that was found last: most entries are those of few writers */
} Clock;

static int compared(Bytes one, Bytes other) {
    int order = memcmp(one.at, other.at, one.size < other.size ? one.size : other.size);
    return order ? order : (one.size > other.size) - (one.size < other.size);
}

static bool is_border(Bytes field) { return !(xxh32(field.at, field.size) & BORDER_MASK); }

/* Reads the entry at a place. Returns where it ends; NULL if it does not end by `end`. */
static const uint8_t *read_entry(const uint8_t *at, const uint8_t *end, Entry *entry) {
    if (end - at < ENTRY_HEAD_BYTES) return NULL;
    Py_ssize_t field_size = be32(at + 25), payload_size = be32(at + 29);
    if (end - at - ENTRY_HEAD_BYTES < field_size + payload_size) return NULL;
    *entry = (Entry){at[0], at + 1, be64(at + 17), {at + ENTRY_HEAD_BYTES, field_size},
                     {at + ENTRY_HEAD_BYTES + field_size, payload_size}};
    return at + ENTRY_HEAD_BYTES + field_size + payload_size;
}

static bool is_covered(Clock *clock, const uint8_t *dot) {
    if (clock->last == NULL || memcmp(clock->last, dot, 8)) {
        const uint8_t *low = clock->first, *high = clock->end;
        while (low < high) {
            const uint8_t *middle = low + (high - low) / CLOCK_BYTES / 2 * CLOCK_BYTES;
            if (memcmp(middle, dot, 8) < 0) low = middle + CLOCK_BYTES;
            else high = middle;
        }
        if (low == clock->end || memcmp(low, dot, 8)) return false;
        clock->last = low;
    }
    return be64(dot + 8) <= be64(clock->last + 8);
}

/* Whether a text is a decimal, of the common form: an integer. */
static bool is_integer(Bytes text) {
    const uint8_t *at = text.at, *end = at + text.size;
    if (at < end && *at == '-') at++;
    if (at == end || text.size > DIGITS_MAX) return false;
    while (at < end && *at >= '0' && *at <= '9') at++;
    return at == end;
}

/* entry_structure._is_payload; false also for decimals of another form. */
static bool is_payload(const Entry *entry) {
    Py_ssize_t field = entry->field.size, payload = entry->payload.size;
    bool lasts = !entry->expires_at_ms;
    switch (entry->kind) {
        case VALUE: case TOMBSTONE: case HYPERLOGLOG: return !field;
        case KEY_EXPIRY: return !field && !payload;
        case COUNTER_DELTA: return !field && lasts && is_integer(entry->payload);
        case HASH_DELTA: case MEMBER_DELTA: return lasts && is_integer(entry->payload);
        case SET_ELEMENT: return !payload;
        case MEMBER: return lasts && payload == 8 && (be64(entry->payload.at) & INT64_MAX) <= 0x7FF0000000000000ULL;
        case LIST_ITEM:
            return lasts && (!field || field == POSITION_BYTES || (field > POSITION_BYTES && entry->field.at[field - 1]));
        case STREAM_ENTRY: return lasts && (!field || field == STREAM_ID_BYTES);
        default: return true;  /* of a later version */
    }
}

static uint32_t mark_of(const Entry *entry) {
    uint32_t mark = 1U << (entry->kind < MARKED_KINDS ? entry->kind : MARKED_KINDS);
    bool expires = entry->expires_at_ms && entry->kind > TOMBSTONE && entry->kind != KEY_EXPIRY;
    return expires ? mark | EXPIRY_MARK : mark;
}

/* Whether the chunk from `at` to `end` is sound, is what its row in the directory says, and follows the field `last`, which
 * becomes its own last one. If so, adds its entries to `entries`. */
static bool is_chunk(const uint8_t *at, const uint8_t *end, const uint8_t *row, Clock *clock, Bytes *last, Py_ssize_t *entries) {
    Entry entry, before = {.field = *last};
    uint32_t fields = 0, marks = 0;
    Py_ssize_t count = 0;
    for (; at < end; before = entry, count++) {
        at = read_entry(at, end, &entry);
        if (at == NULL || entry.expires_at_ms > INT64_MAX || !is_payload(&entry) || !is_covered(clock, entry.dot)) return false;
        int order = before.field.at == NULL ? 1 : compared(entry.field, before.field);
        if (count && !order) {
            if (entry.kind < before.kind || (entry.kind == before.kind && memcmp(entry.dot, before.dot, DOT_BYTES) <= 0))
                return false;
        } else {
            if (order <= 0 || (before.field.at != NULL && is_border(entry.field) != !count)) return false;
            fields++;
        }
        marks |= mark_of(&entry);
    }
    *last = before.field;
    *entries += count;
    return count && fields == be32(row + 4) && marks == be32(row + 8);
}

PyDoc_STRVAR(sound_chunks_doc,
    "Looks at the chunks of a record from number `first` on, which begins at `at` and follows the field `last`, or None. "
    "Returns the number of the first one that is not of the common form or not sound, where it begins, the field before it, "
    "and how many entries and which marks those before it have.");

static PyObject *sound_chunks(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    if (count != 4 || !PyBytes_CheckExact(args[0]) || !(PyBytes_CheckExact(args[3]) || args[3] == Py_None))
        return PyErr_Format(PyExc_TypeError, "sound_chunks takes a record, two numbers, and a field or None");
    const uint8_t *record = (uint8_t *)PyBytes_AS_STRING(args[0]);
    Py_ssize_t size = PyBytes_GET_SIZE(args[0]), chunk = PyLong_AsSsize_t(args[1]), at = PyLong_AsSsize_t(args[2]);
    if (PyErr_Occurred()) return NULL;
    Py_ssize_t directory = size < HEADER_BYTES ? size : HEADER_BYTES + CLOCK_BYTES * (Py_ssize_t)be32(record + 14);
    Py_ssize_t chunks = size < HEADER_BYTES ? 0 : be32(record + 22), entries = 0;
    bool fits = chunk >= 0 && at >= 0 && directory + ROW_BYTES * chunks <= size;
    Clock clock = {record + HEADER_BYTES, record + directory, NULL};
    Bytes last = {NULL, 0};
    if (args[3] != Py_None) last = (Bytes){(uint8_t *)PyBytes_AS_STRING(args[3]), PyBytes_GET_SIZE(args[3])};
    uint32_t marks = 0;
    for (; fits && chunk < chunks; chunk++) {
        const uint8_t *row = record + directory + ROW_BYTES * chunk;
        Py_ssize_t length = be32(row);
        if (at > size || length > size - at) break;
        if (!is_chunk(record + at, record + at + length, row, &clock, &last, &entries)) break;
        marks |= be32(row + 8);
        at += length;
    }
    return Py_BuildValue("(nny#nk)", chunk, at, last.at, last.size, entries, (unsigned long)marks);
}

#endif
