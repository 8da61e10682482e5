// The view of a user, who books a ride, follows it and rates it.

import { el, fill, field, failure, form, act, stars, say, scroll } from './dom.js';
import { call, command } from './api.js';
import { follow } from './stream.js';
import { shared } from './session.js';
import { CityMap } from './map.js';
import { places, nameOf, route, metres, CENTER } from './city.js';
import { money, distance, clock, day, plural, short, states } from './format.js';

const UNDER_WAY = 'open,accepted,arrived,started';

export function bookView({ session }) {
  const steps = el('div', { class: 'steps' });
  const past = el('div', {});
  const map = new CityMap('Map of the city', { pick: (place) => pickOn(place) });
  const node = el('div', { class: 'view' }, el('div', { class: 'panel' }, steps, past, map.table), map.node);
  let pickOn = () => {}, unfollow = () => {}, reread = null, stopped = false;
  const stops = [shared.hear(`booking-${session.id}`, () => load().catch(() => {}))]; // later events tell the same

  // load goes on with the ride under way, if there is one.
  async function load() {
    const [page] = await Promise.all([call(session, 'GET', `/user/bookings?limit=1&state=${UNDER_WAY}`), history()]);
    if (stopped) return;
    if (page.bookings.length) ride(page.bookings[0]);
    else if (reread) await reread(); // its ride has ended
    else if (!steps.hasChildNodes()) plan();
  }

  // plan asks where from and where to.
  function plan() {
    unfollow();
    reread = null;
    const trip = { pickup: null, dropoff: null };
    const [note, show] = failure();
    const quote = el('div', { class: 'quote', role: 'status' });
    const submit = el('button', { type: 'submit', class: 'primary' }, 'Book');
    const choice = (end, label) => {
      const select = el('select', {}, el('option', { value: '' }, 'Choose a place'),
        places.map((p, i) => el('option', { value: i }, p.name)), el('option', { value: 'map', disabled: true }, 'A point on the map'));
      select.addEventListener('change', () => set(end, places[select.value] || null));
      trip[`${end}Choice`] = select;
      return field(label, select);
    };
    let asked = 0;
    async function set(end, place) {
      trip[end] = place && { lat: Number(place.lat.toFixed(6)), lng: Number(place.lng.toFixed(6)) };
      mark(map, trip);
      show(null);
      const ask = ++asked;
      quote.replaceChildren();
      try {
        const [price, near] = await Promise.all([priced(trip), trip.pickup && call(session, 'GET', `/user/availability?lat=${trip.pickup.lat}&lng=${trip.pickup.lng}`)]);
        if (ask === asked) quoted(price, near);
      } catch (error) {
        if (ask === asked) show(error);
      }
    }
    const priced = ({ pickup: a, dropoff: b }) => a && b && call(session, 'GET', `/user/quote?from=${a.lat},${a.lng}&to=${b.lat},${b.lng}`);
    function quoted(price, near) {
      submit.textContent = price ? `Book for ${money(price.fare, price.currency)}` : 'Book';
      quote.replaceChildren(
        ...(price ? [el('p', { class: 'figures' }, el('strong', {}, money(price.fare, price.currency)), ` ${distance(price.distance_m)}, about ${price.minutes} min`)] : []),
        ...(near ? [el('p', {}, near.raiders ? `${plural(near.raiders, 'rider')}${near.more ? ' or more' : ''} near the pickup, the nearest some ${distance(near.nearest_m)} away.`
          : 'No rider is near the pickup at the moment. You can book, and wait.')] : []));
    }
    pickOn = (place) => {
      const end = trip.pickup && !trip.dropoff ? 'dropoff' : 'pickup';
      if (end === 'pickup' && trip.dropoff) clear('dropoff');
      trip[`${end}Choice`].value = 'map';
      say(`${end === 'pickup' ? 'Pickup' : 'Destination'}: ${nameOf(place)}`);
      set(end, place);
    };
    const clear = (end) => { trip[end] = null; trip[`${end}Choice`].value = ''; };
    async function book() {
      if (!trip.pickup || !trip.dropoff) throw new Error('Choose where the ride begins and where it ends.');
      const b = await command(session, '/user/book', { pickup: trip.pickup, dropoff: trip.dropoff });
      shared.tell(`booking-${session.id}`);
      ride(b);
      history();
    }
    map.keep('', new Set());
    map.way(null);
    map.fit([CENTER, places[1], places[3]]);
    fill(steps, el('h1', {}, 'Where to?'),
      form(book, { show, class: 'trip' }, choice('pickup', 'Pickup'), choice('dropoff', 'Destination'),
        el('p', { class: 'hint' }, 'Or point at the map: first the pickup, then the destination.'), quote, note,
        el('p', { class: 'actions' }, submit)));
  }

  // ride follows a booking to its end.
  function ride(booking) {
    unfollow();
    pickOn = () => {};
    let now = booking, shown = '';
    const where = el('p', { role: 'status' });
    mark(map, now);
    if (now.pickup) map.fit([now.pickup, now.dropoff]);
    const draw = () => {
      const key = `${now.state} ${now.user_stars}`;
      if (shown === key || stopped) return;
      shown = key;
      where.textContent = '';
      fill(steps, ...stage(now, where, refresh, plan));
    };
    const refresh = async () => {
      now = await call(session, 'GET', `/user/bookings/${booking.booking_id}`);
      draw();
      history();
    };
    reread = refresh;
    draw();
    unfollow = follow(session, `/user/bookings/${booking.booking_id}/events`, (name, data) => {
      if (name === 'position') {
        const off = now.pickup && metres(data, now.pickup);
        map.set('rider', { kind: 'me', place: data, name: 'Your rider', note: off ? `${distance(off)} away` : '' });
        if (now.state === 'accepted') where.textContent = off ? `${distance(off)} from the pickup.` : '';
      } else if (data.state && data.state !== now.state) {
        if (data.state === 'open' && now.state !== 'open') say('The rider gave the booking back. Looking for another one.');
        refresh().catch(() => {});
      }
      if (['started', 'completed', 'cancelled', 'open'].includes(data.state)) map.remove('rider');
    });
  }

  // stage returns what the user sees and can do while a booking is in a state.
  function stage(b, where, refresh, again) {
    const [note, show] = failure();
    const trip = el('dl', {}, b.pickup && [el('dt', {}, 'From'), el('dd', {}, nameOf(b.pickup)), el('dt', {}, 'To'), el('dd', {}, nameOf(b.dropoff))],
      b.fare !== undefined && [el('dt', {}, 'Fare'), el('dd', {}, money(b.fare, b.currency))],
      b.raider_id && [el('dt', {}, 'Rider'), el('dd', {}, short(b.raider_id))]);
    const watch = el('a', { href: `#watch/${b.booking_id}` }, 'See each event and its signature');
    const code = b.start_code && el('div', { class: 'card code' }, el('span', {}, 'Start code'), el('strong', {}, b.start_code),
      el('small', {}, 'Tell it to your rider at the pickup, and to nobody else.'));
    const reason = el('input', { maxlength: 280, autocomplete: 'off' });
    const cancel = el('details', {}, el('summary', {}, 'Cancel this booking'), form(async () => {
      await command(session, `/user/bookings/${b.booking_id}/cancel`, reason.value ? { reason: reason.value } : {});
      shared.tell(`booking-${session.id}`);
      await refresh();
    }, { show }, field('Why? (optional)', reason), el('p', { class: 'actions' }, el('button', { type: 'submit', class: 'secondary' }, 'Cancel the booking'))));
    const next = act('Book another ride', async () => { again(); history(); });
    const [rating, chosen] = stars('How was the ride?');
    switch (b.state) {
      case 'open': return [el('h1', {}, 'Looking for a rider'), el('p', {}, `Riders near the pickup see your booking until ${clock(b.deadline)}.`), el('progress', { 'aria-label': 'Looking for a rider' }), trip, watch, cancel, note];
      case 'accepted': return [el('h1', {}, 'Your rider is on the way'), where, code, trip, watch, cancel, note];
      case 'arrived': return [el('h1', {}, 'Your rider is here'), code, trip, watch, cancel, note];
      case 'started': return [el('h1', {}, 'Enjoy the ride'), el('p', {}, 'Your rider ends it at the destination.'), trip, watch, note];
      case 'completed': return [el('h1', {}, 'You have arrived'), trip, b.user_stars ? el('p', {}, `You gave ${plural(b.user_stars, 'star')}. Thank you.`) : form(async () => {
        if (!chosen()) throw new Error('Choose one to five stars.');
        await command(session, `/user/bookings/${b.booking_id}/rate`, { stars: chosen() });
        shared.tell(`booking-${session.id}`);
        await refresh();
      }, { show }, rating, el('p', { class: 'actions' }, el('button', { type: 'submit', class: 'primary' }, 'Rate the ride'))), watch, note, next];
      case 'cancelled': return [el('h1', {}, 'Booking cancelled'), b.reason && el('p', { class: 'reason' }, b.reason), trip, watch, next];
      default: return [el('h1', {}, 'No rider in time'), el('p', {}, 'Nobody accepted the booking before its deadline. Nothing is charged.'), trip, watch, next];
    }
  }

  // history lists the latest rides. Where it fails, the list stays as it is.
  async function history() {
    const { bookings } = await call(session, 'GET', '/user/bookings?limit=10').catch(() => ({}));
    if (stopped || !bookings) return;
    past.replaceChildren(el('h2', {}, 'Your rides'), bookings.length
      ? scroll('Your rides', el('table', {}, el('thead', {}, el('tr', {}, ['When', 'Ride', 'State', 'Fare'].map((h) => el('th', { scope: 'col' }, h)))),
        el('tbody', {}, bookings.map((b) => el('tr', {}, el('td', {}, `${day(b.requested_at)} ${clock(b.requested_at).slice(0, 5)}`),
          el('td', {}, el('a', { href: `#watch/${b.booking_id}` }, b.pickup ? `${nameOf(b.pickup)} to ${nameOf(b.dropoff)}` : 'Anywhere')),
          el('td', {}, states[b.state] || b.state), el('td', { class: 'number' }, b.fare === undefined ? '' : money(b.fare, b.currency)))))))
      : el('p', { class: 'empty' }, 'You have not booked a ride yet.'));
  }

  load().catch((error) => { if (!stopped) fill(steps, el('h1', {}, 'Your rides cannot be loaded'), el('p', { class: 'failure', role: 'alert' }, error.message), act('Try again', async () => location.reload())); });
  return { node, stop() { stopped = true; unfollow(); map.stop(); stops.forEach((s) => s()); } };
}

// mark shows the ends of a trip on a map, and the way between them.
export function mark(map, { pickup, dropoff }) {
  if (pickup) map.set('pickup', { kind: 'pickup', place: pickup, name: 'Pickup', jump: true }); else map.remove('pickup');
  if (dropoff) map.set('dropoff', { kind: 'dropoff', place: dropoff, name: 'Destination', jump: true }); else map.remove('dropoff');
  map.way(pickup && dropoff ? route(pickup, dropoff) : null);
}
