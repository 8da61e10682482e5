// The map: a canvas with the city and its markers, and a table with a row for each marker. It can be
// used with a pointer, with two fingers, and with the keyboard alone.

import { el, scroll } from './dom.js';
import { View, drawCity, nameOf } from './city.js';

const still = matchMedia('(prefers-reduced-motion: reduce)');
const dark = matchMedia('(prefers-color-scheme: dark)');

const MOVE = 1000; // ms that a marker takes from one position to the next
const REACH = 22; // pixels around a marker that count as it
const RADIUS = { rider: 4.5, busy: 4.5, open: 6.5, pickup: 10, dropoff: 10, me: 13 }; // pixels, of each kind of marker
const ROWS = 50; // rows of the table on one page

// A CityMap shows markers: { kind, place, name, note, drag }. Kinds are pickup, dropoff, me, rider,
// busy and open. pick is told where a person points, and drag where a marker was put.
export class CityMap {
  #markers = new Map();
  #view = new View();
  #base = document.createElement('canvas');
  #baseOf = '';
  #sprites = new Map();
  #line = null;
  #cross = null;
  #pointers = new Map();
  #held = null;
  #dirty = true;
  #colors = {};
  #page = 0;
  frames = 0; // drawn so far

  constructor(label, { pick, drag, keys = 'Arrow keys move a cross, Enter sets a point, plus and minus zoom.' } = {}) {
    this.pick = pick;
    this.drag = drag;
    this.canvas = el('canvas', { tabindex: 0, role: 'application', 'aria-label': `${label}. ${keys}` });
    this.node = el('div', { class: 'map' }, this.canvas, el('div', { class: 'zoom' },
      el('button', { type: 'button', 'aria-label': 'Zoom in', onclick: () => this.#zoom(1.5) }, '+'),
      el('button', { type: 'button', 'aria-label': 'Zoom out', onclick: () => this.#zoom(1 / 1.5) }, '−')));
    this.body = el('tbody');
    this.pages = el('p', { class: 'pages' });
    this.summary = el('summary', {}, 'On the map: nothing');
    this.table = el('details', { class: 'markers' }, this.summary, scroll('What is on the map', el('table', {},
      el('thead', {}, el('tr', {}, ['What', 'Where', ''].map((h) => el('th', { scope: 'col' }, h)))), this.body)), this.pages);
    this.table.addEventListener('toggle', () => this.#list());
    this.#listen();
    new ResizeObserver(() => this.#resize()).observe(this.node);
    for (const media of [dark, still]) media.addEventListener('change', () => { this.#baseOf = ''; this.#sprites.clear(); this.#redraw(); });
    requestAnimationFrame((now) => this.#frame(now));
  }

  // set adds a marker, or moves it.
  set(id, { kind, place, name, note = '', drag = false, jump = false }) {
    const old = this.#markers.get(id), now = performance.now();
    const from = old && !jump && !still.matches ? this.#where(old, now) : place;
    this.#markers.set(id, { kind, place, name, note, drag, from, since: now });
    this.#changed();
  }

  remove(id) { if (this.#markers.delete(id)) this.#changed(); }

  has(id) { return this.#markers.has(id); }

  // keep removes the markers that begin with a prefix and are not among the ids.
  keep(prefix, ids) {
    for (const id of this.#markers.keys()) if (id.startsWith(prefix) && !ids.has(id)) this.remove(id);
  }

  // way draws a line through some places; null removes it.
  way(places) {
    this.#line = places;
    this.#baseOf = '';
    this.#redraw();
  }

  fit(places) {
    this.wanted = places;
    this.#view.fit(places);
    this.#redraw();
  }

  // stop ends the drawing of a map that is not shown any more.
  stop() { this.stopped = true; }

  #changed() {
    this.#redraw();
    if (this.listing) return;
    this.listing = setTimeout(() => { this.listing = 0; this.#list(); }, 250);
  }

  #list() {
    this.summary.textContent = `On the map: ${this.#markers.size || 'nothing'}`;
    if (!this.table.open) return;
    const all = [...this.#markers.values()];
    const last = Math.max(0, Math.ceil(all.length / ROWS) - 1);
    this.#page = Math.min(this.#page, last);
    this.body.replaceChildren(...all.slice(this.#page * ROWS, (this.#page + 1) * ROWS).map((m) =>
      el('tr', {}, el('td', {}, m.name), el('td', {}, nameOf(m.place)), el('td', {}, m.note))));
    if (last === 0) {
      this.pages.replaceChildren();
    } else if (!this.pages.contains(document.activeElement)) {
      const turn = (by) => () => { this.#page = Math.max(0, Math.min(last, this.#page + by)); this.#list(); };
      this.label = el('span', {});
      this.pages.replaceChildren(el('button', { type: 'button', class: 'quiet', onclick: turn(-1) }, 'Previous'), this.label,
        el('button', { type: 'button', class: 'quiet', onclick: turn(1) }, 'Next'));
    }
    if (last > 0) this.label.textContent = `Page ${this.#page + 1} of ${last + 1}`;
  }

  #redraw() { this.#dirty = true; }

  #zoom(factor) { this.#view.zoom(factor); this.#redraw(); }

  #resize() {
    const { clientWidth: width, clientHeight: height } = this.node, ratio = Math.min(2, devicePixelRatio || 1);
    if (!width || !height) return;
    const first = this.#view.width === 1;
    Object.assign(this.#view, { width, height });
    for (const c of [this.canvas, this.#base]) Object.assign(c, { width: width * ratio, height: height * ratio });
    this.ratio = ratio;
    if (first && this.wanted) this.#view.fit(this.wanted);
    this.#baseOf = '';
    this.#sprites.clear();
    this.#redraw();
  }

  #where(marker, now) {
    const part = still.matches ? 1 : Math.min(1, (now - marker.since) / MOVE);
    const { from, place } = marker;
    return { lat: from.lat + (place.lat - from.lat) * part, lng: from.lng + (place.lng - from.lng) * part };
  }

  #frame(now) {
    if (this.stopped) return;
    requestAnimationFrame((next) => this.#frame(next));
    if (!this.#dirty || !this.ratio) return;
    this.#dirty = false;
    this.frames++;
    const view = this.#view, key = [view.lat, view.lng, view.scale, view.width, view.height, dark.matches].join();
    if (key !== this.#baseOf) {
      if (!this.#baseOf) this.#readColors();
      this.#baseOf = key;
      const base = this.#base.getContext('2d', { alpha: false });
      base.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
      drawCity(base, view, this.#colors, () => { if (this.#line) this.#drawLine(base); });
    }
    const ctx = this.canvas.getContext('2d', { alpha: false });
    ctx.setTransform(1, 0, 0, 1, 0, 0);
    ctx.drawImage(this.#base, 0, 0);
    for (const marker of this.#markers.values()) {
      const place = this.#where(marker, now), x = view.x(place), y = view.y(place);
      if (marker.from !== marker.place && now - marker.since < MOVE) this.#dirty = true;
      if (x < -20 || y < -20 || x > view.width + 20 || y > view.height + 20) continue;
      // at whole pixels, where a picture is copied and not smoothed
      const sprite = this.#sprite(marker.kind), half = sprite.width / 2;
      ctx.drawImage(sprite, Math.round(x * this.ratio - half), Math.round(y * this.ratio - half));
    }
    ctx.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    if (this.#cross) this.#drawCross(ctx);
  }

  #readColors() {
    const style = getComputedStyle(document.documentElement);
    for (const name of ['land', 'block', 'park', 'water', 'street', 'avenue', 'name', 'marker', 'edge', 'accent']) {
      this.#colors[name] = style.getPropertyValue(`--map-${name}`).trim();
    }
  }

  #drawLine(ctx) {
    ctx.beginPath();
    for (const p of this.#line) ctx.lineTo(this.#view.x(p), this.#view.y(p));
    ctx.lineJoin = ctx.lineCap = 'round';
    for (const [color, width] of [[this.#colors.edge, 8], [this.#colors.accent, 4]]) {
      Object.assign(ctx, { strokeStyle: color, lineWidth: width });
      ctx.stroke();
    }
  }

  #drawCross(ctx) {
    const x = this.#view.x(this.#cross), y = this.#view.y(this.#cross);
    ctx.beginPath();
    for (const [dx, dy] of [[0, 1], [1, 0]]) {
      ctx.moveTo(x - 14 * dx, y - 14 * dy);
      ctx.lineTo(x + 14 * dx, y + 14 * dy);
    }
    for (const [color, width] of [[this.#colors.edge, 5], [this.#colors.marker, 2]]) {
      Object.assign(ctx, { strokeStyle: color, lineWidth: width });
      ctx.stroke();
    }
  }

  // #sprite returns the picture of a kind of marker, no larger than it must be: a city has thousands.
  #sprite(kind) {
    if (this.#sprites.has(kind)) return this.#sprites.get(kind);
    const sprite = document.createElement('canvas');
    const size = RADIUS[kind] + 2;
    sprite.width = sprite.height = 2 * Math.ceil(size * this.ratio);
    const ctx = sprite.getContext('2d');
    ctx.translate(sprite.width / 2, sprite.height / 2);
    ctx.scale(this.ratio, this.ratio);
    const { marker, edge, accent } = this.#colors;
    const disc = (fill, stroke, width, radius = RADIUS[kind]) => {
      ctx.beginPath();
      ctx.arc(0, 0, radius, 0, 7);
      Object.assign(ctx, { fillStyle: fill, strokeStyle: stroke, lineWidth: width });
      ctx.fill();
      ctx.stroke();
    };
    switch (kind) {
      case 'rider': disc(marker, edge, 1.5); break;
      case 'busy': disc(accent, edge, 1.5); break;
      case 'open': disc(edge, accent, 3); break;
      case 'pickup': disc(accent, edge, 2.5); ctx.fillStyle = edge; ctx.fillRect(-3, -3, 6, 6); break;
      case 'dropoff': disc(marker, edge, 2.5); disc(edge, edge, 1, 3); break;
      default: disc(accent, edge, 2.5); bike(ctx, edge);
    }
    this.#sprites.set(kind, sprite);
    return sprite;
  }

  #listen() {
    const c = this.canvas;
    c.addEventListener('pointerdown', (e) => this.#down(e));
    c.addEventListener('pointermove', (e) => this.#move(e));
    for (const end of ['pointerup', 'pointercancel']) c.addEventListener(end, (e) => this.#up(e));
    c.addEventListener('wheel', (e) => {
      e.preventDefault();
      this.#view.zoom(Math.exp(-e.deltaY / 400), e.offsetX, e.offsetY);
      this.#redraw();
    }, { passive: false });
    c.addEventListener('keydown', (e) => this.#key(e));
    c.addEventListener('blur', () => { this.#cross = null; this.#redraw(); });
  }

  #at(e) {
    const box = this.canvas.getBoundingClientRect();
    return { x: e.clientX - box.left, y: e.clientY - box.top };
  }

  #down(e) {
    this.canvas.setPointerCapture(e.pointerId);
    const p = this.#at(e);
    this.#pointers.set(e.pointerId, p);
    if (this.#pointers.size > 1) {
      this.#held = null;
      return;
    }
    const under = [...this.#markers].filter(([, m]) => m.drag).find(([, m]) =>
      Math.hypot(this.#view.x(m.place) - p.x, this.#view.y(m.place) - p.y) < REACH);
    this.#held = { id: under?.[0], start: p, moved: false };
  }

  #move(e) {
    const before = this.#pointers.get(e.pointerId);
    if (!before) return;
    const p = this.#at(e), view = this.#view;
    if (this.#pointers.size === 2) {
      const [other] = [...this.#pointers].filter(([id]) => id !== e.pointerId).map(([, at]) => at);
      const spread = (a) => Math.max(1, Math.hypot(a.x - other.x, a.y - other.y));
      view.zoom(spread(p) / spread(before), (p.x + other.x) / 2, (p.y + other.y) / 2);
    } else if (this.#held) {
      this.#held.moved ||= Math.hypot(p.x - this.#held.start.x, p.y - this.#held.start.y) > 5;
      if (this.#held.moved && this.#held.id) {
        this.#markers.get(this.#held.id).place = this.#markers.get(this.#held.id).from = view.place(p.x, p.y);
      } else if (this.#held.moved) {
        view.pan(p.x - before.x, p.y - before.y);
      }
    }
    this.#pointers.set(e.pointerId, p);
    this.#redraw();
  }

  #up(e) {
    const held = this.#held, p = this.#at(e);
    this.#pointers.delete(e.pointerId);
    this.#held = null;
    if (!held || e.type === 'pointercancel') return;
    if (held.moved && held.id) this.drag?.(held.id, this.#view.place(p.x, p.y));
    else if (!held.moved) this.pick?.(this.#view.place(p.x, p.y));
  }

  #key(e) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[e.key], view = this.#view;
    if (step) {
      this.#cross ??= view.place(view.width / 2, view.height / 2);
      const far = e.shiftKey ? 80 : 20, x = view.x(this.#cross) + far * step[0], y = view.y(this.#cross) + far * step[1];
      this.#cross = view.place(x, y);
      if (x < 30 || y < 30 || x > view.width - 30 || y > view.height - 30) view.pan(-far * step[0], -far * step[1]);
    } else if (e.key === 'Enter' || e.key === ' ') {
      this.#cross ??= view.place(view.width / 2, view.height / 2);
      this.pick?.(this.#cross);
    } else if (e.key === '+' || e.key === '=' || e.key === '-') {
      view.zoom(e.key === '-' ? 1 / 1.5 : 1.5);
    } else {
      return;
    }
    e.preventDefault();
    this.#redraw();
  }
}

function bike(ctx, color) {
  Object.assign(ctx, { strokeStyle: color, lineWidth: 1.6, lineJoin: 'round', lineCap: 'round' });
  ctx.beginPath();
  for (const x of [-5, 5]) {
    ctx.moveTo(x + 2.8, 2.5);
    ctx.arc(x, 2.5, 2.8, 0, 7);
  }
  ctx.moveTo(-5, 2.5);
  for (const [x, y] of [[-2, -3.5], [2.5, -3.5], [5, 2.5]]) ctx.lineTo(x, y);
  ctx.stroke();
}
