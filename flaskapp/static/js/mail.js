// The preview beside the text: the server renders what was typed, once the typing pauses. Without it a button does.
// Who fills in a time has chosen it.

for (const time of document.querySelectorAll("input[name=send_at]")) {
  time.addEventListener("input", () => {
    if (time.value) time.form.querySelector("[name=when][value=later]").checked = true;
  });
}

const form = document.querySelector("[data-preview]");
if (form) start(form, form.querySelector("textarea[name=text]"), form.querySelector("[data-paper]"));

function start(form, field, paper) {
  let timer = 0;
  let number = 0;
  field.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(show, 300);
  });

  async function show() {
    const mine = ++number;
    const body = new URLSearchParams({ text: field.value, csrf_token: form.elements.csrf_token.value });
    try {
      const answer = await fetch(form.dataset.preview, { method: "POST", body, credentials: "same-origin" });
      const text = await answer.text();
      // An older answer that comes late says nothing about what stands there now.
      if (answer.ok && !answer.redirected && mine === number) {
        paper.replaceChildren(...new DOMParser().parseFromString(text, "text/html").body.children);
      }
    } catch {
      // The network is away; the next pause in the typing asks again.
    }
  }
}
