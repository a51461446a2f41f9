// Injected by harness.py as soon as Start is pressed. Records, on the page's own clock (ms), the microphone's loudness and
// sound (16 kHz, base64) per chunk as captured, from its first: what a call hears at its beginning stays in its memory.
(async () => {
  const heard = { levels: [], sound: [], stop: () => {} };
  globalThis.testHeard = heard;
  while (!globalThis.avatarCall?.microphone) await new Promise((resolve) => setTimeout(resolve, 5));
  const reader = new MediaStreamTrackProcessor({ track: globalThis.avatarCall.microphone.getAudioTracks()[0].clone() }).readable.getReader();
  const listen = async () => {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const samples = new Float32Array(value.numberOfFrames);
      value.copyTo(samples, { planeIndex: 0, format: "f32-planar" });
      const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
      const step = value.sampleRate / 16000;
      const part = new Int16Array(samples.length / step);
      for (let i = 0; i < part.length; i++) {
        const mean = samples.subarray(i * step, (i + 1) * step).reduce((sum, sample) => sum + sample, 0) / step;
        part[i] = Math.max(-32768, Math.min(32767, Math.round(mean * 32768)));
      }
      heard.sound.push(btoa(String.fromCharCode(...new Uint8Array(part.buffer))));
      heard.levels.push([performance.now(), value.duration / 1000, 10 * Math.log10(power + 1e-9)]);
      value.close();
    }
  };
  heard.stop = () => void reader.cancel();
  void listen();
})
