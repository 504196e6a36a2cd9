// Makes mutants of JavaScript as tsc prints it: each is one small change of the kind that a mistake is.

/** Space and comments are no tokens; texts and templates are one token each, and stay as they are. */
const TOKEN =
  /(?<space>\s+|\/\/[^\n]*|\/\*[\s\S]*?\*\/)|(?<text>'(?:[^'\\\n]|\\.)*'|`(?:[^`\\]|\\.)*`)|(?<number>\d[\w.]*)|(?<name>#?[A-Za-z_$][\w$]*)|(?<sign>>>>=|\?\?=|&&=|\|\|=|===|!==|>>>|\.\.\.|<<|>>|<=|>=|=>|\?\?|\?\.|&&|\|\||\+\+|--|\+=|-=|\|=|&=|\*\*|[\s\S])/g;

/** What stands in the place of an operator. */
const SIGNS = {
  '<': ['<=', '>='],
  '<=': ['<', '>'],
  '>': ['>=', '<='],
  '>=': ['>', '<'],
  '===': ['!=='],
  '!==': ['==='],
  '&&': ['||'],
  '||': ['&&'],
  '+': ['-'],
  '-': ['+'],
  '*': ['+'],
  '&': ['|'],
  '|': ['&'],
  '^': ['|'],
  '<<': ['>>'],
  '>>': ['<<'],
  '++': ['--'],
  '--': ['++'],
  '+=': ['-='],
  '-=': ['+='],
  '|=': ['&='],
  '&=': ['|='],
};

/** Names that are taken for each other, bounds first of all. */
const PAIRS = [
  ['min', 'max'],
  ['minimum', 'maximum'],
  ['u', 's'],
  ['low', 'whole'],
  ['value', 'mask'],
  ['first', 'last'],
  ['start', 'end'],
  ['dst', 'src'],
  ['taken', 'next'],
  ['less', 'more'],
  ['link', 'lowLink'],
  ['atLeast', 'atMost'],
  ['union', 'intersect'],
  ['wrapUnsigned', 'wrapSigned'],
  ['fullUnsigned', 'fullSigned'],
  ['aluWhole', 'aluLow'],
  ['zeroExtend', 'signExtend'],
  ['some', 'every'],
];
const OTHER = new Map(
  PAIRS.flatMap(([a, b]) => [
    [a, b],
    [b, a],
  ]),
);

/** Calls that sharpen what they are given, and what is left where that is skipped. */
const UNREFINED = {
  reduce: ([a]) => `(${a})`,
  intersect: ([a]) => `(${a})`,
  widen: ([, b]) => `(${b})`,
  sync: ([whole, low]) => `({ whole: ${whole}, low: ${low} })`,
  assume: (args) => `[${args.slice(-2)}]`,
  learn: ([state]) => state,
  relate: () => '0',
  tighten: () => '0',
};

const KEYWORDS = new Set(
  'const let return if for while function class export switch break continue case default else try static new'.split(
    ' ',
  ),
);

class Source {
  constructor(text) {
    this.text = text;
    this.tokens = [...text.matchAll(TOKEN)].flatMap(({ 0: text, index, groups }) => {
      const kind = Object.keys(groups).find((name) => groups[name] !== undefined);
      return kind === 'space' ? [] : [{ text, kind, start: index, end: index + text.length }];
    });
    this.names = new Set(this.tokens.map(({ text }) => text));
    this.#pairBrackets();
  }

  /** For each opening bracket the index of the closing one; for each token how many braces are open. */
  #pairBrackets() {
    this.ends = new Map();
    this.depths = [];
    /** Where the condition of an `if` ends. */
    this.conditionEnds = new Set();
    const open = [];
    let depth = 0;
    this.tokens.forEach(({ text, kind }, i) => {
      if (kind === 'sign' && text === '}') depth--;
      this.depths.push(depth);
      if (kind !== 'sign') return;
      if (text === '{') depth++;
      if ('([{'.includes(text)) open.push(i);
      if (!')]}'.includes(text)) return;
      const start = open.pop();
      this.ends.set(start, i);
      if (this.at(start - 1) === 'if') this.conditionEnds.add(i);
    });
  }

  at(i) {
    return this.tokens[i]?.text ?? ';';
  }

  /** The text from the first token to the last. */
  slice(first, last) {
    return first > last ? '' : this.text.slice(this.tokens[first].start, this.tokens[last].end);
  }

  /** The arguments of a call, by its opening bracket. */
  args(open) {
    const args = [];
    let first = open + 1;
    for (let i = first; i <= this.ends.get(open); i++) {
      if (this.at(i) === ',' || i === this.ends.get(open)) {
        args.push(this.slice(first, i - 1));
        first = i + 1;
      } else if (this.ends.has(i)) i = this.ends.get(i);
    }
    return args;
  }

  /** The index of the semicolon that ends a statement; undefined for the last part of a loop's head. */
  statementEnd(i) {
    for (let at = i; ; at++) {
      if (this.at(at) === ';') return at;
      if (')]}'.includes(this.at(at))) return undefined;
      at = this.ends.get(at) ?? at;
    }
  }
}

/**
 * All mutants of a module.
 * @returns for each what was done, the offsets of what is replaced, and what takes its place
 */
export function mutationsOf(text) {
  const source = new Source(text);
  const found = [];
  for (let i = 0; i < source.tokens.length; i++) {
    if (source.at(i) === 'import' || (source.at(i) === 'export' && '{*'.includes(source.at(i + 1)))) {
      i = source.statementEnd(i);
      continue;
    }
    for (const [kind, first, last, other] of mutationsAt(source, i))
      found.push({ kind, start: source.tokens[first].start, end: source.tokens[last].end, text: other });
  }
  return found;
}

function mutationsAt(source, i) {
  switch (source.tokens[i].kind) {
    case 'sign':
      return signMutations(source, i);
    case 'number':
      return constantMutations(source.at(i)).map((other) => ['constant', i, i, other]);
    case 'name':
      return [...nameMutations(source, i), ...callMutations(source, i), ...statementMutations(source, i)];
    default:
      return [];
  }
}

/** Whether an operator has only a right operand. */
const isPrefix = (source, i) =>
  /^(?:[([{,;:?=&|+\-*<>!~^%]|\.\.\.|return$|case$)/.test(source.at(i - 1)) || source.at(i - 1).endsWith('=');

function signMutations(source, i) {
  const text = source.at(i);
  if (text === '~' || text === '!') return [['operator', i, i, '']];
  if (isPrefix(source, i)) return text === '-' ? [['operator', i, i, '']] : [];
  return (SIGNS[text] ?? []).map((other) => ['operator', i, i, other]);
}

function constantMutations(text) {
  const [, digits, n] = /^(\d+)(n?)$/.exec(text) ?? [];
  if (digits === undefined) return [];
  return [`${BigInt(digits) + 1n}${n}`, digits === '0' ? `(-1${n})` : `${BigInt(digits) - 1n}${n}`];
}

function nameMutations(source, i) {
  const [before, text, after] = [source.at(i - 1), source.at(i), source.at(i + 1)];
  if (text === 'if')
    return ['(true)', '(false)'].map((other) => ['condition', i + 1, source.ends.get(i + 1), other]);
  if (text === 'case') return [['case', i + 1, i + 1, 'Symbol()']];
  if (text === 'true' || text === 'false') return [['constant', i, i, String(text === 'false')]];
  // An entry of a table at the top of a module.
  if (after === ':' && source.depths[i] === 1 && '{,'.includes(before)) return [['case', i, i, `$${text}`]];
  const other = OTHER.get(text);
  const isUse = before === '.' || before === '?.' || after === '(';
  return other && isUse && after !== ':' && source.names.has(other) ? [['swap', i, i, other]] : [];
}

function callMutations(source, i) {
  const [before, text, after] = [source.at(i - 1), source.at(i), source.at(i + 1)];
  const end = source.ends.get(i + 1);
  if (after !== '(' || before === 'function' || source.at(end + 1) === '{') return [];
  if (before === '.' && text === 'need') return [['refinement', i, end, 'known']];
  if (before === '.' && text === 'track') return [['refinement', i - 1, end, '']];
  const unrefined = Object.hasOwn(UNREFINED, text) && UNREFINED[text];
  const first = before === '.' ? i - 2 : i;
  return unrefined ? [['refinement', first, end, unrefined(source.args(i + 1))]] : [];
}

/** A statement that does something is left out; so is one that refuses. */
function statementMutations(source, i) {
  const [before, text, after] = [source.at(i - 1), source.at(i), source.at(i + 1)];
  const begins = ';{}'.includes(before) || before === 'else' || source.conditionEnds.has(i - 1);
  if (!begins || KEYWORDS.has(text) || text.startsWith('#')) return [];
  const acts = text === 'throw' || /^(?:\.|\(|\[|=|[+\-|&]=|\+\+|--)$/.test(after);
  if (!acts || (after === '(' && source.at(source.ends.get(i + 1) + 1) === '{')) return [];
  const end = source.statementEnd(i);
  return end === undefined ? [] : [['statement', i, end, ';']];
}
