// What a fresh clone needs before it can run: the packages of the lock file, and dist/.
// Does nothing where both are newer than what they are made from.
import { execFileSync } from 'node:child_process';
import { lstatSync, readdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const modified = (path) => statSync(join(root, path), { throwIfNoEntry: false })?.mtimeMs ?? 0;
const newest = (folder) =>
  Math.max(
    ...readdirSync(join(root, folder), { recursive: true }).map((file) => modified(join(folder, file))),
    modified(folder),
  );

/** Runs a command, and ends with its exit code if it fails: it has said why itself. */
function run(command, args, stdout) {
  try {
    execFileSync(command, args, { cwd: root, stdio: ['ignore', stdout, 'inherit'] });
  } catch (error) {
    console.error(`setup: ${[command, ...args].join(' ')} failed`);
    process.exit(error.status ?? 1);
  }
}

// A node_modules that is a link is somebody else's, and npm ci would empty it.
const linked = lstatSync(join(root, 'node_modules'), { throwIfNoEntry: false })?.isSymbolicLink();
if (!linked && modified('node_modules/.package-lock.json') < modified('package-lock.json')) {
  run('npm', ['ci', '--no-audit', '--no-fund'], 'ignore');
}
if (
  modified('dist/cli.js') <
  Math.max(newest('src'), modified('tsconfig.build.json'), modified('tsconfig.json'))
) {
  run(process.execPath, ['scripts/build.mjs'], 'inherit');
}
