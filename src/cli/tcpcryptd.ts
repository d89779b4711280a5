#!/usr/bin/env node
/** `tcpcryptd` is `tcpcrypt daemon`. */
process.argv.splice(2, 0, 'daemon');
await import('./main.js');
