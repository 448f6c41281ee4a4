/**
 * Memory of the device that a session's provider computes on.
 *
 * Invariants
 *  D1  A buffer is freed once, when it was disposed and no tensor or run holds it.
 *  D2  The allocator is released after the last of its buffers, and its session must outlive both.
 */
import { fail, ServiceError } from '@causeway/errors';
import { api } from './api.ts';
import { DeviceBuffer } from './device-buffer.ts';
import { Lifetime } from './lifetime.ts';
import { create, dimensions, takeMessage } from './native-call.ts';
import { type Session, sessionHandle } from './session.ts';

/** ONNX's number of bytes (uint8), what buffers are allocated as. */
const UINT8 = 2;
/** OrtDeviceAllocator, the first device, OrtMemTypeDefault. */
const PLAIN = { allocator: 0, device: 0, memory: 0 } as const;

/** A device's allocator, as one session has it. */
export class DeviceMemory implements Disposable {
  /** What a provider's memory is called, by the provider's name. */
  static readonly NAMES: Readonly<Record<string, string>> = { WebGpuExecutionProvider: 'WebGPU_Buf' };
  readonly #info: bigint;
  readonly #allocator: bigint;
  readonly #lifetime: Lifetime;

  private constructor(info: bigint, allocator: bigint) {
    this.#info = info;
    this.#allocator = allocator;
    this.#lifetime = new Lifetime("a device's memory", () => {
      api().ReleaseAllocator(allocator);
      api().ReleaseMemoryInfo(info);
    });
  }

  /**
   * The memory of the device on which a session of `provider` computes. Dispose it, and what was allocated, before the session.
   * @throws ServiceError `unimplemented/runtime` for a provider whose memory is not known, or `runtime` with ONNX Runtime's message
   */
  static of(session: Session, provider: string): DeviceMemory {
    const name = DeviceMemory.NAMES[provider];
    if (name === undefined) fail('unimplemented', 'runtime', `the memory of ${provider} is not known here`);
    const ort = api();
    const doing = `reaching the memory of ${provider}`;
    const info = create(doing, (out) => ort.CreateMemoryInfo(name, PLAIN.allocator, PLAIN.device, PLAIN.memory, out));
    try {
      return new DeviceMemory(
        info,
        create(doing, (out) => ort.CreateAllocator(sessionHandle(session), info, out)),
      );
    } catch (error) {
      ort.ReleaseMemoryInfo(info);
      throw error;
    }
  }

  /**
   * A buffer of the device. What it holds at first is not defined. Some drivers only say when it is used that there was no room.
   * @throws ServiceError `resource_exhausted/runtime` with the provider's message
   */
  allocate(byteLength: number): DeviceBuffer {
    if (!Number.isSafeInteger(byteLength) || byteLength <= 0)
      fail('invalid_argument', 'runtime', `cannot allocate ${byteLength} bytes of a device's memory`);
    const hold = this.#lifetime.hold();
    const out: unknown[] = [null];
    const message = takeMessage(api().CreateTensorAsOrtValue(this.#allocator, dimensions([byteLength]), 1, UINT8, out));
    if (message === undefined) return new DeviceBuffer(out[0] as bigint, this.#info, byteLength, hold);
    hold[Symbol.dispose]();
    throw noMemory(byteLength, message);
  }

  /** Releases the allocator, or lets the last buffer release it. Idempotent. */
  [Symbol.dispose](): void {
    this.#lifetime.end();
  }
}

function noMemory(byteLength: number, message: string): ServiceError {
  const text = `the device has no room for ${byteLength} bytes: ${message}`;
  return new ServiceError(text, { code: 'resource_exhausted', reason: 'runtime' });
}
