/** Writes src/gen/kernels.wasm: the loops of kernels/*.ts, compiled by AssemblyScript. Run by `pnpm generate`. */
import { readdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { main } from 'assemblyscript/asc';

const folder = fileURLToPath(new URL('../kernels/', import.meta.url));
const sources = readdirSync(folder)
  .filter((name) => name.endsWith('.ts'))
  .sort();
const options = ['--enable', 'simd', '--runtime', 'stub', '-O3', '--noAssert', '--importMemory', '--baseDir', folder];
let binary: Uint8Array | undefined;
const complaints: string[] = [];
const { error } = await main([...sources, '--outFile', 'kernels.wasm', ...options], {
  stderr: { write: (text: string) => void complaints.push(text) },
  writeFile: (name: string, contents: Uint8Array | string) => {
    if (name === 'kernels.wasm' && typeof contents !== 'string') binary = contents;
  },
});
if (error !== null || binary === undefined) throw new Error(`the kernels don't compile:\n${complaints.join('')}`);
writeFileSync(fileURLToPath(new URL('../src/gen/kernels.wasm', import.meta.url)), binary);
