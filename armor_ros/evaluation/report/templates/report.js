'use strict';

// Texts of a run are set as text, never as markup.

const read = (id) => JSON.parse(document.getElementById(id).textContent);

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children.filter((child) => child !== null && child !== ''));
  return made;
}

// Gallery

const PAGE = 24;
const { tasks, pictures } = read('gallery');
const outcomes = read('words');
const form = document.getElementById('filters');
const list = document.getElementById('list');
const more = document.getElementById('more');
const viewer = document.getElementById('viewer');
const KEYS = ['outcome', 'verdict', 'label', 'robot', 'task', 'split', 'mode', 'source'];
const BY = {
  status: 'the robot itself', event: 'the robot itself', label_task: 'an operator',
  sidecar: 'a file of labels', dataset: 'the data set',
};
let chosen = [];
let shown = 0;

const valueOf = (task, key) => (key === 'label' ? task.label ?? 'none' : task[key] ?? '');
const percent = (share) => `${+(100 * share).toFixed(1)}\u00a0%`;

function fillSelects() {
  for (const key of KEYS) {
    const select = form.elements[key];
    const counts = new Map();
    for (const task of tasks) {
      const value = valueOf(task, key);
      if (value) counts.set(value, (counts.get(value) ?? 0) + 1);
    }
    const names = key === 'outcome' ? Object.keys(outcomes).filter((name) => counts.has(name))
      : [...counts.keys()].sort();
    for (const name of names.slice(0, 500)) {
      const words = key === 'outcome' ? outcomes[name] : name;
      const cut = words.length > 60 ? `${words.slice(0, 59)}…` : words;
      select.append(element('option', { value: name }, `${cut} (${counts.get(name)})`));
    }
    if (key === 'robot') {
      const odd = tasks.filter(isContradiction).length;
      if (odd) select.append(element('option', { value: '!' }, `contradicted (${odd})`));
    }
    // one choice is none; "no label" is worth choosing
    select.closest('label').hidden = names.length < 2 && select.options.length < 3;
  }
}

function isContradiction(task) {
  return (task.robot === 'SUCCEEDED' && task.verdict === 'FAILURE')
    || (task.robot === 'ABORTED' && task.verdict === 'SUCCESS');
}

function textOf(task) {
  task.text ??= [task.id, task.source, task.instruction, task.explanation, task.reference,
    task.robot_said, task.status_text, task.task, task.mode].join(' ').toLowerCase();
  return task.text;
}

function fits(task, wanted, words) {
  for (const [key, value] of Object.entries(wanted)) {
    if (value === '!' && key === 'robot') {
      if (!isContradiction(task)) return false;
    } else if (valueOf(task, key) !== value) {
      return false;
    }
  }
  return words.every((word) => textOf(task).includes(word));
}

function filter() {
  const wanted = {};
  for (const key of KEYS) {
    if (form.elements[key].value) wanted[key] = form.elements[key].value;
  }
  const words = form.elements.words.value.toLowerCase().split(/\s+/).filter(Boolean);
  chosen = tasks.filter((task) => fits(task, wanted, words));
  const order = form.elements.order.value;
  if (order === 'number') chosen.sort((one, other) => one.number - other.number);
  else if (order) chosen.sort((one, other) => (other[order] ?? -1) - (one[order] ?? -1));
  document.getElementById('found').textContent = chosen.length === tasks.length
    ? `${tasks.length} tasks` : `${chosen.length} of ${tasks.length} tasks`;
  list.replaceChildren();
  shown = 0;
  showMore();
}

function showMore() {
  const next = chosen.slice(shown, shown + PAGE);
  const cards = next.map(card);
  list.append(...cards);
  shown += next.length;
  if (!shown) list.append(element('p', { className: 'none' }, 'No task fits these filters.'));
  const left = chosen.length - shown;
  more.hidden = left <= 0;
  more.textContent = `Show ${Math.min(PAGE, left)} more of ${left}`;
  return cards[0];
}

function card(task) {
  const made = element('article', { className: `card task ${task.outcome}` });
  made.append(picture(task), chips(task));
  made.append(element('h3', { dir: 'auto' }, task.instruction || task.task || task.id));
  const add = (name, text) => text && made.append(
    element('p', {}, element('b', {}, `${name}: `), element('span', { dir: 'auto' }, text)));
  add('It says', task.explanation);
  add('It saw', task.account);
  add('Reference', task.reference);
  add('Robot’s message', task.robot_said);
  add('Why there is no answer', task.status_text || (task.unparsable ? 'the answer cannot be read' : ''));
  made.append(details(task));
  return made;
}

function picture(task) {
  if (task.picture === undefined) {
    return task.file ? element('p', { className: 'none' }, link(task)) : '';
  }
  const name = task.instruction || task.id;
  const image = element('img', {
    src: pictures[task.picture], alt: `Evidence: ${name}`, loading: 'lazy', decoding: 'async',
  });
  const button = element('button', { type: 'button', className: 'show' }, image);
  button.setAttribute('aria-label', `Enlarge the evidence: ${name}`);
  button.addEventListener('click', () => {
    document.getElementById('viewer-title').textContent = name;
    document.getElementById('viewer-picture').src = pictures[task.picture];
    viewer.showModal();
  });
  return button;
}

const link = (task) => element('a', { href: task.file }, 'Picture in the run folder');

function chips(task) {
  const row = element('ul', { className: 'chips' });
  const add = (text, className = '') => row.append(element('li', { className, dir: 'auto' }, text));
  const sure = task.sure !== undefined && task.outcome !== 'unanswered';
  add(outcomes[task.outcome] + (sure ? `, ${percent(task.sure)} sure` : ''), 'outcome');
  add(`verdict ${task.verdict}` + (task.verdict === 'ABSTAIN' && task.said ? ` (${task.said})` : ''));
  if (task.label) add(`label ${task.label}, by ${BY[task.by] ?? 'unknown'}`);
  if (task.robot && task.robot !== 'UNKNOWN') add(`robot ${task.robot}`);
  if (task.status) add(task.status);
  return row;
}

function details(task) {
  const facts = element('dl', { className: 'facts' });
  const add = (name, value) => value !== undefined && value !== '' && facts.append(
    element('dt', {}, name), element('dd', { dir: 'auto' }, String(value)));
  add('id', task.id);
  add('source', task.source);
  add('task', task.task);
  add('split', task.split);
  add('injected failure', task.mode);
  add('probability of failure', task.p === undefined ? undefined
    : `${task.p}${task.calibrated ? ', calibrated' : ''}`);
  add('entropies', task.doubt === undefined ? undefined
    : `detection ${task.detection}, explanation ${task.words}, combined ${task.doubt} nats`);
  add('frames', task.cameras);
  add('seconds', task.seconds);
  if (task.truncated) add('clip', 'its beginning had left the buffer');
  if (task.late) add('deadline', 'reached: the best answer so far');
  add('raw answers', task.raw);
  if (task.file) facts.append(element('dt', {}, 'picture'), element('dd', {}, link(task)));
  const made = element('details', {}, element('summary', {}, 'Details'), facts);
  if (task.rounds) {
    const rounds = element('ol', { start: 0 });
    for (const round of task.rounds) {
      rounds.append(element('li', { dir: 'auto' },
        `failure ${percent(round.p)}, entropy ${round.doubt}: ${round.text}`));
    }
    made.append(element('p', {}, element('b', {}, 'Round by round')), rounds);
  }
  return made;
}

form.addEventListener('input', filter);
form.addEventListener('submit', (event) => event.preventDefault());
form.addEventListener('reset', () => setTimeout(filter));
more.addEventListener('click', () => {
  const first = showMore();
  // who goes on with the keyboard goes on where the new tasks begin
  first?.querySelector('button, summary')?.focus();
});
for (const button of document.querySelectorAll('button[data-filter=robot]')) {
  button.addEventListener('click', () => {
    form.reset();
    form.elements.robot.value = '!';
    setTimeout(() => {
      form.elements.robot.value = '!';
      filter();
      document.getElementById('tasks').scrollIntoView();
      form.elements.robot.focus({ preventScroll: true });
    });
  });
}
document.getElementById('viewer-close').addEventListener('click', () => viewer.close());
viewer.addEventListener('click', (event) => event.target === viewer && viewer.close());
fillSelects();
filter();

// Charts

const charts = read('charts');

function themed(layout) {
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(name).trim();
  const axis = (own) => ({
    ...own, gridcolor: color('--grid'), linecolor: color('--line'),
    tickfont: { size: 12 }, title: { ...own.title, font: { size: 12.5 }, standoff: 8 },
  });
  return {
    ...layout, xaxis: axis(layout.xaxis), yaxis: axis(layout.yaxis),
    paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)', dragmode: false,
    font: { color: color('--ink'), family: getComputedStyle(document.body).fontFamily },
    margin: { l: 64, r: 14, t: 34, b: 48 },
    legend: { orientation: 'h', y: 1.02, yanchor: 'bottom', x: 0, font: { size: 12.5 } },
    hoverlabel: { bgcolor: color('--card'), bordercolor: color('--line'), font: { color: color('--ink') } },
  };
}

function drawCharts() {
  const options = { displayModeBar: false, responsive: true };
  const draw = (place) => {
    const { data, layout } = charts[place.dataset.chart];
    Plotly.react(place, data, themed(layout), options);
  };
  const places = [...document.querySelectorAll('[data-chart]')];
  // one at a time, so that the page can be used meanwhile
  places.forEach((place, index) => setTimeout(() => draw(place), 30 * index));
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
    places.forEach(draw);
  });
}
