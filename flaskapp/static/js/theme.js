// Runs before the first paint: takes the chosen theme, or the system's, so that no page flashes in the other one.
(() => {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const chosen = () => {
    try { return localStorage.getItem("theme"); } catch { return null; }
  };
  const show = () => {
    root.dataset.bsTheme = chosen() ?? (system.matches ? "dark" : "light");
    root.dataset.themeChoice = chosen() ?? "system";
  };
  root.classList.add("js");
  show();
  system.addEventListener("change", show);
  addEventListener("storage", show);
  window.chooseTheme = (theme) => {
    try {
      if (theme === "system") localStorage.removeItem("theme");
      else localStorage.setItem("theme", theme);
    } catch { /* Private windows may refuse storage: the choice then holds for this page. */ }
    show();
    if (theme !== "system") root.dataset.bsTheme = theme;
    root.dataset.themeChoice = theme;
  };
})();
