/* What kernel.c converts, and how it is asked; see there. */

#ifndef LFC_KERNEL_H
#define LFC_KERNEL_H

#include <stddef.h>
#include <stdint.h>

typedef uint8_t byte;

enum { MAX_COLUMNS = 64 };

typedef struct {
    const byte *at;
    size_t size;
} Piece;

/* What a call did: from how much of the input, and into how many bytes of the output. */
typedef struct {
    uint64_t bytes_read, rows, records, with_system, with_history, bytes_written;
} Done;

/* ---- JSONL of question, think, answer ---- */

enum { QUESTION, THOUGHT, ANSWER, TEXTS };

/* How lines are read and written: `names` are the columns that each line has, in their order and as JSON writes
 * them; `places` says which of them are the question, the thought and the answer. */
typedef struct {
    const Piece *names;
    uint64_t columns;
    uint64_t places[TEXTS];
    uint64_t writes_thought;
    Piece before_question, before_thought, before_answer, after_answer;
} LinesJob;

/* Convert lines until one is not plain or the output is full; `row` is the first one's number. */
void lfc_convert_lines(const LinesJob *job, const byte *data, size_t size, uint64_t row, byte *out, size_t out_size,
                       Done *done);

/* ---- ShareGPT columns ---- */

enum { SYSTEM = 1, USER, ASSISTANT };
enum { EXPAND, ALL, FIRST, LAST };

/* Arrow's buffers: row r's turns are offsets[r] to offsets[r + 1], turn t's text is texts[text_offsets[t]] to
 * texts[text_offsets[t + 1]], its role likewise. There are `rows` + 1 offsets of rows and `all_turns` + 1 of turns;
 * what stands in them is not trusted. `role_codes` says what each of `role_names` is, 0 for no plain one. `system` is
 * for rows without one of their own. */
typedef struct {
    const byte *offsets, *text_offsets, *role_offsets, *texts, *roles;
    uint64_t rows, all_turns, texts_size, roles_size;
    const Piece *role_names;
    const uint64_t *role_codes;
    uint64_t role_count, turns;
    Piece system, before_question, before_answer, before_system, before_history, before_origin, line_end;
} TurnsJob;

/* Convert rows `first` to `last`, without it, until one is not plain or the output is full; row 0 has the number
 * `number`. */
void lfc_convert_turns(const TurnsJob *job, uint64_t first, uint64_t last, uint64_t number, byte *out, size_t out_size,
                       Done *done);

#endif
