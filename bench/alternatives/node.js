// Plain Node: node node.js PORT DIRECTORY SECRET
const http = require("node:http");
const { receive } = require("./webhook.js");

http.createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", async () => {
    const status = await receive(request.headers, Buffer.concat(chunks)).catch(() => 503);
    response.writeHead(status).end("{}\n");
  });
}).listen(Number(process.argv[2]), "127.0.0.1");
