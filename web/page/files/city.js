// The city that the map draws: a grid of streets around one centre, without tiles. Streets are at
// whole steps from the centre, so that places and rides are on them.

export const CENTER = { lat: 12.9716, lng: 77.5946 };
export const STEP = 0.002; // degrees between two streets, some 220 m

const AVENUE = 4; // every fourth street is one
const METRES = 111_195; // in a degree of latitude, as the services reckon

const at = (north, east) => ({ lat: CENTER.lat + north * STEP, lng: CENTER.lng + east * STEP });

// Places that a person can name instead of pointing at them.
export const places = [
  { name: 'Central Station', ...at(0, 0) },
  { name: 'Old Market', ...at(3, -4) },
  { name: 'University', ...at(8, 4) },
  { name: 'River Gate', ...at(-4, 4) },
  { name: 'City Hospital', ...at(4, 8) },
  { name: 'Stadium', ...at(-8, -3) },
  { name: 'Garden Square', ...at(-2, -8) },
  { name: 'North Terminal', ...at(12, -4) },
  { name: 'Harbour Road', ...at(-10, 9) },
];

// metres returns the distance of two places, in a straight line.
export function metres(a, b) {
  const east = (b.lng - a.lng) * Math.cos(((a.lat + b.lat) / 2) * Math.PI / 180);
  return Math.hypot(b.lat - a.lat, east) * METRES;
}

// nameOf returns the name of a place, or where it is from the nearest one that has a name.
export function nameOf(place) {
  if (!place) return 'Anywhere';
  const near = places.map((p) => ({ name: p.name, off: metres(p, place) })).sort((a, b) => a.off - b.off)[0];
  if (near.off < 60) return near.name;
  if (near.off < 900) return `Near ${near.name}`;
  return `${place.lat.toFixed(4)}, ${place.lng.toFixed(4)}`;
}

const onGrid = (value, origin) => origin + Math.round((value - origin) / STEP) * STEP;

// route returns the corners of a ride along the streets.
export function route(from, to) {
  const street = onGrid(from.lat, CENTER.lat), avenue = onGrid(to.lng, CENTER.lng);
  return [from, { lat: street, lng: from.lng }, { lat: street, lng: avenue }, { lat: to.lat, lng: avenue }, to];
}

// CONTROLS are how far the zoom buttons reach into the map from its lower right corner, in pixels.
const CONTROLS = { width: 60, height: 108 };

// A View is which part of the city a canvas shows.
export class View {
  constructor() {
    Object.assign(this, { lat: CENTER.lat, lng: CENTER.lng, scale: 0.12, width: 1, height: 1 }); // pixels a metre
    this.stretch = Math.cos(CENTER.lat * Math.PI / 180);
  }

  x(place) { return (place.lng - this.lng) * METRES * this.stretch * this.scale + this.width / 2; }
  y(place) { return (this.lat - place.lat) * METRES * this.scale + this.height / 2; }

  place(x, y) {
    return {
      lat: this.lat - (y - this.height / 2) / METRES / this.scale,
      lng: this.lng + (x - this.width / 2) / METRES / this.stretch / this.scale,
    };
  }

  pan(dx, dy) {
    const middle = this.place(this.width / 2 - dx, this.height / 2 - dy);
    this.lat = Math.max(-85, Math.min(85, middle.lat));
    this.lng = Math.max(-180, Math.min(180, middle.lng));
  }

  // zoom keeps the place at a point of the canvas where it is.
  zoom(factor, x = this.width / 2, y = this.height / 2) {
    const fixed = this.place(x, y);
    this.scale = Math.max(0.004, Math.min(1.2, this.scale * factor));
    this.pan(x - this.x(fixed), y - this.y(fixed));
  }

  // fit shows all of some places, with room around them and beside the zoom buttons.
  fit(all) {
    if (!all.length) return;
    const lats = all.map((p) => p.lat), lngs = all.map((p) => p.lng);
    const [south, north] = [Math.min(...lats), Math.max(...lats)], [west, east] = [Math.min(...lngs), Math.max(...lngs)];
    const high = Math.max(600, (north - south) * METRES), wide = Math.max(600, (east - west) * METRES * this.stretch);
    this.scale = Math.max(0.004, Math.min(0.4, 0.68 * Math.min((this.width - CONTROLS.width) / wide, this.height / high)));
    this.lat = (south + north) / 2;
    this.lng = (west + east) / 2 + CONTROLS.width / 2 / this.scale / METRES / this.stretch;
  }
}

// hash returns a number from 0 to 1 for a block of the city, always the same.
function hash(i, j) {
  const n = Math.sin(i * 127.1 + j * 311.7) * 43758.5453;
  return n - Math.floor(n);
}

// riverAt returns the longitude of the middle of the river at a latitude.
const riverAt = (lat) => {
  const n = (lat - CENTER.lat) / STEP;
  return CENTER.lng + STEP * (6.3 + 1.6 * Math.sin(n / 4.2) + 0.5 * Math.sin(n / 1.7));
};

// drawCity draws what does not move: streets, what way draws on them, and the names of places.
export function drawCity(ctx, view, colors, way) {
  const { width, height } = view, topLeft = view.place(0, 0), bottomRight = view.place(width, height);
  ctx.fillStyle = colors.land;
  ctx.fillRect(0, 0, width, height);
  const step = STEP * METRES * view.scale; // pixels between streets
  const skip = step >= 9 ? 1 : step >= 2.4 ? AVENUE : AVENUE * 8;
  const south = Math.floor((bottomRight.lat - CENTER.lat) / STEP), north = Math.ceil((topLeft.lat - CENTER.lat) / STEP);
  const west = Math.floor((topLeft.lng - CENTER.lng) / STEP), east = Math.ceil((bottomRight.lng - CENTER.lng) / STEP);

  if (skip === 1) {
    for (let i = south; i < north; i++) {
      for (let j = west; j < east; j++) {
        const kind = hash(i, j);
        if (kind > 0.2) continue;
        const a = at(i + 1, j), b = at(i, j + 1), w = view.x(b) - view.x(a), h = view.y(b) - view.y(a);
        ctx.fillStyle = kind < 0.07 ? colors.park : colors.block;
        ctx.fillRect(view.x(a), view.y(a), w, h);
      }
    }
  }
  river(ctx, view, colors, topLeft.lat, bottomRight.lat);
  const lines = (minor) => {
    ctx.beginPath();
    for (let i = Math.ceil(south / skip) * skip; i <= north; i += skip) {
      if ((i % AVENUE !== 0) !== minor) continue;
      const y = Math.round(view.y(at(i, 0))) + 0.5;
      ctx.moveTo(0, y);
      ctx.lineTo(width, y);
    }
    for (let j = Math.ceil(west / skip) * skip; j <= east; j += skip) {
      if ((j % AVENUE !== 0) !== minor) continue;
      const x = Math.round(view.x(at(0, j))) + 0.5;
      ctx.moveTo(x, 0);
      ctx.lineTo(x, height);
    }
    ctx.stroke();
  };
  ctx.strokeStyle = colors.street;
  ctx.lineWidth = Math.max(1, Math.min(7, step / 7));
  lines(true);
  ctx.strokeStyle = colors.avenue;
  ctx.lineWidth = Math.max(1.5, Math.min(14, step / 4));
  lines(false);
  way();
  names(ctx, view, colors, step);
}

function river(ctx, view, colors, top, bottom) {
  ctx.beginPath();
  for (let lat = top + STEP; lat > bottom - STEP; lat -= STEP / 4) ctx.lineTo(view.x({ lng: riverAt(lat) }), view.y({ lat }));
  ctx.strokeStyle = colors.water;
  ctx.lineWidth = 95 * view.scale;
  ctx.lineJoin = 'round';
  ctx.stroke();
}

function names(ctx, view, colors, step) {
  if (step < 14) return;
  ctx.font = '500 12px system-ui, sans-serif';
  ctx.textAlign = 'center';
  ctx.lineWidth = 4;
  ctx.lineJoin = 'round';
  for (const p of places) {
    const x = view.x(p), y = view.y(p) + 26, reach = ctx.measureText(p.name).width / 2;
    if (x + reach > view.width - CONTROLS.width && y > view.height - CONTROLS.height) continue; // under the zoom buttons
    ctx.strokeStyle = colors.land;
    ctx.strokeText(p.name, x, y);
    ctx.fillStyle = colors.name;
    ctx.fillText(p.name, x, y);
    ctx.beginPath();
    ctx.arc(x, view.y(p), 3, 0, 7);
    ctx.fill();
  }
}
