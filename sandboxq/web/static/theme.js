// Before anything is painted: the theme that was chosen here, else the system's.
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  try {
    const chosen = localStorage.getItem("sandboxq-theme");
    if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;
  } catch {
    // No storage is allowed here: the system's theme it is.
  }
})();
