/* Which start? Eight questions, one recommendation.

   The page holds the questions as a form, every case as JSON and as a table
   (book/_ext/which_start.py). This script shows the form, looks up the first case that covers the
   answers, and shows what stands there. It computes nothing. The answers are kept in the address. */
(() => {
"use strict";

class WhichStart {
  constructor(element) {
    this.data = JSON.parse(element.querySelector("script").textContent);
    this.form = element.querySelector("form");
    this.card = element.querySelector(".ws-card");
    this.form.hidden = this.card.hidden = false;
    element.querySelector(".ws-all").open = false;
    this.read();
    this.form.addEventListener("change", () => this.show(true));
    this.form.addEventListener("reset", () => setTimeout(() => this.show(true)));
    this.form.addEventListener("submit", event => event.preventDefault());
    const copy = element.querySelector(".ws-copy button");
    copy.addEventListener("click", () => this.copy(copy));
    addEventListener("hashchange", () => { this.read(); this.show(false); });
    this.show(false);
  }

  // Answers from the address: #data=tables&batchnorm=no
  read() {
    const said = new URLSearchParams(location.hash.slice(1));
    for (const key of this.data.questions) {
      for (const input of this.form.querySelectorAll(`[name="ws-${key}"]`)) {
        if (said.has(key)) input.checked = input.value === said.get(key);
      }
    }
  }

  answers() {
    const given = new FormData(this.form);
    return Object.fromEntries(this.data.questions.map(key => [key, given.get(`ws-${key}`)]));
  }

  // The cases that the answers leave open, the first of which counts when all are given.
  open(answers) {
    return this.data.cases.filter(({ when }) => when.every((options, place) => {
      const answer = answers[this.data.questions[place]];
      return !answer || options.includes(answer);
    }));
  }

  // Questions whose answer alone stands between these answers and a case.
  nearest(answers) {
    return this.data.questions.filter(key => answers[key] && this.open({ ...answers, [key]: null }).length);
  }

  find(answers) {
    const open = this.open(answers);
    if (!open.length) return this.data.none;
    return Object.values(answers).every(Boolean) ? open[0] : null;
  }

  show(keep) {
    const answers = this.answers();
    const found = this.find(answers);
    const left = Object.values(answers).filter(answer => !answer).length;
    const say = (name, words = "") => {
      const place = this.card.querySelector(name);
      place.textContent = words;
      place.hidden = !words;
      return place;
    };
    const start = say(".ws-start", found ? found.start : `${left} ${left === 1 ? "question" : "questions"} left`);
    start.className = `ws-start ${found?.arm ?? ""}`;
    say(".ws-gain", found === this.data.none ? this.why(answers) : found?.gain);
    say(".ws-more", found?.more);
    say(".ws-on", found?.on);
    this.card.querySelector(".ws-code code").textContent = found?.code ?? "";
    for (const name of [".ws-code", ".ws-copy"]) this.card.querySelector(name).hidden = !found;
    const link = this.card.querySelector(".ws-link a");
    link.parentElement.hidden = !found?.page;
    if (found?.page) {
      link.href = found.page;
      link.textContent = found.link;
    }
    if (keep) {
      const said = new URLSearchParams(Object.entries(answers).filter(([, answer]) => answer));
      history.replaceState(null, "", `#${said}`);
    }
  }

  why(answers) {
    const legends = this.nearest(answers).map(key =>
      this.form.querySelector(`[name="ws-${key}"]`).closest("fieldset").querySelector("legend").textContent);
    const words = "No stored result covers these answers, and a neighbor's would be a guess.";
    return legends.length ? `${words} Measured with another answer to: ${legends.join(" ")}` : words;
  }

  copy(button) {
    const words = this.card.querySelector(".ws-code code").textContent;
    const done = () => {
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy the code"; }, 2000);
    };
    if (navigator.clipboard) navigator.clipboard.writeText(words).then(done, () => {});
    else {
      getSelection().selectAllChildren(this.card.querySelector(".ws-code code"));
      if (document.execCommand("copy")) done();
    }
  }
}

for (const element of document.querySelectorAll(".which-start")) element.whichStart = new WhichStart(element);
})();
