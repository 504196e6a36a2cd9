// Addresses that a program cannot bring along; and a table beside one of addresses, which it can.
static const char *const names[4] = {"none", "one", "some", "many"};
static const int table[8] = {2, 3, 5, 7, 11, 13, 17, 19};
extern int elsewhere[4];
__attribute__((section(".maps"))) struct { int type, key_bytes, value_bytes, entries; } map = {2, 4, 8, 1};

__attribute__((section("entry"))) int neither(int *memory) { return memory[0] + 1; }
__attribute__((section("entry"))) int constant(int *memory) { return table[memory[0] & 7]; }
__attribute__((section("entry"))) int named(int *memory) { return names[memory[0] & 3][0]; }
__attribute__((section("entry"))) int external(int *memory) { return elsewhere[memory[0] & 3]; }
__attribute__((section("entry"))) int mapped(int *memory) { return map.entries += memory[0]; }
__attribute__((section("entry"))) void *code(int *memory) { return memory[0] ? (void *)named : (void *)neither; }
