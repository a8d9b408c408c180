# SPDX-License-Identifier: Apache-2.0
"""The frame of the gallery's page: style, filters and a little JavaScript, no resource outside."""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; \
script-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>@title@</title>
<style>
:root { color-scheme: light dark; --back: #f3f4f6; --card: #fff; --ink: #1b1f24; --soft: #5f6873;
  --line: #dfe3e8; --good: #14794a; --bad: #b3261e; --chip: #eef1f4; --mark: #a85b00; }
@media (prefers-color-scheme: dark) { :root { --back: #14171a; --card: #1e2227; --ink: #e6e9ec;
  --soft: #98a2ad; --line: #30363d; --good: #3fb97c; --bad: #f47067; --chip: #2a3037;
  --mark: #e0a13c; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
header { max-width: 1180px; margin: 0 auto; padding: 26px 20px 8px; }
h1 { font-size: 24px; margin: 0 0 4px; }
header p { margin: 0; color: var(--soft); }
form { position: sticky; top: 0; z-index: 2; background: var(--back);
  border-bottom: 1px solid var(--line); }
form > div { max-width: 1180px; margin: 0 auto; padding: 10px 20px; display: flex;
  flex-wrap: wrap; gap: 10px 14px; align-items: center; }
label { color: var(--soft); font-size: 13px; display: flex; gap: 6px; align-items: center; }
select, input[type=search] { font: inherit; font-size: 14px; color: var(--ink);
  background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: 4px 8px; }
output { margin-left: auto; color: var(--soft); font-size: 13px; }
main { max-width: 1180px; margin: 0 auto; padding: 18px 20px 60px; display: grid; gap: 18px; }
article { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 14px 16px 16px; }
figure { margin: 0; display: grid; grid-template-columns: 22px 1fr; }
figure img { width: 100%; height: auto; display: block; border-radius: 4px; }
.views { display: grid; grid-auto-rows: 1fr; color: var(--soft); font-size: 11px; }
.views span { writing-mode: vertical-rl; transform: rotate(180deg); text-align: center; }
.times { grid-column: 2; display: grid; grid-auto-flow: column; grid-auto-columns: 1fr;
  color: var(--soft); font-size: 11px; text-align: center; font-variant-numeric: tabular-nums; }
.times .cause { color: var(--bad); font-weight: 600; box-shadow: inset 0 2px var(--bad); }
.facts { display: flex; flex-wrap: wrap; gap: 6px; margin: 10px 0 2px; font-size: 12px;
  color: var(--soft); align-items: center; }
.facts b { color: var(--ink); margin-right: 4px; overflow-wrap: anywhere; }
.facts span { background: var(--chip); border-radius: 20px; padding: 1px 9px; }
section { border-left: 4px solid var(--line); margin-top: 10px; padding: 1px 0 1px 12px; }
section.success { border-color: var(--good); }
section.failure { border-color: var(--bad); }
h3 { font-size: 15px; font-weight: 600; margin: 0; overflow-wrap: anywhere; }
h3 strong { font-size: 11px; text-transform: uppercase; letter-spacing: .05em; color: #fff;
  padding: 2px 7px; border-radius: 4px; margin-right: 8px; vertical-align: 1px; }
.success h3 strong { background: var(--good); }
.failure h3 strong { background: var(--bad); }
@media (prefers-color-scheme: dark) { h3 strong { color: #10130f; } }
section p { margin: 3px 0 0; overflow-wrap: anywhere; }
section i { color: var(--soft); }
q { quotes: none; }
.marks { font-size: 12.5px; color: var(--soft); display: flex; flex-wrap: wrap; gap: 2px 16px; }
.marks em, .marks .wrong { color: var(--mark); font-style: normal; font-weight: 600; }
.none { color: var(--soft); }
[hidden] { display: none !important; }
</style>
</head>
<body>
<header><h1>@title@</h1><p>@summary@</p></header>
<form><div>
<label>outcome<select name="label"><option value="">all</option>@label@</select></label>
<label>task<select name="task"><option value="">all</option>@task@</select></label>
<label>disturbed by<select name="mode"><option value="">all</option>@mode@</select></label>
<label>split<select name="split"><option value="">all</option>@split@</select></label>
<label><input type="checkbox" name="odd" value="yes">label or robot wrong</label>
<input type="search" name="words" placeholder="words" aria-label="words">
<output></output>
</div></form>
<main>
@cards@
</main>
<script>
'use strict';
const form = document.querySelector('form');
const articles = Array.from(document.querySelectorAll('article'));
const total = document.querySelectorAll('section').length;
function filter() {
  const wanted = {};
  for (const key of ['label', 'task', 'mode', 'split']) wanted[key] = form.elements[key].value;
  wanted.odd = form.elements.odd.checked ? 'yes' : '';
  const words = form.elements.words.value.toLowerCase().split(/\\s+/).filter(Boolean);
  let shown = 0;
  for (const article of articles) {
    const name = article.querySelector('.facts').textContent.toLowerCase();
    let any = false;
    for (const section of article.querySelectorAll('section')) {
      const text = name + ' ' + section.textContent.toLowerCase();
      const fits = Object.keys(wanted).every(
        (key) => !wanted[key] || section.dataset[key] === wanted[key]
      ) && words.every((word) => text.includes(word));
      section.hidden = !fits;
      if (fits) { any = true; shown += 1; }
    }
    article.hidden = !any;
  }
  form.querySelector('output').textContent = shown + ' of ' + total + ' samples';
}
form.addEventListener('input', filter);
form.addEventListener('submit', (event) => event.preventDefault());
filter();
</script>
</body>
</html>
"""
