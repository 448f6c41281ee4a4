import { callsInFlight } from './native-call.ts';

/** Native objects that exist in this thread: what leak tests compare. */
export interface Diagnostics {
  runtimes: number;
  sessions: number;
  bindings: number;
  tensors: number;
  buffers: number;
  /** Address space of the buffers. */
  mappedBytes: number;
  /** Memory of devices. */
  deviceBytes: number;
  /** Native calls on libuv's pool that have not returned. */
  callsInFlight: number;
}

/** Counted where objects are made and freed. */
export const live = { runtimes: 0, sessions: 0, bindings: 0, tensors: 0, buffers: 0, mappedBytes: 0, deviceBytes: 0 };

/** Counts of what exists now. Everything is zero when everything was disposed and no run is under way. */
export function diagnostics(): Diagnostics {
  return { ...live, callsInFlight: callsInFlight() };
}

/** NativeBuffers that are mapped now. */
export function liveBuffers(): number {
  return live.buffers;
}

/** Tensors that ONNX Runtime still has. */
export function liveTensors(): number {
  return live.tensors;
}
