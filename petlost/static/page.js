// What forms and links cannot do: dropping, the camera, dragging a frame, a map that moves, keys for three answers.
// Every page works without this file. Texts come from the page, in its language; nothing is asked from anywhere.
'use strict'
const root = document.documentElement
root.classList.add('js')
if (matchMedia('(pointer: coarse)').matches) root.classList.add('touch')
const all = (selector, within = document) => [...within.querySelectorAll(selector)]
const one = (selector, within = document) => within.querySelector(selector)

// The time zone of the visitor goes along with every time.
for (const field of all('.zone')) if (!field.value) field.value = Intl.DateTimeFormat().resolvedOptions().timeZone || ''

// Photos: one list, wherever they come from. They are made smaller here, as the models look at 512 pixels, and so leave their place and owner behind.
const SIDE = 1600
async function smaller(file) {
  try {
    const picture = await createImageBitmap(file, { imageOrientation: 'from-image' }), factor = Math.min(1, SIDE / Math.max(picture.width, picture.height))
    const canvas = Object.assign(document.createElement('canvas'), { width: Math.round(picture.width * factor), height: Math.round(picture.height * factor) })
    canvas.getContext('2d').drawImage(picture, 0, 0, canvas.width, canvas.height)
    const blob = await new Promise(done => canvas.toBlob(done, 'image/jpeg', .92))
    return blob && blob.size < file.size ? new File([blob], 'photo.jpg', { type: 'image/jpeg' }) : file
  } catch { return file } // not a picture that this browser can read: the service may
}

function photos(block) {
  const pick = one('input[type=file]', block), take = all('input[type=file]', block)[1], list = one('.previews', block), count = one('.count', block), drop = one('.drop', block)
  let files = [], working = Promise.resolve()
  take.closest('.row').classList.add('take-row')
  one('.drop-hint', block).hidden = false
  function show() {
    const basket = new DataTransfer()
    files.forEach(file => basket.items.add(file))
    pick.files = basket.files
    list.replaceChildren(...files.map((file, i) => {
      const item = document.createElement('li'), picture = new Image(), button = document.createElement('button'), label = list.dataset.remove.replace('#', i + 1)
      picture.alt = file.name
      picture.src = URL.createObjectURL(file)
      picture.onload = picture.onerror = () => URL.revokeObjectURL(picture.src)
      Object.assign(button, { type: 'button', textContent: '✕', title: label, onclick: () => { files.splice(i, 1); show(); pick.focus() } })
      button.setAttribute('aria-label', label)
      item.append(picture, button)
      return item
    }))
    count.classList.remove('missing')
    count.textContent = files.length ? count.dataset.text.replace('#', files.length) : ''
  }
  const add = more => working = working.then(async () => {
    for (const file of more) if (files.length < +block.dataset.most) files.push(await smaller(file))
    show()
  })
  pick.onchange = () => add([...pick.files])
  take.onchange = () => { const taken = [...take.files]; take.value = ''; add(taken) }
  for (const name of ['dragover', 'dragleave', 'drop']) drop.addEventListener(name, e => {
    e.preventDefault()
    drop.classList.toggle('over', name === 'dragover')
    if (name === 'drop') add([...e.dataTransfer.files])
  })
  document.addEventListener('paste', e => e.clipboardData.files.length && add([...e.clipboardData.files]))
  camera(one('.camera', block), add)
  return { ready: () => working, missing: () => { count.textContent = count.dataset.missing; count.classList.add('missing'); pick.focus() }, any: () => files.length }
}

function camera(block, add) {
  if (!navigator.mediaDevices?.getUserMedia) return
  const live = one('.live', block), video = one('video', block), no = one('.camera-no', block), open = one('.open-camera', block)
  let stream
  const stop = () => { stream?.getTracks().forEach(track => track.stop()); live.hidden = true; open.hidden = false; open.focus() }
  block.hidden = false
  open.onclick = async () => {
    no.hidden = true
    try { stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: 'environment' } }) } catch (e) {
      no.textContent = no.dataset.text.replace('…', e.message || e.name)
      no.hidden = false
      return
    }
    video.srcObject = stream
    live.hidden = false
    open.hidden = true
    one('.shoot', block).focus()
  }
  one('.stop', block).onclick = stop
  one('.shoot', block).onclick = () => {
    const canvas = Object.assign(document.createElement('canvas'), { width: video.videoWidth, height: video.videoHeight })
    canvas.getContext('2d').drawImage(video, 0, 0)
    canvas.toBlob(blob => { blob && add([new File([blob], 'camera.jpg', { type: 'image/jpeg' })]); stop() }, 'image/jpeg', .92)
  }
}
const blocks = new Map(all('.photos').map(block => [block.closest('form'), photos(block)]))

// Long work: say so at once, and again when it takes long. A form is sent once.
function busy() {
  const note = one('#busy')
  note.hidden = false
  setTimeout(() => one('p + p', note).hidden = false, 8000)
}
for (const form of all('form[data-busy]')) form.addEventListener('submit', async e => {
  if (form.dataset.sent) return e.preventDefault()
  const block = blocks.get(form)
  if (block) {
    e.preventDefault()
    await block.ready()
    if (!block.any()) return block.missing()
    form.dataset.sent = 'yes'
    busy()
    return form.submit()
  }
  form.dataset.sent = 'yes'
  busy()
})
addEventListener('pageshow', e => { if (e.persisted) { one('#busy').hidden = true; all('form').forEach(form => delete form.dataset.sent) } })

// The map: what the service would do with a click, done here.
const WIDTH = 640, HEIGHT = 400
function map(block) {
  const picture = one('img', block), field = one('input', block.closest('.row')), link = one('.open-map', block.closest('.row'))
  const here = Object.fromEntries(['lat', 'lon', 'span'].map(name => [name, +block.dataset[name]]))
  const wide = degrees => ((degrees + 180) % 360 + 360) % 360 - 180
  const steps = () => [here.span / HEIGHT, here.span / HEIGHT / Math.max(Math.cos(here.lat * Math.PI / 180), .05)]
  const draw = () => picture.src = block.dataset.src + '?' + new URLSearchParams({ ...here, near: field.value })
  const choose = (lat, lon) => { field.value = `${Math.min(Math.max(lat, -90), 90).toFixed(5)}, ${wide(lon).toFixed(5)}`; draw() }
  link.setAttribute('role', 'button')
  link.setAttribute('aria-expanded', 'false')
  link.onclick = e => { e.preventDefault(); block.hidden = !block.hidden; link.setAttribute('aria-expanded', String(!block.hidden)); draw() }
  link.onkeydown = e => { if (e.key === ' ') { e.preventDefault(); link.click() } }
  picture.onclick = e => {
    const box = picture.getBoundingClientRect(), [down, right] = steps()
    choose(here.lat - ((e.clientY - box.top) / box.height * HEIGHT - HEIGHT / 2) * down, here.lon + ((e.clientX - box.left) / box.width * WIDTH - WIDTH / 2) * right)
  }
  for (const button of all('[data-go]', block)) button.onclick = () => {
    const way = button.dataset.go, [down, right] = steps()
    if (way === 'middle') return choose(here.lat, here.lon)
    here.span = Math.min(Math.max(here.span * ({ nearer: .5, farther: 2 }[way] || 1), .01), 150)
    here.lat = Math.min(Math.max(here.lat + ({ north: 1, south: -1 }[way] || 0) * HEIGHT * down / 3, -85), 85)
    here.lon = wide(here.lon + ({ east: 1, west: -1 }[way] || 0) * WIDTH * right / 3)
    draw()
  }
  picture.onwheel = e => { e.preventDefault(); one(`[data-go=${e.deltaY < 0 ? 'nearer' : 'farther'}]`, block).click() }
  field.onchange = () => block.hidden || draw()
}
all('.map').forEach(map)

// The frame around the pet: dragged, moved with the arrow keys, or typed.
function frame(picture) {
  const form = one('.box-form'), fields = ['left', 'top', 'right', 'bottom'].map(name => form.elements[name]), group = one('.frame-group', picture), rect = one('.frame', picture)
  const w = +picture.dataset.w, h = +picture.dataset.h, LEAST = 16
  let box = fields.map(field => +field.value), held
  const fit = ([a, b, c, d]) => { // within the photo and never too small
    a = Math.min(Math.max(a, 0), w - LEAST); b = Math.min(Math.max(b, 0), h - LEAST)
    return [a, b, Math.min(Math.max(c, a + LEAST), w), Math.min(Math.max(d, b + LEAST), h)]
  }
  function draw(next, choice = 'mine') {
    box = fit(next).map(Math.round)
    for (const [name, value] of Object.entries({ x: box[0], y: box[1], width: box[2] - box[0], height: box[3] - box[1] })) rect.setAttribute(name, value)
    for (const corner of all('.corner', picture)) { const [i, j] = corner.dataset.corner; corner.setAttribute('cx', box[i]); corner.setAttribute('cy', box[j]) }
    fields.forEach((field, i) => field.value = box[i])
    one(`[name=which][value=${choice}]`, form).checked = true
  }
  const shift = ([a, b, c, d], x, y) => { x = Math.min(Math.max(x, -a), w - c); y = Math.min(Math.max(y, -b), h - d); return [a + x, b + y, c + x, d + y] }
  const spot = e => new DOMPoint(e.clientX, e.clientY).matrixTransform(picture.getScreenCTM().inverse())
  picture.onpointerdown = e => {
    if (e.target.matches('.other')) { const i = all('.other', picture).indexOf(e.target) + 1; draw(e.target.dataset.box.split(',').map(Number), `other-${i}`); return }
    if (!e.target.matches('.frame, .corner')) return
    held = { from: spot(e), box, corner: e.target.dataset.corner }
    picture.setPointerCapture(e.pointerId)
    e.preventDefault()
    group.focus({ focusVisible: false })
  }
  picture.onpointermove = e => {
    if (!held) return
    const at = spot(e), x = at.x - held.from.x, y = at.y - held.from.y
    if (!held.corner) return draw(shift(held.box, x, y))
    const next = [...held.box], [i, j] = held.corner
    next[i] += x; next[j] += y
    if (next[2] - next[0] >= LEAST && next[3] - next[1] >= LEAST) draw(next)
  }
  picture.onpointerup = picture.onpointercancel = () => held = null
  group.onkeydown = e => {
    const step = e.ctrlKey || e.metaKey ? 1 : Math.max(2, Math.round(Math.max(w, h) / 60)), way = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[e.key]
    if (!way) return
    e.preventDefault()
    draw(e.shiftKey ? [box[0], box[1], box[2] + way[0], box[3] + way[1]] : shift(box, ...way))
  }
  fields.forEach(field => field.onchange = () => draw(fields.map(one => +one.value || 0)))
}
all('svg.boxes').forEach(frame)

// Keys for the three answers, unless somebody types, or has switched them off.
const KEYS = 'petlost-keys', keep = { get: () => { try { return localStorage.getItem(KEYS) } catch { return null } }, set: value => { try { localStorage.setItem(KEYS, value) } catch { /* then it is asked again */ } } }
for (const box of all('.keys')) { box.checked = keep.get() !== 'off'; box.onchange = () => keep.set(box.checked ? 'on' : 'off') }
document.addEventListener('keydown', e => {
  if (e.ctrlKey || e.metaKey || e.altKey || e.target.matches('input:not([type=checkbox], [type=radio]), select, textarea') || one('.keys')?.checked !== true) return
  const button = one(`[data-key="${CSS.escape(e.key)}"]`)
  if (button && button.form.reportValidity()) { e.preventDefault(); button.click() }
})
