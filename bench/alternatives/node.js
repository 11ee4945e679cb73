// Plain Node: node node.js PORT, with BENCH_DIRECTORY and BENCH_SECRET in the environment. It verifies with the npm
// library; one file per event, synced with its directory before the answer, each id once.
const http = require("node:http");
const fs = require("node:fs/promises");
const path = require("node:path");
const { Webhook } = require("standardwebhooks");

const { BENCH_DIRECTORY: directory, BENCH_SECRET: secret } = process.env;
const webhook = new Webhook(secret);
const opened = fs.open(directory, "r");
let serial = 0;

// Resolves to the status of HTTP.
async function receive(headers, body) {
  try {
    webhook.verify(body, headers);
  } catch {
    return 401;
  }
  const draft = path.join(directory, `.${process.pid}.${serial++}`);
  const file = path.join(directory, encodeURIComponent(headers["webhook-id"]) + ".json");
  try {
    await fs.access(file);
    return 200; // a duplicate
  } catch {}
  const handle = await fs.open(draft, "wx", 0o640);
  await handle.writeFile(body);
  await handle.sync();
  await handle.close();
  await fs.rename(draft, file);
  await (await opened).sync();
  return 200;
}

http.createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", async () => {
    const status = await receive(request.headers, Buffer.concat(chunks)).catch(() => 503);
    response.writeHead(status).end("{}\n");
  });
}).listen(Number(process.argv[2]), "127.0.0.1");
