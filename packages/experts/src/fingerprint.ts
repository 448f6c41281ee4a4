/**
 * Identity of a model's experts, for shards that read only their own: SHA-256 over architecture, precision, sizes, the names, types and
 * shapes of every MoE tensor, and the first page of the router, of the first and of the last expert of each layer. Not a hash of all
 * weights (that would read the whole checkpoint): checkpoints that differ only inside other experts are not told apart.
 */
import { createHash } from 'node:crypto';
import type { Checkpoint } from '@causeway/model-files';
import { type ExpertShape, namedTensors, type Precision } from '@causeway/models';

const SAMPLE_BYTES = 4096;
const PARTS = ['gate_proj', 'up_proj', 'down_proj'];

/** Lower-case hex. @throws ServiceError as `namedTensors` does. */
export function expertFingerprint(checkpoint: Checkpoint, shape: ExpertShape, precision: Precision): string {
  const hash = createHash('sha256');
  const tensors = namedTensors(checkpoint);
  hash.update(JSON.stringify([1, precision, shape]));
  for (const layer of shape.layers) {
    const name = `model.layers.${layer}.mlp`;
    const table = Array.from({ length: shape.experts }, (_, expert) =>
      PARTS.map((part) => {
        const info = tensors.tensors.get(`${name}.experts.${expert}.${part}.weight`);
        return [info?.type, info?.shape];
      }),
    );
    hash.update(JSON.stringify(table));
    for (const expert of new Set([0, shape.experts - 1])) {
      for (const part of PARTS) {
        sample(`${name}.experts.${expert}.${part}.weight`);
        sample(`${name}.experts.${expert}.${part}.weight_scale`);
      }
    }
    sample(`${name}.gate.weight`);
  }
  return hash.digest('hex');

  function sample(name: string): void {
    if (!tensors.tensors.has(name)) return;
    const { buffer, offset, byteLength } = tensors.data(name);
    hash.update(buffer.bytes(offset, Math.min(SAMPLE_BYTES, byteLength)));
  }
}
