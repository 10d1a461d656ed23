/*
 * `prep.convert._kernel`: what of Python calls json.c, csv.c and arrow.c, on the limited API of Python 3.11 and later.
 *
 * Input and output are buffers, whose sizes Python tells, so that no call can lead out of them; each is held while
 * it is used, and the interpreter's lock is not. Which arguments there are stands in `_kernel.pyi`.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <string.h>

#include "kernel.h"

enum { MAX_NAMES = 64, JOB_TEXTS = 10, MAX_BUFFERS = 3 * (MAX_COLUMNS + 3) };

static int refuse(const char *message) {
    PyErr_SetString(PyExc_ValueError, message);
    return 0;
}

/* Make a piece of bytes, which someone else keeps alive; 0 and an exception when it is something else. */
static int read_piece(PyObject *bytes, Piece *piece) {
    char *at;
    Py_ssize_t size;
    if (!bytes || PyBytes_AsStringAndSize(bytes, &at, &size)) return 0;
    *piece = (Piece){(const byte *)at, (size_t)size};
    return 1;
}

/* Read a tuple of at most `most` bytes; 0 and an exception when it is something else. */
static int read_pieces(PyObject *tuple, Piece *pieces, Py_ssize_t most, uint64_t *count) {
    Py_ssize_t size = PyTuple_Size(tuple);
    if (size < 0) return 0;
    if (size > most) return refuse("there are too many names");
    for (Py_ssize_t place = 0; place < size; place++)
        if (!read_piece(PyTuple_GetItem(tuple, place), &pieces[place])) return 0;
    *count = (uint64_t)size;
    return 1;
}

/* Make room for the lines of a call, which nobody copies any more; NULL and an exception when there is none. */
static PyObject *open_output(Py_ssize_t room) {
    if (room < 0) return refuse("room is out of range"), NULL;
    return PyByteArray_FromStringAndSize(NULL, room);
}

/* Return what a call made, with its output cut to what was written. */
static PyObject *describe(const Done *done, PyObject *output) {
    if (PyByteArray_Resize(output, (Py_ssize_t)done->bytes_written)) return NULL;
    return Py_BuildValue("(OKKKKKKKKK)", output, (unsigned long long)done->bytes_read, (unsigned long long)done->rows,
                         (unsigned long long)done->records, (unsigned long long)done->reasoning,
                         (unsigned long long)done->with_system, (unsigned long long)done->with_history,
                         (unsigned long long)done->filtered, (unsigned long long)done->forms,
                         (unsigned long long)done->line_ends);
}

/* ---- what is written ---- */

typedef struct {
    Job job;
    Piece texts[JOB_TEXTS], role_names[MAX_NAMES], role_fields[MAX_NAMES], text_fields[MAX_NAMES];
    uint64_t role_codes[MAX_NAMES];
} OwnJob;

/* Read pairs of a role's name and its code. */
static int read_roles(PyObject *roles, OwnJob *own) {
    Py_ssize_t count = PyTuple_Size(roles);
    if (count < 0) return 0;
    if (count > MAX_NAMES) return refuse("there are too many roles");
    for (Py_ssize_t role = 0; role < count; role++) {
        const char *name;
        Py_ssize_t size;
        unsigned long long code;
        PyObject *pair = PyTuple_GetItem(roles, role);
        if (!PyTuple_Check(pair)) return refuse("a role is not a pair of a name and a code");
        if (!PyArg_ParseTuple(pair, "y#K", &name, &size, &code)) return 0;
        own->role_names[role] = (Piece){(const byte *)name, (size_t)size};
        own->role_codes[role] = code;
    }
    own->job.role_count = (uint64_t)count;
    return 1;
}

static int read_job(PyObject *tuple, OwnJob *own) {
    PyObject *texts, *roles, *role_fields, *text_fields;
    uint64_t count;
    int turns, policy;
    memset(own, 0, sizeof *own);
    if (!PyArg_ParseTuple(tuple, "O!iiO!O!O!", &PyTuple_Type, &texts, &turns, &policy, &PyTuple_Type, &roles, &PyTuple_Type,
                          &role_fields, &PyTuple_Type, &text_fields))
        return 0;
    if (turns < EXPAND || turns > LAST || policy < TAGGED || policy > STRIP) return refuse("turns or policy is out of range");
    if (!read_pieces(texts, own->texts, JOB_TEXTS, &count)) return 0;
    if (count != JOB_TEXTS) return refuse("there are not ten texts");
    Job *job = &own->job;
    Piece *const pieces[] = {&job->before_question, &job->before_input,  &job->before_answer, &job->before_thought,
                             &job->after_thought,   &job->before_system, &job->system,        &job->before_history,
                             &job->before_origin,   &job->line_end};
    for (int piece = 0; piece < JOB_TEXTS; piece++) *pieces[piece] = own->texts[piece];
    job->turns = (uint64_t)turns;
    job->policy = (uint64_t)policy;
    job->role_names = own->role_names;
    job->role_codes = own->role_codes;
    job->role_fields = own->role_fields;
    job->text_fields = own->text_fields;
    return read_roles(roles, own) && read_pieces(role_fields, own->role_fields, MAX_NAMES, &job->role_field_count) &&
           read_pieces(text_fields, own->text_fields, MAX_NAMES, &job->text_field_count);
}

/* ---- objects ---- */

/* Who judges rows, and the state of this thread while it does not hold the interpreter's lock. */
typedef struct {
    PyObject *call;
    uint64_t values;
    PyThreadState *state;
    int has_failed;
} Asked;

static int ask(Asked *asked, const Piece *values) {
    PyObject *tuple = PyTuple_New((Py_ssize_t)asked->values);
    if (!tuple) return -1;
    for (uint64_t place = 0; place < asked->values; place++) {
        PyObject *value = PyBytes_FromStringAndSize((const char *)values[place].at, (Py_ssize_t)values[place].size);
        if (!value || PyTuple_SetItem(tuple, (Py_ssize_t)place, value)) {
            Py_DECREF(tuple);
            return -1;
        }
    }
    PyObject *said = PyObject_CallObject(asked->call, tuple);
    Py_DECREF(tuple);
    long verdict = said ? PyLong_AsLong(said) : -1;
    Py_XDECREF(said);
    return (int)verdict;
}

static int judge(void *context, const Piece *values) {
    Asked *asked = context;
    PyEval_RestoreThread(asked->state);
    int verdict = ask(asked, values);
    asked->has_failed |= PyErr_Occurred() != NULL;
    asked->state = PyEval_SaveThread();
    return asked->has_failed ? -1 : verdict;
}

/* Read pairs of which columns a form has, a bit for each, and what each column is for. */
static int read_forms(PyObject *tuple, Form *forms, Objects *objects) {
    Py_ssize_t count = PyTuple_Size(tuple);
    if (count < 1 || count > MAX_FORMS) return refuse("there are too many forms, or none");
    memset(forms, 0, (size_t)count * sizeof *forms);
    for (Py_ssize_t form = 0; form < count; form++) {
        const char *uses;
        Py_ssize_t size;
        unsigned long long columns;
        PyObject *pair = PyTuple_GetItem(tuple, form);
        if (!PyTuple_Check(pair)) return refuse("a form is not a pair of columns and uses");
        if (!PyArg_ParseTuple(pair, "Ky#", &columns, &uses, &size)) return 0;
        if ((uint64_t)size != objects->columns) return refuse("a form has not as many uses as there are columns");
        forms[form].columns = columns;
        memcpy(forms[form].uses, uses, (size_t)size);
    }
    objects->forms = forms;
    objects->form_count = (uint64_t)count;
    return 1;
}

static int read_judged(PyObject *tuple, uint64_t *judged, uint64_t *judged_count) {
    Py_ssize_t count = PyTuple_Size(tuple);
    if (count < 0 || count > MAX_COLUMNS) return refuse("there are too many columns to judge by");
    for (Py_ssize_t place = 0; place < count; place++) {
        judged[place] = PyLong_AsUnsignedLongLong(PyTuple_GetItem(tuple, place));
        if (PyErr_Occurred()) return 0;
    }
    *judged_count = (uint64_t)count;
    return 1;
}

static PyObject *convert_objects(PyObject *module, PyObject *arguments) {
    (void)module;
    PyObject *job, *names, *forms, *judged, *call, *output = NULL, *result = NULL;
    Py_ssize_t start, row, room;
    int is_array;
    Py_buffer data;
    if (!PyArg_ParseTuple(arguments, "O!O!O!O!Opy*nnn:convert_objects", &PyTuple_Type, &job, &PyTuple_Type, &names,
                          &PyTuple_Type, &forms, &PyTuple_Type, &judged, &call, &is_array, &data, &start, &row, &room))
        return NULL;
    OwnJob own;
    Piece pieces[MAX_COLUMNS];
    Form own_forms[MAX_FORMS];
    uint64_t own_judged[MAX_COLUMNS];
    Asked asked = {.call = call};
    Objects objects = {.names = pieces, .judged = own_judged, .judge = judge, .context = &asked};
    int is_sound = start >= 0 && start <= data.len && row >= 0 ? 1 : refuse("start or row is out of range");
    if (is_sound && read_job(job, &own) && read_pieces(names, pieces, MAX_COLUMNS, &objects.columns) &&
        read_forms(forms, own_forms, &objects) && read_judged(judged, own_judged, &objects.judged_count) && (output = open_output(room))) {
        Done done;
        byte *at_output = (byte *)PyByteArray_AsString(output);
        const byte *at = data.buf ? (const byte *)data.buf + start : NULL;
        asked.values = objects.judged_count;
        asked.state = PyEval_SaveThread();
        lfc_convert_objects(&own.job, &objects, is_array, at, (size_t)(data.len - start), (uint64_t)row, at_output,
                            (size_t)room, &done);
        PyEval_RestoreThread(asked.state);
        result = asked.has_failed ? NULL : describe(&done, output);
    }
    PyBuffer_Release(&data);
    Py_XDECREF(output);
    return result;
}

/* ---- fields ---- */

static PyObject *convert_fields(PyObject *module, PyObject *arguments) {
    (void)module;
    PyObject *job, *judged, *call, *output = NULL, *result = NULL;
    const char *uses;
    char delimiter;
    Py_ssize_t columns, start, row, room;
    int is_last;
    Py_buffer data;
    if (!PyArg_ParseTuple(arguments, "O!y#cO!Opy*nnn:convert_fields", &PyTuple_Type, &job, &uses, &columns, &delimiter,
                          &PyTuple_Type, &judged, &call, &is_last, &data, &start, &row, &room))
        return NULL;
    OwnJob own;
    uint64_t own_judged[MAX_COLUMNS];
    Asked asked = {.call = call};
    Fields fields = {.uses = (const byte *)uses, .columns = (uint64_t)columns, .delimiter = (byte)delimiter,
                     .judged = own_judged, .judge = judge, .context = &asked};
    int is_sound = start >= 0 && start <= data.len && row >= 0 ? 1 : refuse("start or row is out of range");
    if (is_sound && read_job(job, &own) && read_judged(judged, own_judged, &fields.judged_count) &&
        (output = open_output(room))) {
        Done done;
        byte *at_output = (byte *)PyByteArray_AsString(output);
        const byte *at = data.buf ? (const byte *)data.buf + start : NULL;
        asked.values = fields.judged_count;
        asked.state = PyEval_SaveThread();
        lfc_convert_fields(&own.job, &fields, is_last, at, (size_t)(data.len - start), (uint64_t)row, at_output,
                           (size_t)room, &done);
        PyEval_RestoreThread(asked.state);
        result = asked.has_failed ? NULL : describe(&done, output);
    }
    PyBuffer_Release(&data);
    Py_XDECREF(output);
    return result;
}

/* ---- Arrow ---- */

typedef struct {
    Py_buffer buffers[MAX_BUFFERS];
    size_t held;
    Column columns[MAX_COLUMNS], turns[3];
    byte uses[MAX_COLUMNS];
} OwnTable;

/* Hold an object's buffer and give its bytes; 0 and an exception when it has none. */
static int hold(OwnTable *own, PyObject *object, Piece *piece) {
    if (own->held == MAX_BUFFERS) return refuse("there are too many buffers");
    Py_buffer *buffer = &own->buffers[own->held];
    if (PyObject_GetBuffer(object, buffer, PyBUF_SIMPLE)) return 0;
    own->held++;
    *piece = (Piece){buffer->buf, (size_t)buffer->len};
    return 1;
}

/* Read (first, count, width, valid or None, offsets, data or None), and see that the buffers are as long as that. */
static int read_column(OwnTable *own, PyObject *tuple, Column *column) {
    PyObject *valid, *offsets, *data;
    Py_ssize_t first, count, width;
    Piece piece;
    if (!tuple || !PyTuple_Check(tuple)) return refuse("a column is not a tuple");
    if (!PyArg_ParseTuple(tuple, "nnnOOO", &first, &count, &width, &valid, &offsets, &data)) return 0;
    if (first < 0 || count < 0 || (width != 4 && width != 8)) return refuse("first, count or width is out of range");
    *column = (Column){.first = (uint64_t)first, .count = (uint64_t)count, .width = (uint64_t)width};
    if (!hold(own, offsets, &piece)) return 0;
    /* The items' offsets, and one more. */
    size_t there = piece.size / (size_t)width;
    if ((size_t)first >= there || (size_t)count >= there - (size_t)first) return refuse("there are fewer offsets than items");
    column->offsets = piece.at;
    if (valid != Py_None) {
        if (!hold(own, valid, &piece)) return 0;
        if ((size_t)first > 8 * piece.size || (size_t)count > 8 * piece.size - (size_t)first)
            return refuse("there are fewer bits than items");
        column->valid = piece.at;
    }
    if (data != Py_None) {
        if (!hold(own, data, &piece)) return 0;
        column->data = piece.at;
        column->data_size = piece.size;
    }
    return 1;
}

/* Read pairs of a use and a column. */
static int read_columns(OwnTable *own, PyObject *tuple, Table *table) {
    Py_ssize_t count = PyTuple_Size(tuple);
    if (count < 0 || count > MAX_COLUMNS) return refuse("there are too many columns");
    for (Py_ssize_t place = 0; place < count; place++) {
        PyObject *column, *pair = PyTuple_GetItem(tuple, place);
        int use;
        if (!PyTuple_Check(pair)) return refuse("a column is not a pair of its use and its buffers");
        if (!PyArg_ParseTuple(pair, "iO", &use, &column)) return 0;
        if (use < 0 || use >= USES) return refuse("a use is out of range");
        own->uses[place] = (byte)use;
        if (!read_column(own, column, &own->columns[place])) return 0;
    }
    table->columns = own->columns;
    table->uses = own->uses;
    table->column_count = (uint64_t)count;
    return 1;
}

/* Read the columns of lists, roles and texts, or none of them. */
static int read_turns(OwnTable *own, PyObject *turns, Table *table) {
    if (turns == Py_None) return 1;
    if (!PyTuple_Check(turns) || PyTuple_Size(turns) != 3) return refuse("turns are not three columns");
    for (Py_ssize_t place = 0; place < 3; place++)
        if (!read_column(own, PyTuple_GetItem(turns, place), &own->turns[place])) return 0;
    table->turns = &own->turns[0];
    table->roles = &own->turns[1];
    table->texts = &own->turns[2];
    return 1;
}

static int read_skips(OwnTable *own, PyObject *skips, Table *table) {
    Piece piece;
    if (skips == Py_None) return 1;
    if (!hold(own, skips, &piece)) return 0;
    if (piece.size < table->rows) return refuse("there are fewer bytes to skip by than rows");
    table->skips = piece.at;
    return 1;
}

static PyObject *convert_table(PyObject *module, PyObject *arguments) {
    (void)module;
    PyObject *job, *columns, *turns, *skips, *output = NULL, *result = NULL;
    Py_ssize_t rows, first, last, number, room;
    if (!PyArg_ParseTuple(arguments, "O!O!OOnnnnn:convert_table", &PyTuple_Type, &job, &PyTuple_Type, &columns, &turns,
                          &skips, &rows, &first, &last, &number, &room))
        return NULL;
    OwnJob own_job;
    OwnTable own = {.held = 0};
    Table table = {.rows = (uint64_t)rows};
    int is_sound = rows >= 0 && first >= 0 && last >= 0 && number >= 0 ? 1 : refuse("rows, first, last or number is out of range");
    if (is_sound && read_job(job, &own_job) && read_columns(&own, columns, &table) && read_turns(&own, turns, &table) &&
        read_skips(&own, skips, &table) && (output = open_output(room))) {
        Done done;
        byte *at_output = (byte *)PyByteArray_AsString(output);
        Py_BEGIN_ALLOW_THREADS
        lfc_convert_table(&own_job.job, &table, (uint64_t)first, (uint64_t)last, (uint64_t)number, at_output,
                          (size_t)room, &done);
        Py_END_ALLOW_THREADS
        result = describe(&done, output);
    }
    while (own.held) PyBuffer_Release(&own.buffers[--own.held]);
    Py_XDECREF(output);
    return result;
}

/* ---- the module ---- */

static int add_codes(PyObject *module) {
    static const struct {
        const char *name;
        long value;
    } codes[] = {{"SYSTEM", SYSTEM},     {"USER", USER},     {"ASSISTANT", ASSISTANT},
                 {"EXPAND", EXPAND},     {"ALL", ALL},       {"FIRST", FIRST},
                 {"LAST", LAST},         {"TAGGED", TAGGED}, {"MASKED", MASKED},
                 {"STRIP", STRIP},       {"UNUSED", UNUSED}, {"BLANK", BLANK},
                 {"EMPTY", EMPTY},       {"QUESTION", QUESTION}, {"ANSWER", ANSWER},
                 {"THOUGHT", THOUGHT},   {"SYSTEM_PROMPT", SYSTEM_PROMPT}, {"INPUT", INPUT},
                 {"TURNS", TURNS},       {"MAX_COLUMNS", MAX_COLUMNS}, {"MAX_FORMS", MAX_FORMS}};
    for (size_t code = 0; code < sizeof codes / sizeof *codes; code++)
        if (PyModule_AddIntConstant(module, codes[code].name, codes[code].value)) return -1;
    return 0;
}

static PyMethodDef methods[] = {
    {"convert_objects", convert_objects, METH_VARARGS, "Convert objects of JSON until one is not plain."},
    {"convert_fields", convert_fields, METH_VARARGS, "Convert lines of fields until one is not plain."},
    {"convert_table", convert_table, METH_VARARGS, "Convert rows of Arrow's columns until one is not plain."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{Py_mod_exec, add_codes}, {0, NULL}};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_kernel", "The compiled half of conversion.", 0, methods, slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__kernel(void) {
    return PyModuleDef_Init(&definition);
}
