import { ServiceError } from '@causeway/errors';
import { GraphBuilder } from '@causeway/onnx-graph';
import { DeviceMemory, NativeBuffer, type Runtime, type Session, Tensor } from '@causeway/ort';
import type { Slots } from './slots.ts';

/** What computes where the slots are not in this process's memory. */
export class EngineDevice implements AsyncDisposable {
  /** ONNX Runtime's execution provider. */
  readonly provider: string;
  readonly memory: DeviceMemory;
  /** Keeps the device while memory of it is used. */
  readonly #session: Session;

  private constructor(provider: string, session: Session) {
    this.provider = provider;
    this.#session = session;
    this.memory = DeviceMemory.of(session, provider);
  }

  /** Starts the device. @throws ServiceError `provider_missing` or `runtime` with the provider's message. */
  static async open(runtime: Runtime, provider: string): Promise<EngineDevice> {
    const graph = new GraphBuilder('copy');
    graph.node('Identity', [graph.input('from', 'f32', ['n'])], { outputs: ['to'] });
    graph.output('to', 'f32', ['n']);
    const session = await runtime.createSession(graph.serialize(), { provider });
    try {
      return new EngineDevice(provider, session);
    } catch (error) {
      await session[Symbol.asyncDispose]();
      throw error;
    }
  }

  /**
   * Writes to every buffer of the slots: a device says only then that it had no room for one.
   * @throws ServiceError `resource_exhausted/runtime` with the provider's message
   */
  async touch(slots: Slots): Promise<void> {
    using zero = NativeBuffer.allocate(4);
    using from = Tensor.of(zero, 0, 'f32', [1]);
    for (const memory of slots.sections.flatMap(({ memories }) => memories)) {
      using to = Tensor.of(memory, 0, 'f32', [1]);
      using binding = this.#session.createBinding();
      binding.input('from', from).output('to', to);
      await this.#session.run(binding).catch((cause: unknown) => {
        const message = `the device has no room for slots of ${slots.byteLength} bytes: ${(cause as Error).message.trim()}`;
        throw new ServiceError(message, { code: 'resource_exhausted', reason: 'runtime', cause });
      });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.memory[Symbol.dispose]();
    await this.#session[Symbol.asyncDispose]();
  }
}
