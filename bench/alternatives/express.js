// Express, as the library's documentation shows it: node express.js PORT DIRECTORY SECRET
const express = require("express");
const { receive } = require("./webhook.js");

const app = express();
app.post("*", express.raw({ type: "application/json" }), async (request, response) => {
  const status = await receive(request.headers, request.body).catch(() => 503);
  response.status(status).json({});
});
app.listen(Number(process.argv[2]), "127.0.0.1");
