"use strict";
(() => {
  const make = (name, text, className) => {
    const node = document.createElement(name);
    if (text !== undefined) node.textContent = text;
    if (className) node.className = className;
    return node;
  };

  // Tables: a click on a heading sorts by it, and again the other way round.
  const keyOf = (cell) => {
    if (!cell) return "";
    if (cell.dataset.sort !== undefined) return Number(cell.dataset.sort);
    return cell.textContent.trim().toLowerCase();
  };
  const compare = (one, other) => {
    if (typeof one === "number" && typeof other === "number") return one - other;
    if (typeof one === "number") return -1;
    if (typeof other === "number") return 1;
    if (one === "" || other === "") return (one === "") - (other === "");
    return one < other ? -1 : Number(one > other);
  };
  for (const table of document.querySelectorAll("table")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = make("button", head.textContent);
      button.type = "button";
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((each) => each.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const body = table.tBodies[0];
        const rows = [...body.rows].map((row) => [keyOf(row.cells[column]), row]);
        rows.sort((a, b) => {
          const filled = (a[0] === "") - (b[0] === "");
          return filled || (down ? -1 : 1) * compare(a[0], b[0]);
        });
        body.append(...rows.map((pair) => pair[1]));
      });
    });
  }

  // A link to where a number came from opens what it lies in.
  const reveal = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let node = target; node; node = node.parentElement) {
      if (node.tagName === "DETAILS") node.open = true;
    }
    if (target) target.scrollIntoView({ block: "center" });
  };
  window.addEventListener("hashchange", reveal);
  if (location.hash) reveal();
  window.addEventListener("beforeprint", () => {
    for (const node of document.querySelectorAll("details")) node.open = true;
  });

  // The sample browser: one prompt at a time, so thousands of them cost nothing.
  const block = document.getElementById("answers-data");
  const root = document.getElementById("browser");
  if (!block || !root) return;
  const data = JSON.parse(block.textContent);
  const few = document.getElementById("few-answers");
  if (few) few.hidden = true; // the browser has them too
  const text = (number) => data.texts[number];
  const folded = data.texts.map((one) => one.toLowerCase());
  const reference = data.labels.indexOf(data.reference);
  const state = { place: 0, found: [] };

  const controls = make("div", undefined, "controls");
  const field = (name, control) => {
    const label = make("label", name);
    label.append(control);
    controls.append(label);
    return control;
  };
  const choice = (name, options) => {
    const select = make("select");
    options.forEach(([value, shown]) => {
      const option = make("option", shown);
      option.value = value;
      select.append(option);
    });
    return field(name, select);
  };
  const distinct = (column) => [...new Set(data.prompts.map((each) => each[column]))];
  const any = (name, values) => [["", name], ...values.map((value) => [value, value])];

  const search = field("search", make("input"));
  search.type = "search";
  search.placeholder = "in prompts and answers";
  const blocks = distinct("block").length > 1 ? choice("data", any("all", distinct("block"))) : null;
  const decoding = choice("decoding", distinct("decoding").map((value) => [value, value]));
  const tag = choice("prompts", any("all", distinct("tag")));
  const grade = choice("grade", data.grades.map((each, i) => [String(i), each.name]));
  const method = choice("method", any("any method", data.labels));
  const outcome = choice("outcome", [
    ["", "all"],
    ["better", `better than ${data.reference ?? "SFT"}`],
    ["worse", `worse than ${data.reference ?? "SFT"}`],
    ["same", `graded as ${data.reference ?? "SFT"}`],
    ["refused", "refused"],
    ["truncated", "cut off"],
    ["invalid", "no verdict"],
  ]);

  const gain = (prompt, place, number) => {
    const ours = prompt.answers[place];
    const theirs = reference < 0 ? null : prompt.answers[reference];
    if (!ours || !theirs) return null;
    const [a, b] = [ours.v[number], theirs.v[number]];
    const way = data.grades[number].better;  // 0: neither more nor less of it is better
    return a === null || b === null || way === 0 ? null : (a - b) * way;
  };
  const holds = (prompt, place) => {
    const wanted = outcome.value;
    const answer = prompt.answers[place];
    if (!answer) return false;
    if (wanted === "") return true;
    if (["refused", "truncated", "invalid"].includes(wanted)) return answer.k.includes(wanted);
    const change = place === reference ? null : gain(prompt, place, Number(grade.value || 0));
    if (change === null) return false;
    if (wanted === "same") return Math.abs(change) < 1e-6;
    return wanted === "better" ? change > 1e-6 : change < -1e-6;
  };
  const numbersOf = (prompt) => [
    ...prompt.messages.map((each) => each[1]),
    ...prompt.answers.filter(Boolean).map((each) => each.t),
  ];
  const chosen = (prompt) => {
    if (blocks && blocks.value && prompt.block !== blocks.value) return false;
    if (prompt.decoding !== decoding.value) return false;
    if (tag.value && prompt.tag !== tag.value) return false;
    const places = method.value ? [data.labels.indexOf(method.value)] : data.labels.keys();
    if (![...places].some((place) => holds(prompt, place))) return false;
    const words = search.value.trim().toLowerCase();
    return !words || numbersOf(prompt).some((number) => folded[number].includes(words));
  };

  const pager = make("div", undefined, "pager");
  const back = make("button", "← previous");
  const next = make("button", "next →");
  const where = make("span", "", "where");
  where.setAttribute("aria-live", "polite");
  back.type = next.type = "button";
  pager.append(back, where, next);
  const shown = make("div", undefined, "shown");
  root.append(controls, pager, shown);

  const card = (prompt, place) => {
    const answer = prompt.answers[place];
    const node = make("section", undefined, "card");
    node.style.setProperty("--mine", data.colours[place]);
    node.append(make("h4", data.labels[place]));
    if (!answer) {
      node.append(make("p", "no answer", "hole"));
      return node;
    }
    node.append(make("p", text(answer.t) || "(empty)", "said"));
    const list = make("ul", undefined, "grades");
    answer.k.forEach((kind) => list.append(make("li", kind, "kind")));
    data.grades.forEach((each, number) => {
      const value = answer.v[number];
      if (value === null) return;
      const item = make("li", `${each.name} ${value}`);
      const change = place === reference ? null : gain(prompt, place, number);
      if (change !== null && Math.abs(change) > 1e-6) item.className = change > 0 ? "up" : "down";
      if (change !== null && change > 1e-6) item.append(make("span", " ▲ better"));
      if (change !== null && change < -1e-6) item.append(make("span", " ▼ worse"));
      list.append(item);
    });
    node.append(list);
    return node;
  };
  const show = () => {
    const count = state.found.length;
    back.disabled = next.disabled = count < 2;
    if (!count) {
      where.textContent = "no prompt fits these filters";
      shown.replaceChildren();
      return;
    }
    state.place = (state.place + count) % count;
    const prompt = state.found[state.place];
    where.textContent = `${state.place + 1} of ${count.toLocaleString("en")} prompts`;
    const asked = make("div", undefined, "asked");
    prompt.messages.forEach(([role, number]) => {
      const line = make("p", undefined, "message");
      line.append(make("b", `${role} `), document.createTextNode(text(number)));
      asked.append(line);
    });
    asked.append(make("p", `${prompt.tag} prompt ${prompt.id}`, "note"));
    const cards = make("div", undefined, "cards");
    const places = [...data.labels.keys()].filter(
      (place) => !method.value || place === reference || data.labels[place] === method.value,
    );
    cards.append(...places.map((place) => card(prompt, place)));
    shown.replaceChildren(asked, cards);
  };
  const filter = () => {
    state.found = data.prompts.filter(chosen);
    state.place = 0;
    show();
  };
  const step = (by) => {
    state.place += by;
    show();
  };
  back.addEventListener("click", () => step(-1));
  next.addEventListener("click", () => step(1));
  controls.addEventListener("input", filter);
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, select, textarea");
    const inside = root.contains(document.activeElement) || root.matches(":hover");
    if (typing || !inside || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "ArrowRight" || event.key === "j") step(1);
    else if (event.key === "ArrowLeft" || event.key === "k") step(-1);
    else if (event.key === "/") search.focus();
    else return;
    event.preventDefault();
  });
  filter();
})();
