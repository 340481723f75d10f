// Plots of one or two series as inline SVG. A plot is made once and changed in place, so that nothing moves around it.

import { el } from './dom.js';

const SVG = 'http://www.w3.org/2000/svg';
const [WIDTH, HEIGHT] = [600, 160];

/// Points that fill a plot, at least.
const FEWEST = 60;

function svg(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

/// The next of 1, 2, 5, 10, 20, …
function ceiling(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value);
}

/// The points of a line, in runs: what is not known interrupts it.
function runs(values, most, top) {
  const found = [];
  let run = null;
  values.forEach((value, place) => {
    if (value === null || value === undefined) {
      run = null;
      return;
    }
    if (!run) found.push(run = []);
    const x = WIDTH - (values.length - 1 - place) * (WIDTH / Math.max(most - 1, 1));
    run.push([x.toFixed(1), (HEIGHT - Math.min(value / top, 1) * HEIGHT).toFixed(1)]);
  });
  return found;
}

const path = (found) => found.map((run) => 'M' + run.map((point) => point.join(' ')).join('L')).join('');

/// A plot of `names` with texts for its legend; `written` writes a value.
export function plot(title, names, labels, written) {
  const lines = names.map((_, place) => svg('path', { class: place ? 'line b' : 'line' }));
  const area = svg('path', { class: 'area' });
  const drawn = svg('svg', { class: 'plot', viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'img' });
  const grid = [0.25, 0.5, 0.75].map((share) =>
    svg('line', { class: 'grid', x1: 0, x2: WIDTH, y1: HEIGHT * share, y2: HEIGHT * share }));
  drawn.append(...grid, area, ...lines);
  const now = names.map(() => el('b', {}, '–'));
  const [from, to] = [el('span', {}, ' '), el('span', {}, '0')];
  const id = `p-${names[0]}`;
  const node = el('section', { class: 'third', 'aria-labelledby': id, 'data-plot': names[0] },
    el('h2', { id }, title),
    el('ul', { class: 'legend' }, names.map((_, place) =>
      el('li', { class: place ? 'b' : null }, `${labels[place]} `, now[place]))),
    drawn,
    el('p', { class: 'axis' }, from, to));
  const draw = (series) => {
    // A young series takes the whole width, but not with a handful of points.
    const most = Math.min(Math.max(series.points.length, FEWEST), series.most);
    const values = names.map((name) => {
      const at = series.names.indexOf(name);
      return series.points.map((point) => point[at]);
    });
    const top = ceiling(Math.max(...values.flat().filter((value) => value !== null), 0));
    values.forEach((line, place) => {
      lines[place].setAttribute('d', path(runs(line, most, top)));
      const last = line.at(-1);
      now[place].textContent = last === null || last === undefined ? '–' : written(last);
    });
    const filled = runs(values[0], most, top).filter((run) => run.length > 1);
    area.setAttribute('d', filled.map((run) =>
      `M${run[0][0]} ${HEIGHT}L${run.map((point) => point.join(' ')).join('L')}L${run.at(-1)[0]} ${HEIGHT}Z`).join(''));
    const minutes = Math.round((series.step_s * most) / 60);
    from.textContent = minutes >= 60 ? `${Math.round(minutes / 60)} h ago` : `${minutes} min ago`;
    to.textContent = `top ${written(top)}`;
    drawn.setAttribute('aria-label',
      `${title}: ${names.map((_, place) => `${labels[place]} ${now[place].textContent}`).join(', ')}`);
  };
  return { node, draw };
}
