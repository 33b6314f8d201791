// What is wrong with a page for those who see little, or use a keyboard or a screen reader.
() => {
  const found = [];
  const told = (one) => `${one.tagName.toLowerCase()}.${one.className.baseVal ?? one.className} ${(one.textContent ?? "").trim().slice(0, 40)}`;
  const seen = (one) => one.checkVisibility({ visibilityProperty: true, opacityProperty: true });

  // Contrast of text with what is behind it.
  const parse = (text) => { const [r, g, b, a = 1] = text.match(/[\d.]+/g).map(Number); return [r, g, b, a]; };
  const over = (front, back) => [0, 1, 2].map((i) => front[i] * front[3] + back[i] * (1 - front[3])).concat(1);
  const shine = ([r, g, b]) => [r, g, b].map((one) => one / 255)
    .map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4))
    .reduce((sum, one, i) => sum + one * [0.2126, 0.7152, 0.0722][i], 0);
  const ratio = (a, b) => { const [x, y] = [shine(a), shine(b)]; return (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05); };
  const behind = (one) => {
    const layers = [];
    for (let up = one; up; up = up.parentElement) layers.push(parse(getComputedStyle(up).backgroundColor));
    return layers.reverse().reduce((back, front) => over(front, back), [255, 255, 255, 1]);
  };
  const judge = (one, color, back) => {
    const value = ratio(over(parse(color), back), back);
    if (value < 4.5) found.push(`contrast ${value.toFixed(2)}: ${told(one)}`);
  };
  for (const one of document.querySelectorAll("body *")) {
    const words = [...one.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
    if (!words || !seen(one) || one.closest("[aria-hidden=true], noscript, .bk-Figure, script, .hidden, .skip")) continue;
    if (one.closest("svg")) {
      const back = one.parentElement.querySelector("rect");
      if (back && one.tagName !== "title") judge(one, getComputedStyle(one).fill, parse(getComputedStyle(back).fill));
    } else judge(one, getComputedStyle(one).color, behind(one));
  }
  for (const one of document.querySelectorAll("input[placeholder]")) {
    if (seen(one)) judge(one, getComputedStyle(one, "::placeholder").color, behind(one));
  }

  // Names of all that can be used, and of regions, pictures and tables.
  for (const one of document.querySelectorAll("button, a[href], input, select, summary, [role=region], [role=img], [role=group], nav")) {
    if (!seen(one) || one.closest("[aria-hidden=true]")) continue;
    const name = one.getAttribute("aria-label") || one.textContent.trim()
      || [...(one.labels ?? [])].map((label) => label.textContent.trim()).join("");
    const needs = one.matches("[role], nav") ? one.getAttribute("aria-label") : name;
    if (!needs) found.push(`no name: ${told(one)}`);
  }
  for (const one of document.querySelectorAll("main table")) {
    if (!seen(one)) continue;
    const heads = [...one.querySelectorAll("th")];
    if (!heads.length) found.push(`no headers: ${told(one)}`);
    for (const head of heads) {
      if (!head.textContent.trim() && !head.querySelector("[aria-label]")) found.push("an empty header");
    }
    for (const row of one.tBodies[0].rows) {
      if (!row.querySelector("th[scope=row]")) found.push(`a row without header: ${told(row)}`);
    }
  }
  // Headings in order, one on top; no identifier twice; no control too small for a finger.
  const levels = [...document.querySelectorAll("h1, h2, h3, h4")].filter(seen).map((one) => Number(one.tagName[1]));
  if (levels.filter((one) => one === 1).length !== 1) found.push(`headings of level 1: ${levels}`);
  levels.forEach((one, i) => { if (i && one > levels[i - 1] + 1) found.push(`headings leave out a level: ${levels}`); });
  const ids = [...document.querySelectorAll("main [id]")].map((one) => one.id);
  if (new Set(ids).size !== ids.length) found.push("an id stands twice");
  for (const one of document.querySelectorAll("main button, main input, main select, main summary, header button, nav a")) {
    const { width, height } = one.getBoundingClientRect();
    if (seen(one) && !one.closest(".bk-Figure, .hidden") && Math.min(width, height) < 16) found.push(`too small, ${width}x${height}: ${told(one)}`);
  }
  if (!document.documentElement.lang || !document.title) found.push("the page has no language or title");
  return found;
}
