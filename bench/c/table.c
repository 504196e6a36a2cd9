/* A row of a table for each field: where its bits are, and where they go. No code is made, and no bit is counted. */
#include "rows.h"

static __attribute__((noinline)) void table(u8 *d, const u8 *s, const struct rows *rows)
{
	u32 end = 8 * (u32)rows->words;

	header(d, s, rows->words);
	for (int i = 0; i < 6; i++) {
		const struct row *row = &rows->row[i];
		u32 byte = row->at / 8 < end - 8 ? row->at / 8 : end - 8;
		u32 shift = row->at - byte * 8;
		u64 value = 0;

		if (row->bits) {
			value = load64(s + byte) >> shift;
			if (shift + row->bits > 64)
				value |= (u64)s[byte + 8] << (64 - shift);
			value &= ~0ull >> (64 - row->bits);
		}
		store(row, d, value + row->offset);
	}
}

LOOPS(table)
