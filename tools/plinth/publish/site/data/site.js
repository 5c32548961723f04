// Search over packages, and the difference of two images. Everything is in data.js: no request is made.
"use strict";

(() => {
  const MOST = 100;
  const home = document.documentElement.dataset.home;
  const status = document.getElementById("status");
  const results = document.getElementById("results");

  const fill = (text, values) => text.replace(/\{(\w+)\}/g, (whole, key) => key in values ? values[key] : whole);

  const make = (name, role, text, label) => {
    const element = document.createElement(name);
    element.setAttribute("role", role);
    element.textContent = text;
    if (label) element.dataset.label = label;
    return element;
  };

  const headings = () => [...results.querySelectorAll("thead th")].map((cell) => cell.textContent);

  const show = (rows) => {
    results.tBodies[0].replaceChildren(...rows);
    results.hidden = rows.length === 0;
  };

  const row = (head, ...cells) => {
    const element = make("tr", "row", "");
    const first = make("th", "rowheader", head);
    first.scope = "row";
    element.append(first, ...cells);
    return element;
  };

  const remember = (values) => history.replaceState(null, "", "#" + new URLSearchParams(values));
  const remembered = () => new URLSearchParams(location.hash.slice(1));

  // Words of a question that name nothing are left out only where another is a package's full name.
  const find = (question) => {
    const terms = question.toLowerCase().split(/[\s=@,;?!~<>]+/).filter(Boolean);
    const versions = terms.filter((term) => /^v?\d/.test(term)).map((term) => term.replace(/^v/, ""));
    const names = terms.filter((term) => !/^v?\d/.test(term)).map((term) => term.replace(/_/g, "-"));
    const all = PLINTH.packages.map((item, number) => ({ item, number }));
    // 1.1 stands for 1.1.5, not for 1.10.
    const versioned = ({ item }) => versions.every((v) => item[1].startsWith(v) && !/^\d/.test(item[1].slice(v.length)));
    const exact = names.filter((name) => PLINTH.packages.some((item) => item[0] === name));
    let found = terms.length ? all.filter(({ item }) => names.every((name) => item[0].includes(name))) : [];
    if (!found.length) found = all.filter(({ item }) => exact.includes(item[0]));
    const rank = ({ item }) => exact.includes(item[0]) ? 0 : names.some((name) => item[0].startsWith(name)) ? 1 : 2;
    return found.filter(versioned).sort((a, b) => rank(a) - rank(b) || a.number - b.number);
  };

  const search = (form) => {
    const [, versionLabel, imagesLabel] = headings();
    const run = () => {
      const question = form.elements.q.value.trim();
      const found = find(question);
      show(found.slice(0, MOST).map(({ item, number }) => {
        const list = make("td", "cell", "", imagesLabel);
        const holder = make("span", "presentation", "");
        PLINTH.images.filter((image) => image.packages.includes(number)).forEach((image, at) => {
          const link = document.createElement("a");
          link.href = home + "images/" + encodeURIComponent(image.id) + ".html";
          link.textContent = image.id;
          holder.append(at ? ", " : "", link);
        });
        list.append(holder);
        return row(item[0], make("td", "cell", item[1], versionLabel), list);
      }));
      const text = found.length > MOST ? form.dataset.more : found.length ? form.dataset.found : form.dataset.none;
      status.textContent = question ? fill(text, { n: found.length, shown: MOST }) : "";
    };
    form.hidden = false;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      run();
      remember({ q: form.elements.q.value.trim() });
    });
    form.elements.q.addEventListener("input", run);
    const restore = () => {
      form.elements.q.value = remembered().get("q") || "";
      run();
    };
    // The link that skips to the content changes the hash too, and asks for nothing.
    addEventListener("hashchange", () => { if (remembered().has("q")) restore(); });
    restore();
  };

  const sizer = (form) => {
    const units = form.dataset.units.split(" ");
    return (bytes) => {
      let value = bytes, unit = 0;
      while (value >= (unit ? 999.95 : 1000) && unit < units.length - 1) { value /= 1000; unit += 1; }
      const text = unit ? value.toFixed(1) : String(value);
      return (form.dataset.comma ? text.replace(".", ",") : text) + "\u00a0" + units[unit];
    };
  };

  const compare = (form) => {
    const { a, b } = form.elements;
    const size = sizer(form);
    const sum = (layers) => layers.reduce((total, number) => total + PLINTH.layers[number], 0);
    const held = (image) => {
      const found = new Map();
      for (const number of image.packages) {
        const [name, version, kind] = PLINTH.packages[number];
        const key = kind + " " + name;
        found.set(key, { name, versions: [...(found.get(key)?.versions || []), version].sort() });
      }
      return found;
    };
    const run = () => {
      const [before, after] = [a, b].map((select) => PLINTH.images.find((image) => image.id === select.value));
      const [left, right] = [held(before), held(after)];
      const rows = [...new Set([...left.keys(), ...right.keys()])].sort().flatMap((key) => {
        const texts = [left, right].map((side) => side.get(key)?.versions.join(", ") || "");
        if (texts[0] === texts[1]) return [];
        const cells = texts.map((text, at) => make("td", "cell", text || "-", headings()[at + 1]));
        return [row((left.get(key) || right.get(key)).name, ...cells)];
      });
      show(rows);
      const fresh = after.layers.filter((number) => !before.layers.includes(number));
      const same = !rows.length && !fresh.length && before.layers.length === after.layers.length;
      status.textContent = same ? form.dataset.same : fill(form.dataset.summary, {
        before: size(sum(before.layers)),
        after: size(sum(after.layers)),
        pull: size(sum(fresh)),
        new: fresh.length,
        kept: after.layers.length - fresh.length,
      }) + " " + fill(form.dataset.changes, { n: rows.length });
      document.getElementById("command").textContent = "plinth diff " + before.id + " " + after.id;
    };
    const restore = () => {
      const values = remembered();
      const known = (id, other) => PLINTH.images.some((image) => image.id === id) ? id : other;
      a.value = known(values.get("a"), form.dataset.first);
      b.value = known(values.get("b"), form.dataset.second);
      run();
    };
    form.hidden = false;
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("change", () => {
      run();
      remember({ a: a.value, b: b.value });
    });
    addEventListener("hashchange", () => { if (remembered().has("a")) restore(); });
    restore();
  };

  const searchForm = document.getElementById("search");
  const compareForm = document.getElementById("compare");
  if (searchForm) search(searchForm);
  if (compareForm) compare(compareForm);
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => { one.open = true; }));
})();
