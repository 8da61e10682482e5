// The view of a rider, who goes online, accepts a booking and takes the ride to its end.

import { el, fill, field, failure, form, act, stars, say } from './dom.js';
import { call, command } from './api.js';
import { follow } from './stream.js';
import { shared } from './session.js';
import { CityMap } from './map.js';
import { Bike } from './bike.js';
import { mark } from './book.js';
import { places, nameOf, metres, CENTER } from './city.js';
import { money, distance, clock, plural } from './format.js';

const UNDER_WAY = 'accepted,arrived,started';

export function rideView({ session }) {
  const status = el('div', {});
  const steps = el('div', { class: 'steps' });
  const today = el('p', { class: 'earnings' });
  const map = new CityMap('Map of the city with you and the open bookings', {
    drag: (id, place) => id === 'me' && bike.ride(place),
    pick: (place) => bike.online && bike.ride(place),
    keys: 'Arrow keys move a cross, Enter rides there, plus and minus zoom.',
  });
  const node = el('div', { class: 'view' }, el('div', { class: 'panel' }, status, steps, today, map.table), map.node);
  const heard = el('p', { class: 'hint', role: 'status' });
  const rows = el('ul', { class: 'offers' }), empty = el('p', { class: 'empty' });
  const [refusal, refuse] = failure();
  const offers = new Map();
  let unfollow = () => {}, reread = null, stopped = false, current = null;
  const bike = new Bike(session, {
    moved(place, jump) {
      map.set('me', { kind: 'me', place, name: 'You', drag: true, jump, note: bike.online ? 'online' : 'offline' });
      if (!current) list();
    },
    said: (words) => { heard.textContent = words; },
    changed: () => { drawStatus(); if (!current) list(); },
  });
  const stops = [shared.hear(`ride-${session.id}`, () => load().catch(() => {}))]; // later events tell the same

  async function load() {
    const [page] = await Promise.all([call(session, 'GET', `/rider/bookings?limit=1&state=${UNDER_WAY}`), earnings()]);
    if (stopped) return;
    const [b] = page.bookings;
    if (b && b.booking_id === current?.booking_id && b.state === current.state) return;
    if (b) ride(b);
    else if (reread) await reread(); // its ride has ended
    else if (!steps.hasChildNodes()) waiting();
  }

  function drawStatus() {
    const [note, show] = failure();
    const start = el('select', {}, places.map((p, i) => el('option', { value: i }, p.name)));
    fill(status, bike.online
      ? [el('h1', { class: 'badge' }, 'You are online'), el('p', { class: 'actions' }, act('Go offline', () => bike.offline(), { kind: 'secondary', show })), heard]
      : [el('h1', {}, 'You are offline'), el('p', {}, 'Go online where you are, and see what is open near you.'), field('Where are you?', start),
        el('p', { class: 'actions' }, act('Go online here', () => begin(places[start.value]), { show }),
          navigator.geolocation && act('Use my position', async () => { await bike.locate(); map.fit([bike.place]); }, { kind: 'secondary', show }))], note);
  }

  async function begin(place) {
    map.fit([place, { lat: place.lat + 0.008, lng: place.lng }, { lat: place.lat - 0.008, lng: place.lng }]);
    await bike.begin({ lat: place.lat, lng: place.lng });
  }

  // waiting lists what is open.
  function waiting() {
    unfollow();
    current = reread = null;
    offers.clear();
    map.keep('', new Set(['me']));
    map.way(null);
    refuse(null);
    fill(steps, el('h2', {}, 'Open bookings'), refusal, rows, empty);
    list();
    unfollow = follow(session, '/rider/open-bookings/events', (name, data) => {
      if (name === 'reset') offers.clear();
      if (name === 'open') offers.set(data.booking_id, { ...data, row: offers.get(data.booking_id)?.row });
      if (name === 'gone') offers.delete(data.booking_id);
      if (name === 'open' && bike.online) say('A booking is open near you.');
      list();
    });
  }

  // list shows the offers, the nearest first. It keeps the row of an offer, and with it the focus.
  function list() {
    if (current) return;
    const far = (o) => (o.pickup && bike.place ? metres(o.pickup, bike.place) : 0);
    const all = [...offers.values()].sort((a, b) => far(a) - far(b)).slice(0, 20);
    for (const o of all) {
      o.row ??= el('li', { class: 'card' }, o.title = el('strong', {}), o.text = el('span', {}),
        act('Accept', () => accept(o.booking_id), { show: refuse, describe: `Accept the ride ${o.pickup ? `from ${nameOf(o.pickup)} to ${nameOf(o.dropoff)}` : 'without places'}` }));
      const [title, text] = o.row.children;
      title.textContent = o.pickup ? `${nameOf(o.pickup)} to ${nameOf(o.dropoff)}` : 'A ride without places';
      text.textContent = [o.fare !== undefined && money(o.fare, o.currency), o.distance_m && distance(o.distance_m),
        o.pickup && bike.place && `${distance(far(o))} away`, `until ${clock(o.deadline)}`].filter(Boolean).join(' · ');
      if (o.pickup) map.set(`open-${o.booking_id}`, { kind: 'open', place: o.pickup, name: 'Open booking', note: `to ${nameOf(o.dropoff)}`, jump: true });
    }
    const wanted = all.map((o) => o.row);
    if (wanted.length !== rows.children.length || wanted.some((r, i) => r !== rows.children[i])) rows.replaceChildren(...wanted);
    map.keep('open-', new Set(all.map((o) => `open-${o.booking_id}`)));
    empty.textContent = all.length ? '' : bike.online ? 'Nothing is open at the moment. New bookings appear here at once.' : 'Nothing is open at the moment.';
  }

  async function accept(id) {
    const answer = await command(session, '/rider/accept-booking', { booking_id: id });
    shared.tell(`ride-${session.id}`);
    ride(await call(session, 'GET', `/rider/bookings/${answer.booking_id}`));
  }

  // ride follows the rider's booking to its end.
  function ride(booking) {
    unfollow();
    current = booking;
    offers.clear();
    map.keep('', new Set(['me']));
    mark(map, booking);
    if (booking.pickup) map.fit([booking.pickup, booking.dropoff, ...(bike.place ? [bike.place] : [])]);
    const [note, show] = failure();
    const path = `/rider/bookings/${booking.booking_id}`;
    const refresh = async () => {
      const b = await call(session, 'GET', path).catch((error) => { if (error.status !== 404) throw error; });
      if (stopped || current?.booking_id !== booking.booking_id) return;
      if (!b) { say('The booking went to other riders.'); waiting(); return; }
      if (b.state !== current.state || b.raider_stars !== current.raider_stars) {
        current = b;
        fill(steps, ...stage(b, path, show, refresh), note);
        earnings();
      }
    };
    reread = refresh;
    fill(steps, ...stage(booking, path, show, refresh), note);
    unfollow = follow(session, `${path}/events`, (name, data) => {
      if (data.event === 'start_refused') show(new Error('The start code was wrong. After five wrong codes the booking goes to another rider.'));
      if (data.state && (data.state !== current?.state || name === 'rated' || name === 'released')) refresh().catch(() => {});
    }, (status) => { if (status === 404) waiting(); });
  }

  // stage returns what the rider sees and can do while the booking is in a state.
  function stage(b, path, show, refresh) {
    const step = (label, to, body, kind) => act(label, async () => {
      await command(session, `${path}/${to}`, body);
      shared.tell(`ride-${session.id}`);
      await refresh();
    }, { show, kind });
    const towards = (label, place) => place && act(label, async () => bike.ride(place), { kind: 'secondary', show });
    const trip = el('dl', {}, b.pickup && [el('dt', {}, 'From'), el('dd', {}, nameOf(b.pickup)), el('dt', {}, 'To'), el('dd', {}, nameOf(b.dropoff))],
      b.fare !== undefined && [el('dt', {}, 'Fare'), el('dd', {}, money(b.fare, b.currency))]);
    const reason = el('input', { maxlength: 280, autocomplete: 'off' });
    const giveBack = el('details', {}, el('summary', {}, 'Give the booking back'), form(async () => {
      await command(session, `${path}/release`, reason.value ? { reason: reason.value } : {});
      shared.tell(`ride-${session.id}`);
      waiting();
    }, { show }, field('Why? (optional)', reason), el('p', { class: 'actions' }, el('button', { type: 'submit', class: 'secondary' }, 'Give it back'))));
    const code = el('input', { inputmode: 'numeric', pattern: '[0-9]{4}', maxlength: 4, required: true, autocomplete: 'off', title: 'Four digits' });
    const watch = el('a', { href: `#watch/${b.booking_id}` }, 'See each event and its signature');
    const next = act('Look for the next ride', async () => waiting(), { kind: b.raider_stars ? 'primary' : 'secondary' });
    const [rating, chosen] = stars('How was the passenger?');
    switch (b.state) {
      case 'accepted': return [el('h1', {}, 'Ride to the pickup'), trip, el('p', { class: 'actions' }, step('I have arrived', 'arrive'), towards('Ride to the pickup', b.pickup)), watch, giveBack];
      case 'arrived': return [el('h1', {}, 'Ask for the start code'), trip, form(async () => {
        await command(session, `${path}/start`, { start_code: code.value });
        shared.tell(`ride-${session.id}`);
        await refresh();
      }, { show }, field('Start code', code, 'Four digits, which the passenger sees.'), el('p', { class: 'actions' }, el('button', { type: 'submit', class: 'primary' }, 'Start the ride'))), watch, giveBack];
      case 'started': return [el('h1', {}, 'Ride to the destination'), trip, el('p', { class: 'actions' }, step('Complete the ride', 'complete'), towards('Ride to the destination', b.dropoff)), watch];
      case 'completed': return [el('h1', {}, 'Ride completed'), trip, b.raider_stars ? el('p', {}, `You gave ${plural(b.raider_stars, 'star')}.`) : form(async () => {
        if (!chosen()) throw new Error('Choose one to five stars.');
        await command(session, `${path}/rate`, { stars: chosen() });
        shared.tell(`ride-${session.id}`);
        await refresh();
      }, { show }, rating, el('p', { class: 'actions' }, el('button', { type: 'submit', class: 'primary' }, 'Rate the passenger'))), watch, next];
      default: return [el('h1', {}, 'The passenger has cancelled'), b.reason && el('p', { class: 'reason' }, b.reason), watch, next];
    }
  }

  // earnings shows what the rider has earned since midnight. Where it fails, it stays as it is.
  const earnings = () => earned().catch(() => {});

  async function earned() {
    const midnight = new Date();
    midnight.setHours(0, 0, 0, 0);
    let rides = 0, sum = 0, currency = '', cursor = '';
    do {
      const page = await call(session, 'GET', `/rider/bookings?state=completed&limit=100&since=${midnight.toISOString()}${cursor && `&cursor=${cursor}`}`);
      for (const b of page.bookings) {
        rides++;
        if (b.fare) { sum += b.fare; currency = b.currency; }
      }
      cursor = page.next_cursor || '';
    } while (cursor);
    if (!stopped) today.replaceChildren('Today: ', el('strong', {}, plural(rides, 'ride') + (currency ? `, ${money(sum, currency)}` : '')));
  }

  drawStatus();
  map.fit([CENTER, places[1], places[3]]);
  load().catch((error) => { if (!stopped) fill(steps, el('h1', {}, 'Your rides cannot be loaded'), el('p', { class: 'failure', role: 'alert' }, error.message), act('Try again', async () => location.reload())); });
  return { node, stop() { stopped = true; unfollow(); bike.stop(); map.stop(); stops.forEach((s) => s()); } };
}
