/* What both decoders that read the format at run time are given: a row for each field, from the key's top bit down. */
#include <stdint.h>
#include <string.h>

typedef uint8_t u8;
typedef uint32_t u32;
typedef uint64_t u64;

struct row {
	u64 offset;	/* added to the value */
	u32 bits;
	u32 at;		/* lowest bit in the key */
	u32 to;		/* byte in the unpacked key */
	u32 bytes;	/* 4 or 8 */
};

struct rows {
	u64 words;	/* 8-byte words of a packed key */
	struct row row[6];
};

static inline u64 load64(const u8 *p)
{
	u64 v;
	memcpy(&v, p, sizeof v);
	return v;
}

static inline void store32(u8 *p, u32 v)
{
	memcpy(p, &v, sizeof v);
}

static inline void store(const struct row *row, u8 *d, u64 v)
{
	if (row->bytes == 8)
		memcpy(d + row->to, &v, 8);
	else
		store32(d + row->to, (u32)v);
}

static inline void header(u8 *d, const u8 *s, u64 words)
{
	u32 h;

	memcpy(&h, s, sizeof h);
	store32(d, ((h + 5 - (u32)words) & 0xff) | 0x100 | (h & 0xff8000));
}

/* The loops around a decoder, which is called for each key. */
#define LOOPS(name)                                                                        \
	void name##_stride(u8 *d, const u8 *s, u64 count, const struct rows *rows)          \
	{                                                                                  \
		for (; count; count--, d += 40, s += 8 * rows->words)                       \
			name(d, s, rows);                                                   \
	}                                                                                  \
	void name##_stream(u8 *d, const u8 *s, u64 count, const struct rows *rows)          \
	{                                                                                  \
		for (; count; count--, d += 40) {                                           \
			const u8 *next = s + 8 * s[0];                                      \
			name(d, s, rows);                                                   \
			s = next;                                                           \
		}                                                                          \
	}
