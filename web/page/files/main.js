// The frame of the page: which view is shown, and who is signed in.

import { el } from './dom.js';
import { send, network, pause } from './api.js';
import { Session } from './session.js';
import { signIn } from './signin.js';
import { bookView } from './book.js';
import { rideView } from './ride.js';
import { watchView } from './watch.js';
import { boardView } from './board.js';

const main = document.getElementById('main');
const sessions = { user: new Session('user'), raider: new Session('raider') };
const setup = await send('GET', '/page.json').catch(() => ({}));

// Each view is for a role; those without one are for either.
const views = [
  { id: 'book', name: 'Book', role: 'user', open: bookView },
  { id: 'ride', name: 'Ride', role: 'raider', open: rideView },
  { id: 'watch', name: 'Watch', open: watchView },
  ...(setup.board ? [{ id: 'board', name: 'Board', open: boardView }] : []),
];
const tabs = views.map((v) => el('a', { href: `#${v.id}` }, v.name));
document.getElementById('views').append(...tabs);

let shown = null; // what is shown: { key, stop }

async function show() {
  const [name, id = ''] = location.hash.slice(1).split('/');
  if (name === 'main' && shown) return; // the link that skips
  const view = views.find((v) => v.id === name) || views[0];
  await Promise.all(Object.values(sessions).map((s) => s.restore()));
  const session = view.role ? sessions[view.role] : Object.values(sessions).find((s) => s.signedIn) || sessions.user;
  const key = [view.id, id, session.role, session.id].join('/');
  if (shown?.key === key) return;
  const first = !shown;
  shown?.stop();
  tabs.forEach((tab, i) => (views[i] === view ? tab.setAttribute('aria-current', 'page') : tab.removeAttribute('aria-current')));
  document.title = `${view.name} · Pillion`;
  account(session);
  const content = session.signedIn ? view.open({ session, readers: readers(), setup, id }) : { node: signIn(session, setup.demo), stop() {} };
  shown = { key, stop: content.stop };
  main.replaceChildren(content.node);
  if (!first) main.focus({ preventScroll: true });
}

// readers are the ways in which a booking's story can be read, by those who are signed in.
function readers() {
  const { user, raider } = sessions, all = [];
  if (user.signedIn) all.push({ session: user, list: '/user/bookings?limit=10', story: (id) => `/user/bookings/${id}/story`, events: (id) => `/user/bookings/${id}/events` });
  if (raider.signedIn) all.push({ session: raider, list: '/rider/bookings?limit=10', story: (id) => `/rider/bookings/${id}/story`, events: (id) => `/rider/bookings/${id}/events` });
  if (setup.board && all.length) all.push({ session: all[0].session, story: (id) => `/board/bookings/${id}` });
  return all;
}

function account(session) {
  document.getElementById('account').replaceChildren(...(session.signedIn
    ? [el('span', { class: 'who' }, session.email), el('button', { type: 'button', class: 'quiet', onclick: () => session.signOut() }, 'Sign out')] : []));
}

addEventListener('hashchange', show);
for (const session of Object.values(sessions)) session.addEventListener('change', show);

// What the browser says of its network may be wrong, above all on the machine of the service.
for (const name of ['online', 'offline']) addEventListener(name, () => send('GET', '/page.json').catch(() => {}));
network.addEventListener('change', async () => {
  document.getElementById('network').textContent = network.up ? '' : 'You are offline, or the service is. What you have asked for is tried again.';
  while (!network.up) {
    await pause(2000);
    await send('GET', '/page.json').catch(() => {});
  }
});
await show();
