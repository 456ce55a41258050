// A worker as a hidden frame. The search is a worker, and browsers start none for pages that are opened from a
// folder. The name of this file is the one by which the theme's plugin `offline` knows that it needs no other.
class FrameWorker extends EventTarget {
  constructor(url) {
    super();
    const frame = document.createElement("iframe");
    frame.hidden = true;
    frame.srcdoc = "<!doctype html>"; // of the page's origin, so that both sides may call each other
    this.scope = new Promise((ready) => {
      frame.onload = () => {
        const scope = frame.contentWindow;
        scope.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
        const script = scope.document.createElement("script");
        script.src = url;
        script.onload = () => ready(scope);
        scope.document.body.append(script);
      };
    });
    document.body.append(frame);
  }

  postMessage(data) {
    this.scope.then((scope) => scope.dispatchEvent(new scope.MessageEvent("message", { data })));
  }
}

if (location.protocol === "file:") window.Worker = FrameWorker;
