// A table in .rodata, a counter in .data and one in .bss.
static const int table[8] = {2, 3, 5, 7, 11, 13, 17, 19};
int counter = 42;
int zeros[16];

__attribute__((section("entry"))) int constant(int *memory) { return table[memory[0] & 7]; }
__attribute__((section("entry"))) int variable(int *memory) { return counter += memory[0]; }
__attribute__((section("entry"))) int zeroed(int *memory) { return zeros[memory[0] & 15]++; }
__attribute__((section("entry"))) int neither(int *memory) { return memory[0] + 1; }
