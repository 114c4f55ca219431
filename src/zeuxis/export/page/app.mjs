// Makes pictures of model.onnx in the page: one thread of WebAssembly, no request outside of this folder.
import * as ort from './ort.wasm.min.mjs'

ort.env.wasm.wasmPaths = new URL('./', import.meta.url).href
ort.env.wasm.numThreads = 1 // more need headers that a plain static server does not send

const byId = id => document.getElementById(id)
const say = text => { byId('status').textContent = text }

// A generator of [0, 1) (mulberry32) for each seed and purpose.
function uniforms(seed, purpose) {
  let state = (Math.imul(seed >>> 0, 0x9e3779b1) ^ Math.imul(purpose + 1, 0x85ebca6b)) >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), state | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

function normals(draw, count) {
  const values = new Float32Array(count)
  for (let i = 0; i < count; i += 2) {
    const radius = Math.sqrt(-2 * Math.log(1 - draw())), angle = 2 * Math.PI * draw()
    values[i] = radius * Math.cos(angle)
    if (i + 1 < count) values[i + 1] = radius * Math.sin(angle)
  }
  return values
}

const size = shape => shape.reduce((product, side) => product * side, 1)

let config, session

// inputs: name -> flat array for `count` pictures; returns float32 [count, C, H, W] in [-1, 1].
async function render(inputs, count) {
  const feeds = {}
  for (const { name, shape } of config.inputs)
    feeds[name] = new ort.Tensor('float32', Float32Array.from(inputs[name]), [count, ...shape])
  if (config.classes.length) feeds.labels = new ort.Tensor('int64', BigInt64Array.from(inputs.labels, BigInt), [count])
  const { pictures } = await session.run(feeds)
  const values = pictures.data.slice()
  pictures.dispose()
  return values
}

function noiseOf(seed, strength, label) {
  const inputs = {}
  config.inputs.forEach(({ name, shape, uniform }, purpose) => {
    const draw = uniforms(seed, purpose), count = size(shape)
    const values = uniform ? Float32Array.from({ length: count }, () => 2 * draw() - 1) : normals(draw, count)
    inputs[name] = name === config.scaled ? values.map(value => value * strength) : values
  })
  if (config.classes.length) {
    if (label < 0) {
      let left = uniforms(seed, 99)() * config.counts.reduce((sum, count) => sum + count, 0)
      label = config.counts.findIndex(count => (left -= count) < 0)
      if (label < 0) label = config.classes.length - 1
    }
    inputs.labels = [label]
  }
  return inputs
}

// Premultiplied [-1, 1] [C, H, W] to the straight 8-bit RGBA that a canvas wants.
function pixelsOf(values) {
  const { width, height, channels } = config, plane = width * height
  const pixels = new Uint8ClampedArray(4 * plane)
  const unit = index => Math.min(1, Math.max(0, (values[index] + 1) / 2))
  for (let i = 0; i < plane; i++) {
    const alpha = channels === 4 ? unit(3 * plane + i) : 1
    for (let c = 0; c < 3; c++) {
      const value = unit(channels === 1 ? i : c * plane + i)
      pixels[4 * i + c] = Math.round(255 * (alpha > 0.5 / 255 ? Math.min(1, value / alpha) : 0))
    }
    pixels[4 * i + 3] = Math.round(255 * alpha)
  }
  return new ImageData(pixels, width, height)
}

function crc(bytes) {
  let sum = ~0
  for (const byte of bytes) {
    sum ^= byte
    for (let k = 0; k < 8; k++) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0)
  }
  return ~sum >>> 0
}

// The PNG with text chunks before its last one: that it is synthetic, and the same as XMP.
async function marked(blob, seed) {
  const png = new Uint8Array(await blob.arrayBuffer()), encoder = new TextEncoder()
  const notes = { ...config.mark, PageSeed: String(seed), 'XML:com.adobe.xmp': config.xmp }
  delete notes.Seed
  const chunks = Object.entries(notes).map(([key, text]) => {
    const body = encoder.encode(`iTXt${key}\0\0\0\0\0${text}`)
    const chunk = new Uint8Array(body.length + 8), view = new DataView(chunk.buffer)
    view.setUint32(0, body.length - 4)
    chunk.set(body, 4)
    view.setUint32(body.length + 4, crc(body))
    return chunk
  })
  return new Blob([png.subarray(0, -12), ...chunks, png.subarray(-12)], { type: 'image/png' })
}

function save(canvas, seed) {
  canvas.toBlob(async blob => {
    const link = document.createElement('a')
    link.href = URL.createObjectURL(await marked(blob, seed))
    link.download = `picture-${seed}.png`
    link.click()
    setTimeout(() => URL.revokeObjectURL(link.href), 1000)
  }, 'image/png')
}

let latest = 0
async function show() {
  if (!byId('controls').reportValidity()) return
  const run = ++latest, first = Number(byId('seed').value), count = Number(byId('count').value)
  const label = Number(byId('class').value || -1), strength = Number(byId('strength').value)
  const began = performance.now()
  byId('pictures').replaceChildren()
  for (let k = 0; k < count; k++) {
    const seed = (first + k) >>> 0
    const values = await render(noiseOf(seed, strength, label), 1)
    if (run !== latest) return
    const canvas = document.createElement('canvas'), button = document.createElement('button')
    canvas.width = config.width
    canvas.height = config.height
    canvas.getContext('2d').putImageData(pixelsOf(values), 0, 0)
    button.type = 'button'
    button.title = button.ariaLabel = `Save the picture of seed ${seed}`
    button.append(canvas)
    button.onclick = () => save(canvas, seed)
    byId('pictures').append(button)
    await new Promise(done => setTimeout(done))
  }
  say(`${count} synthetic pictures in ${((performance.now() - began) / 1000).toFixed(2)} s. Click one to save it.`)
}

async function main() {
  config = await (await fetch('config.json')).json()
  document.title = byId('title').textContent = config.name
  session = await ort.InferenceSession.create('model.onnx', { executionProviders: ['wasm'] })
  if (config.classes.length) {
    byId('classes').hidden = false
    byId('class').append(new Option('any', '-1'), ...config.classes.map((name, index) => new Option(name, index)))
  }
  byId('scaled').hidden = !config.scaled
  byId('controls').onsubmit = event => { event.preventDefault(); show() }
  byId('controls').onchange = show
  byId('next').onclick = () => {
    byId('seed').value = (Number(byId('seed').value) + Number(byId('count').value)) >>> 0
    show()
  }
  await show()
  globalThis.zeuxis = { render, noiseOf, pixelsOf, marked, config }
}

main().catch(error => say(`This page could not start: ${error.message}`))
