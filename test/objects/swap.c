// Byte swaps. gcc before 13 calls a function for them that it does not bring: refused.
typedef unsigned long long u64;

__attribute__((section("entry"))) u64 swap(u64 *memory)
{
	memory[2] = __builtin_bswap16(memory[2]);
	return __builtin_bswap64(memory[0]) ^ __builtin_bswap32(memory[1]);
}
