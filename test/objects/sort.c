// Loads, stores and signed comparisons of each width: sorts sixteen signed numbers, and counts the moves.
__attribute__((section("entry"))) unsigned long long sort(int *memory)
{
	unsigned long long moves = 0;
	for (int i = 1; i < 16; i++) {
		int moved = memory[i], j = i;
		for (; j > 0 && memory[j - 1] > moved; j--, moves++)
			memory[j] = memory[j - 1];
		memory[j] = moved;
	}
	return moves << 8 | *((unsigned char *)memory + 63);
}
