// What the Node alternatives share: verify with the npm library, one file per event, synced with its
// directory before the answer, each id once.
const fs = require("node:fs/promises");
const path = require("node:path");
const { Webhook } = require("standardwebhooks");

const [, , , directory, secret] = process.argv;
const webhook = new Webhook(secret);
let serial = 0;

async function sync(where) {
  const handle = await fs.open(where, "r");
  await handle.sync();
  await handle.close();
}

// Resolves to the status of HTTP.
exports.receive = async function (headers, body) {
  try {
    webhook.verify(body, headers);
  } catch {
    return 401;
  }
  const name = encodeURIComponent(headers["webhook-id"]) + ".json";
  const draft = path.join(directory, `.${process.pid}.${serial++}`);
  const file = path.join(directory, name);
  try {
    await fs.access(file);
    return 200; // a duplicate
  } catch {}
  const handle = await fs.open(draft, "wx", 0o640);
  await handle.writeFile(body);
  await handle.sync();
  await handle.close();
  try {
    await fs.link(draft, file);
  } catch (error) {
    if (error.code !== "EEXIST") throw error;
  }
  await fs.unlink(draft);
  await sync(directory);
  return 200;
};
