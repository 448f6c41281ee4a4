import { createServer, type AddressInfo } from 'node:net';
import { expect, test } from 'vitest';
import { advertisedHost, checkReachable } from './advertise.ts';

const ip = (address: string, internal = false) => ({
  address,
  internal,
  family: 'IPv4' as const,
  netmask: '',
  mac: '',
  cidr: null,
});
const lo = { lo: [ip('127.0.0.1', true)] };
const one = { ...lo, eth0: [ip('10.0.0.5')] };
const two = { ...one, eth1: [ip('10.1.0.5')], eth2: [ip('169.254.1.1')] };

test.each([
  ['a named address wins', { host: '0.0.0.0', advertiseHost: 'worker.example' }, two, 'worker.example'],
  ['a named interface', { host: '0.0.0.0', advertiseInterface: 'eth1' }, two, '10.1.0.5'],
  ['the address that is listened on', { host: '10.0.0.5' }, two, '10.0.0.5'],
  ['of a wildcard the only interface', { host: '0.0.0.0' }, one, '10.0.0.5'],
])('registered is %s', (_name, choice, interfaces, expected) => {
  expect(advertisedHost(choice, interfaces)).toBe(expected);
});

test.each([
  ['several interfaces', { host: '0.0.0.0' }, two, /several addresses.*eth0 \(10\.0\.0\.5\), eth1.*CAUSEWAY_ADVERTISE_HOST/],
  ['no interface', { host: '0.0.0.0' }, lo, /no address.*none/],
  ['an interface that is not there', { host: '0.0.0.0', advertiseInterface: 'bond0' }, two, /"bond0".*eth0/],
])('%s: an error that says what there is', (_name, choice, interfaces, message) => {
  expect(() => advertisedHost(choice, interfaces)).toThrow(message);
});

test('an address that leads here is accepted, one that does not is refused', async () => {
  const server = createServer();
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const { port } = server.address() as AddressInfo;
  await checkReachable('gRPC', '127.0.0.1', port);
  await new Promise((done) => server.close(done));
  await expect(checkReachable('gRPC', '127.0.0.1', port)).rejects.toMatchObject({ reason: 'bad_config' });
  await expect(checkReachable('gRPC', 'no-such-host.invalid', port)).rejects.toThrow('no-such-host.invalid');
});
