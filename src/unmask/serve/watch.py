"""A script in the page of `unmask serve`: it finds the server, and says what fails on the way.

Gradio shows "Error" or nothing when a request of its page fails, be it that a proxy cuts it off,
that the server has gone, or that an upload is refused. This script looks at all of them.
"""

WATCH = """
(() => {
  // The page's own folder, whatever path a proxy puts before it.
  window.gradio_config.root = new URL(".", location.href).href.replace(/\\/$/, "");
  const LOST = "The connection to the server was lost before the answer came. ";
  const WORDS = {
    401: "The password is asked for anew. ",
    404: "The server does not know this address: a proxy before it may change the path. ",
    413: "The file is larger than the server, or a proxy before it, takes. ",
    429: "There are too many requests at the moment. Wait a little. ",
    502: "The proxy can't reach the server. ", 503: "The server is ending, or busy. ",
    504: "The server did not answer the proxy in time. ",
  };
  const WATCHED = /\\/gradio_api\\/(upload|queue\\/join|queue\\/data|heartbeat)(?=\\/|$)/;
  let shown = null;
  const hide = () => { if (shown) shown.remove(); shown = null; };
  const say = (words) => {
    hide();
    shown = document.createElement("p");
    shown.className = "problem";
    shown.id = "failure";
    shown.setAttribute("role", "alert");
    shown.append(words);
    const again = document.createElement("a");
    again.href = location.href;
    again.append("Load the page anew");
    shown.append(again, " and choose the file once more.");
    const clip = document.querySelector("#clip");
    if (clip) clip.after(shown); else document.body.prepend(shown);
    for (const stale of ["#status", "#cancel"]) {
      const element = document.querySelector(stale);
      if (element) element.style.display = "none";
    }
  };
  const refused = async (answer) => {
    let words = WORDS[answer.status] || `The server answered with the error ${answer.status}. `;
    try {
      const told = await answer.json();
      if (typeof told.detail === "string") words = told.detail + " ";
    } catch (error) { /* a proxy's own page */ }
    say(words);
  };
  // Events of Gradio's stream, of which the last says that it ends.
  const watched = (answer) => {
    const reader = answer.body.getReader(), decoder = new TextDecoder();
    let rest = "", ended = false;
    const look = (line) => {
      if (!line.startsWith("data:")) return;
      let told;
      try { told = JSON.parse(line.slice(5)); } catch (error) { return; }
      ended = ended || told.msg === "close_stream";
      if (told.msg === "unexpected_error" || (told.msg === "process_completed" && !told.success))
        say("The server could not answer this video. ");
    };
    const body = new ReadableStream({
      async pull(controller) {
        try {
          const { done, value } = await reader.read();
          if (done) {
            if (!ended) say(LOST);
            controller.close();
            return;
          }
          const lines = (rest + decoder.decode(value, { stream: true })).split("\\n");
          rest = lines.pop();
          lines.forEach(look);
          controller.enqueue(value);
        } catch (error) {
          if (error.name !== "AbortError" && !ended) say(LOST);
          controller.error(error);
        }
      },
      cancel: (reason) => reader.cancel(reason),
    });
    return new Response(body, { status: answer.status, headers: answer.headers });
  };
  const ask = window.fetch.bind(window);
  window.fetch = async (what, how) => {
    const path = new URL(what instanceof Request ? what.url : what, document.baseURI).pathname;
    const [, name] = WATCHED.exec(path) || [];
    if (!name) return ask(what, how);
    if (name === "upload") hide();
    let answer;
    try {
      answer = await ask(what, how);
    } catch (error) {
      if (error.name !== "AbortError") say("The server can't be reached. ");
      throw error;
    }
    if (!answer.ok) await refused(answer.clone());
    return name === "queue/data" && answer.ok && answer.body ? watched(answer) : answer;
  };
  // Parts of the page itself: without them there is nothing to see.
  const part = () => say("A part of this page could not be loaded. ");
  window.addEventListener("error", (event) => {
    const tag = event.target && event.target.tagName;
    if (tag === "SCRIPT" || (tag === "LINK" && event.target.rel === "stylesheet")) part();
  }, true);
  window.addEventListener("unhandledrejection", (event) => {
    if (/dynamically imported|preload CSS/.test(String(event.reason))) part();
  });
})();
"""
