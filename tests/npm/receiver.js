// A receiver of somebody else's: node receiver.js LIBRARY SECRET. It verifies with the library's own
// code, answers 204 or 400, and prints the port that it listens on.
const http = require("node:http");
const { Webhook } = require(process.argv[2]);

const webhook = new Webhook(process.argv[3]);
const server = http.createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    try {
      webhook.verify(Buffer.concat(chunks).toString(), request.headers);
      response.writeHead(204).end();
    } catch (error) {
      response.writeHead(400).end(`${error.constructor.name}: ${error.message}`);
    }
  });
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
process.stdin.resume().on("end", () => process.exit(0));
