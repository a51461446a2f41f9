// Reads the media position that `serve --timecode` draws; the same as stream_server/media/timecode.py.

export const BITS = 40;

/** @param {number} size frame width in pixels */
export function blockPx(size) {
  return size >= 512 ? 16 : 8;
}

/** @param {number} size frame width in pixels */
export function stripHeightPx(size) {
  const edge = blockPx(size);
  return Math.ceil(BITS / Math.floor(size / edge)) * edge;
}

/** @param {number} value unsigned 32 bits */
export function crc8(value) {
  let crc = 0;
  for (let shift = 24; shift >= 0; shift -= 8) {
    crc ^= (value >>> shift) & 0xff;
    for (let bit = 0; bit < 8; bit++) crc = crc & 0x80 ? ((crc << 1) ^ 0x07) & 0xff : crc << 1;
  }
  return crc ^ 0x55;
}

/**
 * @param {Uint8ClampedArray} rgba pixels of the strip, `size` wide
 * @param {number} size frame width in pixels
 * @returns {number | null} frame index, or null if the check fails
 */
export function decodeTimecode(rgba, size) {
  const edge = blockPx(size);
  const columns = Math.floor(size / edge);
  const bits = [];
  for (let bit = 0; bit < BITS; bit++) {
    const top = Math.floor(bit / columns) * edge;
    const left = (bit % columns) * edge;
    let sum = 0;
    let count = 0;
    for (let y = top + edge / 4; y < top + edge - edge / 4; y++) {
      for (let x = left + edge / 4; x < left + edge - edge / 4; x++) {
        sum += rgba[(y * size + x) * 4 + 1] ?? 0;
        count++;
      }
    }
    bits.push(sum / count > 128 ? 1 : 0);
  }
  const index = bits.slice(0, 32).reduce((value, bit) => value * 2 + bit, 0);
  const check = bits.slice(32).reduce((value, bit) => value * 2 + bit, 0);
  return crc8(index) === check ? index : null;
}
