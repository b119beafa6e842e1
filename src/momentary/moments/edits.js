// Pixel edits: the same arithmetic as edits.py, on the bytes of a canvas.
// A picture is {width, height, data}, data being red, green, blue, alpha from 0 to 255.
"use strict";
const Edits = (() => {
  const clip = (v, low, high) => Math.min(high, Math.max(low, v));
  const luma = (d, i) => 0.299 * d[i] + 0.587 * d[i + 1] + 0.114 * d[i + 2];

  // Apply f(row, column, i) -> [r, g, b] to every pixel.
  function each(p, f) {
    const data = new Uint8ClampedArray(p.data.length);
    for (let y = 0, i = 0; y < p.height; y++)
      for (let x = 0; x < p.width; x++, i += 4) {
        const c = f(y, x, i);
        for (let k = 0; k < 3; k++) data[i + k] = Math.floor(clip(c[k], 0, 255) + 0.5);
        data[i + 3] = 255;
      }
    return { width: p.width, height: p.height, data };
  }
  const blend = (p, f) => each(p, (y, x, i) => {
    const a = f(y, x, i), d = p.data;
    return [0, 1, 2].map((k) => a.base[k] + a.by * (d[i + k] - a.base[k]));
  });

  // Mean over a square (or a row) of 2 radius + 1 pixels; pixels beyond the edge repeat it.
  function box(values, h, w, channels, radius, alongRows = true) {
    const side = 2 * radius + 1;
    const pass = (from, down) => {
      const to = new Float64Array(from.length);
      for (let y = 0; y < h; y++)
        for (let x = 0; x < w; x++)
          for (let k = 0; k < channels; k++) {
            let sum = 0;
            for (let o = -radius; o <= radius; o++) {
              const yy = down ? clip(y + o, 0, h - 1) : y, xx = down ? x : clip(x + o, 0, w - 1);
              sum += from[(yy * w + xx) * channels + k];
            }
            to[(y * w + x) * channels + k] = sum / side;
          }
      return to;
    };
    return pass(alongRows ? pass(values, true) : values, false);
  }
  function colours(p) {
    const n = p.width * p.height, out = new Float64Array(3 * n);
    for (let i = 0; i < n; i++) for (let k = 0; k < 3; k++) out[3 * i + k] = p.data[4 * i + k];
    return out;
  }

  // The ground's colour (0 to 255) and how much each pixel belongs to the figure.
  function figure(p) {
    const { width: w, height: h, data: d } = p;
    const thick = Math.max(1, Math.round(0.06 * Math.min(h, w)));
    const band = [[], [], []];
    for (let y = 0; y < h; y++)
      for (let x = 0; x < w; x++)
        if (y < thick || y >= h - thick || x < thick || x >= w - thick)
          for (let k = 0; k < 3; k++) band[k].push(d[4 * (y * w + x) + k]);
    const ground = band.map((v) => v.sort((a, b) => a - b)[Math.floor(v.length / 2)]);
    const smooth = box(colours(p), h, w, 3, 2);
    const mask = new Float64Array(w * h);
    let mass = 1e-9, far = 0;
    for (let i = 0; i < w * h; i++) {
      let squared = 0;
      for (let k = 0; k < 3; k++) squared += ((Math.floor(smooth[3 * i + k] + 0.5) - ground[k]) / 255) ** 2;
      const distance = Math.sqrt(squared / 3);
      mask[i] = clip((distance - 0.08) / 0.16, 0, 1);
      mass += mask[i];
      far += mask[i] * distance;
    }
    return { ground, mask, mass, apart: far / mass };
  }
  function centroid(mask, h, w) {
    const prior = 1e-3 * h * w;
    let total = prior, row = 0, column = 0;
    for (let y = 0; y < h; y++)
      for (let x = 0; x < w; x++) {
        const m = mask[y * w + x];
        total += m;
        row += m * ((y + 0.5) * 2 / h - 1);
        column += m * ((x + 0.5) * 2 / w - 1);
      }
    return [row / total, column / total];
  }

  function brightness(p, s) {
    const power = 2 ** -s;
    return each(p, (y, x, i) => [0, 1, 2].map((k) => 255 * (p.data[i + k] / 255) ** power));
  }
  function contrast(p, s) {
    let sum = 0;
    for (let i = 0; i < p.data.length; i += 4) sum += luma(p.data, i);
    const m = sum / (p.width * p.height);
    return blend(p, () => ({ base: [m, m, m], by: 1 + 0.6 * s }));
  }
  const saturation = (p, s) => blend(p, (y, x, i) => {
    const g = luma(p.data, i);
    return { base: [g, g, g], by: 1 + s };
  });
  const warmth = (p, s) => each(p, (y, x, i) =>
    [p.data[i] * (1 + 0.25 * s), p.data[i + 1], p.data[i + 2] * (1 - 0.25 * s)]);
  function colourfulness(p, s) {
    const n = p.width * p.height, tint = [0, 0, 0];
    for (let i = 0; i < p.data.length; i += 4)
      for (let k = 0; k < 3; k++) tint[k] += (p.data[i + k] - luma(p.data, i)) / n;
    return blend(p, (y, x, i) => {
      const g = luma(p.data, i);
      return { base: tint.map((t) => g + t), by: 1 + s };
    });
  }
  function clutter(p, s) {
    const { width: w, height: h, data: d } = p, radius = 3, alike = 90;
    return blend(p, (y, x, i) => {
      const total = [0, 0, 0];
      let count = 0;
      for (let a = -radius; a <= radius; a++)
        for (let b = -radius; b <= radius; b++) {
          const j = 4 * (clip(y + a, 0, h - 1) * w + clip(x + b, 0, w - 1));
          const far = Math.abs(d[j] - d[i]) + Math.abs(d[j + 1] - d[i + 1]) + Math.abs(d[j + 2] - d[i + 2]);
          if (far <= alike) { count++; for (let k = 0; k < 3; k++) total[k] += d[j + k]; }
        }
      return { base: total.map((t) => t / count), by: 1 + s };
    });
  }
  const symmetry = (p, s) => each(p, (y, x, i) => {
    const j = 4 * (y * p.width + p.width - 1 - x), d = p.data;
    return [0, 1, 2].map((k) => (d[i + k] + d[j + k]) / 2 + (1 - s) * (d[i + k] - d[j + k]) / 2);
  });
  function thirds(p, s) {
    const { ground } = figure(p);
    const line = (n) => Array.from({ length: n }, (_, i) => {
      const at = (i + 0.5) / n, near = Math.min(Math.abs(at - 1 / 3), Math.abs(at - 2 / 3));
      return Math.exp(-0.5 * (near / 0.125) ** 2);
    });
    const rows = line(p.height), columns = line(p.width);
    return blend(p, (y, x) => ({ base: ground, by: 1 + 0.8 * s * (2 * rows[y] * columns[x] - 1) }));
  }
  function figureGround(p, s) {
    const { ground, mask } = figure(p);
    return blend(p, (y, x, i) => ({ base: ground, by: 1 + 0.6 * s * mask[i / 4] ** 3 }));
  }
  function whiteness(p, s) {
    const { mask } = figure(p);
    return each(p, (y, x, i) => {
      const behind = 1 - mask[i / 4];
      return [0, 1, 2].map((k) => s > 0
        ? p.data[i + k] + s * behind * (255 - p.data[i + k])
        : p.data[i + k] * (1 + 0.6 * s * behind));
    });
  }
  // The change by s, or by a quarter step below, that moves the value furthest the right way.
  function furthest(p, s, change, value) {
    const side = Math.sign(s), steps = [0.25, 0.5, 0.75].filter((step) => step < Math.abs(s));
    let best = p, most = side * value(p);
    for (const part of [...steps, Math.abs(s)]) {
      const changed = change(side * part), reached = side * value(changed);
      if (reached >= most) { best = changed; most = reached; }
    }
    return { width: p.width, height: p.height, data: new Uint8ClampedArray(best.data) };
  }
  function subjectSize(p, s) {
    const found = figure(p);
    return furthest(p, s, (part) => zoomed(p, found, part), (changed) => figure(changed).mass);
  }
  function zoomed(p, { ground, mask }, s) {
    const { width: w, height: h, data: d } = p;
    const centre = centroid(mask, h, w), zoom = 2 ** ((s > 0 ? 0.2 : 0.6) * s);
    const source = (n, c) => Array.from({ length: n }, (_, i) => {
      const middle = (c + 1) * n / 2;
      const at = clip((i + 0.5 - middle) / zoom + middle + 0.5, 0, n + 1);
      const below = Math.min(Math.floor(at), n);
      return [below - 1, at - below];
    });
    const rows = source(h, centre[0]), columns = source(w, centre[1]);
    const layer = (y, x, k) => {
      if (y < 0 || x < 0 || y >= h || x >= w) return 0;
      const m = Math.min(1, 3 * mask[y * w + x]);
      return k === 3 ? m : d[4 * (y * w + x) + k] * m;
    };
    const band = Math.max(1, Math.floor(0.06 * Math.min(h, w) + 0.5));
    return each(p, (y, x, i) => {
      const deep = Math.min(y, h - 1 - y, x, w - 1 - x), inside = clip((deep + 1 - band) / band, 0, 1);
      const [r, down] = rows[y], [c, right] = columns[x];
      const [red, green, blue, alpha] = [0, 1, 2, 3].map((k) => {
        const upper = layer(r, c, k) * (1 - right) + layer(r, c + 1, k) * right;
        const lower = layer(r + 1, c, k) * (1 - right) + layer(r + 1, c + 1, k) * right;
        return upper * (1 - down) + lower * down;
      });
      const fade = s > 0 ? 0 : Math.min(1, -4 * s) * mask[i / 4];
      return [red, green, blue].map((v, k) => {
        const own = d[i + k], behind = own + fade * (ground[k] - own);
        return own + inside * (v + (1 - alpha) * behind - own);
      });
    });
  }
  function centring(p, s) {
    const { width: w, height: h } = p, { ground, mask, apart } = figure(p);
    const [row, column] = centroid(mask, h, w), far = Math.hypot(row, column);
    const [down, right] = far > 1e-3 ? [row / far, column / far] : [0, 1];
    const needed = Math.min(1, far) * Math.max(0, 1 - 0.08 / Math.max(apart, 1e-9));
    const amount = s * (s > 0 ? needed : 1);
    return blend(p, (y, x) => {
      const side = clip(down * ((2 * y + 1) / h - 1) + right * ((2 * x + 1) / w - 1), -1, 1);
      return { base: ground, by: 1 - amount * side };
    });
  }
  function sharpness(p, s) {
    const smooth = box(colours(p), p.height, p.width, 3, 1);
    return blend(p, (y, x, i) => {
      const j = 3 * i / 4;
      return { base: [smooth[j], smooth[j + 1], smooth[j + 2]], by: 1 + s };
    });
  }
  // The connected parts of the figure: the part of each pixel, 0 for none, and their sizes in pixels.
  function parts(mask, w, h) {
    const label = new Int32Array(w * h), sizes = [];
    for (let start = 0; start < w * h; start++) {
      if (label[start] || !(Math.fround(mask[start]) > 0.5)) continue;
      const id = sizes.push(0), todo = [start];
      label[start] = id;
      while (todo.length) {
        const i = todo.pop(), x = i % w;
        sizes[id - 1]++;
        for (const [j, ok] of [[i - 1, x > 0], [i + 1, x < w - 1], [i - w, i >= w], [i + w, i < w * (h - 1)]])
          if (ok && !label[j] && Math.fround(mask[j]) > 0.5) { label[j] = id; todo.push(j); }
      }
    }
    return { label, sizes };
  }
  function count(sizes, pixels) {
    let total = 0, squares = 0;
    for (const each of sizes) { total += each / pixels; squares += (each / pixels) ** 2; }
    return total ? total ** 2 / (squares + 0.01 * total) : 0;
  }
  function tiles(p, ground, copies) {
    const { width: w, height: h, data: d } = p;
    if (copies === 1) return each(p, (y, x, i) => [d[i], d[i + 1], d[i + 2]]);
    const th = Math.floor((h - 4) / 2), tw = Math.floor((w - 4) / 2);
    return each(p, (y, x) => {
      for (let copy = 0; copy < copies; copy++) {
        const a = y - 1 - Math.floor(copy / 2) * (th + 2), b = x - 1 - (copy % 2) * (tw + 2);
        if (a < 0 || b < 0 || a >= th || b >= tw) continue;
        const j = 4 * (2 * a * w + 2 * b);
        return [0, 1, 2].map((k) => (d[j + k] + d[j + 4 + k] + d[j + 4 * w + k] + d[j + 4 * w + 4 + k]) / 4);
      }
      return ground;
    });
  }
  function objectCount(p, s) {
    const { width: w, height: h } = p, { ground, mask } = figure(p), { label, sizes } = parts(mask, w, h);
    if (s > 0) {
      const copies = 1 + Math.floor(3 * s + 0.5), four = tiles(p, ground, 4);
      const each = count(parts(figure(four).mask, w, h).sizes, w * h) / 4;
      return tiles(p, ground, copies * each > count(sizes, w * h) ? copies : 1);
    }
    const smallest = sizes.map((size, i) => [size, i + 1]).sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    const gone = new Set(smallest.slice(0, Math.max(0, Math.floor(-s * (sizes.length - 1) + 0.5))).map((each) => each[1]));
    return blend(p, (y, x, i) => ({ base: ground, by: gone.has(label[i / 4]) ? 0 : 1 }));
  }
  function hueCount(p, s) {
    const d = p.data, n = p.width * p.height, root = Math.sqrt(3);
    const alphaBeta = (i) => [d[i] - (d[i + 1] + d[i + 2]) / 2, (root / 2) * (d[i + 1] - d[i + 2])];
    let ma = 0, mb = 0;
    for (let i = 0; i < d.length; i += 4) { const [a, b] = alphaBeta(i); ma += a / n; mb += b / n; }
    const length = Math.max(Math.hypot(ma, mb), 1e-9);
    return each(p, (y, x, i) => {
      let [a, b] = alphaBeta(i);
      if (s > 0) {
        const turn = s * (2 * Math.PI / 3) * ((2 * x + 1) / p.width - 1);
        [a, b] = [a * Math.cos(turn) - b * Math.sin(turn), a * Math.sin(turn) + b * Math.cos(turn)];
      } else {
        const chroma = Math.sqrt(a * a + b * b);
        [a, b] = [(1 + s) * a - s * chroma * ma / length, (1 + s) * b - s * chroma * mb / length];
      }
      const level = (d[i] + d[i + 1] + d[i + 2]) / 3;
      return [level + 2 * a / 3, level - a / 3 + b / root, level - a / 3 - b / root];
    });
  }
  const GLYPHS = {
    S: [0x0f, 0x10, 0x10, 0x0e, 0x01, 0x01, 0x1e], A: [0x0e, 0x11, 0x11, 0x1f, 0x11, 0x11, 0x11],
    L: [0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x1f], E: [0x1f, 0x10, 0x10, 0x1e, 0x10, 0x10, 0x1f],
    " ": [0, 0, 0, 0, 0, 0, 0] };
  // How much of both brightening and darkening strokes is near each pixel but a row's last.
  function strokes(p) {
    const { width: w, height: h, data: d } = p;
    const up = new Float64Array(h * (w - 1)), down = new Float64Array(h * (w - 1));
    for (let y = 0; y < h; y++)
      for (let x = 0; x < w - 1; x++) {
        const i = 4 * (y * w + x), step = (luma(d, i + 4) - luma(d, i)) / 255;
        up[y * (w - 1) + x] = clip((step - 0.12) / 0.25, 0, 1);
        down[y * (w - 1) + x] = clip((-step - 0.12) / 0.25, 0, 1);
      }
    const u = box(up, h, w - 1, 1, 5), v = box(down, h, w - 1, 1, 5);
    return u.map((each, j) => Math.min(each, v[j]));
  }
  function text(p, s) {
    const density = strokes(p), sum = (changed) => strokes(changed).reduce((a, b) => a + b, 0);
    if (s > 0) return furthest(p, s, (part) => lettered(p, density, part), sum);
    const smooth = box(colours(p), p.height, p.width, 3, 6, false);
    return furthest(p, s, (part) => smudged(p, density, smooth, -part), sum);
  }
  const smudged = (p, density, smooth, strength) => each(p, (y, x, i) => {
    const like = Math.min(1, 8 * density[y * (p.width - 1) + Math.min(x, p.width - 2)]);
    return [0, 1, 2].map((k) => p.data[i + k] + strength * like * (smooth[3 * i / 4 + k] - p.data[i + k]));
  });
  function lettered(p, density, s) {
    const { width: w, height: h, data: d } = p;
    const strip = Math.floor(h / 6), end = Math.floor(s * w), scale = Math.max(1, Math.floor(strip / 10));
    const lettering = (from) => {
      let sum = 0;
      for (let j = from * (w - 1); j < (from + strip) * (w - 1); j++) sum += density[j];
      return sum;
    };
    const first = lettering(h - strip) <= lettering(0) ? h - strip : 0, top = first + Math.floor((strip - 7 * scale) / 2);
    return each(p, (y, x, i) => {
      if (y < first || y >= first + strip || x >= end) return [d[i], d[i + 1], d[i + 2]];
      const dot = Math.floor(x / scale) % 6, place = Math.floor(Math.floor(x / scale) / 6);
      const line = Math.floor((y - top) / scale), glyph = GLYPHS["SALE "[place % 5]];
      const ink = dot < 5 && line >= 0 && line < 7 && (glyph[line] >> (4 - dot)) & 1;
      return ink ? [20, 20, 20] : [255, 255, 255];
    });
  }
  const all = { brightness, contrast, saturation, warmth, colourfulness, clutter, symmetry, thirds,
    figure_ground: figureGround, whiteness, subject_size: subjectSize, centring, sharpness,
    object_count: objectCount, hue_count: hueCount, text };
  return { names: Object.keys(all), edit: (p, attribute, s) =>
    s === 0 ? { width: p.width, height: p.height, data: new Uint8ClampedArray(p.data) } : all[attribute](p, s) };
})();
