/* Guess first: drag a dot or pick an answer, then see. What there is to see is a <details> of the page
   (book/_ext/guess.py), which opens also without a guess, and without this script. */
(() => {
"use strict";

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const written = (number, unit) => {
  const words = Math.abs(number) < 10 && number % 1 ? Math.abs(number).toFixed(1) : Math.abs(number).toFixed(0);
  return `${number < 0 && Number(words) ? "−" : ""}${words}${unit ? `\u00a0${unit}` : ""}`;
};

for (const box of document.querySelectorAll(".guess")) {
  const seen = box.querySelector(".guess-seen"), summary = seen.querySelector("summary");
  const send = element("button", { type: "button", class: "guess-send", disabled: "" }, "That is my guess");
  const says = element("p", { class: "guess-says", role: "status" });
  let reveal = null;
  if (box.dataset.answer !== undefined) {
    const [low, high, answer] = ["low", "high", "answer"].map(name => Number(box.dataset[name])), unit = box.dataset.unit;
    const output = element("output", {}, "drag the dot");
    const input = element("input", {
      type: "range", min: low, max: high, step: (high - low) / 100, value: (low + high) / 2,
      "aria-label": box.querySelector("legend").textContent,
    });
    const track = element("div", { class: "guess-track" }, input);
    const ends = element("div", { class: "guess-scale", "aria-hidden": "true" },
      element("span", {}, written(low, unit)), element("span", {}, written(high, unit)));
    box.querySelector(".guess-ends").replaceWith(element("div", { class: "guess-dot" }, output, track, ends));
    input.addEventListener("input", () => {
      output.textContent = written(input.valueAsNumber, unit);
      input.setAttribute("aria-valuetext", output.textContent);
      send.disabled = false;
    });
    reveal = () => {
      input.disabled = true;
      const mark = element("span", { class: "guess-answer" }, written(answer, ""));
      mark.style.setProperty("--at", (answer - low) / (high - low));
      track.append(mark);
      return `You said ${written(input.valueAsNumber, unit)}. It is ${written(answer, unit)}.`;
    };
  } else {
    const options = [...box.querySelectorAll(".option")];
    box.addEventListener("change", () => { send.disabled = seen.open; });
    reveal = () => {
      options[box.dataset.right].classList.add("is-right");
      const picked = options.findIndex(option => option.querySelector("input").checked);
      if (picked < 0) return "";
      if (picked !== Number(box.dataset.right)) options[picked].classList.add("is-wrong");
      return picked === Number(box.dataset.right) ? "Right." : "Not quite.";
    };
  }
  seen.before(send, says);
  let done = false;
  const finish = guessed => {
    if (done) return;
    done = true;
    const words = reveal();
    says.textContent = guessed ? words : "";
    send.hidden = true;
    summary.textContent = "What there is to see";
    seen.open = true;
  };
  send.addEventListener("click", () => {
    finish(true);
    summary.focus({ preventScroll: true });  // the button is gone
  });
  seen.addEventListener("toggle", () => { if (seen.open) finish(false); });
}
})();
