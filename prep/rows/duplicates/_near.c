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
#include <stdint.h>
#include <string.h>

typedef unsigned char byte;

typedef struct {
    const byte *at, *end;
} Text;

enum { CODES = 0x110000, PIECE = 5 };
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

static inline int is_rest(byte value) {
    return (value & 0xC0) == 0x80;
}

/* Take the character that begins here, of more than one byte; 0 when it is none, or unknown. */
static inline int take_wide(Row *row, Text *text) {
    const byte *at = text->at;
    size_t left = (size_t)(text->end - at);
    uint32_t code;
    if (left >= 2 && at[0] >= 0xC2 && at[0] <= 0xDF && is_rest(at[1])) {
        code = (at[0] & 0x1Fu) << 6 | (at[1] & 0x3Fu);
        text->at += 2;
    } else if (left >= 3 && (at[0] & 0xF0) == 0xE0 && is_rest(at[1]) && is_rest(at[2])) {
        code = (at[0] & 0x0Fu) << 12 | (at[1] & 0x3Fu) << 6 | (at[2] & 0x3Fu);
        if (code < 0x800 || (code >= 0xD800 && code < 0xE000)) return 0;
        text->at += 3;
    } else if (left >= 4 && (at[0] & 0xF8) == 0xF0 && is_rest(at[1]) && is_rest(at[2]) && is_rest(at[3])) {
        code = (at[0] & 0x07u) << 18 | (at[1] & 0x3Fu) << 12 | (at[2] & 0x3Fu) << 6 | (at[3] & 0x3Fu);
        if (code < 0x10000 || code >= CODES) return 0;
        text->at += 4;
    } else {
        return 0;
    }
    return take(row, code);
}

/* What a letter after a backslash stands for, 0 when the escape is not plain. */
static byte unescape(byte letter) {
    static const byte letters[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    const byte *found = letter ? memchr(letters, letter, sizeof letters - 1) : NULL;
    return found ? meant[found - letters] : 0;
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

/* Step over a text that must stand here. */
static int skip(Text *line, const char *text) {
    size_t size = strlen(text);
    if ((size_t)(line->end - line->at) < size || memcmp(line->at, text, size)) return 0;
    line->at += size;
    return 1;
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

/* ---- the module ---- */

static PyMethodDef methods[] = {
    {"hash_rows", hash_rows, METH_VARARGS, "Hash rows' pieces until a row is not plain or the output is full."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{0, NULL}};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_near", "The hashed pieces of rows.", 0, methods, slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__near(void) {
    return PyModuleDef_Init(&definition);
}
