// Returns what can be read in a page with its colour and the colour behind it, and the lines of its charts.
() => {
  const channels = (colour) => {
    const found = colour.match(/^rgb\((\d+), (\d+), (\d+)\)$/);
    if (!found) throw new Error("not an opaque colour: " + colour);
    return found.slice(1).map(Number);
  };
  // A drawing has a ground of its own, its first path.
  const behind = (element) => {
    const drawing = element.closest(".panels svg");
    if (drawing) return getComputedStyle(drawing.querySelector("path")).fill;
    for (let at = element; at; at = at.parentElement) {
      const ground = getComputedStyle(at).backgroundColor;
      if (ground !== "rgba(0, 0, 0, 0)") return ground;
    }
    throw new Error("nothing is behind " + element.outerHTML);
  };
  // A drawing is scaled; a text on its side too.
  const scale = (element) => {
    const matrix = element.getScreenCTM ? element.getScreenCTM() : { a: 1, b: 0 };
    return Math.hypot(matrix.a, matrix.b);
  };
  const entry = (element, words, colour) => ({
    what: element.tagName + ": " + words.trim().slice(0, 40),
    colours: [channels(colour), channels(behind(element))],
    pixels: parseFloat(getComputedStyle(element).fontSize) * scale(element),
    kind: element.closest("svg") ? "chart" : element.closest("figcaption") ? "caption" : element.closest("a") ? "link" : "body",
  });
  document.querySelectorAll("details").forEach((details) => { details.open = true; });
  const texts = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement, words = walker.currentNode.textContent;
    if (!words.trim() || element.closest("script, style, noscript, title")) continue;
    const style = getComputedStyle(element);
    texts.push(entry(element, words, element.closest("svg") ? style.fill : style.color));
  }
  const lines = (name, selector) => [...document.querySelectorAll(selector)].map(
    (element) => entry(element, name, getComputedStyle(element).stroke));
  const ticks = [...document.querySelectorAll('.panels g[id*="axis_"] use')].map(
    (element) => entry(element, "tick", getComputedStyle(element).stroke));
  const spines = [3, 4, 5, 6].flatMap((number) => lines("axis", `.panels g[id$="-patch_${number}"] path`));
  return { texts, ticks, spines, curves: lines("curve", '.panels g[id^="curve-"] > path, .legend path') };
}
