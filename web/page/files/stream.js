// Streams of Server-Sent Events, read with fetch, because an EventSource sends no token. They resume
// after the last event, whatever has ended them: docs/live-updates.md.

import { network, pause } from './api.js';

const SILENCE = 45_000; // ms after which a stream counts as dead: a comment comes every 15 s

// follow reads a stream until it is over or stop, which it returns, is called. take gets the name and
// the data of each event; over is called when no more can come, with the HTTP status.
// Browsers open six connections to an origin, so a page that nobody sees gives its own back.
export function follow(session, path, take, over = () => {}) {
  let stopped = false, last = '', connection = null;
  const visible = () => {
    if (document.hidden) connection?.abort();
  };
  document.addEventListener('visibilitychange', visible);

  (async () => {
    for (let wait = 500; !stopped; wait = Math.min(2 * wait, 5000)) {
      if (document.hidden) await shown();
      connection = new AbortController();
      let ending;
      try {
        ending = await read(await session.token(), connection, () => { wait = 250; });
      } catch (error) {
        if (error.status === 401) ending = { over: 401 };
        else if (!connection.signal.aborted) network.set(false);
      }
      connection.abort();
      if (stopped) break;
      if (ending?.over) {
        stop();
        over(ending.over);
        return;
      }
      if (ending?.now) wait = 0;
      if (!document.hidden) await pause(wait);
      wait ||= 250;
    }
  })();

  async function read(token, { signal }, alive) {
    const headers = { Accept: 'text/event-stream, application/json', Authorization: `Bearer ${token}` };
    if (last) headers['Last-Event-ID'] = last;
    const dead = () => { network.set(false); connection.abort(); };
    let watchdog = setTimeout(dead, SILENCE);
    try {
      const response = await fetch(path, { headers, signal, cache: 'no-store', redirect: 'error' });
      network.set(true);
      if (response.status === 204 || response.status === 404) return { over: response.status };
      if (response.status === 401 || response.status === 403) {
        const problem = await response.json().catch(() => ({}));
        if (problem.code !== 'token_expired' && problem.code !== 'invalid_token') return { over: response.status };
        await session.renew(token);
        return { now: true };
      }
      if (!response.ok) return {};
      alive();
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let rest = ''; ;) {
        const { value, done } = await reader.read();
        if (done) return {};
        clearTimeout(watchdog);
        watchdog = setTimeout(dead, SILENCE);
        const blocks = (rest + value).split('\n\n');
        rest = blocks.pop();
        for (const block of blocks) {
          const ending = await one(block, token);
          if (ending) return ending;
        }
      }
    } finally {
      clearTimeout(watchdog);
    }
  }

  // one handles a block of lines, which is an event or a comment.
  async function one(block, token) {
    const event = { name: 'message', data: '', id: null };
    for (const line of block.split('\n')) {
      const colon = line.indexOf(':');
      if (colon <= 0) continue;
      const value = line.slice(colon + 1).replace(/^ /, '');
      const name = line.slice(0, colon);
      if (name === 'event') event.name = value;
      else if (name === 'data') event.data = value;
      else if (name === 'id') event.id = value;
    }
    if (!event.data) return null;
    const data = JSON.parse(event.data);
    if (event.name === 'end') {
      if (event.id === '') last = '';
      if (!data.reconnect) return { over: 200 };
      if (data.reason === 'token_expired' || data.reason === 'token_revoked') {
        await session.renew(token);
        return { now: true };
      }
      return {};
    }
    if (stopped) return {};
    take(event.name, data);
    if (event.id) last = event.id;
    return null;
  }

  function stop() {
    stopped = true;
    connection?.abort();
    document.removeEventListener('visibilitychange', visible);
  }
  return stop;
}

function shown() {
  return new Promise((done) => {
    document.addEventListener('visibilitychange', function look() {
      if (document.hidden) return;
      document.removeEventListener('visibilitychange', look);
      done();
    });
  });
}
