// Where the rider is: by the browser, or by a ride along the streets to where the marker was put.

import { call } from './api.js';
import { metres, route } from './city.js';

const SPEED = 25; // metres a second, which is fast for a bike and possible: no leap is believed
const TICK = 1000; // ms between two steps
const REPORT = 2500; // ms between two reports on the way
const STILL = 15_000; // ms between two reports at rest: after a minute of silence a rider is offline
const ASLEEP = 4000; // ms without a step after which another tab goes on
const KEPT = 900_000; // ms after which a page that comes back does not go on by itself

const ME = `${Math.random()}`; // this tab

// A Bike reports a rider's position while the rider is online. All tabs of a browser share the bike
// and show it; one of them rides, the last one that was used. moved is told where the bike is, said
// why a position is not believed, and changed that the rider went online or offline.
export class Bike {
  place = null;
  online = false;
  #corners = [];
  #by = ''; // the tab that rides
  #at = 0; // when it has last done so
  #reported = 0;
  #watch = null;
  #busy = false;

  constructor(session, { moved, said, changed }) {
    Object.assign(this, { session, moved, said, changed, key: `pillion.bike.${session.id}` });
    this.listener = ({ key, newValue }) => { if (key === this.key) this.#take(newValue); };
    addEventListener('storage', this.listener); // of other tabs
    queueMicrotask(() => this.#take(localStorage.getItem(this.key)));
    this.timer = setInterval(() => this.#tick(), TICK);
  }

  // #take goes on with what some tab has kept; nothing: the rider is offline.
  #take(text) {
    const kept = text && JSON.parse(text), before = this.online;
    this.online = Boolean(kept && Date.now() - kept.at < KEPT);
    this.#corners = this.online ? kept.corners : [];
    if (this.online) {
      Object.assign(this, { place: kept.place });
      this.#by = kept.by;
      this.#at = kept.at;
      if (this.#by !== ME) this.#unwatch();
      this.moved(this.place, !before);
    }
    if (before !== this.online) this.changed();
  }

  // #keep tells all tabs where the bike is, and that this one rides.
  #keep() {
    this.#by = ME;
    this.#at = Date.now();
    localStorage.setItem(this.key, JSON.stringify({ place: this.place, corners: this.#corners, by: ME, at: this.#at }));
  }

  // begin goes online at a place.
  async begin(place) {
    await call(this.session, 'POST', '/rider/online', { body: {}, repeat: true });
    this.place = place;
    this.#corners = [];
    this.online = true;
    this.#keep();
    await this.#report();
    this.moved(place, true);
    this.changed();
  }

  // locate goes online where the browser is, and follows it.
  async locate() {
    const place = (p) => ({ lat: p.coords.latitude, lng: p.coords.longitude });
    const first = await new Promise((done, failed) => navigator.geolocation.getCurrentPosition(done, () =>
      failed(new Error('The browser does not tell where you are. Choose a place instead.')), { enableHighAccuracy: true, timeout: 15_000 }));
    await this.begin(place(first));
    this.#watch = navigator.geolocation.watchPosition((p) => {
      this.place = place(p);
      this.#keep();
      this.moved(this.place);
      this.#report(p.coords.accuracy).catch(() => {});
    }, () => {}, { enableHighAccuracy: true });
  }

  async offline() {
    await call(this.session, 'POST', '/rider/offline', { body: {}, repeat: true });
    this.online = false;
    this.#corners = [];
    this.#unwatch();
    localStorage.removeItem(this.key);
    this.changed();
  }

  // ride goes to a place along the streets.
  ride(to) {
    if (!this.place) return;
    this.#unwatch();
    this.#corners = metres(this.place, to) < SPEED ? [to] : route(this.place, to).slice(1);
    this.#keep();
    this.said('Riding there, fast.');
  }

  stop() {
    clearInterval(this.timer);
    removeEventListener('storage', this.listener);
    if (!this.session.signedIn) localStorage.removeItem(this.key);
    this.#unwatch();
  }

  #unwatch() {
    if (this.#watch !== null) navigator.geolocation.clearWatch(this.#watch);
    this.#watch = null;
  }

  #tick() {
    if (!this.online || (this.#by !== ME && Date.now() - this.#at < ASLEEP)) return;
    let left = SPEED * TICK / 1000;
    const moves = this.#corners.length > 0;
    while (left > 0 && this.#corners.length) {
      const [next] = this.#corners, far = metres(this.place, next);
      if (far <= left) {
        this.place = next;
        this.#corners.shift();
      } else {
        const part = left / far;
        this.place = { lat: this.place.lat + (next.lat - this.place.lat) * part, lng: this.place.lng + (next.lng - this.place.lng) * part };
      }
      left -= far;
    }
    this.#keep();
    if (moves) this.moved(this.place);
    const arrived = moves && !this.#corners.length;
    if (arrived) this.said('You are there.');
    if (arrived || Date.now() - this.#reported > (moves ? REPORT : STILL)) this.#report().catch(() => {});
  }

  async #report(accuracy) {
    if (this.#busy) return;
    this.#busy = true;
    this.#reported = Date.now();
    try {
      const body = { lat: this.place.lat, lng: this.place.lng, ...(accuracy ? { accuracy } : {}) };
      const answer = await call(this.session, 'PUT', '/rider/position', { body });
      if (answer.ignored && answer.ignored !== 'late') this.said(answer.message);
    } finally {
      this.#busy = false;
    }
  }
}
