"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const profiles = new Map(data.profiles.map((row) => [row.profile, row]));
  const views = [];

  // The rule by which a registered model chooses: pipeline/serving/choice.py.
  const budgets = {
    macs: { of: (row) => row.macs, unit: "million MACs", digits: 1, scale: 1e-6 },
    latency: { of: (row) => row.latency_p95_ms, unit: "ms a call", digits: 2, scale: 1 },
    accuracy: { of: (row) => row.top1, unit: "top-1", digits: 4, scale: 1, isFloor: true },
  };
  const kind = byId("budget"), limit = byId("limit"), shown = byId("limit-value");

  const best = (rows, isBetter) => rows.reduce((one, other) => (one && !isBetter(other, one) ? one : other), null);
  const choose = (budget, value) => {
    const { of, isFloor } = budgets[budget];
    if (isFloor) {
      const good = data.profiles.filter((row) => of(row) >= value);
      return best(good, (a, b) => a.macs < b.macs || (a.macs === b.macs && a.top1 > b.top1));
    }
    const fitting = data.profiles.filter((row) => of(row) <= value);
    return best(fitting, (a, b) => a.top1 > b.top1 || (a.top1 === b.top1 && a.macs < b.macs));
  };

  const pick = (row) => {
    document.querySelectorAll("[data-profile]").forEach((line) => {
      line.classList.toggle("picked", line.dataset.profile === row.profile);
    });
    byId("picked").textContent = row.profile;
    byId("picked-top1").textContent = row.top1.toFixed(4);
    byId("picked-macs").textContent = (row.macs / 1e6).toFixed(1);
    byId("picked-p50").textContent = row.latency_p50_ms.toFixed(2);
    byId("picked-p95").textContent = row.latency_p95_ms.toFixed(2);
    byId("picked-parameters").textContent = (row.parameters / 1e6).toFixed(2);
    byId("picked-call").textContent = `model.predict(images, params={"profile": "${row.profile}"})`;
    document.querySelectorAll(".stage").forEach((stage) => {
      const isSkipped = stage.dataset.letter !== "" && row.profile[Number(stage.dataset.letter)] === "T";
      stage.querySelectorAll(".skippable").forEach((block) => block.classList.toggle("skipped", isSkipped));
      stage.querySelector(".state").textContent = isSkipped ? "skipped" : "whole";
    });
    views.forEach((view) => view.signal("picked", row.profile).run());
  };

  const follow = () => {
    const { of, unit, digits, scale } = budgets[kind.value];
    const values = data.profiles.map(of), share = limit.value / limit.max;
    const value = (1 - share) * Math.min(...values) + share * Math.max(...values);
    shown.textContent = `${(value * scale).toFixed(digits)} ${unit}`;
    limit.setAttribute("aria-valuetext", shown.textContent);
    const row = choose(kind.value, value);
    if (row) pick(row);
  };

  const start = () => {
    limit.value = budgets[kind.value].isFloor ? 0 : limit.max;
    follow();
  };

  const sortBy = (button) => {
    const header = button.closest("th"), table = header.closest("table"), body = table.tBodies[0];
    const isDescending = header.getAttribute("aria-sort") === "ascending";
    const column = header.cellIndex;
    const key = (line) => {
      const text = line.cells[column].dataset.value ?? line.cells[column].textContent;
      return Number.isNaN(Number(text)) ? text : Number(text);
    };
    const lines = [...body.rows].sort((a, b) => {
      const [one, other] = [key(a), key(b)];
      return (one < other ? -1 : one > other ? 1 : 0) * (isDescending ? -1 : 1);
    });
    table.querySelectorAll("th[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
    header.setAttribute("aria-sort", isDescending ? "descending" : "ascending");
    body.append(...lines);
  };

  kind.addEventListener("change", start);
  limit.addEventListener("input", follow);
  document.querySelectorAll("th button").forEach((button) => {
    button.addEventListener("click", () => sortBy(button));
  });
  document.querySelectorAll("td button").forEach((button) => {
    button.addEventListener("click", () => pick(profiles.get(button.textContent)));
  });
  start();

  const drawn = Object.entries(data.figures).map(async ([key, spec]) => {
    const { view } = await vegaEmbed(byId(`chart-${key}`), spec, { actions: false, renderer: "svg" });
    if ((spec.params ?? []).some((param) => param.name === "picked")) {
      views.push(view);
      view.signal("picked", byId("picked").textContent).run();
    }
  });
  Promise.all(drawn).then(() => document.body.classList.add("is-drawn"));
})();
