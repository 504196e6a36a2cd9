// Division, remainders, shifts and sign extension at 8, 16, 32 and 64 bits.
typedef unsigned long long u64;

__attribute__((section("entry"))) u64 arithmetic(u64 *memory)
{
	u64 a = memory[0], b = memory[1] | 1;
	unsigned c = (unsigned)memory[2], d = (unsigned)memory[3] | 1;
	u64 r = a / b + a % b;
	r = r * 31 + c / d + c % d;
	r = r * 31 + (u64)((long long)a >> (b & 63)) + (a << (c & 63));
	r = r * 31 + (u64)(long long)(int)c + (u64)(long long)(short)d + (u64)(long long)(signed char)a;
	r = r * 31 + (u64)(((int)c >> (d & 31)) - (int)(c << (a & 31)));
	if ((int)c < (int)d) r ^= 0x123456789abcdefull;
	if ((signed char)a > (short)b) r += (unsigned short)c;
	memory[4] = ~r;
	memory[5] = -r;
	return r;
}
