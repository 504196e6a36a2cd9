/* Keys as a stream of bits, read from the top word down: what a file system does that makes no code. */
#include "rows.h"

struct bits {
	const u8 *next;	/* word below the one in hand */
	u64 word;	/* what is left of it, at the top */
	u32 left;
};

static u64 take(struct bits *in, u32 bits)
{
	u64 value = 0;

	if (bits >= in->left) {
		bits -= in->left;
		if (in->left)
			value = in->word >> (64 - in->left);
		if (!bits) {
			in->left = 0;
			in->word = 0;
			return value;
		}
		in->next -= 8;
		in->word = load64(in->next);
		in->left = 64;
		if (bits == 64) {
			value = in->word;
			in->left = 0;
			return value;
		}
		value <<= bits;
	}
	if (bits) {
		value |= in->word >> (64 - bits);
		in->word <<= bits;
		in->left -= bits;
	}
	return value;
}

static __attribute__((noinline)) void bitstream(u8 *d, const u8 *s, const struct rows *rows)
{
	struct bits in = { s + 8 * rows->words - 8, load64(s + 8 * rows->words - 8), 64 };

	header(d, s, rows->words);
	for (int i = 0; i < 6; i++)
		store(&rows->row[i], d, take(&in, rows->row[i].bits) + rows->row[i].offset);
}

LOOPS(bitstream)
