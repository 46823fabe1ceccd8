// The upload form: drag and drop on the whole page, and a bar for the bytes. Without it the form posts as usual.

const form = document.querySelector("[data-upload]");
if (form) start(form);

function start(form) {
  const field = form.querySelector("input[type=file]");
  const chosen = form.querySelector("[data-chosen]");
  const help = form.querySelector("[data-help]");
  const problem = form.querySelector("[data-problem]");
  const sending = form.querySelector("[data-sending]");
  const meter = form.querySelector("progress");
  const said = form.querySelector("[data-said]");
  const button = form.querySelector("button");
  const asked = [...chosen.childNodes];
  const helped = help.textContent;
  let depth = 0;

  const carriesFiles = (event) => event.dataTransfer && [...event.dataTransfer.types].includes("Files");
  const lift = () => { depth = 0; document.body.classList.remove("dropping"); };
  document.addEventListener("dragenter", (event) => {
    if (carriesFiles(event)) { depth += 1; document.body.classList.add("dropping"); }
  });
  document.addEventListener("dragleave", (event) => { if (carriesFiles(event) && --depth <= 0) lift(); });
  document.addEventListener("dragover", (event) => { if (carriesFiles(event)) event.preventDefault(); });
  document.addEventListener("drop", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    lift();
    if (form.classList.contains("busy")) return;
    field.files = event.dataTransfer.files;
    show();
    send();
  });

  field.addEventListener("change", show);
  // Chosen before this script had come.
  if (field.files.length) show();
  // The field's own complaint would cover the page's sentence.
  form.noValidate = true;
  form.addEventListener("submit", (event) => { event.preventDefault(); send(); });
  // Coming back by the browser's button, the page is as it was left: at the end of an upload.
  addEventListener("pageshow", (event) => { if (event.persisted) { busy(false); show(); } });

  function show() {
    const file = field.files[0];
    form.classList.toggle("chosen", Boolean(file));
    chosen.replaceChildren(...(file ? [named(file.name)] : asked));
    help.textContent = file ? bytes(file.size) : helped;
    tell("");
  }

  function tell(sentence) {
    problem.textContent = sentence;
    problem.parentElement.hidden = !sentence;
    field.setAttribute("aria-invalid", sentence ? "true" : "false");
  }

  function send() {
    const file = field.files[0];
    if (!file) return tell("No file was chosen. Choose a CSV file, or drop one on the page.");
    const most = Number(form.dataset.most);
    if (file.size > most) return tell(`The file has ${bytes(file.size)}; at most ${bytes(most)} are taken. Split it, or ask an admin.`);
    const request = new XMLHttpRequest();
    request.open("POST", form.action);
    request.responseType = "json";
    request.setRequestHeader("X-Requested-With", "fetch");
    request.setRequestHeader("X-CSRFToken", document.querySelector("meta[name=csrf-token]").content);
    request.upload.addEventListener("progress", (event) => {
      if (!event.lengthComputable) return;
      meter.max = event.total;
      meter.value = event.loaded;
      said.textContent = event.loaded < event.total ? `${bytes(event.loaded)} of ${bytes(event.total)}` : "Looking at it …";
    });
    request.addEventListener("load", () => {
      const answer = request.response || {};
      if (request.status < 300 && answer.location) return location.assign(answer.location);
      rest(answer.error || `The server answered ${request.status}. Nothing was kept; try again.`);
    });
    request.addEventListener("error", () => rest("The connection broke off. Nothing was kept; try again."));
    tell("");
    busy(true);
    const body = new FormData();
    body.append("file", file);
    request.send(body);
  }

  function rest(sentence) { busy(false); tell(sentence); }

  function busy(is) {
    form.classList.toggle("busy", is);
    button.disabled = is;
    sending.hidden = !is;
    meter.removeAttribute("value");
    said.textContent = "";
  }
}

function named(name) {
  const element = document.createElement("bdi");
  element.textContent = name.length > 120 ? `${name.slice(0, 119)}…` : name;
  return element;
}

function bytes(count) {
  const units = ["bytes", "kB", "MB", "GB"];
  let unit = 0;
  while (count >= 1000 && unit < units.length - 1) { count /= 1000; unit += 1; }
  return `${unit ? count.toFixed(count < 10 ? 1 : 0) : count} ${units[unit]}`;
}
