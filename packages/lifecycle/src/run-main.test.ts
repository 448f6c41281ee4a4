import { startProcess, type ServiceProcess } from '@causeway/testkit';
import { expect, test } from 'vitest';
import { Lifecycle } from './state.ts';

const INDEX = new URL('./index.ts', import.meta.url).href;
const ERRORS = new URL('../../errors/src/index.ts', import.meta.url).href;

/** A process whose main is `body`, with `ctx`, `say(...)` and a timer that keeps it alive. */
function main(body: string): ServiceProcess {
  const script = `
    import { runMain, sleep } from '${INDEX}';
    import { fail } from '${ERRORS}';
    const say = (state) => console.log(JSON.stringify({ state }));
    await runMain(process, async (ctx) => {
      const alive = setInterval(() => {}, 1000);
      ctx.configure({ log: { info: (f, m) => console.log(JSON.stringify({ ...f, msg: m })), fatal: (f, m) => console.log(JSON.stringify({ fatal: m, error: f.err?.message })) } });
      try { ${body} } finally { clearInterval(alive); }
    });`;
  return startProcess({ nodeArgs: ['--input-type=module-typescript', '-e'], script, cwd: import.meta.dirname });
}
const ready = `ctx.lifecycle.ready(); say('up'); await ctx.lifecycle.drainRequested();`;

test('states go forwards only, and every listener hears each', () => {
  const lifecycle = new Lifecycle();
  const heard: string[] = [];
  using _listener = lifecycle.onChange((state, reason) => void heard.push(`${state}: ${reason}`));
  expect([lifecycle.ready(), lifecycle.ready(), lifecycle.drain('SIGTERM'), lifecycle.ready(), lifecycle.drain('again')]).toEqual(
    [true, false, true, false, false],
  );
  expect(lifecycle.drainSignal.reason).toMatchObject({ reason: 'draining', message: 'the process is stopping (SIGTERM)' });
  lifecycle.stop('done');
  expect(heard).toEqual(['ready: started', 'draining: SIGTERM', 'stopped: done']);
  const early = new Lifecycle();
  early.stop('no start');
  expect([early.state, early.drainSignal.aborted]).toEqual(['stopped', true]);
});

test.each(['TERM', 'INT'] as const)('SIG%s drains and the process ends with 0', async (signal) => {
  await using child = main(`${ready} say('drained');`);
  await child.waitForLine(/"up"/);
  child.signal(signal);
  expect(await child.exited).toEqual({ code: 0, signal: null });
  expect(child.logs().map((line) => line['state'])).toEqual(['ready', 'up', 'draining', 'drained', 'stopped']);
});

test('a signal during the start ends what the start waits for, with exit code 0', async () => {
  await using child = main(`say('starting'); await sleep(60000, ctx.lifecycle.drainSignal);`);
  await child.waitForLine(/"starting"/);
  child.signal('TERM');
  expect(await child.exited).toEqual({ code: 0, signal: null });
});

test('when the drain time is over, work is told to end', async () => {
  await using child = main(
    `ctx.configure({ drainMs: 50 }); ${ready} await sleep(60000, ctx.forceSignal).catch((e) => say(e.reason));`,
  );
  await child.waitForLine(/"up"/);
  child.signal('TERM');
  expect(await child.exited).toEqual({ code: 0, signal: null });
  expect(child.logs().map((line) => line['state'])).toEqual(['ready', 'up', 'draining', 'draining', 'stopped']);
});

test('a second signal exits at once', async () => {
  await using child = main(`${ready} say('draining now'); await sleep(60000);`);
  await child.waitForLine(/"up"/);
  child.signal('INT');
  await child.waitForLine(/draining now/);
  child.signal('INT');
  expect(await child.exited).toEqual({ code: 130, signal: null });
});

test('bad configuration is printed and exits with 2', async () => {
  await using child = main(`fail('invalid_argument', 'bad_config', '1 problem:\\n  - the port');`);
  expect(await child.exited).toEqual({ code: 2, signal: null });
  expect(child.lines).toContain('  - the port');
});

test.each([
  ['main throws', `throw new Error('no luck');`, 'main failed'],
  ['a promise nobody awaits rejects', `void Promise.reject(new Error('no luck')); await sleep(60000);`, 'unhandled rejection'],
  ['a callback throws', `setImmediate(() => { throw new Error('no luck'); }); await sleep(60000);`, 'uncaught exception'],
  [
    'a background task crashes',
    `void ctx.tasks.spawn('pump', () => Promise.reject(new Error('no luck'))); await ctx.lifecycle.drainRequested();`,
    'background task pump failed',
  ],
])('%s: logged fatal, exit code 1', async (_name, body, where) => {
  await using child = main(body);
  expect(await child.exited).toEqual({ code: 1, signal: null });
  expect(child.logs().find((line) => line['fatal'] !== undefined)).toEqual({ fatal: where, error: 'no luck' });
});
