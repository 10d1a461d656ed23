/*
 * `prep.convert._kernel`: what of Python calls kernel.c, on the limited API of Python 3.11 and later.
 *
 * Input and output are buffers, whose sizes Python tells, so that no call can lead out of them; each is held while
 * it is used, and the interpreter's lock is not. Which arguments there are stands in `_kernel.pyi`.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "kernel.h"

enum { MAX_ROLES = 16, BUFFERS = 5 };

static Piece make_piece(const char *at, Py_ssize_t size) {
    return (Piece){(const byte *)at, (size_t)size};
}

/* Make a piece of bytes, which someone else keeps alive; 0 and an exception when it is something else. */
static int read_piece(PyObject *bytes, Piece *piece) {
    char *at;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(bytes, &at, &size)) return 0;
    *piece = make_piece(at, size);
    return 1;
}

static int refuse(const char *message) {
    PyErr_SetString(PyExc_ValueError, message);
    return 0;
}

static PyObject *describe(const Done *done, const Py_buffer *output) {
    /* Of no bytes a buffer may be nowhere, which would become None. */
    const char *lines = output->buf ? output->buf : "";
    return Py_BuildValue("(y#KKKKK)", lines, (Py_ssize_t)done->bytes_written,
                         (unsigned long long)done->bytes_read, (unsigned long long)done->rows,
                         (unsigned long long)done->records, (unsigned long long)done->with_system,
                         (unsigned long long)done->with_history);
}

/* ---- lines ---- */

/* Read the names of columns into `pieces`; of more than fit kernel.c only wants to know how many there are. */
static int read_names(PyObject *names, Piece *pieces, LinesJob *job) {
    Py_ssize_t count = PyTuple_Size(names);
    if (count < 0) return 0;
    for (Py_ssize_t column = 0; column < count && column < MAX_COLUMNS; column++)
        if (!read_piece(PyTuple_GetItem(names, column), &pieces[column])) return 0;
    job->names = pieces;
    job->columns = (uint64_t)count;
    return 1;
}

static PyObject *convert_lines(PyObject *module, PyObject *arguments) {
    (void)module;
    PyObject *names, *result = NULL;
    Py_ssize_t places[TEXTS], sizes[4], start, row;
    const char *texts[4];
    int writes_thought;
    Py_buffer data, output;
    if (!PyArg_ParseTuple(arguments, "O!(nnn)py#y#y#y#y*nnw*:convert_lines", &PyTuple_Type, &names, &places[QUESTION],
                          &places[THOUGHT], &places[ANSWER], &writes_thought, &texts[0], &sizes[0], &texts[1],
                          &sizes[1], &texts[2], &sizes[2], &texts[3], &sizes[3], &data, &start, &row, &output))
        return NULL;
    Piece pieces[MAX_COLUMNS];
    LinesJob job = {.writes_thought = (uint64_t)writes_thought};
    /* A negative place is a very large one, and so none of a column. */
    for (int text = 0; text < TEXTS; text++) job.places[text] = (uint64_t)places[text];
    job.before_question = make_piece(texts[0], sizes[0]);
    job.before_thought = make_piece(texts[1], sizes[1]);
    job.before_answer = make_piece(texts[2], sizes[2]);
    job.after_answer = make_piece(texts[3], sizes[3]);
    int is_sound = start >= 0 && start <= data.len && row >= 0 ? 1 : refuse("start or row is out of range");
    if (is_sound && read_names(names, pieces, &job)) {
        Done done;
        const byte *at = data.buf ? (const byte *)data.buf + start : NULL;
        Py_BEGIN_ALLOW_THREADS
        lfc_convert_lines(&job, at, (size_t)(data.len - start), (uint64_t)row, output.buf, (size_t)output.len, &done);
        Py_END_ALLOW_THREADS
        result = describe(&done, &output);
    }
    PyBuffer_Release(&data);
    PyBuffer_Release(&output);
    return result;
}

/* ---- conversations ---- */

/* Read pairs of a role's name and its code. */
static int read_roles(PyObject *roles, Piece *names, uint64_t *codes, TurnsJob *job) {
    Py_ssize_t count = PyTuple_Size(roles);
    if (count < 0) return 0;
    if (count > MAX_ROLES) return refuse("there are too many roles");
    for (Py_ssize_t role = 0; role < count; role++) {
        const char *name;
        Py_ssize_t size;
        unsigned long long code;
        PyObject *pair = PyTuple_GetItem(roles, role);
        if (!PyTuple_Check(pair)) return refuse("a role is not a pair of a name and a code");
        if (!PyArg_ParseTuple(pair, "y#K", &name, &size, &code)) return 0;
        names[role] = make_piece(name, size);
        codes[role] = code;
    }
    job->role_names = names;
    job->role_codes = codes;
    job->role_count = (uint64_t)count;
    return 1;
}

static int has_offsets(const Py_buffer *buffer, Py_ssize_t items) {
    return items >= 0 && items < buffer->len / (Py_ssize_t)sizeof(int32_t);
}

/* Say where the buffers are; 0 and an exception when they have not as many offsets as is said. */
static int read_buffers(const Py_buffer *buffers, Py_ssize_t rows, Py_ssize_t all_turns, TurnsJob *job) {
    if (!has_offsets(&buffers[0], rows) || !has_offsets(&buffers[1], all_turns) || !has_offsets(&buffers[2], all_turns))
        return refuse("there are fewer offsets than rows or turns");
    job->offsets = buffers[0].buf;
    job->text_offsets = buffers[1].buf;
    job->role_offsets = buffers[2].buf;
    job->texts = buffers[3].buf;
    job->roles = buffers[4].buf;
    job->rows = (uint64_t)rows;
    job->all_turns = (uint64_t)all_turns;
    job->texts_size = (uint64_t)buffers[3].len;
    job->roles_size = (uint64_t)buffers[4].len;
    return 1;
}

static PyObject *convert_turns(PyObject *module, PyObject *arguments) {
    (void)module;
    PyObject *roles, *result = NULL;
    Py_ssize_t sizes[7], rows, all_turns, first, last, number;
    const char *texts[7];
    int turns;
    Py_buffer buffers[BUFFERS], output;
    if (!PyArg_ParseTuple(arguments, "O!iy#y#y#y#y#y#y#(y*y*y*y*y*nn)nnnw*:convert_turns", &PyTuple_Type, &roles, &turns,
                          &texts[0], &sizes[0], &texts[1], &sizes[1], &texts[2], &sizes[2], &texts[3], &sizes[3],
                          &texts[4], &sizes[4], &texts[5], &sizes[5], &texts[6], &sizes[6], &buffers[0], &buffers[1],
                          &buffers[2], &buffers[3], &buffers[4], &rows, &all_turns, &first, &last, &number, &output))
        return NULL;
    Piece names[MAX_ROLES];
    uint64_t codes[MAX_ROLES];
    TurnsJob job = {.turns = (uint64_t)turns};
    Piece *const pieces[] = {&job.system,         &job.before_question, &job.before_answer, &job.before_system,
                             &job.before_history, &job.before_origin,   &job.line_end};
    for (int piece = 0; piece < 7; piece++) *pieces[piece] = make_piece(texts[piece], sizes[piece]);
    int is_sound = turns >= EXPAND && turns <= LAST && first >= 0 && last >= 0 && number >= 0
                       ? 1
                       : refuse("turns, first, last or number is out of range");
    if (is_sound && read_roles(roles, names, codes, &job) && read_buffers(buffers, rows, all_turns, &job)) {
        Done done;
        Py_BEGIN_ALLOW_THREADS
        lfc_convert_turns(&job, (uint64_t)first, (uint64_t)last, (uint64_t)number, output.buf, (size_t)output.len,
                          &done);
        Py_END_ALLOW_THREADS
        result = describe(&done, &output);
    }
    for (int buffer = 0; buffer < BUFFERS; buffer++) PyBuffer_Release(&buffers[buffer]);
    PyBuffer_Release(&output);
    return result;
}

/* ---- the module ---- */

static int add_codes(PyObject *module) {
    static const struct {
        const char *name;
        long value;
    } codes[] = {{"SYSTEM", SYSTEM}, {"USER", USER}, {"ASSISTANT", ASSISTANT}, {"EXPAND", EXPAND},
                 {"ALL", ALL},       {"FIRST", FIRST}, {"LAST", LAST}};
    for (size_t code = 0; code < sizeof codes / sizeof *codes; code++)
        if (PyModule_AddIntConstant(module, codes[code].name, codes[code].value)) return -1;
    return 0;
}

static PyMethodDef methods[] = {
    {"convert_lines", convert_lines, METH_VARARGS, "Convert lines of JSONL until one is not plain."},
    {"convert_turns", convert_turns, METH_VARARGS, "Convert rows of conversations until one is not plain."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{Py_mod_exec, add_codes}, {0, NULL}};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_kernel", "The compiled half of conversion.", 0, methods, slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__kernel(void) {
    return PyModuleDef_Init(&definition);
}
