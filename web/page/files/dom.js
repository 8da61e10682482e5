// Elements. Nothing here reads markup, so text from others stays text.

// el returns an element. Properties that begin with "on" are listeners; the others are attributes,
// and false, null and undefined leave theirs out.
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...present(children));
  return node;
}

const present = (children) => children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false);

// fill replaces the children of a node. If the focus was inside, it goes to the node's heading, so
// that the keyboard does not start over at the top of the page.
export function fill(node, ...children) {
  const focused = node.contains(document.activeElement);
  node.replaceChildren(...present(children));
  if (focused) {
    const heading = node.querySelector('h1, h2');
    heading?.setAttribute('tabindex', '-1');
    heading?.focus({ preventScroll: true });
  }
}

// say tells screen readers of something that has changed elsewhere.
export function say(text) {
  document.getElementById('news').textContent = text;
}

// scroll returns a box for a table that may be wider than the page. The keyboard can scroll it, so it
// has a name.
export const scroll = (name, ...children) => el('div', { class: 'scroll', tabindex: 0, role: 'group', 'aria-label': name }, ...children);

let fields = 0;

// field returns a label and its control, which is made of the rest.
export function field(label, control, hint) {
  const id = `field-${++fields}`;
  control.id = id;
  const note = hint && el('small', { id: `${id}-hint` }, hint);
  if (note) control.setAttribute('aria-describedby', note.id);
  return el('div', { class: 'field' }, el('label', { for: id }, label), control, note);
}

// failure returns a place for an error in words, and a function that shows one or clears it.
export function failure() {
  const node = el('p', { class: 'failure', role: 'alert' });
  return [node, (error) => { node.textContent = error ? error.message || String(error) : ''; }];
}

// act returns a button that runs an action, once at a time, and shows its error.
export function act(label, action, { kind = 'primary', show, describe } = {}) {
  const button = el('button', { type: 'button', class: kind, 'aria-label': describe }, label);
  button.addEventListener('click', () => run(button, action, show));
  return button;
}

// form returns a form that runs an action instead of being sent.
export function form(action, { show, ...props }, ...children) {
  const node = el('form', { novalidate: false, ...props }, ...children);
  node.addEventListener('submit', (event) => {
    event.preventDefault();
    run(node.querySelector('[type=submit]'), action, show);
  });
  return node;
}

async function run(button, action, show) {
  if (button.getAttribute('aria-disabled') === 'true') return;
  button.setAttribute('aria-disabled', 'true'); // disabled would lose the focus
  show?.(null);
  try {
    await action();
  } catch (error) {
    if (!show) throw error;
    show(error);
  } finally {
    button.removeAttribute('aria-disabled');
  }
}

// stars returns a choice of 1 to 5 stars, and a function that reads it.
export function stars(legend) {
  const name = `stars-${++fields}`;
  const choices = [1, 2, 3, 4, 5].map((n) => {
    const input = el('input', { type: 'radio', name, value: n, id: `${name}-${n}`, required: true });
    return el('span', { class: 'star' }, input, el('label', { for: input.id }, el('span', { 'aria-hidden': 'true' }, '★'),
      el('span', { class: 'hidden' }, n === 1 ? '1 star' : `${n} stars`)));
  });
  const set = el('fieldset', { class: 'stars' }, el('legend', {}, legend), el('div', {}, choices));
  set.addEventListener('change', () => {
    const chosen = Number(set.querySelector(':checked').value);
    set.querySelectorAll('label').forEach((l, i) => l.classList.toggle('lit', i < chosen));
  });
  return [set, () => Number(set.querySelector(':checked')?.value || 0)];
}
