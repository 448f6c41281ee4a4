/** Program of plugin-probe.ts: loads the plug-in library that is its argument as a worker would. That it ends by itself is all that counts. */
import { createEnvironment } from './environment.ts';
import { PluginLibraries } from './provider.ts';

const FATAL = 4;
const [, , library = ''] = process.argv;
try {
  new PluginLibraries(createEnvironment(1, false, FATAL)).register(library);
} catch {
  // the worker is told the same, and says it
}
process.exitCode = 0;
