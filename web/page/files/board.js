// The live city, for operators and demonstrations: how many, how fast, and each event as it comes.

import { el, act, failure, fill } from './dom.js';
import { call } from './api.js';
import { follow } from './stream.js';
import { CityMap } from './map.js';
import { places, CENTER, nameOf } from './city.js';
import { clock, titleOf, states, seconds, short, plural } from './format.js';

const KEPT = 100; // events in the list
const ACTIVE = ['open', 'accepted', 'arrived', 'started'];
const STAGES = { requested: 'Requested', accepted: 'Accepted', arrived: 'At the pickup', started: 'Started', completed: 'Completed', rated: 'Rated' };
const ROLES = { user: 'user', raider: 'rider', service: 'service' };

export function boardView({ session }) {
  const map = new CityMap('Map of all riders and open bookings', { keys: 'Arrow keys move a cross, plus and minus zoom.' });
  const control = el('div', {}), [note, show] = failure(), runs = el('p', { role: 'status' });
  const tiles = el('dl', { class: 'tiles' }), speed = el('p', { role: 'status' }), funnel = el('table', { class: 'funnel' }), body = el('tbody');
  const empty = el('p', { class: 'empty' });
  const table = el('div', { class: 'scroll log', tabindex: 0, role: 'region', 'aria-label': 'Events' }, el('table', {}, el('thead', {}, el('tr', {}, ['When', 'Event', 'By', 'Booking'].map((h) => el('th', { scope: 'col' }, h)))), body));
  const node = el('div', { class: 'view' }, el('div', { class: 'panel' }, el('h1', {}, 'The city now'), control, tiles,
    el('h2', {}, 'Time to accept'), speed, el('h2', {}, 'How far bookings get'), funnel, el('h2', {}, 'Events'), empty, table, map.table), map.node);
  map.fit([CENTER, ...places.slice(1, 8)]);
  const figures = new Map(), bars = new Map();

  // city shows whether the simulated city runs, where there is one.
  let running = null;
  const turn = act('', async () => city(await call(session, 'POST', `/board/city/${running ? 'stop' : 'start'}`, { body: {}, repeat: true })), { kind: 'secondary', show });
  function city(now) {
    if (!now || now.running === running) return;
    runs.textContent = now.running ? 'A small city of simulated people runs, at four times our speed.'
      : running ? 'Nobody in the city books any more. Rides under way go on to their end.' : '';
    running = now.running;
    turn.textContent = running ? 'Stop the city' : 'Start a small city';
    if (!control.hasChildNodes()) control.append(el('p', { class: 'actions' }, turn), runs, note);
  }

  function count(c) {
    city(c.city);
    empty.textContent = c.funnel.requested ? '' : 'Nothing has happened yet. Book a ride, and its events appear here.';
    const all = { online: ['Riders online', c.riders.online], busy: ['Riders with a ride', c.riders.busy], ...Object.fromEntries(ACTIVE.map((s) => [s, [states[s], c.counts[s]]])),
      completed: ['Completed', c.counts.completed], lost: ['Cancelled or expired', c.counts.cancelled + c.counts.expired] };
    for (const [id, [name, value]] of Object.entries(all)) {
      if (!figures.has(id)) {
        figures.set(id, el('dd', {}));
        tiles.append(el('div', {}, el('dt', {}, name), figures.get(id)));
      }
      if (figures.get(id).textContent !== String(value)) figures.get(id).textContent = value;
    }
    const words = c.accept.count ? `Half within ${seconds(c.accept.p50)}, 95 in 100 within ${seconds(c.accept.p95)}, of the last ${plural(c.accept.count, 'acceptance')}.` : 'No booking has been accepted yet.';
    if (speed.textContent !== words) speed.textContent = words;
    for (const [stage, name] of Object.entries(STAGES)) {
      const n = c.funnel[stage], part = c.funnel.requested ? n / c.funnel.requested : 0;
      if (!bars.has(stage)) {
        bars.set(stage, { bar: el('span', {}), figure: el('td', { class: 'number' }) });
        funnel.append(el('tr', {}, el('th', { scope: 'row' }, name), el('td', { class: 'bar' }, bars.get(stage).bar), bars.get(stage).figure));
      }
      bars.get(stage).bar.style.width = `${100 * part}%`;
      bars.get(stage).figure.textContent = n;
    }
  }

  function booking(b) {
    const id = `b-${b.booking_id}`;
    if (b.state === 'open' && b.pickup) map.set(id, { kind: 'open', place: b.pickup, name: `Booking ${short(b.booking_id)}`, note: `open, to ${nameOf(b.dropoff)}`, jump: true });
    else map.remove(id);
  }

  const waiting = [];
  function event(e) {
    waiting.push(e);
    booking(e);
    if (waiting.length === 1) setTimeout(list, 100); // a busy city draws ten times a second
  }

  function list() {
    const rows = waiting.splice(0).slice(-KEPT).reverse().map((e) => el('tr', {}, el('td', {}, clock(e.at)),
      el('td', {}, titleOf(e), el('span', { class: 'verified', title: `Event ${e.n}, sequence ${e.seq}` }, '✓ signature, role, order')), el('td', {}, ROLES[e.role] || e.role),
      el('td', {}, el('a', { href: `#watch/${e.booking_id}` }, short(e.booking_id)))));
    body.prepend(...rows);
    while (body.children.length > KEPT) body.lastChild.remove();
  }

  const stop = follow(session, '/board/events', (name, data) => {
    if (name === 'city') count(data);
    if (name === 'event') event(data);
    if (name === 'bookings') {
      map.keep('b-', new Set(data.bookings.map((b) => `b-${b.booking_id}`)));
      data.bookings.forEach(booking);
    }
    if (name === 'riders') {
      const here = new Set();
      for (const [id, lat, lng, busy] of data.riders) {
        here.add(`r-${id}`);
        map.set(`r-${id}`, { kind: busy ? 'busy' : 'rider', place: { lat, lng }, name: `Rider ${short(id)}`, note: busy ? 'with a ride' : 'free' });
      }
      map.keep('r-', here);
    }
  }, (status) => {
    if (status === 403) fill(node.firstChild, el('h1', {}, 'The board is for operators'), el('p', {}, 'Your account may not see it.'));
  });
  return { node, map, stop() { stop(); map.stop(); } };
}
