/* Messages between nodes and commands of clients: from bytes to lists of byte strings, and back (frames.py, requests.py).
 *
 * Both walks look at each header once and make each byte string with one copy. No number in the bytes is believed: before
 * a list is made, the bytes that are left must have room for as many items. */
#ifndef DYN_MESSAGES_H
#define DYN_MESSAGES_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>

#define ITEM_BYTES_MIN 4   /* of an item of a message: *0 and a line break */
#define NUMBER_DIGITS_MAX 10
#define HEADER_BYTES_MAX 23  /* a line break, a type byte, twenty digits, and another byte to spare */

typedef struct {
    const char *bytes;
    Py_ssize_t at, end;
} Walk;

/* Reads the type byte and the number of a header, and its line break. Returns -1 if there is no such header. */
static Py_ssize_t header_number(Walk *walk, char type) {
    const char *bytes = walk->bytes;
    Py_ssize_t at = walk->at + 1, first = at, number = 0;
    if (at >= walk->end || bytes[walk->at] != type) return -1;
    Py_ssize_t stop = walk->end - first < NUMBER_DIGITS_MAX ? walk->end : first + NUMBER_DIGITS_MAX;
    for (; at < stop && bytes[at] >= '0' && bytes[at] <= '9'; at++) number = number * 10 + (bytes[at] - '0');
    if (at == first || at + 2 > walk->end || bytes[at] != '\r' || bytes[at + 1] != '\n') return -1;
    walk->at = at + 2;
    return number;
}

/* The byte string at the place of a walk. NULL without an exception: there is none. `usual` is NULL, or bytes that it often
 * has, as a command has the name of the one before: then it is that object, for a third of what a new one costs. */
static PyObject *byte_string(Walk *walk, PyObject *usual) {
    Py_ssize_t size = header_number(walk, '$');
    if (size < 0 || size > walk->end - walk->at - 2) return NULL;
    const char *bytes = walk->bytes + walk->at;
    walk->at += size + 2;
    bool is_usual = usual != NULL && PyBytes_GET_SIZE(usual) == size && !memcmp(PyBytes_AS_STRING(usual), bytes, size);
    return is_usual ? Py_NewRef(usual) : PyBytes_FromStringAndSize(bytes, size);
}

/* The first word of a command, if it is bytes; else NULL. */
static PyObject *name_of(PyObject *command) {
    bool has_words = command != NULL && PyList_CheckExact(command) && PyList_GET_SIZE(command);
    return has_words && PyBytes_CheckExact(PyList_GET_ITEM(command, 0)) ? PyList_GET_ITEM(command, 0) : NULL;
}

/* The list at the place of a walk; `is_outer`: its items may be lists, too. NULL as above. `usual`: of its first item. */
static PyObject *list_of_items(Walk *walk, bool is_outer, PyObject *usual) {
    Py_ssize_t count = header_number(walk, '*');
    if (count < 0 || count > (walk->end - walk->at) / ITEM_BYTES_MIN) return NULL;
    PyObject *items = PyList_New(count);
    for (Py_ssize_t index = 0; items != NULL && index < count; index++) {
        bool is_list = is_outer && walk->at < walk->end && walk->bytes[walk->at] == '*';
        PyObject *before = is_list && index ? name_of(PyList_GET_ITEM(items, index - 1)) : NULL;
        PyObject *item = is_list ? list_of_items(walk, false, before) : byte_string(walk, index ? NULL : usual);
        if (item == NULL) {
            Py_DECREF(items);
            return NULL;
        }
        PyList_SET_ITEM(items, index, item);
    }
    return items;
}

PyDoc_STRVAR(message_at_doc, "The message at `start` of a body that ends at `end`, and where the next one begins; or None.");

static PyObject *message_at(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    if (count != 3 || !PyBytes_CheckExact(args[0])) Py_RETURN_NONE;
    Py_ssize_t start = PyLong_AsSsize_t(args[1]), end = PyLong_AsSsize_t(args[2]);
    if (PyErr_Occurred()) return NULL;
    if (start < 0 || start > end || end > PyBytes_GET_SIZE(args[0])) Py_RETURN_NONE;
    Walk walk = {PyBytes_AS_STRING(args[0]), start, end};
    PyObject *message = list_of_items(&walk, true, NULL);
    if (message == NULL) {
        if (PyErr_Occurred()) return NULL;
        Py_RETURN_NONE;
    }
    return Py_BuildValue("(Nn)", message, walk.at);
}

/* A command of a client at the place of a walk. NULL without an exception: it is incomplete, too large, or wrong. `usual`: a
 * name that it often has, or NULL. */
static PyObject *command(Walk *walk, Py_ssize_t bytes_max, Py_ssize_t arguments_max, PyObject *usual) {
    Py_ssize_t start = walk->at, count = header_number(walk, '*');
    if (walk->bytes[start + 1] == '0' || count < 1 || count > arguments_max) return NULL;
    if (count > (walk->end - walk->at) / ITEM_BYTES_MIN) return NULL;
    PyObject *arguments = PyList_New(count);
    for (Py_ssize_t index = 0; arguments != NULL && index < count; index++) {
        bool is_padded = walk->end - walk->at > 2 && walk->bytes[walk->at + 1] == '0' && walk->bytes[walk->at + 2] != '\r';
        PyObject *argument = is_padded ? NULL : byte_string(walk, index ? NULL : usual);
        if (argument == NULL || walk->at - start > bytes_max) {
            Py_XDECREF(argument);
            Py_DECREF(arguments);
            return NULL;
        }
        PyList_SET_ITEM(arguments, index, argument);
    }
    return arguments;
}

PyDoc_STRVAR(commands_at_doc,
    "The complete commands from `start` on, up to the first that ends at `stop` or later, and where the next one begins.");

static PyObject *commands_at(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    if (count != 5 || !PyBytes_CheckExact(args[0])) Py_RETURN_NONE;
    Py_ssize_t start = PyLong_AsSsize_t(args[1]), stop = PyLong_AsSsize_t(args[2]);
    Py_ssize_t bytes_max = PyLong_AsSsize_t(args[3]), arguments_max = PyLong_AsSsize_t(args[4]);
    if (PyErr_Occurred()) return NULL;
    Walk walk = {PyBytes_AS_STRING(args[0]), start, PyBytes_GET_SIZE(args[0])};
    PyObject *commands = start < 0 ? NULL : PyList_New(0), *name = NULL;
    while (commands != NULL && start < stop && start < walk.end) {
        PyObject *arguments = command(&walk, bytes_max, arguments_max, name);
        if (arguments == NULL && !PyErr_Occurred()) break;
        if (arguments == NULL || PyList_Append(commands, arguments)) Py_CLEAR(commands);
        name = commands == NULL ? NULL : name_of(arguments);  /* `commands` keeps it */
        Py_XDECREF(arguments);
        start = walk.at;
    }
    if (commands == NULL) return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    return Py_BuildValue("(Nn)", commands, start);
}

/* --- from items to bytes: the size first, then one object and one copy */

static Py_ssize_t digits_of(Py_ssize_t number) {
    Py_ssize_t digits = 1;
    for (; number > 9; number /= 10) digits++;
    return digits;
}

static char *put_header(char *at, char type, Py_ssize_t number) {
    Py_ssize_t digits = digits_of(number);
    *at++ = '\r', *at++ = '\n', *at++ = type;
    for (char *digit = at + digits; digit > at; number /= 10) *--digit = (char)('0' + number % 10);
    return at + digits;
}

/* The bytes of an item that is no list. -1: it is of a type, or a number, that only Python encodes. */
static Py_ssize_t plain_size(PyObject *item) {
    if (PyBytes_CheckExact(item)) return PyBytes_GET_SIZE(item);
    if (PyUnicode_CheckExact(item) && PyUnicode_IS_COMPACT_ASCII(item)) return PyUnicode_GET_LENGTH(item);
    if (!PyLong_CheckExact(item)) return -1;
    int overflow;
    long long number = PyLong_AsLongLongAndOverflow(item, &overflow);
    return overflow || number < 0 ? -1 : digits_of(number);
}

static char *put_plain(char *at, PyObject *item) {
    Py_ssize_t size = plain_size(item);
    at = put_header(at, '$', size);
    *at++ = '\r', *at++ = '\n';
    if (PyLong_CheckExact(item)) {
        int overflow;
        long long number = PyLong_AsLongLongAndOverflow(item, &overflow);
        for (char *digit = at + size; digit > at; number /= 10) *--digit = (char)('0' + number % 10);
    } else {
        memcpy(at, PyBytes_CheckExact(item) ? PyBytes_AS_STRING(item) : (char *)PyUnicode_1BYTE_DATA(item), size);
    }
    return at + size;
}

/* The bytes that some items take with their headers. -1 as above. */
static Py_ssize_t size_of_items(PyObject *items, bool is_outer) {
    PyObject **each = PySequence_Fast_ITEMS(items);
    Py_ssize_t size = 0, count = PySequence_Fast_GET_SIZE(items);
    for (Py_ssize_t index = 0; index < count; index++) {
        PyObject *item = each[index];
        bool is_list = PyList_CheckExact(item) || PyTuple_CheckExact(item);
        if (is_list ? !is_outer : !is_outer && !PyBytes_CheckExact(item)) return -1;
        Py_ssize_t own = is_list ? size_of_items(item, false) : plain_size(item);
        if (own < 0) return -1;
        size += is_list ? own + 3 + digits_of(PySequence_Fast_GET_SIZE(item)) : own + 5 + digits_of(own);
    }
    return size;
}

static char *put_items(char *at, PyObject *items) {
    PyObject **each = PySequence_Fast_ITEMS(items);
    Py_ssize_t count = PySequence_Fast_GET_SIZE(items);
    for (Py_ssize_t index = 0; index < count; index++) {
        PyObject *item = each[index];
        if (PyList_CheckExact(item) || PyTuple_CheckExact(item))
            at = put_items(put_header(at, '*', PySequence_Fast_GET_SIZE(item)), item);
        else
            at = put_plain(at, item);
    }
    return at;
}

PyDoc_STRVAR(encoded_doc, "The message of the items of `head` and then those of `rest`, both lists or tuples; or None.");

static PyObject *encoded(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    Py_ssize_t size = 0, items = 0;
    if (count != 2) Py_RETURN_NONE;
    for (int part = 0; part < 2; part++) {
        if (!PyList_CheckExact(args[part]) && !PyTuple_CheckExact(args[part])) Py_RETURN_NONE;
        Py_ssize_t own = size_of_items(args[part], true);
        if (own < 0) Py_RETURN_NONE;
        size += own;
        items += PySequence_Fast_GET_SIZE(args[part]);
    }
    PyObject *message = PyBytes_FromStringAndSize(NULL, 1 + digits_of(items) + size + 2);
    if (message == NULL) return NULL;
    char first[HEADER_BYTES_MAX], *at = PyBytes_AS_STRING(message);
    Py_ssize_t head = put_header(first, '*', items) - first - 2;  /* the line break is that of an item before it */
    memcpy(at, first + 2, head);
    at = put_items(put_items(at + head, args[0]), args[1]);
    memcpy(at, "\r\n", 2);
    return message;
}

#endif
