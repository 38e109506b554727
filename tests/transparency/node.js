// child_process, fs, worker_threads, cluster, net; what is asynchronous is awaited one by one, so that the output has an order.
const cp = require('child_process'), fs = require('fs'), net = require('net'), cluster = require('cluster');
const { Worker, isMainThread, parentPort } = require('worker_threads');
const { once } = require('events');
if (!isMainThread) {
  parentPort.on('message', n => { fs.readFileSync('/proc/self/stat'); parentPort.postMessage(n * n); if (n === 9) parentPort.close(); });
} else if (cluster.isWorker) {
  net.createServer(s => s.end('served\n')).listen(0, '127.0.0.1', function () { process.send(this.address().port); });
} else (async () => {
  console.log(cp.execSync('echo sync; exit 0').toString().trim());
  console.log(cp.spawnSync('sh', ['-c', 'exit 3']).status, cp.spawnSync('sh', ['-c', 'kill -9 $$']).signal);
  console.log(cp.spawnSync('cat', { input: 'x'.repeat(300000) }).stdout.length);
  const cat = cp.spawn('cat', { stdio: ['pipe', 'pipe', 'inherit'] });
  cat.stdin.end('through cat\n'); console.log((await cat.stdout.toArray()).join('').trim());
  const fd = fs.openSync('n.txt', 'w'); const c = cp.spawn('sh', ['-c', 'echo to a file'], { stdio: ['ignore', fd, 2] });
  console.log(await once(c, 'exit')); fs.closeSync(fd); console.log(fs.readFileSync('n.txt', 'utf8').trim());
  const four = cp.spawn('sh', ['-c', 'echo on four >&4'], { stdio: ['ignore', 'ignore', 2, 'ignore', 'pipe'] });
  console.log((await four.stdio[4].toArray()).join('').trim());
  fs.writeFileSync('ipc.js', 'process.on("message", m => { process.send(m + 1); process.disconnect(); })');
  const ipc = cp.fork('ipc.js');
  ipc.send(41); console.log(await once(ipc, 'message').then(m => m[0]), (await once(ipc, 'exit'))[0]);
  const k = cp.spawn('sleep', ['100']); k.kill('SIGTERM'); console.log(await once(k, 'exit'));
  for (let i = 0; i < 50; i++) { const h = await fs.promises.open('n.txt'); await h.read(Buffer.alloc(4), 0, 4, 0); await h.close(); }
  console.log((await Promise.all([...Array(20).keys()].map(i => fs.promises.writeFile('f' + i, '' + i)))).length);
  fs.createReadStream('n.txt').pipe(fs.createWriteStream('m.txt')); 
  const ws = [1, 2, 3].map(() => new Worker(__filename)); const sums = [];
  for (const [i, w] of ws.entries()) { w.postMessage(i); sums.push((await once(w, 'message'))[0]); w.postMessage(9); await once(w, 'message'); await once(w, 'exit'); }
  console.log(sums);
  const server = net.createServer(s => s.pipe(s)).listen(0); await once(server, 'listening');
  const s = net.connect(server.address().port); s.end('echoed\n'); console.log((await s.toArray()).join('').trim()); server.close();
  const w = cluster.fork(); const port = (await once(w, 'message'))[0];
  const got = net.connect(port, '127.0.0.1'); console.log((await got.toArray()).join('').trim()); w.kill(); console.log((await once(w, 'exit'))[1]);
  console.log(fs.readdirSync('/proc/self/task').length > 1);
  process.exit(7);
})();
