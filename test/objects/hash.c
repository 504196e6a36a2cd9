// 64-bit constants, multiplication and rotations: a hash of 64 bytes.
typedef unsigned long long u64;

__attribute__((section("entry"))) u64 hash(unsigned char *memory)
{
	u64 h = 0xcbf29ce484222325ull;
	for (int i = 0; i < 64; i++) {
		h = (h ^ memory[i]) * 0x100000001b3ull;
		h = (h << 13) | (h >> 51);
	}
	return h;
}
