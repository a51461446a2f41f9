// Runs before the page does. Its offers and their answers name a relay's addresses in place of the two peers' own: the
// server shall answer to `server`, this browser shall call `caller` ([host, port] each).
(({ caller, server }) => {
  const replace = (sdp, [host, port]) => {
    const ours = `a=candidate:1 1 udp 2130706431 ${host} ${port} typ host`;
    const lines = sdp.split("\r\n").filter((line) => !line.startsWith("a=candidate:") && line !== "a=end-of-candidates");
    let placed = false;
    return lines.flatMap((line) => {
      if (placed || !line.startsWith("a=ice-ufrag:")) return [line];
      placed = true; // all sections are bundled
      return [ours, line];
    }).join("\r\n");
  };
  const native = globalThis.fetch;
  globalThis.fetch = async (resource, options) => {
    const offering = options?.method === "POST" && /v1\/sessions$/.test(String(resource?.url ?? resource));
    if (!offering) return native(resource, options);
    const body = JSON.parse(options.body);
    const response = await native(resource, { ...options, body: JSON.stringify({ ...body, sdp: replace(body.sdp, server) }) });
    if (!response.ok) return response;
    const answer = await response.json();
    const changed = JSON.stringify({ ...answer, sdp: replace(answer.sdp, caller) });
    return new Response(changed, { status: response.status, headers: response.headers });
  };
})
