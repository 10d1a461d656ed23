/* Token ids of many texts, by pieces that were encoded before: the compiled half of prep/tokens/part_encoder.py,
   which says what a piece is, encodes the new ones, and has the same in Python.

   A text is UTF-8 in a Python string. It is cut first at added tokens, then as Qwen's pre-tokenizer cuts: the
   pattern stands in prep/tokens/piece_counter.py. A text with a character of class UNSAFE is left to the caller. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned char byte;

enum { UNSAFE, LETTER, NUMBER, SPACE, LINE_END, OTHER, CLASSES };
enum { MOST_PIECE_BYTES = 1024, PENDING = 0xFFFF, FIRST_SLOTS = 1 << 15, CODES = 1 << 16 };

static const char CAPSULE[] = "prep.tokens._pieces.table";

typedef struct {
    uint64_t hash;
    uint32_t key, ids;
    uint16_t size, count;
} Slot;

typedef struct {
    byte *text;
    Py_ssize_t size;
    int32_t id;
} Added;

typedef struct {
    Slot *slots;
    size_t mask, used;
    byte *keys;
    size_t keys_size, keys_room;
    int32_t *ids;
    size_t ids_size, ids_room;
    Added *added;
    Py_ssize_t added_count;
    int32_t mark;
    byte classes[CODES];
} Table;

/* Ids, or their number alone. Of a part: whether ids of its pieces are not known yet, and where the mark stands. */
typedef struct {
    int32_t *ids;
    size_t size, room;
    int keeps, lacks;
    int32_t mark, place;
} Output;

/* ---- memory ---- */

static int make_room(void **memory, size_t *room, size_t needed, size_t item) {
    if (needed <= *room) return 1;
    size_t wanted = *room * 2 > needed ? *room * 2 : needed + 1024;
    void *grown = wanted > SIZE_MAX / item ? NULL : realloc(*memory, wanted * item);
    if (!grown) {
        PyErr_NoMemory();
        return 0;
    }
    *memory = grown;
    *room = wanted;
    return 1;
}

static void free_table(Table *table) {
    if (!table) return;
    for (Py_ssize_t place = 0; place < table->added_count; place++) free(table->added[place].text);
    free(table->added);
    free(table->slots);
    free(table->keys);
    free(table->ids);
    free(table);
}

static void destroy(PyObject *capsule) { free_table(PyCapsule_GetPointer(capsule, CAPSULE)); }

/* ---- the table of pieces ---- */

static uint64_t hash_bytes(const byte *at, size_t size) {
    uint64_t hash = size * 0x9E3779B97F4A7C15u, word;
    while (size >= 8) {
        memcpy(&word, at, 8);
        hash = (hash ^ word) * 0xFF51AFD7ED558CCDu;
        hash ^= hash >> 32;
        at += 8;
        size -= 8;
    }
    if (size) {
        word = 0;
        memcpy(&word, at, size);
        hash = (hash ^ word) * 0xFF51AFD7ED558CCDu;
        hash ^= hash >> 32;
    }
    hash *= 0xC4CEB9FE1A85EC53u;
    return hash ^ hash >> 29;
}

static Slot *find_slot(const Table *table, const byte *at, size_t size, uint64_t hash) {
    for (size_t place = hash & table->mask;; place = (place + 1) & table->mask) {
        Slot *slot = table->slots + place;
        if (!slot->size) return slot;
        if (slot->hash == hash && slot->size == size && !memcmp(table->keys + slot->key, at, size)) return slot;
    }
}

static int grow(Table *table) {
    size_t slots = (table->mask + 1) * 2;
    Slot *old = table->slots, *new = calloc(slots, sizeof *new);
    if (!new) {
        PyErr_NoMemory();
        return 0;
    }
    for (size_t place = 0; place <= table->mask; place++) {
        if (!old[place].size) continue;
        size_t to = old[place].hash & (slots - 1);
        while (new[to].size) to = (to + 1) & (slots - 1);
        new[to] = old[place];
    }
    free(old);
    table->slots = new;
    table->mask = slots - 1;
    return 1;
}

/* Add a piece that is still to be encoded. */
static int add_pending(Table *table, const byte *at, size_t size, uint64_t hash) {
    if ((table->used + 1) * 2 > table->mask && !grow(table)) return 0;
    if (table->keys_size + size > UINT32_MAX) {
        PyErr_SetString(PyExc_OverflowError, "too many pieces");
        return 0;
    }
    if (!make_room((void **)&table->keys, &table->keys_room, table->keys_size + size, 1)) return 0;
    Slot *slot = find_slot(table, at, size, hash);
    memcpy(table->keys + table->keys_size, at, size);
    *slot = (Slot){hash, (uint32_t)table->keys_size, 0, (uint16_t)size, PENDING};
    table->keys_size += size;
    table->used++;
    return 1;
}

/* ---- cutting ---- */

static inline int read_class(const Table *table, const byte *at, int *size) {
    unsigned code = at[0];
    if (code < 0x80) {
        *size = 1;
    } else if (code < 0xE0) {
        *size = 2;
        code = (code & 0x1F) << 6 | (at[1] & 0x3F);
    } else if (code < 0xF0) {
        *size = 3;
        code = (code & 0x0F) << 12 | (at[1] & 0x3Fu) << 6 | (at[2] & 0x3F);
    } else {
        *size = 4;
        return UNSAFE;
    }
    return table->classes[code];
}

static const byte *skip_class(const Table *table, const byte *at, const byte *end, int wanted) {
    int size;
    while (at < end && read_class(table, at, &size) == wanted) at += size;
    return at;
}

/* Return where white space that begins here is cut. */
static const byte *cut_space(const Table *table, const byte *begin, const byte *end) {
    const byte *at = begin, *last = begin, *after_line = NULL;
    while (at < end) {
        int size, class = read_class(table, at, &size);
        if (class != SPACE && class != LINE_END) break;
        last = at;
        at += size;
        if (class == LINE_END) after_line = at;
    }
    if (after_line) return after_line;
    return at == end || last == begin ? at : last;
}

/* Return where the piece that begins here ends, NULL when it is not for us. */
static const byte *cut_piece(const Table *table, const byte *at, const byte *end) {
    int size, class = read_class(table, at, &size), next_size;
    const byte *next = at + size;
    if (class == LETTER) return skip_class(table, next, end, LETTER);
    if (class == NUMBER) return next;
    if (class == UNSAFE) return NULL;
    if (*at == '\'' && next < end) {
        int first = next[0] | 0x20, second = next + 1 < end ? next[1] | 0x20 : 0;
        if (first == 's' || first == 't' || first == 'm' || first == 'd') return next + 1;
        if ((first == 'r' || first == 'v') && second == 'e') return next + 2;
        if (first == 'l' && second == 'l') return next + 2;
    }
    int next_class = next < end ? read_class(table, next, &next_size) : UNSAFE;
    if (class != LINE_END && next_class == LETTER) return skip_class(table, next + next_size, end, LETTER);
    if (class == OTHER || (*at == ' ' && next_class == OTHER)) {
        return skip_class(table, skip_class(table, next, end, OTHER), end, LINE_END);
    }
    return cut_space(table, at, end);
}

static const Added *find_added(const Table *table, const byte *at, const byte *end, const byte **found) {
    while ((at = memchr(at, '<', (size_t)(end - at)))) {
        for (Py_ssize_t place = 0; place < table->added_count; place++) {
            const Added *added = table->added + place;
            if (end - at >= added->size && !memcmp(at, added->text, (size_t)added->size)) {
                *found = at;
                return added;
            }
        }
        at++;
    }
    *found = end;
    return NULL;
}

/* ---- encoding ---- */

static int put(Output *output, const int32_t *ids, size_t count) {
    if (!output->keeps) {
        for (size_t at = 0; output->place < 0 && output->mark >= 0 && at < count; at++) {
            if (ids[at] == output->mark) output->place = (int32_t)(output->size + at);
        }
        output->size += count;
        return 1;
    }
    if (!make_room((void **)&output->ids, &output->room, output->size + count, sizeof *ids)) return 0;
    /* Of nothing there is no memory yet. */
    if (count) memcpy(output->ids + output->size, ids, count * sizeof *ids);
    output->size += count;
    return 1;
}

/* Return 1 when the piece was written or is to be learned, 0 when it is too long for us, -1 for an error. */
static int put_piece(Table *table, const byte *at, size_t size, Output *output, PyObject *unknown) {
    if (size > MOST_PIECE_BYTES) return 0;
    uint64_t hash = hash_bytes(at, size);
    Slot *slot = find_slot(table, at, size, hash);
    if (!slot->size) {
        PyObject *text = PyUnicode_DecodeUTF8((const char *)at, (Py_ssize_t)size, NULL);
        int is_listed = text && PyList_Append(unknown, text) == 0;
        Py_XDECREF(text);
        output->lacks = 1;
        return is_listed && add_pending(table, at, size, hash) ? 1 : -1;
    }
    if (slot->count == PENDING) {
        output->lacks = 1;
        return 1;
    }
    return put(output, table->ids + slot->ids, slot->count) ? 1 : -1;
}

/* Return as `put_piece` does. */
static int put_text(Table *table, const byte *at, const byte *end, Output *output, PyObject *unknown) {
    while (at < end) {
        const byte *stop;
        const Added *added = find_added(table, at, end, &stop);
        while (at < stop) {
            const byte *next = cut_piece(table, at, stop);
            int done = next ? put_piece(table, at, (size_t)(next - at), output, unknown) : 0;
            if (done <= 0) return done;
            at = next;
        }
        if (added) {
            if (!put(output, &added->id, 1)) return -1;
            at += added->size;
        }
    }
    return 1;
}

/* Write one part; its place goes to `whole` when it is not for us. Return whether there was no error. */
static int put_part(
    Table *table, PyObject *part, Py_ssize_t place, Output *output, PyObject *unknown, PyObject *whole
) {
    if (PyBytes_Check(part)) {
        return put(output, (const int32_t *)PyBytes_AsString(part), (size_t)PyBytes_Size(part) / sizeof(int32_t));
    }
    Py_ssize_t size;
    const char *text = PyUnicode_AsUTF8AndSize(part, &size);
    size_t before = output->size;
    int done = 0;
    if (text) {
        done = put_text(table, (const byte *)text, (const byte *)text + size, output, unknown);
    } else if (PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) {
        PyErr_Clear();
    } else {
        return 0;
    }
    if (done) return done > 0;
    output->size = before;
    output->place = -1;
    PyObject *number = PyLong_FromSsize_t(place);
    int is_listed = number && PyList_Append(whole, number) == 0;
    Py_XDECREF(number);
    return is_listed;
}

static PyObject *run(PyObject *arguments, int keeps) {
    PyObject *capsule, *parts;
    if (!PyArg_ParseTuple(arguments, "OO!", &capsule, &PyList_Type, &parts)) return NULL;
    Table *table = PyCapsule_GetPointer(capsule, CAPSULE);
    if (!table) return NULL;
    Py_ssize_t count = PyList_Size(parts);
    Output output = {NULL, 0, 0, keeps, 0, table->mark, -1};
    PyObject *ends = PyBytes_FromStringAndSize(NULL, count * 8), *unknown = PyList_New(0), *whole = PyList_New(0);
    PyObject *result = NULL;
    if (!ends || !unknown || !whole) goto done;
    byte *written = (byte *)PyBytes_AsString(ends);
    for (Py_ssize_t place = 0; place < count; place++) {
        if (!keeps) output.size = 0, output.lacks = 0, output.place = -1;
        PyObject *part = PyList_GetItem(parts, place);
        if (!part || !put_part(table, part, place, &output, unknown, whole)) goto done;
        int64_t end = (int64_t)output.size;
        int32_t lengths[2] = {output.lacks ? -1 : (int32_t)output.size, output.place};
        memcpy(written + place * 8, keeps ? (void *)&end : (void *)lengths, 8);
    }
    PyObject *ids = PyBytes_FromStringAndSize(
        (const char *)output.ids, keeps ? (Py_ssize_t)(output.size * sizeof *output.ids) : 0
    );
    if (ids) result = PyTuple_Pack(4, ids, ends, unknown, whole);
    Py_XDECREF(ids);
done:
    free(output.ids);
    Py_XDECREF(ends);
    Py_XDECREF(unknown);
    Py_XDECREF(whole);
    return result;
}

static PyObject *encode(PyObject *module, PyObject *arguments) {
    (void)module;
    return run(arguments, 1);
}

static PyObject *measure(PyObject *module, PyObject *arguments) {
    (void)module;
    return run(arguments, 0);
}

static int learn_piece(Table *table, PyObject *piece, const int32_t *ids, int32_t count) {
    Py_ssize_t size;
    const char *text = PyUnicode_AsUTF8AndSize(piece, &size);
    if (!text) return 0;
    if (size < 1 || size > MOST_PIECE_BYTES || count < 0 || count >= PENDING) {
        PyErr_SetString(PyExc_ValueError, "a piece is empty or too long");
        return 0;
    }
    uint64_t hash = hash_bytes((const byte *)text, (size_t)size);
    Slot *slot = find_slot(table, (const byte *)text, (size_t)size, hash);
    if (!slot->size) {
        if (!add_pending(table, (const byte *)text, (size_t)size, hash)) return 0;
        slot = find_slot(table, (const byte *)text, (size_t)size, hash);
    }
    if (table->ids_size + (size_t)count > UINT32_MAX) {
        PyErr_SetString(PyExc_OverflowError, "too many pieces");
        return 0;
    }
    if (!make_room((void **)&table->ids, &table->ids_room, table->ids_size + (size_t)count, sizeof *ids)) return 0;
    if (count) memcpy(table->ids + table->ids_size, ids, (size_t)count * sizeof *ids);
    slot->ids = (uint32_t)table->ids_size;
    slot->count = (uint16_t)count;
    table->ids_size += (size_t)count;
    return 1;
}

static PyObject *learn(PyObject *module, PyObject *arguments) {
    (void)module;
    PyObject *capsule, *pieces;
    const char *counts_data, *ids_data;
    Py_ssize_t counts_size, ids_size;
    if (!PyArg_ParseTuple(
            arguments, "OO!y#y#:learn", &capsule, &PyList_Type, &pieces, &counts_data, &counts_size, &ids_data,
            &ids_size
        )) {
        return NULL;
    }
    Table *table = PyCapsule_GetPointer(capsule, CAPSULE);
    if (!table) return NULL;
    const int32_t *counts = (const int32_t *)counts_data, *ids = (const int32_t *)ids_data;
    Py_ssize_t left = ids_size / (Py_ssize_t)sizeof *ids;
    if (counts_size != PyList_Size(pieces) * (Py_ssize_t)sizeof *counts) {
        PyErr_SetString(PyExc_ValueError, "one count a piece");
        return NULL;
    }
    for (Py_ssize_t place = 0; place < PyList_Size(pieces); place++) {
        if (counts[place] > left) {
            PyErr_SetString(PyExc_ValueError, "too few ids");
            return NULL;
        }
        if (!learn_piece(table, PyList_GetItem(pieces, place), ids, counts[place])) return NULL;
        ids += counts[place];
        left -= counts[place];
    }
    return PyLong_FromSize_t(table->used);
}

static int read_added(Table *table, PyObject *list) {
    Py_ssize_t count = PyList_Size(list);
    table->added = calloc((size_t)count + 1, sizeof *table->added);
    if (!table->added) {
        PyErr_NoMemory();
        return 0;
    }
    for (Py_ssize_t place = 0; place < count; place++) {
        const char *text;
        Py_ssize_t size;
        int id;
        if (!PyArg_ParseTuple(PyList_GetItem(list, place), "y#i", &text, &size, &id)) return 0;
        if (size < 1 || text[0] != '<') {
            PyErr_SetString(PyExc_ValueError, "an added token begins with <");
            return 0;
        }
        byte *kept = malloc((size_t)size);
        if (!kept) {
            PyErr_NoMemory();
            return 0;
        }
        memcpy(kept, text, (size_t)size);
        table->added[table->added_count++] = (Added){kept, size, id};
    }
    return 1;
}

static PyObject *new_table(PyObject *module, PyObject *arguments) {
    (void)module;
    const char *classes;
    Py_ssize_t size;
    PyObject *added;
    int mark;
    if (!PyArg_ParseTuple(arguments, "y#O!i:new_table", &classes, &size, &PyList_Type, &added, &mark)) return NULL;
    if (size != CODES) {
        PyErr_SetString(PyExc_ValueError, "one class for each of 65,536 codes");
        return NULL;
    }
    Table *table = calloc(1, sizeof *table);
    if (!table) return PyErr_NoMemory();
    table->slots = calloc(FIRST_SLOTS, sizeof *table->slots);
    table->mask = FIRST_SLOTS - 1;
    table->mark = mark;
    memcpy(table->classes, classes, CODES);
    PyObject *capsule = NULL;
    if (!table->slots) PyErr_NoMemory();
    else if (read_added(table, added)) capsule = PyCapsule_New(table, CAPSULE, destroy);
    if (!capsule) free_table(table);
    return capsule;
}

/* ---- the module ---- */

static PyMethodDef methods[] = {
    {"new_table", new_table, METH_VARARGS, "Return a table that knows no piece yet."},
    {"learn", learn, METH_VARARGS, "Give pieces their ids; return how many pieces are known."},
    {"encode", encode, METH_VARARGS, "Return ids, where each part ends, pieces to learn, and parts not for us."},
    {"measure", measure, METH_VARARGS, "Return of each part its length, -1 where pieces are to learn, and its mark's place."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{0, NULL}};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_pieces", "Token ids by pieces encoded before.", 0, methods, slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__pieces(void) {
    return PyModuleDef_Init(&definition);
}
