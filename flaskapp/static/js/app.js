// Every page works without this; with it, times move on, ids can be copied and pages show what happens as it happens.
import { keepTimes } from "./times.js";
import { startLive } from "./live.js";

const themes = ["system", "light", "dark"];

document.addEventListener("click", async (event) => {
  const copy = event.target.closest("[data-copy]");
  if (copy) {
    event.preventDefault();
    await copyText(copy);
  }
  const theme = event.target.closest("[data-theme-switch]");
  if (theme) {
    const now = themes.indexOf(document.documentElement.dataset.themeChoice);
    window.chooseTheme(themes[(now + 1) % themes.length]);
    nameThemes();
  }
});

async function copyText(button) {
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
  } catch {
    return; // The clipboard is refused outside https and localhost; the full id stays in the tooltip.
  }
  button.classList.add("copied");
  setTimeout(() => button.classList.remove("copied"), 1200);
}

function nameThemes() {
  for (const button of document.querySelectorAll("[data-theme-switch]")) {
    const choice = document.documentElement.dataset.themeChoice;
    button.setAttribute("aria-label", `Theme: ${choice}. Change`);
    button.title = `Theme: ${choice}`;
  }
}

// A select in a filter applies at once; without script the button beside it does.
for (const select of document.querySelectorAll("select[data-submits]")) {
  select.addEventListener("change", () => select.form.requestSubmit());
}

// Empty fields would only lengthen the address.
for (const form of document.querySelectorAll("form[data-tidy]")) {
  form.addEventListener("submit", () => {
    for (const field of form.elements) if (field.name && !field.value) field.disabled = true;
  });
  addEventListener("pageshow", () => {
    for (const field of form.elements) field.disabled = false;
  });
}

nameThemes();
keepTimes();
startLive();
