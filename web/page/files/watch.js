// The story of one booking: each event as the ledger has it, who caused it, and why it is believed.

import { el, fill, field, form, failure, scroll } from './dom.js';
import { call, pause } from './api.js';
import { follow } from './stream.js';
import { clock, titleOf, states, short, plural } from './format.js';

const OVER = ['cancelled', 'expired'];

export function watchView({ readers, id }) {
  const list = el('ol', { class: 'story' });
  const head = el('div', {});
  const panel = el('div', { class: 'panel wide' }, head, list);
  let stopped = false, unfollow = () => {};
  if (!id) {
    ask();
    return { node: panel, stop() {} };
  }

  // ask asks for a booking, and offers the latest ones.
  function ask() {
    const [note, show] = failure();
    const input = el('input', { pattern: '[a-z2-7]{26}', required: true, autocomplete: 'off', title: '26 letters and digits' });
    const recent = el('ul', { class: 'offers' });
    head.replaceChildren(el('h1', {}, 'Watch a booking'),
      el('p', {}, 'Each step of a ride is an event in the ledger. It carries the signed token of the one who caused it, and every reader verifies that again.'),
      form(async () => { location.hash = `watch/${input.value}`; }, { show }, field('Booking', input, 'The id of a booking'), el('p', { class: 'actions' }, el('button', { type: 'submit', class: 'primary' }, 'Watch'))), note,
      el('h2', {}, 'Your latest bookings'), recent);
    Promise.all(readers.filter((r) => r.list).map((r) => call(r.session, 'GET', r.list))).then((pages) => {
      const all = pages.flatMap((p) => p.bookings).sort((a, b) => (a.requested_at < b.requested_at ? 1 : -1)).slice(0, 10);
      recent.replaceChildren(...all.map((b) => el('li', {}, el('a', { href: `#watch/${b.booking_id}` }, short(b.booking_id)), ` ${states[b.state]}, ${clock(b.requested_at)}`)));
      if (!all.length) recent.replaceChildren(el('li', { class: 'empty' }, 'There are none yet.'));
    }).catch(show);
  }

  async function load() {
    for (const reader of readers) {
      try {
        tell(await call(reader.session, 'GET', reader.story(id)), reader.session.id);
        return reader;
      } catch (error) {
        if (error.status !== 404 && error.status !== 403) throw error;
      }
    }
    throw new Error('There is no such booking, or it is not one of yours.');
  }

  // tell shows the events that are new. It leaves those that are there, and what is open in them.
  function tell(story, me) {
    if (stopped) return;
    const believed = story.events.filter((e) => !e.refused).length, refused = story.events.length - believed;
    fill(head, el('h1', {}, 'The story of a booking'), el('p', { class: 'mono' }, story.booking_id),
      el('p', { role: 'status' }, el('span', { class: 'badge' }, states[story.state] || story.state), ` ${plural(believed, 'event')}, each verified when it was read`,
        refused ? `; ${plural(refused, 'message')} refused.` : '.'));
    const shown = new Set([...list.children].map((li) => li.dataset.seq));
    for (const e of story.events) if (!shown.has(String(e.seq))) list.append(entry(e, me));
  }

  function entry(e, me) {
    const who = e.actor === me ? 'you' : short(e.actor);
    const item = el('li', { class: e.refused ? 'refused' : '' },
      el('h2', {}, e.refused ? `Refused: ${titleOf(e)}` : titleOf(e)),
      el('p', {}, el('time', { datetime: e.at }, clock(e.at)), e.actor ? ` by ${roles[e.role] || e.role}, ${who}` : '', ` · sequence ${e.seq}`),
      e.reason && el('p', { class: 'reason' }, e.reason), e.stars ? el('p', {}, plural(e.stars, 'star')) : null,
      e.refused ? el('p', { class: 'failure' }, `No reader acts on it: ${refusals[e.refused] || e.refused}.`)
        : el('details', {}, el('summary', {}, el('span', { class: 'verified' }, '✓ Verified'), ' Why it is believed'),
          el('ul', {}, reasons(e).map((r) => el('li', {}, r))), claims(e.claims)));
    item.dataset.seq = e.seq;
    return item;
  }

  (async () => {
    let reader;
    try {
      reader = await load();
    } catch (error) {
      if (!stopped) fill(head, el('h1', {}, 'The booking cannot be shown'), el('p', { class: 'failure', role: 'alert' }, error.message), el('p', {}, el('a', { href: '#watch' }, 'Watch another one')));
      return;
    }
    if (stopped) return;
    if (reader.events) {
      unfollow = follow(reader.session, reader.events(id), (name) => { if (name !== 'position') load().catch(() => {}); });
      return;
    }
    const wait = new AbortController();
    unfollow = () => wait.abort();
    while (!stopped) { // the board's own readers are told of all bookings, and not of one
      await pause(2000, wait.signal);
      if (!stopped && !document.hidden) await load().catch(() => {});
    }
  })();
  return { node: panel, stop() { stopped = true; unfollow(); } };
}

const roles = { user: 'the user', raider: 'the rider', service: 'the service' };

const refusals = {
  role: 'its role may not cause this', actor: 'its token is of someone else', no_token: 'it carries no token', not_engaged: 'no record says that its rider is engaged',
  does_not_follow: 'it does not follow from what came before', position: 'another message has its place', duplicate: 'it was stored before', mismatch: 'it says different things of itself',
};

// reasons says what every reader checks, with the figures of this event.
function reasons({ claims: c, at, event, role, from, state, n }) {
  return [
    `Its token is signed with ${c.alg}, by the key ${short(c.kid)}…, which authsvc had published.`,
    `The token was valid when NATS stored the event at ${clock(at)}: it was issued at ${clock(c.iat)} and expires at ${clock(c.exp)}.`,
    c.typ === 'event+jwt' ? `It is an event token for ${c.aud}: it proves who acted, and opens nothing.` : `It is a token of type ${c.typ}.`,
    `Its role, ${role}, may cause this event, and its subject is the one who acted.`,
    from === state ? `It follows: as event ${n}, it leaves the booking ${word(state)}.` : `It follows: as event ${n}, it takes the booking from ${word(from)} to ${word(state)}.`,
    ...(event === 'accepted' ? ['The message directly before it records, with the same token, that this rider is engaged: a rider has one ride at a time.'] : []),
  ];
}

const word = (state) => (state ? `“${(states[state] || state).toLowerCase()}”` : 'nothing');

function claims(c) {
  const rows = [['typ', 'Kind of token', c.typ], ['kid', 'Key', c.kid], ['iss', 'Issued by', c.iss], ['aud', 'Meant for', c.aud], ['sub', 'Account', c.sub], ['role', 'Role', c.role],
    ['iat', 'Issued', c.iat], ['exp', 'Expires', c.exp], ['jti', 'Token', c.jti]];
  return scroll('The claims of its token', el('table', {}, el('caption', {}, 'The claims of its token'), el('tbody', {}, rows.map(([name, meaning, value]) =>
    el('tr', {}, el('th', { scope: 'row' }, el('code', {}, name)), el('td', {}, meaning), el('td', { class: 'mono' }, value))))));
}
