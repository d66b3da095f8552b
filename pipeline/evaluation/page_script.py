"""The script of the interactive page: it shows what the element `data` holds; page_frame.py has what it fills in."""

from pipeline.evaluation.sentence_script import SENTENCE_SCRIPT

SCRIPT = (
    r"""
"use strict";
(() => {
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const FAR = 60;  // percent worse: beyond, one poor model would make all others look equal
const BITS = 1 / Math.LN2;

// Text becomes text: an element is only made here, and its content is never read as markup.
// Characters that show nothing, or that turn round the direction of others, by their numbers.
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;
const seen = (text) => text.replace(UNSEEN, (found) =>
  "U+" + found.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0"));

function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) element.setAttribute(name, seen(String(value)));
  element.append(...children.map((child) => typeof child === "string" ? seen(child) : child));
  return element;
}

function table(id, header, rows) {
  const place = byId(id);
  if (!place) return;
  const numeric = header.map((_, column) => rows.every((row) => /^[-+\d.,%\u2013 e]*$/.test(row[column])));
  const line = (cells) => make("tr", {}, ...cells.map((cell, column) =>
    make(column ? "td" : "th", column ? (numeric[column] ? {class: "number"} : {}) : {scope: "row"}, cell)));
  const head = make("tr", {}, ...header.map((cell) => make("th", {scope: "col"}, cell)));
  place.replaceChildren(make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows.map(line))));
}

const fixed = (value, digits) => value === null || value === undefined ? "" :
  value.toLocaleString("en", {minimumFractionDigits: digits, maximumFractionDigits: digits});
const share = (value) => value === null || value === undefined ? "" : fixed(100 * value, 1) + "%";
const significant = (value) => Number(value.toPrecision(3)).toString();
const percent = (ratio) => (ratio < 1 ? "" : "+") + (100 * (ratio - 1)).toFixed(1);

// ---- figures -------------------------------------------------------------------------------------------------------

const drawn = [];  // what is drawn again where the colours of the page change

function config() {
  const [text, soft, line] = ["--text", "--soft", "--line"].map(colour);
  return {
    background: null, font: "system-ui, sans-serif", view: {stroke: null},
    axis: {labelColor: text, titleColor: soft, gridColor: line, domainColor: soft, tickColor: soft,
      labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal", labelLimit: 160},
    text: {color: text, fontSize: 12}, rule: {color: text},
  };
}

function figure(element, about, spec, renderer) {
  element.setAttribute("role", "group");
  element.setAttribute("aria-label", about);
  const draw = () => vegaEmbed(element, {width: "container", autosize: {type: "fit-x", contains: "padding"},
    config: config(), description: about, ...spec()},
    {ast: true, actions: false, renderer: renderer || "svg", tooltip: {theme: dark.matches ? "dark" : "light"}})
    .catch((error) => { element.textContent = "This figure cannot be drawn: " + error.message; });
  drawn.push(draw);
  draw();
  return draw;
}

const styles = new Map((data.styles || data.models || []).map((model) => [model.name, model]));
function scales(names) {
  const of = names.map((name) => styles.get(name));
  return {
    color: {field: "model", type: "nominal", legend: null,
      scale: {domain: names, range: of.map((model) => model.colour)}},
    shape: {field: "model", type: "nominal", legend: null,
      scale: {domain: names, range: of.map((model) => model.shape)}},
  };
}

const SHAPES = {
  circle: "M8 3a5 5 0 1 0 .01 0z", square: "M3 3h10v10h-10z", "triangle-up": "M8 2l6 11h-12z",
  diamond: "M8 1l6 7-6 7-6-7z", "triangle-down": "M8 14l6-11h-12z", cross: "M6 2h4v4h4v4h-4v4h-4v-4h-4v-4h4z",
  "triangle-right": "M3 2l11 6-11 6z",
};
function key(id, names) {
  const svg = (tag, attributes) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  };
  byId(id).replaceChildren(...names.map((name) => {
    const {colour: fill, shape} = styles.get(name);
    const picture = svg("svg", {width: 16, height: 16, "aria-hidden": "true"});
    picture.append(svg("path", {d: SHAPES[shape], fill}));
    return make("li", {}, picture, name);
  }));
}

function forest() {
  const all = data.models, best = Math.min(...all.map((model) => model.perplexity));
  const shown = all.map((model) => ({...model, model: model.name, far: model.perplexity > 1.8 * best}));
  shown.sort((a, b) => a.perplexity - b.perplexity);
  const near = shown.filter((model) => !model.far);
  const ends = near.flatMap((model) => [model.low ?? model.perplexity, model.high ?? model.perplexity, ...model.seeds]);
  const domain = [Math.min(...ends) * 0.99, Math.max(...ends) * 1.01];
  for (const model of shown) {
    const interval = model.low === null ? "" : ` (${fixed(model.low, 1)}\u2013${fixed(model.high, 1)})`;
    model.value = fixed(model.perplexity, 1) + interval + (model.far ? " \u2192" : "");
  }
  const seeds = near.flatMap((model) => model.seeds.map((perplexity) => ({model: model.name, perplexity})));
  const y = {field: "model", type: "nominal", sort: shown.map((model) => model.name), axis: null,
    scale: {paddingInner: 0.1, paddingOuter: 0}};
  const x = {type: "quantitative", scale: {domain, zero: false, nice: false}};
  const {color, shape} = scales(shown.map((model) => model.name));
  const place = byId("forest");
  const title = "test perplexity, lower is better" + (seeds.length ? "; small ticks: other seeds" : "");
  figure(place, "Test perplexity of each model with its 95% interval: " +
    shown.map((model) => `${model.name} ${model.value}`).join("; "), () => {
    // Above each interval the name and the figures: side by side, or one below the other.
    const narrow = place.clientWidth < 560, [named, told, at] = narrow ? [-22, -6, 12] : [-8, -8, 10];
    return {
    height: {step: narrow ? 64 : 46}, data: {values: shown}, encoding: {y},
    layer: [
      {mark: {type: "rule", strokeWidth: 2.5, yOffset: at}, transform: [{filter: "!datum.far && datum.low !== null"}],
        encoding: {x: {...x, field: "low", title}, x2: {field: "high"}, color}},
      {mark: {type: "tick", thickness: 1.5, size: 14, yOffset: at, opacity: 0.8}, data: {values: seeds},
        encoding: {x: {...x, field: "perplexity"}, color}},
      {mark: {type: "point", filled: true, size: 90, opacity: 1, yOffset: at, tooltip: true},
        transform: [{filter: "!datum.far"}],
        encoding: {x: {...x, field: "perplexity", title, axis: {tickCount: 6}}, color, shape,
          tooltip: [{field: "model"}, {field: "value", title: "perplexity"}]}},
      {mark: {type: "text", align: "left", yOffset: named, fontWeight: "bold",
        limit: place.clientWidth - (narrow ? 10 : 190)},
        encoding: {x: {value: 0}, text: {field: "model"}}},
      {mark: {type: "text", align: narrow ? "left" : "right", yOffset: told},
        encoding: {x: {value: narrow ? 0 : "width"}, text: {field: "value"}}},
    ]};
  });
  byId("intervals").textContent = data.intervals;
  table("models-table", ["model", "test perplexity", "95% interval", "mean over seeds", "sd", "parameters", "top-1",
    "top-5", "validation"], shown.map((model) => [model.name, fixed(model.perplexity, 1), model.low === null ? "" :
    `${fixed(model.low, 1)} \u2013 ${fixed(model.high, 1)}`, fixed(model.mean, 2), fixed(model.sd, 2),
    fixed(model.parameters, 0), share(model.top1), share(model.top5),
    fixed(model.valid, 1)]));
  if (!data.pairs) { byId("pairs-details").remove(); return; }
  byId("pairs-about").textContent = data.pairs.about;
  table("pairs-table", ["", "against", "perplexity", "95% interval", "p", "p, all pairs considered", ""],
    data.pairs.rows.map((pair) => [pair.model, pair.other, percent(pair.ratio) + "%",
      `${percent(pair.low)} \u2013 ${percent(pair.high)}%`, significant(pair.p), significant(pair.p_holm),
      pair.better ? "better" : "cannot be told apart"]));
}

function curves() {
  const rows = data.curves, names = [...new Set(rows.map((row) => row.model))], {color, shape} = scales(names);
  const values = rows.map((row) => row.perplexity), low = Math.min(...values), high = Math.max(...values);
  let share = 1;  // of the whole height, from the lowest value up
  const spec = () => ({
    height: 320, data: {values: rows.map((row) => ({...row, what: row.kept ? "kept" : ""}))},
    encoding: {
      x: {field: "tokens", type: "quantitative", title: "training tokens read", axis: {format: "~s", tickCount: 6}},
      y: {field: "perplexity", type: "quantitative", title: "validation perplexity",
        scale: {type: "log", nice: false, domain: [low / 1.02, low * Math.pow(high / low, share) * 1.02]},
        axis: {format: ",~g"}},
      color,
      tooltip: [{field: "model"}, {field: "epoch"}, {field: "tokens", format: ","},
        {field: "perplexity", format: ".2f"}, {field: "what"}],
    },
    layer: [
      {mark: {type: "line", strokeWidth: 2, clip: true},
        params: [{name: "view", select: {type: "interval", zoom: "wheel![event.shiftKey]"}, bind: "scales"}]},
      {mark: {type: "point", filled: true, size: 60, opacity: 1, clip: true}, encoding: {shape}},
      {mark: {type: "point", filled: false, size: 260, strokeWidth: 1.5, clip: true, shape: "circle"},
        transform: [{filter: "datum.kept"}]},
    ],
  });
  const element = byId("curves-chart");
  const draw = figure(element, "Validation perplexity of each network after each epoch", spec);
  const zoom = (next) => { share = Math.min(1, Math.max(1 / 64, next)); element.dataset.share = share; draw(); };
  byId("zoom-in").addEventListener("click", () => zoom(share / 2));
  byId("zoom-out").addEventListener("click", () => zoom(share * 2));
  byId("zoom-reset").addEventListener("click", () => zoom(1));
  key("curves-key", names);
  table("curves-table", ["model", "epoch", "training tokens", "validation perplexity", ""], rows.map((row) =>
    [row.model, String(row.epoch), fixed(row.tokens, 0), fixed(row.perplexity, 2), row.kept ? "kept" : ""]));
}

function where() {
  byId("where-about").textContent = data.where.about;
  const names = data.where.models, {color, shape} = scales(names);
  key("where-key", names);
  for (const aspect of data.where.aspects) {
    const rows = aspect.rows.filter((row) => names.includes(row.model)).map((row) => {
      const [at, low, high] = [row.ratio, row.low, row.high].map((ratio) =>
        ratio === null ? null : Math.min(FAR, 100 * (ratio - 1)));
      const interval = row.low === null ? "" : ` (${percent(row.low)} to ${percent(row.high)})`;
      const told = percent(row.ratio) + "%" + interval;
      return {...row, at, low_at: low, high_at: high, told, edge: FAR, far: 100 * (row.ratio - 1) > FAR,
        cut: row.high !== null && 100 * (row.high - 1) > FAR, said: `${row.model}, ${row.bin}: ${told}`};
    });
    const bins = [...new Set(rows.map((row) => row.bin))];
    const title = `% of perplexity, against the ${data.where.reference}`;
    const x = {type: "quantitative", title, axis: {tickCount: 6}};
    const place = make("div", {class: "chart"});
    byId("where-charts").append(make("div", {}, make("h3", {}, aspect.title), place));
    figure(place, `${aspect.title}: each model against the ${data.where.reference}, in percent of perplexity`, () => ({
      height: {step: 9}, data: {values: rows},
      encoding: {y: {field: "bin", type: "nominal", sort: bins, title: null, scale: {paddingInner: 0.25}},
        yOffset: {field: "model", type: "nominal", sort: names}, color},
      layer: [
        {mark: {type: "rule", strokeWidth: 1}, data: {values: [{}]}, encoding: {x: {datum: 0, type: "quantitative"},
          y: null, yOffset: null, color: {value: colour("--soft")}}},
        {mark: {type: "rule", strokeWidth: 2}, transform: [{filter: "datum.low_at !== null && !datum.far"}],
          encoding: {x: {...x, field: "low_at"}, x2: {field: "high_at"}}},
        // What lies beyond the scale is told in figures, and an interval that goes on has an arrow.
        {mark: {type: "text", align: "right", dx: -7, fontSize: 8}, transform: [{filter: "datum.far"}],
          encoding: {x: {...x, field: "at"}, text: {field: "told"}, color: {value: colour("--text")}}},
        {mark: {type: "point", shape: "triangle-right", filled: true, size: 40, opacity: 1},
          transform: [{filter: "datum.cut || datum.far"}], encoding: {x: {...x, field: "edge"}}},
        {mark: {type: "point", filled: true, size: 45, opacity: 1}, transform: [{filter: "!datum.far"}],
          encoding: {x: {...x, field: "at"}, shape, description: {field: "said"},
          tooltip: [{field: "model"}, {field: "bin", title: aspect.title}, {field: "told", title: "percent"},
            {field: "perplexity", format: ".1f"}, {field: "tokens", format: ","}]}},
      ],
    }));
  }
  table("where-table", ["", "", "model", "tokens", "perplexity", "percent", "95% interval"],
    data.where.aspects.flatMap((aspect) => aspect.rows.map((row) => [aspect.title, row.bin, row.model,
      fixed(row.tokens, 0), fixed(row.perplexity, 1), percent(row.ratio),
      row.low === null ? "" : `${percent(row.low)} \u2013 ${percent(row.high)}`])));
}

function gradient() {
  const networks = [...new Set(data.gradient.cells.map((row) => row.model))];
  const charts = [["Before training", data.gradient.cells.filter((row) => row.when === "before"), networks],
    ["After training", data.gradient.cells.filter((row) => row.when === "after"), networks],
    ["Two plain RNNs, untrained", data.gradient.plain, null]];
  const both = data.gradient.cells.map((row) => row.share).filter((share) => share > 0);
  for (const [heading, rows, names] of charts) {
    const kinds = names || [...new Set(rows.map((row) => row.model))];
    const own = {color: {field: "model", type: "nominal", legend: null,
      scale: {domain: kinds, range: [colour("--soft"), colour("--text")]}},
      shape: {field: "model", type: "nominal", legend: null}};
    const {color, shape} = names ? scales(names) : own;  // the two are none of the networks, nor of their colours
    const domain = names ? [Math.min(...both), Math.max(...both)] : undefined;
    const title = "gradient k words back / at the word";
    const place = make("div", {class: "chart"});
    byId("gradient-charts").append(make("div", {}, make("h3", {}, heading), place));
    const last = Math.max(...rows.map((row) => row.lag));
    figure(place, `${heading}: norm of the gradient by words back, relative to the word itself`, () => ({
      height: 240, data: {values: rows.filter((row) => row.share > 0)},
      encoding: {x: {field: "lag", type: "quantitative", title: "k, words back", axis: {tickMinStep: 1}},
        y: {field: "share", type: "quantitative", title, scale: {type: "log", domain},
          axis: {format: "~e", tickCount: 6}},
        color, tooltip: [{field: "model"}, {field: "lag", title: "words back"}, {field: "share", format: ".2~e"}]},
      layer: [{mark: {type: "line", strokeWidth: 2}},
        {mark: {type: "point", filled: true, size: 40, opacity: 1}, transform: [{filter: "datum.lag % 5 === 0"}],
          encoding: {shape}},
        ...(names ? [] : [{mark: {type: "text", align: "right", dx: -6,
          dy: {expr: "datum.model === 'vanishes' ? 14 : -10"}},  // on the side from which its line comes
          transform: [{filter: `datum.lag === ${Math.floor(2 * last / 3)}`}],
          encoding: {text: {field: "model"}, color: {value: colour("--text")}}}])],
    }));
  }
  key("gradient-key", networks);
  const lags = [0, 1, 2, 5, 10, 20, 30].filter((lag) => data.gradient.cells.some((row) => row.lag === lag));
  const series = [...data.gradient.cells.map((row) => ({...row, name: `${row.model}, ${row.when} training`})),
    ...data.gradient.plain.map((row) => ({...row, name: `plain RNN, ${row.model}`}))];
  table("gradient-table", ["words back", ...lags.map(String)], [...new Set(series.map((row) => row.name))].map((name) =>
    [name, ...lags.map((lag) => {
      const found = series.find((row) => row.name === name && row.lag === lag);
      return found ? significant(found.share) : "";
    })]));
}

"""
    + SENTENCE_SCRIPT
    + r"""function units() {
  const select = byId("units-sentence"), {list, cells} = data.units;
  options(select, list.map((sentence) => ({kind: "", title: sentence.words.join(data.sentences.joined ? "" : " ")
    .slice(0, 90)})));
  const charts = byId("units-charts");
  cells.forEach((cell) => {
    const place = make("div", {class: "chart"});
    charts.append(make("div", {}, make("h3", {}, cell.model), place));
    const spec = () => {
      const sentence = list[Number(select.value)];
      const words = ["\u25b8", ...sentence.words];
      const rows = cell.values[Number(select.value)].flatMap((units, at) => units.map((value, unit) =>
        ({at, word: words[at], unit: `unit ${cell.numbers[unit]}`, order: unit, value: value / 100})));
      return {
        height: {step: 6}, data: {values: rows},
        mark: {type: "rect", tooltip: true},
        encoding: {
          x: {field: "at", type: "ordinal", title: null, axis: {labelAngle: -60, labelLimit: 90, ticks: false,
            labelExpr: "words[datum.value]", labelOverlap: false, labelFontSize: 11}},
          y: {field: "order", type: "ordinal", axis: null, title: null},
          color: {field: "value", type: "quantitative", title: null, legend: null,
            scale: {domain: [-1, 0, 1], interpolate: "rgb", range: ["#0072B2", colour("--back"), "#E69F00"]}},
          tooltip: [{field: "word"}, {field: "unit"}, {field: "value", format: ".2f"}],
        },
        params: [{name: "words", value: words}],
      };
    };
    const draw = figure(place, `${cell.model}: values of ${cell.numbers.length} units after each word`, spec, "canvas");
    select.addEventListener("change", draw);
  });
}

function neighbours() {
  const {models, rows} = data.neighbours;
  table("neighbours-table", ["word", ...models], rows.map((row) =>
    [row.word, ...row.near.map((near) => near.map(([word, cosine]) => `${word} ${cosine.toFixed(2)}`).join(", "))]));
  byId("neighbours-table").classList.add("neighbours");
}

function samples() {
  const select = byId("temperature");
  select.replaceChildren(...data.samples.map((set, index) => make("option", {value: index}, set.temperature)));
  select.value = data.samples.findIndex((set) => set.chosen);
  const show = () => {
    const {models} = data.samples[Number(select.value)];
    const names = Object.keys(models), most = Math.max(...names.map((name) => models[name].length));
    table("samples-table", ["", ...names], Array.from({length: most}, (_, index) =>
      [String(index + 1), ...names.map((name) => models[name][index] ?? "")]));
    byId("samples-table").classList.add("samples");
  };
  select.addEventListener("change", show);
  show();
}

const SHOWN = {models: forest, curves, sentences, where, gradient, units, neighbours, samples};
for (const [name, show] of Object.entries(SHOWN)) if (name in data) show();
for (const query of [dark, window.matchMedia("(max-width: 40rem)")]) {
  query.addEventListener("change", () => drawn.forEach((draw) => draw()));
}
window.addEventListener("beforeprint", () =>
  document.querySelectorAll("details").forEach((one) => { one.open = true; }));
document.documentElement.dataset.ready = "yes";
})();
"""
)
