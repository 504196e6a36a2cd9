// Constants in .rodata: a checksum by a table, a permutation, strings; static and global, used from functions in three sections.
#define E1(c) ((c) & 1 ? (c) >> 1 ^ 0xedb88320u : (c) >> 1)
#define E4(c) E1(E1(E1(E1((unsigned)(c)))))
#define ROW(c) E4(c), E4((c) + 1), E4((c) + 2), E4((c) + 3)

static const unsigned nibbles[16] = {ROW(0), ROW(4), ROW(8), ROW(12)};
const unsigned char order[16] = {3, 14, 1, 10, 4, 9, 5, 6, 8, 11, 15, 2, 13, 12, 0, 7};
const unsigned char ones[16] = {0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4};
const struct { unsigned short scale; signed char shift[3]; unsigned long long key; } settings = {1000, {-1, 5, -7}, 0x123456789abcdefull};

__attribute__((noinline, section("sums"))) static unsigned checksum(const unsigned char *bytes)
{
	unsigned sum = ~0u;
	for (int i = 0; i < 32; i++) {
		sum ^= bytes[i];
		sum = sum >> 4 ^ nibbles[sum & 15];
		sum = sum >> 4 ^ nibbles[sum & 15];
	}
	return ~sum;
}

__attribute__((noinline)) const unsigned char *tail(unsigned from)
{
	return &ones[8 + (from & 7)];
}

__attribute__((section("entry"))) unsigned long long lookup(unsigned char *memory)
{
	const char *digits = memory[40] & 1 ? "0123456789abcdef" : "FEDCBA9876543210";
	for (int i = 0; i < 16; i++)
		memory[48 + i] = digits[order[memory[i] & 15] & 15];
	unsigned sum = checksum(memory);
	unsigned bits = *tail(memory[41]);
	for (int i = 0; i < 8; i++)
		bits += ones[sum >> 4 * i & 15];
	return sum * settings.key + bits * settings.scale + settings.shift[memory[42] % 3];
}
