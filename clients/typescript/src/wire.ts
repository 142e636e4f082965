// What client and worker share: channels, typed errors, ids, durations, backoff.
import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { BinaryReader } from "@bufbuild/protobuf/wire";
import { type ChannelOptions, credentials, Metadata, type StatusObject, status } from "@grpc/grpc-js";
import type { Duration } from "../gen/google/protobuf/duration.js";

export const VERSION = "hyrex-typescript/0.1.0";
export const MOST_ITEMS = 1000;
export const MESSAGE_BYTES = 16 * 1024 * 1024;
export const CHANNEL_OPTIONS: ChannelOptions = {
  "grpc.max_receive_message_length": 4 * MESSAGE_BYTES,
  "grpc.max_send_message_length": MESSAGE_BYTES,
  "grpc.keepalive_time_ms": 30_000,
  "grpc.keepalive_timeout_ms": 10_000,
  "grpc.use_local_subchannel_pool": 1, // else a new attempt waits out the backoff of the one before
};

/** Brokers (grpc://host:port, or grpcs:// for TLS; several separated by commas) and the token, if they want one. */
export interface Brokers {
  url: string;
  token?: string;
}

const LOOPBACK = /^(localhost|127(\.\d+){3}|\[::1\])(:\d+)?$/;

/** Address and credentials of each broker, as grpc-js wants them. A token crosses no network unencrypted. */
export function addresses({ url, token }: Brokers) {
  return url.split(",").map((one) => {
    const match = /^(grpcs?):\/\/([^/]+)\/?$/.exec(one.trim());
    if (!match) throw new TypeError(`broker URL ${one} is not like grpc://host:50051 or grpcs://host:50051`);
    if (token && match[1] === "grpc" && !LOOPBACK.test(match[2]!) && process.env.HYREX_INSECURE !== "1")
      throw new TypeError(`the token would cross the network unencrypted to ${one}: use grpcs://, or HYREX_INSECURE=1`);
    const secure = match[1] === "grpcs" ? credentials.createSsl() : credentials.createInsecure();
    return [match[2]!, secure] as const;
  });
}

export function bearer({ token }: Brokers): Metadata {
  const metadata = new Metadata();
  if (token) metadata.set("authorization", `Bearer ${token}`);
  return metadata;
}

/** What the broker refused, a whole call or one item of a batch. Match `reason` (hyrex.v1.ErrorReason
 * without its prefix), never the text; it is empty where it was not the broker that spoke. */
export class HyrexError extends Error {
  override name = "HyrexError";
  constructor(
    readonly code: status,
    message: string,
    readonly reason = "",
    readonly metadata: Record<string, string> = {},
  ) {
    super(message);
  }

  /** Whether the same call may be made again, at another broker or later: one that answered has lost its database
   * or goes away, or none answered. gRPC tells the latter as UNAVAILABLE, for some broken connections as UNKNOWN,
   * INTERNAL or CANCELLED, and never with a reason. */
  get mayPass(): boolean {
    const cut = [status.UNAVAILABLE, status.UNKNOWN, status.INTERNAL, status.CANCELLED];
    return ["STORAGE_UNAVAILABLE", "DRAINING"].includes(this.reason) || (this.reason === "" && cut.includes(this.code));
  }
}

/** The error of a call's end, with the google.rpc.ErrorInfo it carries. */
export function refusal(end: Pick<StatusObject, "code" | "details" | "metadata">): HyrexError {
  const [details] = end.metadata?.get("grpc-status-details-bin") ?? [];
  let reason = "";
  const metadata: Record<string, string> = {};
  if (details instanceof Buffer) {
    for (const any of parts(details).get(3) ?? []) {
      if (!text(parts(any).get(1)).endsWith("/google.rpc.ErrorInfo")) continue;
      const info = parts(parts(any).get(2)?.[0] ?? new Uint8Array());
      reason = text(info.get(1));
      for (const entry of info.get(3) ?? []) metadata[text(parts(entry).get(1))] = text(parts(entry).get(2));
    }
  }
  return new HyrexError(end.code, end.details, reason, metadata);
}

/** A message's length-delimited fields by number: enough to read google.rpc.Status without its stubs. */
function parts(message: Uint8Array): Map<number, Uint8Array[]> {
  const found = new Map<number, Uint8Array[]>();
  const reader = new BinaryReader(message);
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag();
    if (type !== 2) reader.skip(type);
    else found.set(field, [...(found.get(field) ?? []), reader.bytes()]);
  }
  return found;
}

const text = (field?: Uint8Array[]) => new TextDecoder().decode(field?.[0]);

const last = { ms: 0, count: 0 };

/** A new task id: a UUID of version 7, as the broker demands, greater than all made before. */
export function newId(): string {
  const id = randomBytes(16);
  if (Date.now() > last.ms) Object.assign(last, { ms: Date.now(), count: id[7] });
  else if (++last.count > 0xfff) Object.assign(last, { ms: last.ms + 1, count: 0 });
  id.writeUIntBE(last.ms, 0, 6);
  id.writeUInt16BE(0x7000 | last.count, 6);
  id[8] = (id[8]! & 0x3f) | 0x80;
  return id.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

export function duration(ms: number): Duration {
  const seconds = Math.floor(ms / 1000);
  return { seconds: BigInt(seconds), nanos: Math.round((ms - seconds * 1000) * 1e6) };
}

export const milliseconds = (value?: Duration) => (value ? Number(value.seconds) * 1000 + value.nanos / 1e6 : 0);

/** How long to wait after some failures in a row: at first almost nothing, in the end up to 5 s. */
export const backoff = (failures: number) =>
  (0.25 + 0.75 * Math.random()) * Math.min(5000, 50 * 2 ** Math.min(failures, 7));

/** Waits; rejects with the signal's reason. */
export async function pause(ms: number, signal?: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal }).catch(() => signal?.throwIfAborted());
}
