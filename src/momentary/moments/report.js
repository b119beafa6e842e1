// Draws the report from the JSON in the page. No text from the data ever becomes markup.
"use strict";
(() => {
  const page = JSON.parse(document.getElementById("data").textContent), table = page.table;
  const SVG = "http://www.w3.org/2000/svg", root = document.getElementById("report");
  function make(tag, attributes = {}, ...children) {
    const svg = ["svg", "line", "circle", "path", "text", "title", "g"].includes(tag);
    const node = svg ? document.createElementNS(SVG, tag) : document.createElement(tag);
    for (const [k, v] of Object.entries(attributes)) node.setAttribute(k, v);
    node.append(...children);
    return node;
  }
  const put = (parent, ...all) => { const n = make(...all); parent.append(n); return n; };
  const signed = (v, d = 1) => (v >= 0 ? "+" : "−") + Math.abs(v).toFixed(d);
  const range = (e) => `${signed(e.low)} to ${signed(e.high)} %`;
  const scales = Object.fromEntries(table.scales.map((s) => [s.attribute, s]));
  const outcomes = Object.fromEntries(table.outcomes.map((o) => [o.name, o]));
  const fits = Object.fromEntries(table.fits.map((f) => [f.outcome, f]));
  const label = (a) => (scales[a] || { label: a }).label;
  const marked = (a) => label(a) + (scales[a]?.noisy ? " (noisy)" : "");
  const good = (e) => (outcomes[e.outcome].good ? 1 : -1) * e.percent >= 0;
  const look = (e) => (!e.discovered || e.refused ? "no" : good(e) ? "shows" : "hurts");
  const unit = (s) => (s.binary ? "yes against no" : "per +1 SD");

  // Rows of {label, percent, low, high, look, words} as points with intervals.
  function forest(rows, title) {
    const width = Math.max(320, Math.min(640, root.clientWidth)), longest = Math.max(...rows.map((r) => r.label.length)), left = Math.min(0.6 * width, Math.max(width < 500 ? 150 : 190, 6.2 * longest + 12)), height = 26 * rows.length + 34;
    // As wide as what may be read as an effect, and as half of the rest; what goes on gets an arrow.
    const reach = (some) => some.map((r) => Math.min(200, Math.max(Math.abs(r.low), Math.abs(r.high)))).sort((a, b) => a - b);
    const all = reach(rows), edge = Math.max(1, all[Math.floor(all.length / 2)], ...reach(rows.filter((r) => r.look !== "no")));
    const start = rows.every((r) => r.low >= 0) ? 0 : -edge;
    const x = (v) => left + ((Math.max(start, Math.min(edge, v)) - start) / (edge - start)) * (width - left - 12);
    const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title, class: "forest" });
    put(svg, "line", { x1: x(0), x2: x(0), y1: 4, y2: height - 26, class: "zero" });
    for (const v of start ? [start, 0, edge] : [0, edge])
      put(svg, "text", { x: x(v), y: height - 8, "text-anchor": v === start ? "start" : v ? "end" : "middle" }, v ? `${signed(v, 0)} %` : "0 %");
    rows.forEach((r, i) => {
      const y = 17 + 26 * i, g = put(svg, "g", { class: r.look });
      put(g, "title", {}, r.words);
      put(g, "line", { x1: x(r.low), x2: x(r.high), y1: y, y2: y, "stroke-width": 3 });
      for (const [beyond, tip, way] of [[r.low < start, x(start), 7], [r.high > edge, x(edge), -7]])
        if (beyond) put(g, "path", { d: `M${tip},${y}l${way},-6v12z` });
      put(g, "circle", { cx: x(r.percent), cy: y, r: 5 });
      put(svg, "text", { x: 0, y: y + 4 }, r.label);
    });
    return svg;
  }

  function curve(c) {
    const w = Math.max(320, Math.min(640, root.clientWidth)), h = 220, s = scales[c.attribute], low = Math.min(...c.low, 0), high = Math.max(...c.high, 0);
    const a = c.doses[0], b = c.doses.at(-1);
    const x = (v) => 50 + ((v - a) / (b - a || 1)) * (w - 60), y = (v) => h - 45 - ((v - low) / (high - low || 1)) * (h - 60);
    const path = (ds, vs) => ds.map((d, i) => `${i ? "L" : "M"}${x(d).toFixed(1)},${y(vs[i]).toFixed(1)}`).join("");
    const svg = make("svg", { viewBox: `0 0 ${w} ${h}`, role: "img", class: "dose",
      "aria-label": `Dose and response: ${outcomes[c.outcome].label} by ${s.label}` });
    const back = path([...c.doses].reverse(), [...c.low].reverse()).replace("M", "L");
    put(svg, "path", { d: path(c.doses, c.high) + back + "Z", class: "ribbon" });
    put(svg, "path", { d: path(c.doses, c.percent), class: "curve" });
    put(svg, "line", { x1: 50, x2: w - 10, y1: y(0), y2: y(0), class: "zero" });
    for (const v of c.rug) if (v >= a && v <= b) put(svg, "line", { x1: x(v), x2: x(v), y1: h - 40, y2: h - 32, class: "rug" });
    put(svg, "text", { x: 0, y: y(high) + 4 }, `${signed(high, 0)} %`);
    put(svg, "text", { x: 0, y: y(low) }, `${signed(low, 0)} %`);
    put(svg, "text", { x: 50, y: h - 8 }, a.toPrecision(3));
    put(svg, "text", { x: w - 10, y: h - 8, "text-anchor": "end" }, `${b.toPrecision(3)} ${s.unit}`);
    return svg;
  }

  // The weeks around an exposure: a point and its interval for each.
  function weeksAround(a) {
    const w = Math.max(320, Math.min(640, root.clientWidth)), h = 200, low = Math.min(...a.low, 0), high = Math.max(...a.high, 0);
    const first = a.weeks[0], last = a.weeks.at(-1);
    const x = (k) => 70 + ((k - first) / (last - first || 1)) * (w - 130), y = (v) => h - 40 - ((v - low) / (high - low || 1)) * (h - 60);
    const svg = make("svg", { viewBox: `0 0 ${w} ${h}`, role: "img", class: "around", "aria-label": `The weeks around: ${outcomes[a.outcome].label}, ${label(a.attribute)}` });
    put(svg, "line", { x1: 50, x2: w - 10, y1: y(0), y2: y(0), class: "zero" });
    a.weeks.forEach((k, i) => {
      const g = put(svg, "g", { class: k ? "no" : "shows" });
      put(g, "title", {}, `${signed(a.percent[i])} % (${signed(a.low[i])} to ${signed(a.high[i])})`);
      put(g, "line", { x1: x(k), x2: x(k), y1: y(a.low[i]), y2: y(a.high[i]), "stroke-width": 3 });
      put(g, "circle", { cx: x(k), cy: y(a.percent[i]), r: 5 });
      put(svg, "text", { x: x(k), y: h - 10, "text-anchor": "middle" }, !k ? "shown" : w < 500 ? signed(k, 0) : `${Math.abs(k)} week${Math.abs(k) > 1 ? "s" : ""} ${k < 0 ? "before" : "after"}`);
    });
    put(svg, "text", { x: 0, y: y(high) + 8 }, `${signed(high, 0)} %`);
    put(svg, "text", { x: 0, y: y(0) + 4 }, "0 %");
    return svg;
  }

  function section(title) { const s = put(root, "section"); put(s, "h2", {}, title); return s; }

  function effects() {
    for (const o of table.outcomes) {
      const rows = table.effects.filter((e) => e.outcome === o.name).sort((a, b) => page.order[o.name].indexOf(a.attribute) - page.order[o.name].indexOf(b.attribute));
      if (!rows.length) continue;
      const s = section(`${page.moments[o.moment]}: ${o.label}`), fit = fits[o.name];
      const rungs = [...new Set(rows.map((e) => e.rung))].sort();
      put(s, "div", { class: "banner" }, `Evidence: ${rungs.map((r) => `rung ${r} of 4, ${page.rungs[r]}`).join("; ")}. ` +
        (fit ? `${fit.items.toLocaleString("en")} items, ${Math.round(fit.exposures).toLocaleString("en")} exposures, ${Math.round(fit.events).toLocaleString("en")} events.` : ""));
      s.append(forest(rows.map((e) => ({ ...e, label: marked(e.attribute), look: look(e) })), `Effects on ${o.label}, in percent`));
      const folded = put(s, "details", table.outcomes.length > 1 ? {} : { open: "" });
      put(folded, "summary", {}, `The numbers, and in words, of ${o.label}`);
      const box = put(folded, "div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `Table of effects on ${o.label}` });
      const t = put(box, "table"), head = put(put(t, "thead"), "tr");
      for (const h of ["what", "effect", `interval (${Math.round(100 * table.level)} %)`, "q", "robustness", "rung", "plain correlation", "in words"]) put(head, "th", { scope: "col" }, h);
      const body = put(t, "tbody");
      for (const e of rows) {
        const tr = put(body, "tr");
        put(tr, "th", { scope: "row" }, `${marked(e.attribute)} (${unit(scales[e.attribute])})`);
        for (const v of [e.refused ? "refused" : `${signed(e.percent)} %`, e.refused ? "" : range(e), e.q < 0.001 ? "< .001" : e.q.toFixed(3), e.robustness == null ? "" : e.robustness.toFixed(2), e.rung, e.naive ? `${signed(e.naive.percent)} %` : ""]) put(tr, "td", { class: "n" }, String(v));
        put(tr, "td", { class: "words" }, [e.refused || e.words, ...e.warnings].join(" "));
      }
    }
  }

  function strip() {
    if (new Set(table.outcomes.map((o) => o.moment)).size < 2) return;
    const s = section("Across the moments"), t = put(put(s, "div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Effects across the moments" }), "table");
    const head = put(put(t, "thead"), "tr");
    const read = Object.keys(page.promises).length > 0;
    for (const h of ["what", ...(read ? ["reading"] : []), ...table.outcomes.map((o) => o.label)]) put(head, "th", { scope: "col" }, h);
    const body = put(t, "tbody");
    for (const scale of table.scales) {
      const found = Object.fromEntries(table.effects.filter((e) => e.attribute === scale.attribute).map((e) => [e.outcome, e]));
      const tr = put(body, "tr");
      put(tr, "th", { scope: "row" }, marked(scale.attribute));
      const promise = page.promises[scale.attribute];
      if (read) put(tr, "td", { class: promise?.broken ? "reading bad over" : "reading soft" }, promise ? promise.words : "");
      for (const o of table.outcomes) {
        const e = found[o.name], shown = e && e.discovered && !e.refused;
        put(tr, "td", { class: `n ${shown ? (good(e) ? "good" : "bad") : "soft"}` }, shown ? `${signed(e.percent)} %` : e ? "·" : "–");
      }
    }
    put(s, "p", { class: "soft" }, "Per SD. A dot: no effect that stands, or one that is refused; a dash: not analysed.");
  }

  function attributes() {
    const names = table.scales.map((s) => s.attribute).filter((a) => page.examples[a] || table.curves.some((c) => c.attribute === a) || table.heterogeneity.some((h) => h.attribute === a) || table.around.some((w) => w.attribute === a));
    if (!names.length) return;
    const s = section("One by one");
    names.forEach((a, i) => {
      const d = put(s, "details", i ? {} : { open: "" });
      put(d, "summary", {}, marked(a));
      const ex = page.examples[a];
      if (ex) for (const [side, files] of [["High", ex.high], ["Low", ex.low]]) {
        put(d, "h3", {}, `${side} in ${label(a)}, matched on ${page.matched_on}`);
        const g = put(d, "div", { class: "pictures" });
        files.forEach((f) => put(g, "img", { src: f.src, alt: `${side} in ${label(a)}: ${f.value.toPrecision(3)} ${scales[a].unit}. ${f.name}`, title: f.name }));
      }
      for (const w of table.around.filter((w) => w.attribute === a)) {
        put(d, "h3", {}, `The weeks around: ${outcomes[w.outcome].label}`);
        d.append(weeksAround(w));
        put(d, "p", { class: "soft" }, "In weeks from it. Against weeks that are far from one like it. What differs before is not what it did; these intervals do not allow for that, the one above does.");
      }
      for (const c of table.curves.filter((c) => c.attribute === a)) { put(d, "h3", {}, `Dose and response: ${outcomes[c.outcome].label}`); d.append(curve(c)); }
      const tested = table.heterogeneity.filter((h) => h.attribute === a), differs = tested.filter((h) => h.differs);
      const alike = tested.filter((h) => !h.differs).map((h) => outcomes[h.outcome].label);
      if (alike.length) put(d, "p", {}, `Nothing shows that ${label(a)} works otherwise in one category than in another: ${alike.join(", ")}.`);
      for (const h of differs) {
        put(d, "p", {}, h.words);
        d.append(forest(h.categories.map((c, k) => ({ ...h.effects[k], label: c, look: "no", words: `${c}: ${range(h.effects[k])}` })), `${label(a)} by category`));
      }
    });
  }

  // ---- the slider ----
  function between(slider, attribute, s) {
    const stops = slider.stops[attribute];
    let i = stops.findIndex((st) => st.strength >= s);
    if (i <= 0) return i ? stops.at(-1).values : stops[0].values;
    const [a, b] = [stops[i - 1], stops[i]], part = (s - a.strength) / (b.strength - a.strength);
    return a.values.map((v, k) => v + part * (b.values[k] - v));
  }
  function predict(slider, outcome, values) {
    const fit = fits[outcome], at = (a) => page.attributes.indexOf(a);
    const z = fit.attributes.map((a) => (values[at(a)] - slider.before[at(a)]) / scales[a].sd);
    for (let i = 0; i < z.length; i++) {
      if (Math.abs(z[i]) <= 0.05) continue;
      const sc = scales[fit.attributes[i]], v = values[at(sc.attribute)];
      if (v < sc.low || v > sc.high) return { refused: `${sc.label} would be ${v.toPrecision(3)} ${sc.unit}, outside the range that the data speak for (${sc.low.toPrecision(3)} to ${sc.high.toPrecision(3)}).` };
      const e = table.effects.find((e) => e.outcome === outcome && e.attribute === sc.attribute);
      if (e && e.refused) return { refused: e.refused };
    }
    for (const sc of table.scales) {
      const k = at(sc.attribute), move = k < 0 || fit.attributes.includes(sc.attribute) ? 0 : (values[k] - slider.before[k]) / sc.sd;
      if (Math.abs(move) > 0.3) return { refused: `the edit also moves ${sc.label} by ${signed(move)} SD, and what that does could not be estimated together with the rest.` };
    }
    const middle = z.reduce((t, v, i) => t + v * fit.coefficients[i], 0);
    const variance = z.reduce((t, v, i) => t + v * z.reduce((u, w, j) => u + w * fit.covariance[i][j], 0), 0);
    const reach = page.reach * Math.sqrt(Math.max(variance, 0)), pc = (v) => 100 * Math.expm1(v);
    return { percent: pc(middle), low: pc(middle - reach), high: pc(middle + reach), z };
  }
  window.momentaryReport = { predict, between, page };

  function slider() {
    const usable = table.fits.filter((f) => f.attributes.length && f.attributes.every((a) => page.attributes.includes(a)));
    if (!page.slider || !usable.length) return;
    const s = section("What if this picture were changed?"), sl = page.slider, names = Object.keys(sl.stops);
    const box = put(s, "div", { class: "try" }), canvas = put(box, "canvas", { id: "canvas", role: "img", "aria-label": "The picture after the edit" });
    const side = put(box, "div");
    const pick = (id, text, options) => {
      put(put(side, "p"), "label", { for: id }, text);
      const n = put(side, "select", { id });
      for (const [v, t] of options) put(n, "option", { value: v }, t);
      return n;
    };
    const what = pick("what", "Change", names.map((a) => [a, label(a)]));
    const goal = pick("goal", "and predict", usable.map((f) => [f.outcome, outcomes[f.outcome].label]));
    put(put(side, "p"), "label", { for: "strength" }, "Less – more");
    const bar = put(side, "input", { type: "range", id: "strength", min: -1, max: 1, step: 0.05, value: 0, "aria-describedby": "said" });
    const said = put(side, "p", { id: "said", "aria-live": "polite" });
    const button = put(side, "button", { id: "plan", type: "button" }, "Plan an A/B test of it"), planned = put(side, "div", { id: "planned", "aria-live": "polite" });
    const image = new Image(), context = canvas.getContext("2d", { willReadFrequently: true });
    let original = null, last = null;
    function draw() {
      const a = what.value, strength = Number(bar.value), values = between(sl, a, strength), k = page.attributes.indexOf(a);
      planned.replaceChildren();
      if (original) {
        const edited = Edits.edit(original, a, strength);
        context.putImageData(new ImageData(edited.data, edited.width, edited.height), 0, 0);
      }
      last = predict(sl, goal.value, values);
      const moved = (values[k] - sl.before[k]) / scales[a].sd;
      bar.setAttribute("aria-valuetext", `${signed(moved, 2)} standard deviations of ${label(a)}`);
      said.className = last.refused ? "bad" : "";
      const start = `${label(a)} ${values[k].toPrecision(3)} (${signed(moved, 2)} SD). `;
      const also = last.z ? fits[goal.value].attributes.map((n, i) => [n, last.z[i]]).filter(([n, v]) => n !== a && Math.abs(v) > 0.3).map(([n, v]) => `${label(n)} ${signed(v)} SD`) : [];
      said.textContent = last.refused ? start + "No prediction: " + last.refused
        : strength === 0 ? start + "Move the slider to edit the picture."
        : `${start}Predicted ${outcomes[goal.value].label}: ${signed(last.percent)} % (${range(last)}), rung ${fits[goal.value].rung}: ${page.rungs[fits[goal.value].rung]}.` + (also.length ? ` The edit also moves ${also.join(", ")}; that is counted.` : "");
      const rate = fits[goal.value].rate;
      button.disabled = Boolean(last.refused) || Math.abs(last.percent) < 0.1 || !(rate > 0 && rate < 1);
    }
    button.addEventListener("click", () => {
      const old = fits[goal.value].rate, next = Math.min(old * (1 + last.percent / 100), 0.999999);
      const each = Math.ceil(page.power_reach ** 2 * 2 * (old * (1 - old) + next * (1 - next)) / (next - old) ** 2 / 2);
      const text = [`Show each picture ${each.toLocaleString("en")} times (${(2 * each).toLocaleString("en")} in all), to users drawn at random in advance.`,
        `A true change of ${signed(last.percent)} % from a rate of ${old.toPrecision(3)} is then seen with probability 80 %, at a 5 % false-alarm rate, if exposures are independent. If one user has several exposures, use momentary moments plan with --per-user and --alike.`,
        "Randomise by user. Look at the sample-ratio alarm first; stop early only by intervals that hold at all times."];
      planned.replaceChildren(make("h3", {}, "A/B test plan"), ...text.map((t) => make("p", {}, t)));
    });
    for (const n of [what, goal]) n.addEventListener("change", () => { bar.value = 0; draw(); });
    bar.addEventListener("input", draw);
    image.addEventListener("load", () => {
      canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
      context.drawImage(image, 0, 0);
      original = context.getImageData(0, 0, canvas.width, canvas.height);
      canvas.dataset.ready = "true";
      draw();
    });
    image.src = sl.src;
    draw();
    put(s, "p", { class: "soft" }, "The edit is made on the pixels here. The prediction uses every attribute that it moves, measured in advance at steps of the slider.");
  }

  function decision() {
    if (!table.decision) return;
    const d = table.decision, s = section("What decides"), card = put(s, "div", { class: "card" });
    put(card, "p", {}, `Shares of what tells the options of one choice apart, from ${d.choices.toLocaleString("en")} choices of ${d.people.toLocaleString("en")} people.`);
    card.append(forest(d.influences.map((i) => ({ label: i.part, percent: 100 * i.share, low: 100 * i.low, high: 100 * i.high, look: "shows", words: i.words })), "Shares of the decision, in percent"));
    for (const w of [...d.influences.map((i) => i.words).filter(Boolean), ...d.words]) put(card, "p", {}, w);
  }

  put(root, "h1", {}, table.title);
  put(root, "p", { class: "soft" }, `${table.source}${table.simulated ? " The behaviour is simulated." : ""}`);
  const summary = put(root, "div", { class: "banner", id: "summary" });
  for (const line of page.summary) put(summary, "p", {}, line);
  const noise = table.scales.filter((each) => each.noisy).map((each) => each.label);
  const warnings = [...table.warnings, ...(noise.length ? [`Measured with noise, since re-encoding or resizing a picture moves it: ${noise.join(", ")}. Such effects tend to come out too small.`] : [])];
  if (warnings.length) {
    const w = put(root, "div", { class: "card warnings", role: "note", "aria-label": "Warnings" });
    put(w, "strong", {}, "Before you use these numbers");
    const list = put(w, "ul");
    warnings.forEach((t) => put(list, "li", {}, t));
  }
  effects(); strip(); slider(); attributes(); decision();
  for (const [gone, kept] of table.merged) put(root, "p", { class: "soft" }, `${gone.replaceAll("_", " ")} is left out: in these data it is nearly the same as ${label(kept)}.`);
})();
