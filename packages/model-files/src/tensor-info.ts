/** A tensor as the checkpoint stores it. */
export interface TensorInfo {
  /** Hugging Face's name, also for GGUF. */
  name: string;
  /** F32, F16, BF16, Q4_0, Q4_1, Q8_0, I64, ...; `ggml type <number>` when the GGUF type has no known size. */
  type: string;
  /** Outermost dimension first. */
  shape: readonly number[];
  /** 0 when the size of the type is not known. */
  byteLength: number;
}

/** A tensor and where its bytes are in the file. */
export interface LocatedTensor extends TensorInfo {
  /** Bytes from the start of the file. */
  fileOffset: number;
}

/** The first two tensors that share bytes, or undefined. Empty tensors share none. */
export function overlapping(tensors: readonly LocatedTensor[]): readonly [LocatedTensor, LocatedTensor] | undefined {
  const ordered = tensors.filter((tensor) => tensor.byteLength > 0).sort((a, b) => a.fileOffset - b.fileOffset);
  for (let i = 1; i < ordered.length; i++) {
    const before = ordered[i - 1] as LocatedTensor;
    const after = ordered[i] as LocatedTensor;
    if (before.fileOffset + before.byteLength > after.fileOffset) return [before, after];
  }
  return undefined;
}
