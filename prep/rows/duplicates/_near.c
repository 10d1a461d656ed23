/*
 * `prep.rows.duplicates._near`: the pieces of five characters of plain lines, hashed, without a Python object for a row.
 *
 * A line is plain when it has just the fields that convert writes to Alpaca rows, in their order, no character by its
 * number (`\u`), and no character that the table does not know yet. The call stops before the first line that is not;
 * Python reads that row, and gives its text in place of the line. near.py has the same in numpy, to the very same hashes.
 *
 * Nothing is read but between the ends of the line, and nothing written beyond the room of the output.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "../lines.h"

enum { PIECE = 5 };
/* What the table says of a character: what it is folded to, 0 when it is dropped, and whether it stands in facts. */
#define FACT 0x80000000u
#define UNKNOWN 0xFFFFFFFFu
#define BASE 0x9E3779B97F4A7C15u

typedef struct {
    const uint32_t *table;
    uint32_t *codes;
    size_t count;
    uint64_t mark, facts;
} Row;

static inline uint64_t mix(uint64_t number) {
    number *= 0xBF58476D1CE4E5B9u;
    return number ^ number >> 29;
}

/* Take a character that is a fact; 0 when the table does not know it. */
static int take_fact(Row *row, uint32_t told) {
    if (told == UNKNOWN) return 0;
    row->mark += mix((told & ~FACT) + (row->facts++ << 21));
    row->codes[row->count++] = told & ~FACT;
    return 1;
}

static inline int take(Row *row, uint32_t code) {
    uint32_t told = row->table[code];
    if (told & FACT) return take_fact(row, told);
    row->codes[row->count] = told;
    row->count += told != 0;
    return 1;
}

/* Take the character that begins here, of more than one byte; 0 when it is none, or unknown. */
static inline int take_wide(Row *row, Text *text) {
    uint32_t code = read_wide(text);
    return code < CODES && take(row, code);
}

/* Take the inside of a JSON string and step over its end; 0 when it is not plain. */
static int take_string(Row *row, Text *line) {
    while (line->at < line->end) {
        byte value = *line->at;
        if (value == '"') return line->at++, 1;
        if (value >= 0x80) {
            if (!take_wide(row, line)) return 0;
        } else if (value != '\\') {
            if (!take(row, value)) return 0;
            line->at++;
        } else {
            byte meant = line->end - line->at < 2 ? 0 : unescape(line->at[1]);
            if (!meant || !take(row, meant)) return 0;
            line->at += 2;
        }
    }
    return 0;
}

/* Step over a string that is compared as it is written: each character has one spelling. */
static int skip_string(Text *line) {
    while (line->at < line->end) {
        byte value = *line->at++;
        if (value == '"') return 1;
        if (value != '\\') continue;
        if (line->at == line->end || *line->at == '/' || !unescape(*line->at)) return 0;
        line->at++;
    }
    return 0;
}

/* Step over a history, `[["q","a"],…]`. */
static int skip_history(Text *line) {
    if (!skip(line, "[")) return 0;
    if (skip(line, "]")) return 1;
    do {
        if (!skip(line, "[\"") || !skip_string(line)) return 0;
        if (!skip(line, ",\"") || !skip_string(line) || !skip(line, "]")) return 0;
    } while (skip(line, ","));
    return skip(line, "]");
}

/* Read a line; 0 when it is not plain. `context` is what else must be the same, empty when there is nothing. */
static int read_line(Row *row, Text line, Text *context) {
    if (!skip(&line, "{\"instruction\":\"") || !take_string(row, &line)) return 0;
    if (!skip(&line, ",\"input\":\"") || !take_string(row, &line)) return 0;
    if (!skip(&line, ",\"output\":\"") || !take_string(row, &line)) return 0;
    Text after = line;
    *context = (Text){line.at, line.at};
    if (!skip(&after, ",\"system\":\"\",\"history\":[]")) {
        after = line;
        if (!skip(&after, ",\"system\":\"") || !skip_string(&after)) return 0;
        if (!skip(&after, ",\"history\":") || !skip_history(&after)) return 0;
        *context = (Text){line.at + 1, after.at};
    }
    return skip(&after, ",\"origin\":\"") && skip_string(&after) && skip(&after, "}") && after.at == after.end;
}

/* Read a text; 0 when a character is unknown. */
static int read_text(Row *row, Text text) {
    while (text.at < text.end) {
        if (*text.at >= 0x80 ? !take_wide(row, &text) : !take(row, *text.at++)) return 0;
    }
    return 1;
}

/* Hash the pieces of the characters that were taken; those of a text shorter than one are filled up. */
static size_t hash_pieces(Row *row, uint64_t *out) {
    while (row->count < PIECE) row->codes[row->count++] = 0;
    size_t pieces = row->count - PIECE + 1;
    uint64_t mark = mix(row->mark);
    const uint32_t *codes = row->codes;
    for (size_t place = 0; place < pieces; place++) {
        uint64_t first = codes[place] * BASE + codes[place + 1], second = codes[place + 2] * BASE + codes[place + 3];
        out[place] = mix(((first * (BASE * BASE) + second) * BASE + codes[place + 4]) ^ mark);
    }
    return pieces;
}

/* Make the number that rows of one context share; 0 with an exception when the call fails. */
static int mark_context(PyObject *marker, Text context, uint64_t *mark) {
    if (context.at == context.end) return 1;
    PyObject *made = PyObject_CallFunction(marker, "y#", (const char *)context.at, (Py_ssize_t)(context.end - context.at));
    if (!made) return 0;
    *mark = PyLong_AsUnsignedLongLong(made);
    Py_DECREF(made);
    return !PyErr_Occurred();
}

/* Read a row, a line or (text, mark): 1 when it was read, 0 when it is not plain, -1 with an exception. */
static int read_row(Row *row, PyObject *item, PyObject *marker) {
    Text context = {NULL, NULL};
    if (PyBytes_Check(item)) {
        const byte *at = (const byte *)PyBytes_AsString(item);
        if (!read_line(row, (Text){at, at + PyBytes_Size(item)}, &context)) return 0;
        uint64_t mark = 0;
        if (!mark_context(marker, context, &mark)) return -1;
        row->mark += mark;
        return 1;
    }
    const char *text;
    Py_ssize_t size;
    unsigned long long mark;
    if (!PyArg_ParseTuple(item, "s#K", &text, &size, &mark)) return -1;
    row->mark = mark;
    return read_text(row, (Text){(const byte *)text, (const byte *)text + size});
}

/* The most characters that a row can have, and so pieces. */
static size_t count_room(PyObject *item) {
    Py_ssize_t size = 0;
    if (PyBytes_Check(item)) size = PyBytes_Size(item);
    else if (PyTuple_Check(item) && PyTuple_Size(item) == 2 && PyUnicode_Check(PyTuple_GetItem(item, 0)))
        size = PyUnicode_GetLength(PyTuple_GetItem(item, 0));
    return (size_t)size + PIECE;
}

static int hash_all(PyObject *rows, Py_ssize_t *next, PyObject *marker, const uint32_t *table, Py_buffer *output,
                    PyObject *counts) {
    size_t room = (size_t)output->len / sizeof(uint64_t), used = 0;
    for (; *next < PyList_Size(rows); (*next)++) {
        PyObject *item = PyList_GetItem(rows, *next);
        size_t wanted = count_room(item);
        if (room - used < wanted) return 1;
        uint32_t *codes = PyMem_Malloc(wanted * sizeof *codes);
        if (!codes) return PyErr_NoMemory(), 0;
        Row row = {table, codes, 0, 0, 0};
        int was_read = read_row(&row, item, marker);
        size_t pieces = was_read == 1 ? hash_pieces(&row, (uint64_t *)output->buf + used) : 0;
        PyMem_Free(codes);
        if (was_read < 1) return !was_read;
        used += pieces;
        PyObject *count = PyLong_FromSize_t(pieces);
        if (!count) return 0;
        int failed = PyList_Append(counts, count);
        Py_DECREF(count);
        if (failed) return 0;
    }
    return 1;
}

static PyObject *hash_rows(PyObject *module, PyObject *arguments) {
    (void)module;
    PyObject *rows, *marker, *counts = NULL;
    Py_ssize_t next;
    Py_buffer table, output;
    if (!PyArg_ParseTuple(arguments, "O!nOy*w*:hash_rows", &PyList_Type, &rows, &next, &marker, &table, &output)) return NULL;
    if (next < 0 || table.len != CODES * (Py_ssize_t)sizeof(uint32_t) ||
        (output.len && (uintptr_t)output.buf % sizeof(uint64_t))) {
        PyErr_SetString(PyExc_ValueError, "the start is out of range, or a buffer is not as it should be");
    } else if ((counts = PyList_New(0)) && !hash_all(rows, &next, marker, table.buf, &output, counts)) {
        Py_CLEAR(counts);
    }
    PyBuffer_Release(&table);
    PyBuffer_Release(&output);
    return counts;
}

/* ---- which pieces two texts share, exactly ---- */

/* Stands after the end of a text that is shorter than a piece. */
#define NOTHING 0xFFFFFFFFu

/* Write a text's characters, at least a piece of them; return how many, 0 with an exception when there is no memory. */
static size_t spell(PyObject *text, uint32_t **codes) {
    Py_ssize_t size;
    const char *bytes = PyUnicode_AsUTF8AndSize(text, &size);
    *codes = bytes ? PyMem_Malloc(((size_t)size + PIECE) * sizeof **codes) : NULL;
    if (!*codes) {
        if (bytes) PyErr_NoMemory();
        return 0;
    }
    Text rest = {(const byte *)bytes, (const byte *)bytes + size};
    size_t count = 0;
    while (rest.at < rest.end) (*codes)[count++] = *rest.at < 0x80 ? *rest.at++ : read_wide(&rest);
    while (count < PIECE) (*codes)[count++] = NOTHING;
    return count;
}

/* Find a piece among those that are known, or where it belongs. */
static size_t find_piece(const uint32_t **slots, size_t mask, const uint32_t *piece) {
    uint64_t hash = 0;
    for (int place = 0; place < PIECE; place++) hash = (hash + piece[place]) * BASE;
    size_t slot = (size_t)(hash >> 20) & mask;
    while (slots[slot] && memcmp(slots[slot], piece, PIECE * sizeof *piece)) slot = (slot + 1) & mask;
    return slot;
}

/* Count the different pieces of two texts, and those that both have. */
static int count_pieces(const uint32_t *const codes[2], const size_t counts[2], size_t *all, size_t *shared) {
    size_t mask = 15;
    while (mask < 2 * (counts[0] + counts[1])) mask = 2 * mask + 1;
    const uint32_t **slots = PyMem_Calloc(mask + 1, sizeof *slots);
    /* Whether a piece is of the first text, and in the second not met yet. */
    byte *is_lone = PyMem_Calloc(mask + 1, 1);
    *all = *shared = 0;
    for (int text = 0; slots && is_lone && text < 2; text++) {
        for (size_t place = 0; place + PIECE <= counts[text]; place++) {
            const uint32_t *piece = codes[text] + place;
            size_t slot = find_piece(slots, mask, piece);
            if (!slots[slot]) {
                slots[slot] = piece;
                is_lone[slot] = !text;
                ++*all;
            } else if (text && is_lone[slot]) {
                is_lone[slot] = 0;
                ++*shared;
            }
        }
    }
    int is_done = slots && is_lone;
    PyMem_Free((void *)slots);
    PyMem_Free(is_lone);
    if (!is_done) PyErr_NoMemory();
    return is_done;
}

static PyObject *compare(PyObject *module, PyObject *arguments) {
    (void)module;
    PyObject *texts[2], *made = NULL;
    uint32_t *codes[2] = {NULL, NULL};
    size_t counts[2] = {0, 0}, all, shared;
    if (!PyArg_ParseTuple(arguments, "UU:compare", &texts[0], &texts[1])) return NULL;
    if ((counts[0] = spell(texts[0], &codes[0])) && (counts[1] = spell(texts[1], &codes[1]))) {
        const uint32_t *const both[2] = {codes[0], codes[1]};
        if (count_pieces(both, counts, &all, &shared)) made = Py_BuildValue("(nn)", (Py_ssize_t)shared, (Py_ssize_t)all);
    }
    PyMem_Free(codes[0]);
    PyMem_Free(codes[1]);
    return made;
}

/* ---- the module ---- */

static PyMethodDef methods[] = {
    {"hash_rows", hash_rows, METH_VARARGS, "Hash rows' pieces until a row is not plain or the output is full."},
    {"compare", compare, METH_VARARGS, "Return how many pieces both texts have, and how many one of them has."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{0, NULL}};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_near", "The hashed pieces of rows.", 0, methods, slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__near(void) {
    return PyModuleDef_Init(&definition);
}
