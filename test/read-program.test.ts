import { expect, it } from 'vitest';
import { disassemble, readProgram } from '../src/index.js';
import { unhex } from './vectors.js';

const bytes = 'b7000000050000009500000000000000';
const text = 'r0 = 5\nexit\n';

it.each<[form: string, source: string | Uint8Array]>([
  ['raw bytes', unhex(bytes)],
  ['assembly text', text],
  ['assembly text in bytes', Buffer.from('mov %r0, 5 ; fünf\r\nexit\r\n')],
  ['hexadecimal text', bytes],
  ['hexadecimal text in bytes', Buffer.from(`${bytes}\n`)],
  ['spaced and prefixed hexadecimal text', ` 0x${bytes.replace(/../g, '$&  ').toUpperCase()}\n`],
])('a program is read from %s', (_, source) => {
  expect(disassemble(readProgram(source))).toBe(text);
});

it.each<[what: string, source: unknown, code: string]>([
  ['an odd number of hexadecimal digits', '950', 'P-HEX'],
  ['a hexadecimal slot that is cut', bytes.slice(2), 'P-LENGTH'],
  ['bytes that are cut', unhex(bytes).subarray(1), 'P-LENGTH'],
  ['nothing', '', 'P-EMPTY'],
  ['no bytes', new Uint8Array(0), 'P-EMPTY'],
  ['a number', 5, 'A-TYPE'],
  ['prose', Buffer.from('hello'), 'P-SYNTAX'],
  ['an ELF file', unhex('7f454c46020101000000000000000000'), 'P-ELF'],
])('%s is refused', (_, source, code) => {
  expect(() => readProgram(source as string)).toThrow(expect.objectContaining({ code }));
});

it('a megabyte of blanks takes no longer than reading it, and a comment ends at the line feed alone', () => {
  expect(disassemble(readProgram(`${' '.repeat(1_000_000)}${text}`))).toBe(text);
  expect(disassemble(readProgram('r0 = 5 ; a\rb\u2028c\nexit'))).toBe(text);
});
