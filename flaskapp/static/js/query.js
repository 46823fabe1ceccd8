// The editor: Ctrl + Enter runs, Tab indents, and a name from the list of columns is put where the cursor is.
// A page that is closed tells so, and its question is stopped unless its asker wants otherwise.

const editor = document.querySelector(".query-editor");
const form = document.querySelector("[data-query-form]");

if (editor && form) {
  editor.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
  for (const name of document.querySelectorAll(".query-table li code")) {
    name.title = "Put it into the question";
    name.addEventListener("click", () => {
      editor.setRangeText(name.textContent, editor.selectionStart, editor.selectionEnd, "end");
      editor.focus();
    });
  }
}

// pagehide is also a reload: the server waits for some seconds before it believes that nobody will look.
addEventListener("pagehide", () => {
  const page = document.querySelector("[data-leave]");
  if (!page?.querySelector("[data-unfinished]")) return;
  const body = new FormData();
  body.append("csrf_token", document.querySelector("meta[name=csrf-token]").content);
  navigator.sendBeacon(page.dataset.leave, body);
});

// Coming back by the browser's button: say that somebody looks again.
addEventListener("pageshow", (event) => {
  if (event.persisted && document.querySelector("[data-leave]")) location.reload();
});

// The chart's form applies at once, also after a live update.
document.addEventListener("change", (event) => {
  const choice = event.target.closest(".query-chart-form select");
  if (choice) choice.form.requestSubmit();
});
