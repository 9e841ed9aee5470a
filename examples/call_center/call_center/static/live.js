// Keeps a page up to date: fetches it again, and puts in what changed of its [data-live] parts.
(() => {
  const status = document.getElementById("live-status");
  let failures = 0, timer;

  function update(old, fresh) {
    if (!fresh || old.isEqualNode(fresh)) return;
    const focused = old.contains(document.activeElement) && document.activeElement.id;
    if (old.dataset.live === "grows") {  // what is there stays, or it would be read out again
      let same = 0;
      while (old.children[same]?.isEqualNode(fresh.children[same])) same += 1;
      [...old.children].slice(same).forEach((each) => each.remove());
      old.append(...[...fresh.children].slice(same));
    } else old.replaceWith(fresh);
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  }

  async function refresh() {
    try {
      const answer = await fetch(location.pathname + location.search,
        { cache: "no-store", signal: AbortSignal.timeout(10000) });
      if (!answer.ok) throw new Error(answer.status);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const old of document.querySelectorAll("[data-live]")) update(old, page.getElementById(old.id));
      document.body.dataset.liveEvery = page.body.dataset.liveEvery || "";
      failures = 0;
    } catch { failures += 1; }
    const text = failures ? status.dataset.offline : "";
    if (status.textContent !== text) status.textContent = text;  // else it is announced again
    schedule();
  }

  function schedule(longest = 60000) {
    clearTimeout(timer);
    const every = Number(document.body.dataset.liveEvery) * 2 ** failures;
    if (every && !document.hidden) timer = setTimeout(refresh, Math.min(every, longest));
  }
  document.addEventListener("visibilitychange", () => schedule(0));
  schedule();
})();
