import { ArgumentError, EngineError, VerifierError } from '../errors.js';
import { type Contract, kernelVerdict, type Program, verify } from '../index.js';
import {
  CONTRACT_FLAGS,
  CONTRACT_HELP,
  CONTRACT_LISTS,
  CONTRACT_USAGE,
  CONTRACT_VALUES,
  contractOption,
} from './contracts.js';
import { type Command, EXIT } from './options.js';
import type { Output } from './output.js';
import { FILE_HELP, FILE_USAGE, FILE_VALUES, limitOption, readProgramFile } from './programs.js';

const WAYS = ['map values', 'global function'] as const;

export const verifyCommand: Command = {
  name: 'verify',
  summary: 'prove a BPF program safe, or say why not',
  usage: `usage: bpf-unpack verify ${FILE_USAGE} ${CONTRACT_USAGE}
                          [--max-instructions N] [--kernel] [--json] [--log]`,
  help: `Says whether the program does, whatever its input, only what the contract allows. Exits with 0 if so, with 1 if not.

${FILE_HELP}
${CONTRACT_HELP}
  --max-instructions N
                   how many instructions are walked at most, over all paths (default: a million)
  --kernel         asks the Linux kernel as well, where it lets us: with memory as the values of maps, and with the
                   program as a global function of pointers to structs (which knows neither access rights nor ranges)
  --log            what was walked before a refusal, with what the registers held; the kernel's log, too
  --json           the same as one JSON object`,
  values: [...FILE_VALUES, ...CONTRACT_VALUES, 'max-instructions'],
  lists: CONTRACT_LISTS,
  flags: [...CONTRACT_FLAGS, 'kernel', 'json', 'log'],
  async run(line, output) {
    const contract = contractOption(line);
    const maxInstructions = limitOption(line);
    const program = readProgramFile(line);
    const withLog = line.flags.has('log');
    try {
      const verdict = verdictHere(program, contract, maxInstructions, withLog);
      const ways = line.flags.has('kernel') ? WAYS : [];
      const kernel = ways.map((as) => verdictThere(program, contract, as, withLog));
      if (line.flags.has('json')) await output.print(jsonText(verdict, kernel));
      else await printVerdicts([verdict, ...kernel], output);
      return verdict.json.accepted ? EXIT.ok : EXIT.unreadable;
    } catch (error) {
      if (error instanceof ArgumentError) line.fail(error.message);
      throw error;
    }
  },
};

/** What is printed in JSON of a verdict, and what is printed of it without. */
interface Verdict {
  readonly json: {
    readonly accepted?: boolean;
    readonly log?: string;
    readonly [name: string]: unknown;
  };
  readonly text: string;
}

function verdictHere(
  program: Program,
  contract: Contract,
  maxInstructions: number | undefined,
  withLog: boolean,
): Verdict {
  try {
    const limits = maxInstructions === undefined ? {} : { maxInstructions };
    const { needsAlignment } = verify(program, contract, limits);
    const condition = needsAlignment ? ' on memory that is aligned to 8 bytes' : '';
    return {
      json: { accepted: true, needsAlignment },
      text: `accepted: whatever its input, it does only what the contract allows${condition}`,
    };
  } catch (error) {
    if (!(error instanceof VerifierError)) throw error;
    return { json: refused(error, withLog), text: `refused: ${error.message} [${error.code}]` };
  }
}

function verdictThere(
  program: Program,
  contract: Contract,
  as: (typeof WAYS)[number],
  log: boolean,
): Verdict {
  const whose = `Linux, as ${as}:`;
  try {
    const verdict = kernelVerdict(program, contract, { as, log });
    const { firstSlot } = verdict;
    const logNote = log ? `; its log has the first instruction as ${firstSlot}` : '';
    if (!verdict.accepted) {
      const { error } = verdict;
      return {
        json: { as, ...refused(error, log), ...(log && { firstSlot }) },
        text: `${whose} refused: instruction ${error.insn}: ${error.message}${logNote}`,
      };
    }
    const { walked, jitBytes, loadMicroseconds } = verdict;
    return {
      json: {
        as,
        accepted: true,
        walked,
        jitBytes,
        loadMicroseconds,
        ...(log && { log: verdict.log, firstSlot }),
      },
      text: `${whose} accepted: ${walked} instructions walked, ${jitBytes} bytes of machine code, ${loadMicroseconds.toFixed(0)} µs${logNote}`,
    };
  } catch (error) {
    if (!(error instanceof EngineError)) throw error;
    const { code, message } = error;
    return { json: { as, error: { code, message } }, text: `${whose} no verdict: ${message} [${code}]` };
  }
}

function refused(error: VerifierError, withLog: boolean): Verdict['json'] {
  const { code, insn, message, log } = error;
  return { accepted: false, error: { code, insn, message }, ...(withLog && { log }) };
}

async function printVerdicts(verdicts: readonly Verdict[], output: Output): Promise<void> {
  for (const { text, json } of verdicts) {
    await output.print(text);
    if (json.log) await output.print(json.log.trimEnd().replace(/^/gm, '    '));
  }
}

function jsonText({ json }: Verdict, kernel: readonly Verdict[]): string {
  return JSON.stringify({ ...json, ...(kernel.length > 0 && { kernel: kernel.map((each) => each.json) }) });
}
