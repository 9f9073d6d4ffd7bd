// What a plugin in Node does of the system, by its own library alone: the syscall profile `node` is
// what this needs. Each part says "ok: NAME"; the last line is "done".
"use strict";

const assert = require("node:assert");
const { once } = require("node:events");
const { promisify } = require("node:util");
const crypto = require("node:crypto");
const fs = require("node:fs");
const http = require("node:http");
const net = require("node:net");
const os = require("node:os");
const path = require("node:path");
const stream = require("node:stream/promises");
const zlib = require("node:zlib");
const childProcess = require("node:child_process");
const dgram = require("node:dgram");
const tls = require("node:tls");
const { Worker, isMainThread, parentPort } = require("node:worker_threads");

async function files() {
  const base = await fs.promises.mkdtemp(path.join(os.tmpdir(), "files-"));
  const at = (name) => path.join(base, name);
  await fs.promises.writeFile(at("one"), "x".repeat(10_000));
  assert.equal((await fs.promises.stat(at("one"))).size, 10_000);
  assert.ok((await fs.promises.statfs(base)).blocks > 0);
  await fs.promises.access(at("one"));
  await fs.promises.chmod(at("one"), 0o640);
  await fs.promises.utimes(at("one"), 1, 1);
  await fs.promises.rename(at("one"), at("two"));
  await fs.promises.link(at("two"), at("hard"));
  await fs.promises.symlink("two", at("soft"));
  assert.equal(await fs.promises.readlink(at("soft")), "two");
  assert.equal(await fs.promises.realpath(at("soft")), fs.realpathSync(at("two")));
  await fs.promises.copyFile(at("two"), at("three"));
  await fs.promises.appendFile(at("three"), "y");
  const file = await fs.promises.open(at("three"), "r+");
  await file.truncate(5_000);
  await file.chmod(0o600);
  await file.write("z", 0);
  await file.writev([Buffer.from("a"), Buffer.from("b")], 10);
  await file.readv([Buffer.alloc(2), Buffer.alloc(2)], 10);
  await file.datasync();
  await file.sync();
  await file.utimes(2, 2);
  await file.close();
  fs.writeSync(fs.openSync(at("four"), "w"), "sync");
  await fs.promises.mkdir(at("inner/most"), { recursive: true });
  assert.ok((await fs.promises.readdir(base)).length >= 5);
  await stream.pipeline(fs.createReadStream(at("two")), zlib.createGzip(), fs.createWriteStream(at("two.gz")));
  process.chdir(base);
  assert.equal(fs.realpathSync(process.cwd()), fs.realpathSync(base));
  process.chdir("/");
  await fs.promises.unlink(at("hard"));
  await fs.promises.rmdir(at("inner/most"));
  await fs.promises.rm(base, { recursive: true });
}

async function sockets() {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "net-"));
  for (const where of [path.join(directory, "socket"), { host: "127.0.0.1", port: 0 }]) {
    const server = net.createServer((client) => client.end("hello"));
    server.listen(where);
    await once(server, "listening");
    const client = net.connect(typeof where === "string" ? where : server.address());
    client.setNoDelay?.(true);
    client.setKeepAlive(true);
    let got = "";
    client.on("data", (data) => (got += data));
    await once(client, "close");
    assert.equal(got, "hello");
    server.close();
  }
  const receiver = dgram.createSocket("udp4");
  receiver.bind(0, "127.0.0.1");
  await once(receiver, "listening");
  const sender = dgram.createSocket("udp4");
  sender.send("x", receiver.address().port, "127.0.0.1");
  await once(receiver, "message");
  receiver.close();
  sender.close();
  assert.ok((await promisify(require("node:dns").lookup)("localhost")).address);
  tls.createSecureContext();
}

async function requests() {
  const server = http.createServer((request, response) => request.pipe(response));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const request = http.request({ port: server.address().port, host: "127.0.0.1", method: "POST" });
  request.end("body");
  const [response] = await once(request, "response");
  let body = "";
  for await (const part of response) body += part;
  assert.equal(body, "body");
  server.close();
  server.closeAllConnections();
}

async function workers() {
  const worker = new Worker(__filename);
  worker.postMessage(20);
  const [answer] = await once(worker, "message");
  assert.equal(answer, 40);
  await worker.terminate();
}

async function computing() {
  assert.ok((await promisify(zlib.gzip)("x".repeat(100_000))).length < 1_000);
  assert.equal((await promisify(crypto.scrypt)("password", "salt", 64)).length, 64);
  assert.equal((await promisify(crypto.randomBytes)(32)).length, 32);
  const rubbish = [];
  for (let round = 0; round < 200; round++) rubbish.push(new Array(10_000).fill(round));
  await promisify(setTimeout)(5);
  assert.ok(os.availableParallelism() > 0 && os.totalmem() >= 0 && os.uptime() >= 0);
  assert.ok(process.memoryUsage().rss > 0 && process.resourceUsage().maxRSS > 0);
  assert.ok(os.hostname() && process.pid !== process.ppid && process.getuid() >= 0);
  os.getPriority();
  process.title = "plugin";
}

async function processes() {
  const run = promisify(childProcess.execFile);
  assert.equal((await run(process.execPath, ["-e", "console.log('child')"])).stdout, "child\n");
  const long = childProcess.spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)"]);
  await once(long, "spawn");
  long.kill();
  await once(long, "exit");
  let signalled = 0;
  process.on("SIGUSR2", () => signalled++);
  process.kill(process.pid, "SIGUSR2");
  while (!signalled) await promisify(setTimeout)(5);
}

async function main() {
  for (const part of [files, sockets, requests, workers, computing, processes]) {
    await part();
    console.log("ok:", part.name);
  }
  console.log("done");
}

if (isMainThread) {
  main().then(() => process.exit(0), (error) => {
    console.error(error);
    process.exit(1);
  });
} else {
  parentPort.on("message", (number) => parentPort.postMessage(number * 2));
}
