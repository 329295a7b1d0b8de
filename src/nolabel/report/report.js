"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("data").textContent);
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const unpack = (text, Type) => new Type(bytes(text).buffer);
  const xy = unpack(data.xy, Uint16Array), n = xy.length / 2;
  const near = unpack(data.near, Uint16Array), cosine = unpack(data.cosine, Int16Array), k = data.k;
  const density = unpack(data.density, Uint8Array), tile = unpack(data.tile, Uint16Array);
  const [tileW, tileH, columns, perSheet, pixels] = data.sprite;
  const pictures = data.tiles > 0;  // otherwise rows are texts, shown by their beginning
  const gridW = tileW + 2, gridH = tileH + 2, longest = Math.max(tileW, tileH);
  const colourings = { Cluster: { of: unpack(data.group, Uint32Array), groups: data.groups } };
  if (data.label) colourings.Label = { of: unpack(data.label, Uint32Array), groups: data.labels };
  colourings.Density = null;
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  document.documentElement.classList.add("js");

  const make = (tag, className, text) => {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;  // names are only ever set as text
    return element;
  };

  // --- thumbnails --------------------------------------------------------------------------------------------------
  const place = (i) => {
    const sheet = Math.floor(tile[i] / perSheet), inside = tile[i] % perSheet;
    return [sheet, inside % columns, Math.floor(inside / columns)];
  };
  const linesOf = (sheet) => Math.ceil(Math.min(perSheet, data.tiles - sheet * perSheet) / columns);
  const thumbnail = (i, className = "") => {
    if (!pictures) return make("q", `t ${className}`, data.names[i]);
    const [sheet, column, line] = place(i);
    const x = (column * gridW + 1) / (columns * gridW - tileW), y = (line * gridH + 1) / (linesOf(sheet) * gridH - tileH);
    const element = make("span", `t s${sheet} ${className}`);
    element.style.backgroundPosition = `${100 * x}% ${100 * y}%`;
    return element;
  };
  // the sheets stand once in the style; the canvas reads them from there
  const sheets = Array.from({ length: Math.ceil(data.tiles / perSheet) }, (_, s) => {
    const probe = document.body.appendChild(make("i", `s${s}`));
    const image = new Image();
    image.onload = () => redraw();
    image.src = getComputedStyle(probe).backgroundImage.slice(5, -2);
    probe.remove();
    return image;
  });
  const about = (i) => [data.groups[colourings.Cluster.of[i]][0], data.label && data.labels[colourings.Label.of[i]][0]]
    .filter(Boolean).join(" · ");

  const tip = byId("tip");
  let tipFor = -1;
  const showTip = (i, x, y) => {
    if (i < 0) { tip.hidden = true; tipFor = -1; return; }
    if (i !== tipFor) {
      tip.replaceChildren(...(pictures ? [thumbnail(i)] : []), make("p", "", data.names[i]), make("p", "soft", about(i)));
      tipFor = i;
      tip.hidden = false;
    }
    const box = tip.getBoundingClientRect();
    tip.style.left = `${x + 18 + box.width > innerWidth - 6 ? Math.max(6, x - 18 - box.width) : x + 18}px`;
    tip.style.top = `${Math.max(6, Math.min(y + 14, innerHeight - box.height - 8))}px`;
  };

  // --- the map: view -----------------------------------------------------------------------------------------------
  const canvas = document.querySelector("canvas"), stage = canvas.parentElement, ctx = canvas.getContext("2d");
  const side = document.querySelector(".side"), legend = document.querySelector(".legend");
  const px = new Float32Array(n), py = new Float32Array(n);
  for (let i = 0; i < n; i++) { px[i] = xy[2 * i] / 65535; py[i] = 1 - xy[2 * i + 1] / 65535; }
  const low = [Math.min(...px), Math.min(...py)], high = [Math.max(...px), Math.max(...py)];
  const order = Uint32Array.from({ length: n }, (_, i) => i);
  let state = 1;
  for (let i = n - 1; i > 0; i--) {  // a fixed shuffle: no row is favoured by where it stands in the data
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const j = state % (i + 1);
    [order[i], order[j]] = [order[j], order[i]];
  }
  let width = 0, height = 0, base = 1, zoom = 1, cx = 0.5, cy = 0.5;  // cx, cy: the point of the map in the middle
  let mode = "Cluster", only = -1, selected = -1, hovered = -1, colours = [], images = null, pending = 0, flight = 0;
  const MOST = 60;
  const middle = () => { cx = (low[0] + high[0]) / 2; cy = (low[1] + high[1]) / 2; };
  const screenX = (i) => (px[i] - cx) * base * zoom + width / 2, screenY = (i) => (py[i] - cy) * base * zoom + height / 2;
  const member = (i) => only < 0 || !colourings[mode] || colourings[mode].of[i] === only;
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const mix = (a, b, share) => {
    const part = (c, at) => parseInt(c.slice(at, at + 2), 16);
    return `rgb(${[1, 3, 5].map((at) => Math.round(part(a, at) + (part(b, at) - part(a, at)) * share)).join(" ")})`;
  };
  let theme = {};
  const recolour = () => {
    theme = { ink: css("--ink"), card: css("--card"), accent: css("--accent") };
    const coloured = colourings[mode];
    if (coloured) colours = Array.from(coloured.of, (g) => coloured.groups[g][2]);
    else {
      const ramp = Array.from({ length: 256 }, (_, v) => mix(css("--low"), css("--high"), v / 255));
      colours = Array.from(density, (v) => ramp[v]);
    }
    images = null;
    redraw();
  };

  const thumbSize = () => Math.min(96, Math.min(34, 16 + width / 60) * Math.sqrt(zoom) ** 0.9);
  // which points are drawn as images: taken in a fixed order unless they would touch one already taken
  const chooseImages = () => {
    const size = thumbSize(), roomy = 1.05 + 0.9 / zoom, cell = (size * roomy) / (base * zoom);
    const taken = new Map();
    images = [];
    const isImage = new Uint8Array(n);
    for (const i of pictures ? order : []) {
      if (!member(i)) continue;
      const gx = Math.floor(px[i] / cell), gy = Math.floor(py[i] / cell);
      let free = true;
      for (let a = gx - 1; a <= gx + 1 && free; a++) {
        for (let b = gy - 1; b <= gy + 1 && free; b++) {
          for (const j of taken.get(a * 65536 + b) || []) {
            if (Math.abs(px[i] - px[j]) < cell && Math.abs(py[i] - py[j]) < cell) { free = false; break; }
          }
        }
      }
      if (!free) continue;
      const key = gx * 65536 + gy;
      if (taken.has(key)) taken.get(key).push(i); else taken.set(key, [i]);
      images.push(i);
      isImage[i] = 1;
    }
    images.size = size;
    images.is = isImage;
  };

  const drawImage = (i, size, border) => {
    if (!pictures) {
      ctx.fillStyle = colours[i];
      ctx.beginPath();
      ctx.arc(screenX(i), screenY(i), 4 + border, 0, 7);
      ctx.fill();
      return;
    }
    const [sheet, column, line] = place(i), image = sheets[sheet];
    if (!image.complete || !image.naturalWidth) return;
    const w = (size * tileW) / longest, h = (size * tileH) / longest, x = screenX(i) - w / 2, y = screenY(i) - h / 2;
    ctx.fillStyle = colours[i];
    ctx.fillRect(x - border, y - border, w + 2 * border, h + 2 * border);
    ctx.drawImage(image, column * gridW + 1, line * gridH + 1, tileW, tileH, x, y, w, h);
  };
  const inView = (i, margin) => {
    const x = screenX(i), y = screenY(i);
    return x > -margin && y > -margin && x < width + margin && y < height + margin;
  };
  const draw = () => {
    pending = 0;
    if (!width) return;
    const ratio = devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    ctx.clearRect(0, 0, width, height);
    ctx.imageSmoothingEnabled = !pixels;
    ctx.imageSmoothingQuality = "high";
    if (!images) chooseImages();
    const radius = Math.min(7, Math.min(5, Math.max(1.9, 90 / Math.sqrt(n))) * zoom ** 0.35);
    for (const faint of [true, false]) {
      ctx.globalAlpha = faint ? 0.13 : 0.85;
      for (const i of order) {
        if (images.is[i] || member(i) === faint || !inView(i, 8)) continue;
        ctx.fillStyle = colours[i];
        ctx.beginPath();
        ctx.arc(screenX(i), screenY(i), radius, 0, 7);
        ctx.fill();
      }
    }
    ctx.globalAlpha = 1;
    const border = 1 + Math.min(1, zoom / 6);
    for (const i of images) if (inView(i, images.size)) drawImage(i, images.size, border);
    if (selected >= 0) {
      ctx.strokeStyle = theme.ink;
      ctx.lineWidth = 1.2;
      for (let j = 0; j < k; j++) {
        ctx.globalAlpha = 0.65;
        ctx.beginPath();
        ctx.moveTo(screenX(selected), screenY(selected));
        ctx.lineTo(screenX(near[selected * k + j]), screenY(near[selected * k + j]));
        ctx.stroke();
      }
      ctx.globalAlpha = 1;
      for (let j = k - 1; j >= 0; j--) drawImage(near[selected * k + j], Math.max(28, images.size), 2);
    }
    for (const i of [hovered, selected]) {
      if (i < 0) continue;
      const size = Math.max(44, images.size * 1.25);
      ctx.fillStyle = theme.card;
      if (pictures) ctx.fillRect(screenX(i) - (size * tileW) / longest / 2 - 5, screenY(i) - (size * tileH) / longest / 2 - 5, (size * tileW) / longest + 10, (size * tileH) / longest + 10);
      drawImage(i, size, 3);
    }
    if (document.activeElement === canvas && canvas.matches(":focus-visible")) {  // where Enter would select
      ctx.strokeStyle = theme.ink;
      ctx.lineWidth = 1.5;
      ctx.beginPath();
      ctx.arc(width / 2, height / 2, 9, 0, 7);
      ctx.stroke();
    }
  };
  const redraw = () => { if (!pending) pending = requestAnimationFrame(draw); };

  const moveTo = (x, y, z) => {
    const before = zoom;
    zoom = Math.min(MOST, Math.max(1, z));
    cx = Math.min(high[0], Math.max(low[0], x));
    cy = Math.min(high[1], Math.max(low[1], y));
    if (zoom === 1) middle();
    if (zoom !== before) images = null;
    canvas.style.touchAction = zoom > 1 ? "none" : "pan-y";  // at rest a finger scrolls the page, zoomed in it moves the map
    redraw();
  };
  const zoomAt = (x, y, factor) => {
    const next = Math.min(MOST, Math.max(1, zoom * factor));
    const dx = (x - width / 2) / base, dy = (y - height / 2) / base;
    moveTo(cx + dx / zoom - dx / next, cy + dy / zoom - dy / next, next);
  };
  const flyTo = (x, y, z) => {
    cancelAnimationFrame(flight);
    if (calm) { moveTo(x, y, z); return; }
    const from = [cx, cy, zoom], start = performance.now();
    const step = (now) => {
      const t = Math.min(1, Math.max(0, (now - start) / 380)), s = t * t * (3 - 2 * t), to = from[2] * (z / from[2]) ** s;
      const share = z === from[2] ? s : (1 / from[2] - 1 / to) / (1 / from[2] - 1 / z);
      moveTo(from[0] + (x - from[0]) * share, from[1] + (y - from[1]) * share, to);
      if (t < 1) flight = requestAnimationFrame(step);
    };
    flight = requestAnimationFrame(step);
  };
  const resize = () => {
    width = stage.clientWidth;
    height = stage.clientHeight;
    const margin = 30, w = Math.max(high[0] - low[0], 1e-3), h = Math.max(high[1] - low[1], 1e-3);
    base = Math.max(20, Math.min((width - 2 * margin) / w, (height - 2 * margin) / h));
    images = null;
    redraw();
  };

  // --- the map: selecting ------------------------------------------------------------------------------------------
  const find = (x, y) => {
    if (images) {
      for (let j = images.length - 1; j >= 0; j--) {
        const i = images[j];
        if (Math.abs(screenX(i) - x) < images.size / 2 && Math.abs(screenY(i) - y) < images.size / 2) return i;
      }
    }
    let best = -1, least = 12 * 12;
    for (let i = 0; i < n; i++) {
      const d = (screenX(i) - x) ** 2 + (screenY(i) - y) ** 2;
      if (d < least && member(i)) { least = d; best = i; }
    }
    return best;
  };
  const help = () => {
    const list = make("dl", "keys");
    const touch = matchMedia("(hover: none)").matches;
    const rows = touch
      ? [["pinch", "zoom"], ["drag", "move, once zoomed in"], ["tap", "neighbours"]]
      : [["drag", "move"], ["scroll", "zoom"], ["click", "neighbours"], ["↑ ↓ ← →", "move"], ["+ −", "zoom"], ["Enter", "select the middle"], ["Esc", "clear"]];
    for (const [key, what] of rows) {
      const dt = make("dt");
      dt.append(make("kbd", "", key));
      list.append(dt, make("dd", "", what));
    }
    side.replaceChildren(make("p", "soft", `Select ${pictures ? "an image" : "a text"} to see those most alike to it.`), list);
  };
  const select = (i, fly = false) => {
    selected = i;
    if (i < 0) { help(); redraw(); return; }
    const items = make("ul", "near");
    for (let j = 0; j < k; j++) {
      const other = near[i * k + j], button = make("button");
      button.type = "button";
      button.setAttribute("aria-label", data.names[other]);
      const thumb = thumbnail(other);
      thumb.dataset.i = other;
      button.append(thumb, (cosine[i * k + j] / 1e4).toFixed(2));
      const item = make("li");
      item.append(button);
      items.append(item);
    }
    const big = thumbnail(i, "big");
    big.setAttribute("role", "img");
    big.setAttribute("aria-label", data.names[i]);
    const share = Math.round((100 * density[i]) / 255);
    const words = share < 5 ? "lonely: few rows lie near" : share > 95 ? "in a crowd" : "";
    side.replaceChildren(...(pictures ? [big] : []), make("p", "name", data.names[i]), make("p", "soft", [about(i), words].filter(Boolean).join(" · ")),
      make("p", "soft", "Most alike on this map, with cosine:"), items);
    if (fly) flyTo(px[i], py[i], Math.max(zoom, 3.5));
    redraw();
  };
  const showLegend = () => {
    legend.replaceChildren();
    const coloured = colourings[mode];
    if (!coloured) {
      const item = make("li");
      item.append("few neighbours", make("i", "scale"), "many");
      legend.append(item);
      return;
    }
    coloured.groups.slice(0, 40).forEach(([name, size, colour], g) => {
      const button = make("button"), dot = make("i", "dot"), item = make("li");
      button.type = "button";
      dot.style.setProperty("--c", colour);
      button.append(dot, name, make("span", "soft", size.toLocaleString("en")));
      button.setAttribute("aria-pressed", String(only === g));
      button.addEventListener("click", () => filter(only === g ? -1 : g));
      item.append(button);
      legend.append(item);
    });
  };
  const filter = (g) => {
    only = g;
    images = null;
    [...legend.querySelectorAll("button")].forEach((button, i) => button.setAttribute("aria-pressed", String(i === g)));
    redraw();
  };
  const colourBy = (name) => {
    mode = name;
    only = -1;
    for (const button of stage.querySelectorAll(".bar button")) button.setAttribute("aria-pressed", String(button.textContent === name));
    showLegend();
    recolour();
  };
  for (const name of Object.keys(colourings)) {
    const button = make("button", "", name);
    button.type = "button";
    button.addEventListener("click", () => colourBy(name));
    stage.querySelector(".bar").append(button);
  }

  // --- the map: pointer and keys -----------------------------------------------------------------------------------
  const at = (event) => { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
  const hover = (i, x, y) => {
    if (i !== hovered) { hovered = i; canvas.classList.toggle("over", i >= 0); redraw(); }
    showTip(i, x, y);
  };
  const pointers = new Map();
  let moved = 0;
  canvas.addEventListener("pointerdown", (event) => {
    cancelAnimationFrame(flight);
    pointers.set(event.pointerId, at(event));
    canvas.setPointerCapture(event.pointerId);
    if (pointers.size === 1) moved = 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = at(event), last = pointers.get(event.pointerId);
    if (!last) {
      hover(find(x, y), event.clientX, event.clientY);
      return;
    }
    moved += Math.hypot(x - last[0], y - last[1]);
    if (pointers.size === 1 && moved > 4) {
      moveTo(cx - (x - last[0]) / (base * zoom), cy - (y - last[1]) / (base * zoom), zoom);
      canvas.classList.add("dragging");
      hover(-1);
    } else if (pointers.size === 2) {
      const [other] = [...pointers].filter(([id]) => id !== event.pointerId).map(([, p]) => p);
      const grown = Math.hypot(x - other[0], y - other[1]) / Math.max(1, Math.hypot(last[0] - other[0], last[1] - other[1]));
      moved = 99;
      zoomAt((x + other[0]) / 2, (y + other[1]) / 2, grown);
    }
    pointers.set(event.pointerId, [x, y]);
  });
  canvas.addEventListener("pointerup", (event) => {
    if (pointers.has(event.pointerId) && moved <= 4) select(find(...at(event)));
  });
  for (const kind of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(kind, (event) => { pointers.delete(event.pointerId); canvas.classList.remove("dragging"); });
  }
  canvas.addEventListener("pointerleave", () => hover(-1));
  let scrolled = 0;
  addEventListener("scroll", () => { scrolled = performance.now(); showTip(-1); }, { passive: true });
  canvas.addEventListener("wheel", (event) => {
    if (performance.now() - scrolled < 200 && !event.ctrlKey) return;  // the page is being scrolled past the map
    if (zoom === 1 && event.deltaY > 0) return;
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 30 : 1;
    zoomAt(...at(event), Math.exp(-Math.max(-240, Math.min(240, event.deltaY * lines)) * (event.ctrlKey ? 0.01 : 0.0022)));
    hover(-1);
  }, { passive: false });
  canvas.addEventListener("dblclick", (event) => zoomAt(...at(event), 2));
  canvas.addEventListener("keydown", (event) => {
    const step = 60 / (base * zoom);
    const keys = {
      ArrowLeft: () => moveTo(cx - step, cy, zoom), ArrowRight: () => moveTo(cx + step, cy, zoom),
      ArrowUp: () => moveTo(cx, cy - step, zoom), ArrowDown: () => moveTo(cx, cy + step, zoom),
      "+": () => moveTo(cx, cy, zoom * 1.4), "=": () => moveTo(cx, cy, zoom * 1.4), "-": () => moveTo(cx, cy, zoom / 1.4),
      0: () => moveTo(cx, cy, 1), Escape: () => select(-1),
      Enter: () => {
        const far = (i) => (px[i] - cx) ** 2 + (py[i] - cy) ** 2;
        select(order.filter(member).reduce((best, i) => (far(i) < far(best) ? i : best)));
      },
    };
    if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keys[event.key]();
  });
  for (const kind of ["focus", "blur"]) canvas.addEventListener(kind, redraw);
  stage.querySelector(".zoom").addEventListener("click", (event) => {
    const what = event.target.dataset.zoom;
    if (what === "all") flyTo((low[0] + high[0]) / 2, (low[1] + high[1]) / 2, 1);
    else if (what) flyTo(cx, cy, Math.min(MOST, Math.max(1, zoom * (what === "in" ? 1.8 : 1 / 1.8))));
  });

  // --- thumbnails anywhere on the page lead to the map -------------------------------------------------------------
  document.addEventListener("click", (event) => {
    const link = event.target.closest("[data-group]");
    if (link) { colourBy("Cluster"); filter(Number(link.dataset.group)); return; }
    const inSide = side.contains(event.target), button = inSide && event.target.closest(".near button");
    const thumb = button ? button.querySelector(".t") : event.target.closest(".t[data-i]");
    if (!thumb) return;
    filter(-1);
    select(Number(thumb.dataset.i), true);
    if (button) side.querySelector(".near button").focus({ preventScroll: true });
    else byId("map").scrollIntoView({ behavior: calm ? "auto" : "smooth" });
  });
  document.addEventListener("pointerover", (event) => {
    if (event.pointerType === "touch" || event.target === canvas) return;
    const thumb = event.target.closest && event.target.closest(".t[data-i]");
    showTip(thumb ? Number(thumb.dataset.i) : -1, event.clientX, event.clientY);
  });

  // --- curves: one cursor over all panels --------------------------------------------------------------------------
  const panels = [...document.querySelectorAll(".panel")].map((panel) => {
    const svg = panel.querySelector("svg"), numbers = (name) => svg.dataset[name].split(" ").map(Number);
    const output = panel.querySelector("output");
    return { panel, svg, x: numbers("x"), y: numbers("y"), px: numbers("px"), py: numbers("py"), output, last: output.textContent };
  });
  const closest = (values, value) => values.reduce((best, v, i) => (Math.abs(v - value) < Math.abs(values[best] - value) ? i : best), 0);
  const cursor = (x) => {
    for (const p of panels) {
      p.panel.classList.toggle("live", x !== null);
      if (x === null) { p.output.textContent = p.last; continue; }
      const i = closest(p.x, x), line = p.svg.querySelector(".cursor"), dot = p.svg.querySelector(".at");
      line.setAttribute("x1", p.px[i]);
      line.setAttribute("x2", p.px[i]);
      dot.setAttribute("cx", p.px[i]);
      dot.setAttribute("cy", p.py[i]);
      p.output.textContent = `${Number(p.y[i].toPrecision(4))} at ${p.output.dataset.axis} ${Math.round(p.x[i] * 100) / 100}`;
    }
  };
  for (const p of panels) {
    const follow = (event) => {
      const box = p.svg.getBoundingClientRect();
      cursor(p.x[closest(p.px, ((event.clientX - box.left) / box.width) * p.svg.viewBox.baseVal.width)]);
    };
    p.svg.addEventListener("pointermove", follow);
    p.svg.addEventListener("pointerdown", follow);
    p.svg.addEventListener("pointerleave", () => cursor(null));
  }

  middle();
  help();
  new ResizeObserver(resize).observe(stage);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
  resize();
  colourBy("Cluster");
})();
