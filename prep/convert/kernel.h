/* What the kernel converts, and how it is asked: see rows.c, json.c, csv.c and arrow.c. */

#ifndef LFC_KERNEL_H
#define LFC_KERNEL_H

#include <stddef.h>
#include <stdint.h>

typedef uint8_t byte;

enum { MAX_COLUMNS = 64, MAX_FORMS = 8, MAX_TURNS = 512 };

typedef struct {
    const byte *at;
    size_t size;
} Piece;

/* What a call did: from how much of the input, and into how many bytes of the output. `forms` has a bit for each form
 * of objects that a row of the output had, `line_ends` counts those in lines of fields. */
typedef struct {
    uint64_t bytes_read, rows, records, reasoning, with_system, with_history, filtered, forms, line_ends,
        bytes_written;
} Done;

/* ---- what is written ---- */

enum { SYSTEM = 1, USER, ASSISTANT };
enum { EXPAND, ALL, FIRST, LAST };
enum { TAGGED, MASKED, STRIP };

/* How rows become lines. `system` is for rows without one of their own, as JSON has it; `role_codes` says what each
 * of `role_names` is. `role_fields` and `text_fields` are the names of a turn's fields, without quotes. */
typedef struct {
    Piece before_question, before_input, before_answer, before_system, before_history, before_origin, line_end;
    Piece before_thought, after_thought, system;
    uint64_t turns, policy;
    const Piece *role_names;
    const uint64_t *role_codes;
    uint64_t role_count;
    const Piece *role_fields, *text_fields;
    uint64_t role_field_count, text_field_count;
} Job;

/* How a text stands: as it is, between the quotes of JSON, or with each of its quotes twice. */
enum { RAW, JSON, DOUBLED };

typedef struct {
    const byte *at;
    size_t size;
    int kind;
} Text;

/* A row's texts, which no one has judged yet: questions and answers in turn, a thought from a column of its own for
 * the first answer. Of what is not there `at` is NULL. `thoughts` and `written` are lfc_put_row's. */
typedef struct {
    size_t count;
    Text texts[MAX_TURNS], thoughts[MAX_TURNS / 2], system, input, thought;
    Piece written[MAX_TURNS];
} Row;

typedef struct {
    byte *at, *end;
    int full;
} Writer;

/* Up to sixteen bytes are copied at a time: a buffer ends this much before what was allocated. */
enum { SLACK = 32 };

/* Begin to write into a buffer; 0 when it is too small for anything. */
int lfc_open_writer(Writer *out, byte *at, size_t size);

/* Write a row's records; 0 when it is not plain, or there is no room: then nothing is written. */
int lfc_put_row(const Job *job, Row *row, uint64_t number, Writer *out, Done *done);

/* What a role's name means, 0 for no plain one. */
uint64_t lfc_read_role(const Job *job, Piece name);

/* ---- what is read ---- */

/* What a column is for: nothing, but it must be JSON; it must be null or an empty text; it must hold nothing at all,
 * an empty list and object being nothing too; or one of a row's texts, or its turns. */
enum { UNUSED, BLANK, EMPTY, QUESTION, ANSWER, THOUGHT, SYSTEM_PROMPT, INPUT, TURNS, USES };

/* One set of columns that a row may have: a bit for each, and what it is for. */
typedef struct {
    uint64_t columns;
    byte uses[MAX_COLUMNS];
} Form;

/* Judges a row by the JSON of some of its values: 1 for a row that is taken, 0 for one that is not, -1 for unknown. */
typedef int (*Judge)(void *context, const Piece *values);

/* The columns of JSON objects: `names` are all that there are, as JSON writes them, with quotes, in the order in
 * which they mostly stand; `judged` are those that `judge` asks for. */
typedef struct {
    const Piece *names;
    uint64_t columns;
    const Form *forms;
    uint64_t form_count;
    const uint64_t *judged;
    uint64_t judged_count;
    Judge judge;
    void *context;
} Objects;

/* Convert objects until one is not plain, not whole, or the output is full; `row` is the first one's number. They
 * stand one a line, or are the elements of an array, with a comma or the array's end behind each; `bytes_read` ends
 * behind the comma and before the array's end. */
void lfc_convert_objects(const Job *job, const Objects *objects, int is_array, const byte *data, size_t size, uint64_t row,
                         byte *out, size_t out_size, Done *done);

/* The columns of lines of fields, with a use for each; a judge gets fields as they stand, with their quotes. */
typedef struct {
    const byte *uses;
    uint64_t columns;
    byte delimiter;
    const uint64_t *judged;
    uint64_t judged_count;
    Judge judge;
    void *context;
} Fields;

/* Convert lines of fields until one is not plain, not whole or empty, or the output is full; the last one needs no
 * line end when it is the last of all. */
void lfc_convert_fields(const Job *job, const Fields *fields, int is_last, const byte *data, size_t size, uint64_t row,
                        byte *out, size_t out_size, Done *done);

/* A column of Arrow's texts or lists: item i is offsets[first + i] to offsets[first + i + 1], numbers of `width` 4 or
 * 8 bytes, in `data`; bit first + i of `valid`, if there is one, is 0 for a null. What stands in them is not
 * trusted; that they are there for `count` items is for the caller to see. */
typedef struct {
    const byte *offsets, *valid, *data;
    uint64_t first, count, width, data_size;
} Column;

/* Arrow's columns; turns, if there are any, are items of `roles` and `texts` that `turns` leads into. `skips` has a
 * byte for each row: 0 to convert it, 1 when a condition sorted it out, 2 when it is not plain. */
typedef struct {
    const Column *columns;
    const byte *uses, *skips;
    uint64_t column_count, rows;
    const Column *turns, *roles, *texts;
} Table;

/* Convert rows `first` to `last`, without it, until one is not plain or the output is full; row 0 has the number
 * `number`. */
void lfc_convert_table(const Job *job, const Table *table, uint64_t first, uint64_t last, uint64_t number, byte *out,
                       size_t out_size, Done *done);

#endif
