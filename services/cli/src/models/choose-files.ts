/** Which files of a repository make a checkpoint that can be served. */
import { fail } from '@causeway/errors';
import type { HubFile } from './hub-repository.ts';
import { formatHubRef, type HubRef } from './hub-ref.ts';

export interface Selection {
  readonly files: readonly HubFile[];
  /** What to open, relative to the folder: a GGUF file, or `.`. */
  readonly checkpoint: string;
}

const WEIGHTS = /^model(-\d{5}-of-\d{5})?\.safetensors$/;
const INDEX = 'model.safetensors.index.json';
const BESIDE = ['config.json', 'generation_config.json', 'tokenizer.json', 'tokenizer_config.json', 'chat_template.jinja'];
const LICENCE = /^(LICENSE|LICENCE|NOTICE|USE_POLICY)(\.md|\.txt)?$/i;
const PART = /-\d{5}-of-\d{5}\.gguf$/i;
/** Taken from a repository that has several, as llama.cpp and Ollama do. */
const USUAL = /[.-]Q4_K_M\.gguf$/i;

/**
 * The file that was asked for; else safetensors with what belongs to them; else the only GGUF file, or the Q4_K_M one of several.
 * @throws ServiceError `not_found`, `unsupported_format` that says what there is
 */
export function chooseFiles(ref: HubRef, files: readonly HubFile[]): Selection {
  const name = formatHubRef(ref);
  if (ref.file !== undefined) {
    const file = files.find(({ path }) => path === ref.file);
    if (file === undefined) return fail('not_found', 'not_found', `${name}: there is no such file; ${whatThereIs(files)}`);
    if (!file.path.endsWith('.gguf'))
      fail(
        'invalid_argument',
        'unsupported_format',
        `${name}: single files are .gguf; for safetensors name the repository alone`,
      );
    return single(name, file);
  }
  const weights = files.filter(({ path }) => WEIGHTS.test(path) || path === INDEX);
  if (weights.some(({ path }) => path !== INDEX)) return safetensors(name, weights, files);
  const ggufs = files.filter(({ path }) => path.toLowerCase().endsWith('.gguf'));
  const whole = ggufs.filter(({ path }) => !PART.test(path));
  const file = whole.length === 1 ? whole[0] : whole.find(({ path }) => USUAL.test(path));
  if (file !== undefined) return single(name, file);
  if (whole.length > 1)
    fail(
      'invalid_argument',
      'unsupported_format',
      `${name} has several GGUF files: name one, as in ${name}/FILE; ${whatThereIs(files)}`,
    );
  return fail(
    'unimplemented',
    'unsupported_format',
    `${name} has nothing that can be served: neither model.safetensors nor a GGUF file in one part; ${whatThereIs(files)}`,
  );
}

function single(name: string, file: HubFile): Selection {
  if (PART.test(file.path))
    fail(
      'unimplemented',
      'unsupported_format',
      `${name}: ${file.path} is one part of a split GGUF; files in one part are served`,
    );
  return { files: [file], checkpoint: file.path };
}

function safetensors(name: string, weights: readonly HubFile[], files: readonly HubFile[]): Selection {
  const beside = files.filter(({ path }) => BESIDE.includes(path) || LICENCE.test(path));
  for (const needed of ['config.json', 'tokenizer.json']) {
    if (!beside.some(({ path }) => path === needed))
      fail('unimplemented', 'unsupported_format', `${name} has safetensors but no ${needed}, which is needed to serve them`);
  }
  // Small ones first: what is wrong with them shows before gigabytes have come.
  return { files: [...beside, ...weights].sort((a, b) => a.size - b.size), checkpoint: '.' };
}

function whatThereIs(files: readonly HubFile[]): string {
  const weights = files.filter(({ path }) => /\.(gguf|safetensors|bin|pth|pt|onnx)$/i.test(path)).map(({ path }) => path);
  if (weights.length === 0) return 'it holds no weights';
  return `it holds ${weights.slice(0, 20).join(', ')}${weights.length > 20 ? `, and ${weights.length - 20} more` : ''}`;
}
