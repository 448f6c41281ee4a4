export { createChannelPool } from './channel-pool.ts';
export type { ChannelPool, ChannelPoolOptions, RpcCallOptions, RpcClient } from './channel-pool.ts';
export { fromClientError, toServerError } from './error-status.ts';
export { MAX_MESSAGE_BYTES } from './limits.ts';
export type { TransportOptions } from './limits.ts';
export { checkedRequestId, REQUEST_ID_KEY } from './metadata.ts';
export { createRpcServer, rpcService } from './server.ts';
export type { RpcServer, RpcServerOptions, RpcService } from './server.ts';
export type { RpcCallExtension, RpcContext, RpcLogger } from './server-call.ts';
