// Without a script the page is for reading; with it every operation has a form that is sent.
const changes = new Set(["DELETE", "PATCH", "POST", "PUT"]);

const newKey = () => {
  const random = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("");
};

const requestOf = (form) => {
  const query = new URLSearchParams();
  const request = { method: form.dataset.method, headers: {} };
  let path = form.dataset.path;
  for (const { name, value, dataset } of form.elements) {
    if (!value || !dataset.in) continue;
    if (dataset.in === "path") path = path.replace(`{${name}}`, encodeURIComponent(value));
    if (dataset.in === "query") query.append(name, value);
    if (dataset.in === "header") request.headers[name] = value;
    if (dataset.in === "body") {
      request.body = value;
      request.headers["Content-Type"] = name;
    }
  }
  // A command that names no key gets one of its own here: tried twice, it is carried out twice.
  const named = request.headers["Idempotency-Key"] || /"idempotence_key"\s*:/.test(request.body);
  if (changes.has(request.method) && !named) request.headers["Idempotency-Key"] = newKey();
  const asked = query.toString();
  return [asked ? `${path}?${asked}` : path, request];
};

const answerTo = async (form) => {
  const answer = await fetch(...requestOf(form));
  const headers = Array.from(answer.headers, ([name, value]) => `${name}: ${value}`);
  const text = await answer.text();
  const isJson = /json$/.test((answer.headers.get("content-type") ?? "").split(";")[0]);
  const body = isJson && text ? JSON.stringify(JSON.parse(text), null, 2) : text;
  return [`${answer.status} ${answer.statusText}`, ...headers, "", body].join("\n");
};

for (const form of document.querySelectorAll("form.try")) {
  form.hidden = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const output = form.querySelector("output");
    try {
      output.textContent = await answerTo(form);
    } catch (error) {
      output.textContent = `There is no answer: ${error.message}`;
    }
  });
}
