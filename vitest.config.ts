import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    testTimeout: 120_000,
    pool: 'forks',
    // On two cores vitest would take one: 500 s instead of 260.
    maxWorkers: Math.max(2, availableParallelism() - 1),
  },
});
