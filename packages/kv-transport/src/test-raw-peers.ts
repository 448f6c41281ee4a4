/** Peers that speak the wire by hand, for tests of what a wrong, hostile or unlucky peer does. */
import { randomBytes } from 'node:crypto';
import { crc32c } from '@node-rs/crc32';
import { CODEC_NUMBERS, type KvCodec } from '@causeway/kv';
import { eventually } from '@causeway/testkit';
import { connect, type NatsConnection } from 'nats';
import { partsDigest } from './codec-tally.ts';
import {
  decodeReceiverControl,
  decodeSenderControl,
  encodeReceiverControl,
  encodeSenderControl,
  type ReceiverMessage,
  type SenderMessage,
} from './control.ts';
import { FRAME_HEADER_BYTES, writeFrameHeader } from './frame.ts';
import { PartTable } from './part-table.ts';
import { controlWildcard, frameSubject, frameWildcard, receiverControlSubject, senderControlSubject } from './subjects.ts';
import type { Ticket } from './types.ts';
import { descriptorToProto } from './wire-types.ts';

type MessageOf<K extends ReceiverMessage['$case']> = Extract<ReceiverMessage, { $case: K }>;

/** What may be wrong with a forged frame. */
export interface Forgery {
  epoch?: number;
  transferId?: string;
  object?: number;
  part?: number;
  codec?: KvCodec;
  body?: Uint8Array;
  rawBytes?: number;
  bodyCrc?: number;
  rawCrc?: number;
  /** Changes the finished frame. The header checksum is made right again unless `keepHeaderCrc`. */
  change?: (frame: Buffer) => Buffer | void;
  keepHeaderCrc?: boolean;
}

/** A sender by hand: says what it is told to say, publishes what it is told to publish. */
export class RawSender implements AsyncDisposable {
  readonly self = { workerId: 'raw', incarnation: randomBytes(4).toString('hex') };
  readonly heard: ReceiverMessage[] = [];
  readonly ticket: Ticket;
  readonly table: PartTable;
  readonly raw: Uint8Array;
  readonly connection: NatsConnection;

  private constructor(connection: NatsConnection, ticket: Ticket, partBytes: number) {
    this.connection = connection;
    this.ticket = ticket;
    this.table = new PartTable(ticket.descriptor, ticket.objects, partBytes);
    this.raw = randomBytes(this.table.totalBytes);
  }

  static async connect(servers: string, ticket: Ticket, partBytes = ticket.maxPartBytes): Promise<RawSender> {
    const sender = new RawSender(await connect({ servers }), ticket, partBytes);
    sender.connection.subscribe(controlWildcard(sender.self), {
      callback: (_error, message) => void sender.heard.push(decodeReceiverControl(message.data).message),
    });
    await sender.connection.flush();
    return sender;
  }

  say(message: SenderMessage, epoch = this.ticket.epoch): void {
    const { transferId } = this.ticket;
    this.connection.publish(receiverControlSubject(this.ticket, transferId), encodeSenderControl({ transferId, epoch, message }));
  }

  open(change: Partial<Extract<SenderMessage, { $case: 'open' }>['value']> = {}): void {
    this.say({
      $case: 'open',
      value: {
        ...this.self,
        partBytes: this.table.partBytes,
        fingerprint: { ...this.ticket.fingerprint },
        descriptor: descriptorToProto(this.ticket.descriptor),
        chip: 'cpu',
        rttUs: 0,
        ...change,
      },
    });
  }

  /** Opens, offers everything and waits for credit. */
  async openAndOffer(): Promise<void> {
    this.open();
    this.progress();
    await eventually(() => (this.credit() > 0 ? true : undefined), { what: 'credit' });
  }

  progress(publishedBytes = 0, finishedLayers = 0): void {
    this.say({
      $case: 'progress',
      value: {
        offeredBytes: BigInt(this.table.totalBytes),
        publishedBytes: BigInt(publishedBytes),
        wantMissing: false,
        finishedLayers,
      },
    });
  }

  credit(): number {
    const credits = this.heard.map((message) => (message.$case === 'credit' ? Number(message.value.upToBytes) : 0));
    return Math.max(0, ...credits);
  }

  last<K extends ReceiverMessage['$case']>(kind: K): MessageOf<K>['value'] | undefined {
    return this.heard.findLast((message) => message.$case === kind)?.value as MessageOf<K>['value'] | undefined;
  }

  rawPart(index: number): Uint8Array {
    const { end, length } = this.table.at(index);
    return this.raw.subarray(end - length, end);
  }

  frame(index: number, forgery: Forgery = {}): Uint8Array {
    const part = this.table.at(index);
    const raw = this.rawPart(index);
    const body = forgery.body ?? raw;
    let frame: Buffer = Buffer.alloc(FRAME_HEADER_BYTES + body.length);
    frame.set(body, FRAME_HEADER_BYTES);
    writeFrameHeader(frame, {
      transferId: forgery.transferId ?? this.ticket.transferId,
      epoch: forgery.epoch ?? this.ticket.epoch,
      object: forgery.object ?? part.object,
      part: forgery.part ?? part.part,
      codec: forgery.codec ?? 'none',
      rawBytes: forgery.rawBytes ?? raw.length,
      bodyBytes: body.length,
      bodyCrc: forgery.bodyCrc ?? crc32c(body),
      rawCrc: forgery.rawCrc ?? crc32c(raw),
      resent: false,
    });
    if (forgery.change !== undefined) {
      frame = forgery.change(frame) ?? frame;
      if (forgery.keepHeaderCrc !== true && frame.length >= 64) frame.writeUInt32LE(crc32c(frame.subarray(0, 60)), 60);
    }
    return frame;
  }

  publish(frame: Uint8Array, transferId = this.ticket.transferId): void {
    this.connection.publish(frameSubject(this.ticket, transferId), frame);
  }

  /** Publishes every part, waiting for credit. */
  async publishAll(order = Array.from({ length: this.table.partCount }, (_, index) => index)): Promise<void> {
    for (const index of order) {
      const { end } = this.table.at(index);
      await eventually(() => (this.credit() >= end ? true : undefined), { what: `credit up to ${end}` });
      this.publish(this.frame(index));
    }
  }

  manifest(digest?: Uint8Array): void {
    const crcs = Uint32Array.from({ length: this.table.partCount }, (_, index) => crc32c(this.rawPart(index)));
    const value = {
      rawBytes: BigInt(this.table.totalBytes),
      digest: digest ?? partsDigest(crcs),
      parts: this.table.partCount,
      sentBytes: 0n,
    };
    this.say({ $case: 'manifest', value });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.connection.close();
  }
}

/** A receiver by hand: collects frames and sender messages, answers what it is told to. */
export class RawReceiver implements AsyncDisposable {
  readonly ticket: Ticket;
  readonly frames: { object: number; part: number; resent: boolean; codec: number }[] = [];
  readonly heard: SenderMessage[] = [];
  readonly connection: NatsConnection;
  frameBytes = 0;
  #sender: { workerId: string; incarnation: string } | undefined;

  private constructor(connection: NatsConnection, ticket: Ticket) {
    this.connection = connection;
    this.ticket = ticket;
  }

  static async connect(servers: string, ticket: Omit<Ticket, 'workerId' | 'incarnation' | 'transferId'>): Promise<RawReceiver> {
    const address = { workerId: 'raw', incarnation: randomBytes(4).toString('hex') };
    const receiver = new RawReceiver(await connect({ servers }), {
      ...ticket,
      ...address,
      transferId: randomBytes(16).toString('hex'),
    });
    receiver.connection.subscribe(frameWildcard(address), {
      callback: (_error, { data }) => {
        const bytes = Buffer.from(data);
        receiver.frameBytes += bytes.length;
        receiver.frames.push({
          object: bytes.readUInt32LE(28),
          part: bytes.readUInt32LE(32),
          resent: bytes.readUInt16LE(6) === 1,
          codec: bytes.readUInt8(36),
        });
      },
    });
    receiver.connection.subscribe(controlWildcard(address), {
      callback: (_error, { data }) => {
        const { message } = decodeSenderControl(data);
        if (message.$case === 'open')
          receiver.#sender = { workerId: message.value.workerId, incarnation: message.value.incarnation };
        receiver.heard.push(message);
      },
    });
    await receiver.connection.flush();
    return receiver;
  }

  answer(message: ReceiverMessage): void {
    if (this.#sender === undefined) throw new Error('no sender has said hello');
    const { transferId, epoch } = this.ticket;
    this.connection.publish(
      senderControlSubject(this.#sender, transferId),
      encodeReceiverControl({ transferId, epoch, message }),
    );
  }

  credit(upToBytes: number, contiguousBytes = 0): void {
    this.answer({
      $case: 'credit',
      value: {
        upToBytes: BigInt(upToBytes),
        receivedBytes: BigInt(contiguousBytes),
        arrivals: [],
        openedUs: 0n,
        contiguousBytes: BigInt(contiguousBytes),
      },
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.connection.close();
  }
}

/** Number of a codec in frames, for comparisons. */
export function codecNumber(codec: KvCodec): number {
  return CODEC_NUMBERS[codec];
}
