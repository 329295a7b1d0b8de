// Where few points are in view, their pictures lie over the dots; what would cover another picture stays a dot.
import { itemOf, load } from "../items.js";

const FEW = 300;
const CROWDED = 0.15; // a smaller share that has room for its picture is no picture of the whole: dots tell more
const REST = 140; // milliseconds without movement before pictures are asked for

/** Which of the places get a picture of so many pixels, first come first served, such that none covers another by much. */
export function apart(places, size) {
  const taken = new Map();
  const cell = (x, y) => `${Math.floor(x / size)},${Math.floor(y / size)}`;
  const kept = [];
  for (let i = 0; i < places.length; i++) {
    const [x, y] = places[i];
    let free = true;
    for (let dx = -1; dx <= 1 && free; dx++) {
      for (let dy = -1; dy <= 1 && free; dy++) {
        for (const [ox, oy] of taken.get(cell(x + dx * size, y + dy * size)) ?? []) {
          if (Math.abs(ox - x) < 0.8 * size && Math.abs(oy - y) < 0.8 * size) free = false;
        }
      }
    }
    if (!free) continue;
    const key = cell(x, y);
    taken.set(key, [...(taken.get(key) ?? []), [x, y]]);
    kept.push(i);
  }
  return kept;
}

export function sizeFor(count, width, height) {
  return Math.round(Math.max(26, Math.min(72, 0.62 * Math.sqrt((width * height) / Math.max(1, count)))));
}

export class Thumbnails {
  /**
   * @param {HTMLElement} layer over the canvas
   * @param {Plot} plot
   * @param {(at: number) => {id, colour, shown, chosen}} about
   * @param {{onOver: (at: number) => void, onOpen: (at: number) => void}} tell
   */
  constructor(layer, plot, about, tell) {
    this.layer = layer;
    this.plot = plot;
    this.about = about;
    this.tell = tell;
    this.images = new Map();
    this.on = false;
  }

  /** The map moved: pictures move with it at once, others come when it rests. */
  moved() {
    for (const [at, image] of this.images) this.put(image, at);
    clearTimeout(this.waiting);
    if (this.on) this.waiting = setTimeout(() => this.fill(), REST);
  }

  switch(on) {
    this.on = on;
    this.moved();
    if (!on) this.clear();
  }

  clear() {
    for (const image of this.images.values()) image.remove();
    this.images.clear();
  }

  put(image, at) {
    const [x, y] = this.plot.at(at);
    image.style.transform = `translate(${x}px, ${y}px) translate(-50%, -50%)`;
  }

  /** A picture stands for its point: under the mouse and clicked; all else goes on to the canvas below. */
  made(at) {
    const image = this.layer.appendChild(new Image());
    let from = null;
    image.draggable = false;
    image.addEventListener("mouseenter", () => this.tell.onOver(at));
    image.addEventListener("mouseleave", () => this.tell.onOver(-1));
    image.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.plot.canvas.dispatchEvent(new WheelEvent("wheel", event));
    }, { passive: false });
    image.addEventListener("mousedown", (event) => {
      from = [event.clientX, event.clientY];
      this.plot.canvas.dispatchEvent(new MouseEvent("mousedown", event));
    });
    image.addEventListener("click", (event) => {
      if (from && Math.hypot(event.clientX - from[0], event.clientY - from[1]) < 4) this.tell.onOpen(at);
    });
    return image;
  }

  async fill() {
    const { clientWidth: width, clientHeight: height } = this.layer;
    if (!width) return;
    let points = [];
    for (const at of this.plot.inView()) {
      if (this.about(at).shown && points.push(at) > FEW) { this.clear(); return; }
    }
    const size = sizeFor(points.length, width, height);
    const free = apart(points.map((at) => this.plot.at(at)), size).map((i) => points[i]);
    if (free.length < CROWDED * points.length) { this.clear(); return; }
    points = free;
    try {
      await load(points.map((at) => this.about(at).id));
    } catch {
      return; // the dots remain
    }
    const wanted = new Set(points);
    for (const [at, image] of this.images) {
      if (!wanted.has(at)) { image.remove(); this.images.delete(at); }
    }
    for (const at of points) {
      const { id, colour, chosen } = this.about(at);
      const source = itemOf(id)?.thumbnail;
      if (!source) continue;
      const image = this.images.get(at) ?? this.made(at);
      this.images.set(at, image);
      image.alt = "";
      if (image.getAttribute("src") !== source) image.src = source;
      image.style.maxWidth = image.style.maxHeight = `${size}px`;
      image.style.minWidth = `${Math.min(size, 26)}px`;
      image.style.borderColor = colour;
      image.classList.toggle("chosen", chosen);
      this.put(image, at);
    }
  }
}
