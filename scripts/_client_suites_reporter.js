// A mocha reporter for scripts/_client_suites.py: one line `live passed|failed|skipped: NAME` per test that reached for
// the broker. Connections to AMQP's usual port go to LIVE_HOST:LIVE_PORT instead: some tests take only the host from
// the URL they are given.
'use strict';
const net = require('net');

const host = process.env.LIVE_HOST;
const port = Number(process.env.LIVE_PORT);
let reached = false;

const original = net.Socket.prototype.connect;
net.Socket.prototype.connect = function (...given) {
  // net.connect hands its arguments on as one normalised array
  const target = Array.isArray(given[0]) ? given[0][0] : given[0];
  if (target !== null && typeof target === 'object') {
    if (Number(target.port) === 5672) Object.assign(target, { host, port });
    if (Number(target.port) === port) reached = true;
  }
  return original.apply(this, given);
};

module.exports = class {
  constructor(runner) {
    runner.on('test', () => { reached = false; });
    runner.on('pass', (test) => this.tell('passed', test));
    runner.on('pending', (test) => this.tell('skipped', test));
    runner.on('fail', (test, error) => {
      reached = reached || test.type === 'hook';
      this.tell('failed', test);
      console.log(error.stack || String(error));
    });
  }

  tell(outcome, test) {
    if (reached || outcome === 'skipped') console.log(`live ${outcome}: ${test.fullTitle().replace(/\s+/g, ' ')}`);
  }
};
