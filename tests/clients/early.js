// Node over HTTP/1.1 and HTTP/2: large bodies that are refused before they are read.
const fs = require('node:fs');
const http2 = require('node:http2');
const https = require('node:https');

const base = process.env.BUS_URL;
const ca = fs.readFileSync(process.env.BUS_CA);
const basic = 'Basic ' + Buffer.from('demo:').toString('base64');
const cases = [
  ['POST', '/topics/widgets', {}, 401],
  ['POST', '/no/such/place', { authorization: basic }, 404],
  ['PUT', '/topics', { authorization: basic }, 405],
  ['POST', '/topics/widgets', { authorization: basic }, 413],
];

const over1 = (method, path, headers, body) => new Promise((resolve, reject) => {
  const request = https.request(base + path, { method, headers, ca }, (response) => {
    let text = '';
    response.on('data', (data) => { text += data; });
    response.on('end', () => resolve([response.statusCode, text]));
  });
  request.on('error', reject);
  request.end(body);
});

const over2 = (session) => (method, path, headers, body) => new Promise((resolve, reject) => {
  const request = session.request({ ':method': method, ':path': path, ...headers });
  let [status, text] = [0, ''];
  request.on('response', (answer) => { status = answer[':status']; });
  request.on('data', (data) => { text += data; });
  request.on('end', () => resolve([status, text]));
  request.on('error', reject);
  request.end(body);
});

(async () => {
  const session = http2.connect(base, { ca });
  let answers = 0;
  for (const send of [over1, over2(session)]) {
    for (const size of [1_200_000, 7_000_000]) {
      for (const [method, path, headers, expected] of cases) {
        for (let n = 0; n < 3; n += 1) {
          const [status, text] = await send(method, path, headers, Buffer.alloc(size, 'x'));
          if (status !== expected || !text) throw new Error(`${method} ${path}: ${status} ${text}`);
          answers += 1;
        }
      }
    }
  }
  session.close();
  console.log(`answers ${answers}`);
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
