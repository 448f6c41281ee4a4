/** For measurements of this package: parts that the public door does not show. */
export { slotFunction } from './api.ts';
export { check, create } from './native-call.ts';
export { sessionHandle } from './session.ts';
export { nativeValue } from './tensor.ts';
