// Five sessions of Node over HTTP/2, each idle after one request.
const fs = require('node:fs');
const http2 = require('node:http2');

const ca = fs.readFileSync(process.env.BUS_CA);
let idle = 0;
for (let n = 0; n < 5; n += 1) {
  const session = http2.connect(process.env.BUS_URL, { ca });
  session.on('error', (error) => console.error(error.message));
  const request = session.request({ ':path': '/health' });
  request.on('response', (headers) => {
    if (headers[':status'] !== 200) process.exit(1);
  });
  request.on('end', () => {
    idle += 1;
    if (idle === 5) console.log(`idle ${idle}`);
  });
  request.resume();
  request.end();
}
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
