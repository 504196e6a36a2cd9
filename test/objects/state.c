// Variables in .data and .bss, static and global, that one call changes and reads again; some of them not at their section's start.
static unsigned seed = 12345;
unsigned steps = 7;
unsigned long long limits[4] = {10, 20, 30, 40};
static unsigned histogram[16];
unsigned char order[32];
unsigned long long total;

__attribute__((noinline)) static unsigned next(void)
{
	seed = seed * 1103515245 + 12345;
	steps++;
	return seed >> 16;
}

__attribute__((noinline, section("counting"))) unsigned long long *count(const unsigned char *bytes)
{
	for (int i = 0; i < 32; i++) {
		histogram[bytes[i] & 15]++;
		order[31 - i] = bytes[i] ^ next();
	}
	return &limits[bytes[0] & 3];
}

__attribute__((section("entry"))) unsigned long long state(unsigned char *memory)
{
	unsigned long long *limit = count(memory);
	*limit += steps;
	for (int i = 0; i < 16; i++)
		total += histogram[i] * (i + 1) + limits[i & 3];
	for (int i = 0; i < 32; i++)
		memory[32 + i] = order[i] + order[5];
	return total + limits[2] + seed;
}
