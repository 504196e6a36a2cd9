// What a fresh clone needs before it can run: the packages of the lock file, and dist/.
// Does nothing where both are newer than what they are made from.
import { execFileSync } from 'node:child_process';
import { readdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const modified = (path) => statSync(join(root, path), { throwIfNoEntry: false })?.mtimeMs ?? 0;
const newest = (folder) =>
  Math.max(
    ...readdirSync(join(root, folder), { recursive: true }).map((file) => modified(join(folder, file))),
    modified(folder),
  );

if (modified('node_modules/.package-lock.json') < modified('package-lock.json')) {
  execFileSync('npm', ['ci', '--no-audit', '--no-fund'], {
    cwd: root,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
}
if (
  modified('dist/cli.js') <
  Math.max(newest('src'), modified('tsconfig.build.json'), modified('tsconfig.json'))
) {
  execFileSync(process.execPath, ['scripts/build.mjs'], { cwd: root, stdio: 'inherit' });
}
