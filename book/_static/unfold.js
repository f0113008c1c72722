// The theme lets the keyboard into what scrolls, such as a wide table, but measures it only
// when the page loads, changes size or gains elements: what was folded away then stays out
// of reach. Ask for a new measurement whenever something unfolds.
"use strict";
{
  const measureAgain = () => window.dispatchEvent(new Event("resize"));
  document.addEventListener("toggle", measureAgain, true); // a <details>; does not bubble
  document.addEventListener("click", (event) => {
    if (event.target.closest(".toggle-button")) measureAgain();
  });
}
