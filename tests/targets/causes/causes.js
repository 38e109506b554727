// Ends by the collector, by request, and by request on a worker thread. To be run with --expose-gc.
const fs = require('fs');
const dir = process.argv[2];

fs.closeSync(fs.openSync(dir + '/sync', 'w'));
fs.close(fs.openSync(dir + '/later', 'w'), async () => {
  const handle = await fs.promises.open(dir + '/awaited', 'w');
  await handle.close();
  await fs.promises.open(dir + '/lost', 'w');
  const held = () => fs.readdirSync('/proc/self/fd').some((n) => {
    try { return fs.readlinkSync('/proc/self/fd/' + n) === dir + '/lost'; } catch { return false; }
  });
  let rounds = 0;
  const collect = () => {
    global.gc();
    if (held() && rounds++ < 1000) setTimeout(collect, 1);
  };
  setTimeout(collect, 1);
});
