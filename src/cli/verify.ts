import { ArgumentError, EngineError, ProgramError, VerifierError } from '../errors.js';
import {
  type Contract,
  contractText,
  disassemble,
  factText,
  kernelVerdict,
  type Program,
  type VerifyOptions,
  verifierLog,
  verify,
} from '../index.js';
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
import { FILE_HELP, FILE_USAGE, FILE_VALUES, limitOption, readHelpers, readProgramFile } from './programs.js';

const WAYS = ['map values', 'global function'] as const;

export const verifyCommand: Command = {
  name: 'verify',
  summary: 'prove a BPF program safe, or say why not',
  usage: `usage: bpf-unpack verify ${FILE_USAGE} ${CONTRACT_USAGE}
                          [--helpers MODULE] [--max-instructions N] [--kernel] [--json] [--log] [--facts]`,
  help: `Says whether the program does, whatever its input, only what the contract allows. Exits with 0 if so, with 1 if not.

${FILE_HELP}
${CONTRACT_HELP}
  --helpers MODULE an ES module whose default export has the helper functions by number: { 1: { args, returns?, call } }
  --max-instructions N
                   how many instructions are walked at most, over all paths (default: a million)
  --kernel         asks the Linux kernel as well, where it lets us: with memory as the values of maps, and with the
                   program as a global function of pointers to structs (which knows neither access rights nor ranges)
  --log            what was walked, with what the registers held, as in the Linux verifier's log; and that log, too
  --facts          the program with what was proven of each instruction: where it goes in memory, what registers hold
  --json           the verdict and the log as one JSON object`,
  values: [...FILE_VALUES, ...CONTRACT_VALUES, 'helpers', 'max-instructions'],
  lists: CONTRACT_LISTS,
  flags: [...CONTRACT_FLAGS, 'kernel', 'json', 'log', 'facts'],
  async run(line, output) {
    const contract = { ...contractOption(line), helpers: await readHelpers(line.values.helpers) };
    const maxInstructions = limitOption(line);
    const limits = maxInstructions === undefined ? {} : { maxInstructions };
    const program = readProgramFile(line);
    const withLog = line.flags.has('log');
    if (line.flags.has('facts') && line.flags.has('json')) line.fail('--facts and --json do not go together');
    try {
      const verdict = verdictHere(program, contract, limits, withLog);
      const ways = line.flags.has('kernel') ? WAYS : [];
      const kernel = ways.map((as) => verdictThere(program, contract, as, withLog));
      if (line.flags.has('json')) await output.print(jsonText(verdict, kernel));
      else await printVerdicts([verdict, ...kernel], output);
      if (line.flags.has('facts') && verdict.json.accepted)
        await output.print(factsOf(program, contract, limits));
      return verdict.json.accepted ? EXIT.ok : EXIT.unreadable;
    } catch (error) {
      if (error instanceof ArgumentError) line.fail(error.message);
      throw error;
    }
  },
};

/** The program with what was proven of each instruction. */
function factsOf(program: Program, contract: Contract, limits: VerifyOptions): string {
  const { facts } = verify(program, contract, { ...limits, facts: true });
  return disassemble(program, { comment: (slot) => factText(facts![slot]) }).trimEnd();
}

/** What is printed in JSON of a verdict, and what is printed of it without. */
interface Verdict {
  readonly json: {
    readonly accepted?: boolean;
    readonly log?: string;
    readonly [name: string]: unknown;
  };
  readonly text: string;
}

function verdictHere(program: Program, contract: Contract, limits: VerifyOptions, withLog: boolean): Verdict {
  const log = withLog ? { log: verifierLog(program, contract, limits) } : {};
  try {
    const { needsAlignment } = verify(program, contract, limits);
    const promises = contractText(contract);
    return {
      json: { accepted: true, needsAlignment, contract: promises, ...log },
      text: acceptedText(promises, needsAlignment),
    };
  } catch (error) {
    if (!(error instanceof VerifierError)) throw error;
    return { json: { accepted: false, error: error.report, ...log }, text: `refused: ${error.text}` };
  }
}

function acceptedText(contract: readonly string[], needsAlignment: boolean): string {
  const where = needsAlignment ? ' on memory that is aligned to 8 bytes' : '';
  const promises = contract.map((line) => `  ${line}\n`).join('');
  return `accepted: whatever its input, it does only what it may${where}\n\nWhat the program may rely on:\n${promises}`;
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
      const { code, insn, message: reason } = verdict.error;
      return {
        json: {
          as,
          accepted: false,
          error: { code, insn, reason },
          ...(log && { log: verdict.log, firstSlot }),
        },
        text: `${whose} refused: instruction ${insn}: ${reason}${logNote}`,
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
    if (!(error instanceof EngineError || error instanceof ProgramError)) throw error;
    const { code, message } = error;
    return { json: { as, error: { code, message } }, text: `${whose} no verdict: ${message} [${code}]` };
  }
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
