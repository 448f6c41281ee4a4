export type { Binding } from './binding.ts';
export { liveBuffers, NativeBuffer, viewAddress } from './memory.ts';
export { Runtime } from './runtime.ts';
export type { RuntimeOptions, SessionOptions } from './runtime.ts';
export type { Session } from './session.ts';
export { ELEMENT_BYTES, liveTensors, Tensor } from './tensor.ts';
export type { ElementType } from './tensor.ts';
