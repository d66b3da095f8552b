"""The part of the page's script that shows sentences word by word; page_script.py holds it."""

SENTENCE_SCRIPT = r"""
// ---- sentences -----------------------------------------------------------------------------------------------------

const step = (bits) => { const at = data.surprise.findIndex((limit) => bits < limit);
  return at < 0 ? data.surprise.length : at; };
const chance = (nats) => { const p = 100 * Math.exp(-nats);
  return p >= 9.95 ? p.toFixed(0) + "%" : p >= 0.001 ? Number(p.toPrecision(2)).toString() + "%" : "<0.001%"; };

function options(select, items) {
  const groups = new Map();
  items.forEach((item, index) => {
    if (!groups.has(item.kind)) groups.set(item.kind, make("optgroup", {label: item.kind}));
    groups.get(item.kind).append(make("option", {value: index}, item.title));
  });
  const many = groups.size > 1 || !groups.has("");
  select.replaceChildren(...(many ? groups.values() : groups.get("")?.children ?? []));
}

function sentences() {
  const {list, models, words, about, joined} = data.sentences;
  byId("sentences-about").textContent = about;
  const limits = ["under " + data.surprise[0], ...data.surprise.slice(1).map((limit, index) =>
    `${data.surprise[index]}\u2013${limit}`), data.surprise.at(-1) + " and more"];
  byId("surprise-key").replaceChildren(...limits.map((text, index) =>
    make("li", {}, make("span", {class: `swatch s${index}`}, text))), make("li", {}, "bits of surprise"));
  const select = byId("sentence"), reading = byId("reading"), expected = byId("expected");
  const gap = joined ? "" : " ";
  if (!list.length) { reading.textContent = "No sentence is of a length that can be shown."; return; }
  options(select, list.map((sentence) => ({kind: sentence.kind, title: sentence.words.join(gap).slice(0, 90)})));
  let row = 0, place = 0;

  function show(focus) {
    const sentence = list[Number(select.value)];
    for (const word of reading.querySelectorAll(".chosen, [tabindex='0']")) {
      word.classList.remove("chosen");
      word.setAttribute("tabindex", "-1");
    }
    for (const line of reading.children) line.querySelectorAll(".word")[place].classList.add("chosen");
    const current = reading.children[row].querySelectorAll(".word")[place];
    current.setAttribute("tabindex", "0");
    if (focus) current.focus();
    const word = place < sentence.words.length ? sentence.words[place] : "end of the sentence";
    const unknown = sentence.unknown.includes(place) ? ", a word that the models do not know," : "";
    const parts = [make("div", {class: "title"}, make("b", {}, word), `${unknown} after \u201c` +
      (sentence.words.slice(Math.max(0, place - 6), place).join(gap) || "the start of the sentence") + "\u201d")];
    models.forEach((name, index) => {
      const spent = sentence.nats[index][place], own = sentence.targets[index][place];
      const items = sentence.likeliest[index][place].map((id, rank) => {
        const nats = sentence.likeliest_nats[index][place][rank];
        const bar = make("span", {});
        bar.style.width = 100 * Math.exp(-nats) + "%";
        return make("li", id === own ? {class: "right"} : {}, make("span", {}, words[id]),
          make("span", {class: "share"}, chance(nats)), make("div", {class: "bar"}, bar));
      });
      parts.push(make("div", {"data-model": name}, make("h3", {}, name),
        make("div", {}, `gave it ${chance(spent)}: ${(spent * BITS).toFixed(1)} bits`), make("ol", {}, ...items)));
    });
    expected.replaceChildren(...parts);
  }

  function choose(focus) {
    const sentence = list[Number(select.value)];
    row = 0;
    place = Math.min(1, sentence.words.length);
    reading.replaceChildren(...models.map((name, index) => {
      const nats = sentence.nats[index], sum = nats.reduce((a, b) => a + b, 0);
      const text = make("div", {class: "text" + (joined ? " joined" : "")});
      nats.forEach((spent, at) => {
        const word = at < sentence.words.length ? sentence.words[at] : "\u23ce";
        const bits = spent * BITS, unknown = sentence.unknown.includes(at) ? " unknown" : "";
        text.append(make("span", {class: `word s${step(bits)}${unknown}`, tabindex: "-1", role: "button",
          "data-row": index, "data-place": at, "aria-label":
          `${at < sentence.words.length ? word : "end of the sentence"}, ${bits.toFixed(1)} bits`}, word), gap);
      });
      return make("div", {class: "reading", role: "group", "aria-label": name}, make("div", {class: "who"},
        make("b", {}, name), `  ${(sum * BITS).toFixed(1)} bits, perplexity ${fixed(Math.exp(sum / nats.length), 1)}`),
        text);
    }));
    show(focus);
  }

  function pick(event, focus) {
    const word = event.target.closest(".word");
    if (!word) return;
    [row, place] = [Number(word.dataset.row), Number(word.dataset.place)];
    show(focus);
  }
  reading.addEventListener("mouseover", (event) => pick(event, false));
  reading.addEventListener("focusin", (event) => pick(event, false));
  reading.addEventListener("click", (event) => pick(event, true));
  reading.addEventListener("keydown", (event) => {
    const length = list[Number(select.value)].nats[0].length;
    const moves = {ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0],
      Home: [0, -length], End: [0, length]};
    if (!(event.key in moves)) return;
    event.preventDefault();
    row = Math.min(models.length - 1, Math.max(0, row + moves[event.key][0]));
    place = Math.min(length - 1, Math.max(0, place + moves[event.key][1]));
    show(true);
  });
  select.addEventListener("change", () => choose(false));
  for (const [id, by] of [["earlier", -1], ["later", 1]]) {
    byId(id).addEventListener("click", () => {
      select.value = (Number(select.value) + by + list.length) % list.length;
      choose(false);
    });
  }
  choose(false);
}

"""
