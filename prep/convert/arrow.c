/* Columns of Arrow → rows. */

#include "text.h"

/* A part of what offsets lead into: from `first` to `last`, without it. */
typedef struct {
    size_t first, last;
} Span;

/* Read an item's two offsets; 0 when they do not lead into `size`, or there is no such item. */
static int read_span(const Column *column, uint64_t item, uint64_t size, Span *span) {
    if (item >= column->count) return 0;
    const byte *at = column->offsets + (column->first + item) * column->width;
    if (column->width == 4) {
        int32_t pair[2];
        memcpy(pair, at, sizeof pair);
        if (pair[0] < 0 || pair[1] < pair[0] || (uint64_t)pair[1] > size) return 0;
        *span = (Span){(size_t)pair[0], (size_t)pair[1]};
    } else {
        int64_t pair[2];
        memcpy(pair, at, sizeof pair);
        if (pair[0] < 0 || pair[1] < pair[0] || (uint64_t)pair[1] > size) return 0;
        *span = (Span){(size_t)pair[0], (size_t)pair[1]};
    }
    return 1;
}

static int is_null(const Column *column, uint64_t item) {
    uint64_t bit = column->first + item;
    return column->valid && !(column->valid[bit >> 3] >> (bit & 7) & 1);
}

/* Read a text, of which `at` is NULL for a null; 0 when it is nowhere. */
static int read_text(const Column *column, uint64_t item, Text *text) {
    Span span;
    *text = (Text){NULL, 0, RAW};
    if (item >= column->count) return 0;
    if (is_null(column, item)) return 1;
    if (!read_span(column, item, column->data_size, &span)) return 0;
    *text = (Text){column->data + span.first, span.last - span.first, RAW};
    return 1;
}

/* Read a row's turns: a question and an answer in turn, after a system prompt or none. */
static int read_turns(const Job *job, const Table *table, uint64_t item, Row *row) {
    Span turns;
    if (item >= table->turns->count) return 0;
    if (is_null(table->turns, item) || !read_span(table->turns, item, table->texts->count, &turns)) return 0;
    for (size_t turn = turns.first; turn < turns.last; turn++) {
        Text text, name;
        if (!read_text(table->roles, turn, &name) || !name.at || !read_text(table->texts, turn, &text) || !text.at) return 0;
        uint64_t role = lfc_read_role(job, (Piece){name.at, name.size});
        if (role == SYSTEM && turn == turns.first) {
            if (row->system.at && row->system.size) return 0;
            row->system = text;
            continue;
        }
        if (row->count == MAX_TURNS || role != (row->count % 2 ? ASSISTANT : USER)) return 0;
        row->texts[row->count++] = text;
    }
    return row->count > 0;
}

static int read_row(const Job *job, const Table *table, uint64_t item, Row *row) {
    row->count = 0;
    row->system = row->input = row->thought = row->texts[0] = row->texts[1] = (Text){NULL, 0, RAW};
    for (uint64_t column = 0; column < table->column_count; column++) {
        Text text;
        if (!read_text(&table->columns[column], item, &text)) return 0;
        switch (table->uses[column]) {
        case QUESTION: row->texts[0] = text; break;
        case ANSWER: row->texts[1] = text; break;
        case THOUGHT: row->thought = text; break;
        case SYSTEM_PROMPT: row->system = text; break;
        case INPUT: row->input = text; break;
        case BLANK: case EMPTY: if (text.size) return 0; break;
        default: return 0;
        }
    }
    if (table->turns) return read_turns(job, table, item, row);
    if (row->texts[0].at && row->texts[1].at) row->count = 2;
    return row->count > 0;
}

static int is_sound(const Table *table) {
    if (table->column_count > MAX_COLUMNS || (table->column_count && (!table->columns || !table->uses))) return 0;
    for (uint64_t column = 0; column < table->column_count; column++)
        if (!table->columns[column].offsets || !table->columns[column].data) return 0;
    if (!table->turns) return 1;
    return table->turns->offsets && table->roles && table->texts && table->roles->offsets && table->roles->data &&
           table->texts->offsets && table->texts->data;
}

void lfc_convert_table(const Job *job, const Table *table, uint64_t first, uint64_t last, uint64_t number, byte *out,
                       size_t out_size, Done *done) {
    Writer writer;
    Row row;
    memset(done, 0, sizeof *done);
    if (!is_sound(table) || !lfc_open_writer(&writer, out, out_size)) return;
    for (uint64_t item = first; item < last && item < table->rows; item++) {
        int skip = table->skips ? table->skips[item] : 0;
        if (skip == 1) {
            done->rows++;
            done->filtered++;
        } else if (skip || !read_row(job, table, item, &row) || !lfc_put_row(job, &row, number + item, &writer, done)) {
            break;
        }
    }
    done->bytes_written = (uint64_t)(writer.at - out);
}
