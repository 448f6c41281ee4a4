/** `host:port` as URLs and gRPC targets have it: an IPv6 address stands in brackets. */
export function hostPort(host: string, port: number): string {
  return `${host.includes(':') && !host.startsWith('[') ? `[${host}]` : host}:${port}`;
}
