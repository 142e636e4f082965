// The service that waits: `node dist/wait.js ID` prints the result of a task that others sent and executed.
import { Client, resultOf } from "@hyrex/client";

const id = process.argv[2];
if (id === undefined) throw new Error("usage: node dist/wait.js ID");
const client = new Client({
  url: process.env.HYREX_BROKER_URL || "grpc://localhost:50051",
  token: process.env.HYREX_TOKEN || undefined,
});
const task = await client.wait(id, { signal: AbortSignal.timeout(30_000) });
console.log(JSON.stringify(resultOf<Record<string, number>>(task)));
client.close();
