// Calls of global and static functions, in the same section and another, one of them recursive.
typedef unsigned long long u64;
#define apart __attribute__((noinline))

static apart u64 first(u64 a) { return a * 7 + 3; }
apart u64 second(u64 a, u64 b) { return first(a ^ b) - first(b); }
static apart u64 third(u64 *memory) { return memory[1] = second(memory[0], memory[1]); }
apart u64 depth(u64 n) { return n < 4 ? n : depth(n / 4) * 3 + first(n); }

__attribute__((section("entry"))) apart u64 inner(u64 *memory) { return third(memory + 2) ^ first(memory[5]); }

__attribute__((section("entry.main"))) u64 calls(u64 *memory)
{
	u64 sum = inner(memory) + third(memory) + depth(memory[6] & 4095);
	return memory[7] = sum + second(memory[3], memory[4]);
}
