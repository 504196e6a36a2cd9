// Records unpacked in plain C: what compilers make of it is lifted to the same form as a lowered format.
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef signed short s16;
typedef int s32;
typedef long long s64;

#define ENTRY __attribute__((section("entry")))

static inline u64 load64(const u8 *p)
{
	u64 v;
	__builtin_memcpy(&v, p, 8);
	return v;
}

static inline void store64(u8 *p, u64 v)
{
	__builtin_memcpy(p, &v, 8);
}

static inline void store32(u8 *p, u32 v)
{
	__builtin_memcpy(p, &v, 4);
}

static inline void header(u8 *out, const u8 *in, u8 add)
{
	out[0] = in[0] + add;
	out[1] = (in[1] & 0x80) | 1;
	out[2] = in[2];
	out[3] = 0;
}

/* two words: 40 40 8 16 0 0 */
ENTRY u64 aligned(u8 *out, const u8 *in)
{
	header(out, in, 3);
	__builtin_memset(out + 4, 0, 12);
	store32(out + 16, in[3] | (u32)in[4] << 8);
	store32(out + 20, in[5] + 0xffffff00u);
	store64(out + 24, (load64(in + 3) >> 24) + 0x1a2b38);
	store64(out + 32, (load64(in + 8) >> 24) + 0x1003);
	return 0;
}

/* two words: 27 43 0 13 0 0 */
ENTRY u64 tight(u8 *out, const u8 *in)
{
	u64 low = load64(in), high = load64(in + 8);

	header(out, in, 3);
	__builtin_memset(out + 4, 0, 12);
	store32(out + 16, low >> 45 & 0x1fff);
	store32(out + 20, 0xffffffff);
	store64(out + 24, ((low >> 58 | high << 6) & ((1ull << 43) - 1)) + 0x5000);
	store64(out + 32, (high >> 37) + 0x10000000);
	return 0;
}

/* an IPv4 header, its members in the machine's order and as wide as they are said */
struct ip {
	u32 version, length, service, total, identification, flags, fragment, life, protocol, checksum, from, to;
};

ENTRY u64 network(struct ip *out, const u8 *in)
{
	const u16 *half = (const u16 *)in;
	const u32 *word = (const u32 *)in;

	out->version = in[0] >> 4;
	out->length = in[0] & 15;
	out->service = in[1];
	out->total = __builtin_bswap16(half[1]);
	out->identification = __builtin_bswap16(half[2]);
	out->flags = __builtin_bswap16(half[3]) >> 13;
	out->fragment = __builtin_bswap16(half[3]) & 0x1fff;
	out->life = in[8];
	out->protocol = in[9];
	out->checksum = __builtin_bswap16(half[5]);
	out->from = __builtin_bswap32(word[3]);
	out->to = __builtin_bswap32(word[4]);
	return 0;
}

/* signed measurements of 12, 16, 24 and 32 bits, with offsets */
struct measured {
	s32 pressure, temperature;
	s64 height, drift;
};

ENTRY u64 telemetry(struct measured *out, const u32 *in)
{
	out->pressure = (s32)(in[0] << 8) >> 20;
	out->temperature = (s16)(in[1] >> 16) - 40;
	out->height = ((s64)((u64)in[2] << 40) >> 40) + 1000;
	out->drift = (s32)in[3];
	return 0;
}
