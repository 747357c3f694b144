// Search without a server. Browsers refuse web workers on file: pages, so there the search runs in a hidden frame instead.
// The offline plugin of mkdocs-material wants a script of this name, and would fetch one from elsewhere.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      this.inside = new Promise((resolve) => {
        frame.addEventListener("load", () => {
          const inside = frame.contentWindow;
          const load = (address) =>
            new Promise((loaded, failed) => {
              const script = inside.document.createElement("script");
              script.src = address;
              script.onload = loaded;
              script.onerror = failed;
              inside.document.body.appendChild(script);
            });
          inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
          inside.importScripts = (...addresses) =>
            addresses.reduce((before, address) => before.then(() => load(address)), Promise.resolve());
          load(url).then(() => resolve(inside));
        }, { once: true });
      });
      document.body.appendChild(frame);
    }
    postMessage(data) {
      this.inside.then((inside) => inside.dispatchEvent(new MessageEvent("message", { data })));
    }
  };
}
