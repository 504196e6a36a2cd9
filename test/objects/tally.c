// Variables that keep from call to call what was in them.
static unsigned long long calls = 1;
unsigned long long seen[8];

__attribute__((section("entry"))) unsigned long long tally(unsigned long long *memory)
{
	for (int i = 0; i < 8; i++)
		memory[i] = seen[i] += memory[i] + calls;
	return seen[7] + ++calls;
}
