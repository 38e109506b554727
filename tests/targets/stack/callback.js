// Closes 9, which whoever starts it has left open, below a callback and code that was compiled at run time.
const fs = require("fs");
let sum = 0;
function hot(n, last) { for (let i = 0; i < n; i++) sum += i; if (last) fs.closeSync(9); return sum; }
for (let i = 0; i < 20000; i++) hot(10, false);
[1].forEach(function each() { hot(1, true); });
