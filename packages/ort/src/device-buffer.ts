import { api } from './api.ts';
import { live } from './diagnostics.ts';
import { Lifetime } from './lifetime.ts';
import { create } from './native-call.ts';

/** One buffer of a device; made by `DeviceMemory.allocate`. Only graphs read and write it. */
export class DeviceBuffer implements Disposable {
  /** The device's handle: no address of this process. */
  readonly address: bigint;
  /** OrtMemoryInfo of the device, for tensors. */
  readonly info: bigint;
  readonly byteLength: number;
  readonly #lifetime: Lifetime;

  constructor(value: bigint, info: bigint, byteLength: number, memory: Disposable) {
    this.info = info;
    this.byteLength = byteLength;
    this.address = create('reading a device buffer', (out) => api().GetTensorMutableData(value, out));
    live.deviceBytes += byteLength;
    this.#lifetime = new Lifetime("a device's buffer", () => {
      api().ReleaseValue(value);
      live.deviceBytes -= byteLength;
      memory[Symbol.dispose]();
    });
  }

  /** Whether the owner is done with it; it may still be there for someone who holds it. */
  get disposed(): boolean {
    return this.#lifetime.ended;
  }

  /** Keeps the buffer while native code uses it, even when it is disposed meanwhile. Dispose the result to end that. */
  retain(): Disposable {
    return this.#lifetime.hold();
  }

  /** Frees the buffer, or lets the last holder free it. Idempotent. */
  [Symbol.dispose](): void {
    this.#lifetime.end();
  }
}
