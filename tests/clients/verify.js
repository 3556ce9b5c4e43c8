// Verifies a signed delivery as a receiver does, with the official library of Standard Webhooks. Standard input is
// {"secret", "headers", "body"}; the path of the packages is the first argument. Prints "verified", or why not.

const { createRequire } = require("node:module");
const { readFileSync } = require("node:fs");
const { Webhook } = createRequire(process.argv[2] + "/")("standardwebhooks");

const { secret, headers, body } = JSON.parse(readFileSync(0, "utf8"));
try {
  new Webhook(secret).verify(body, headers);
  console.log("verified");
} catch (error) {
  console.log(`refused: ${error.message}`);
}
