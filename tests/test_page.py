"The page in a real browser: every way through it, by mouse, by keyboard, on a phone, without a script, in two languages, and never a request to anywhere else."
import base64, io, os, re, shutil, threading, time
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from PIL import Image

from petlost.index import Catalogue
from petlost.photoset import read_photos
from petlost.place_map import HEIGHT, WIDTH, Window, place_at
from petlost.sample import draw, random_pet, random_shot
from petlost.search import index_photos
from petlost.words import WORDS
from serving import HTTP, KEY, TOKEN, serving

FLAGS = '--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync --use-fake-device-for-media-stream --use-fake-ui-for-media-stream'.split()
PHONE = dict(viewport=dict(width=360, height=740), device_scale_factor=2, is_mobile=True, has_touch=True)


@pytest.fixture(scope='module') # its event loop must not outlive this file
def browser():
    sync_api = pytest.importorskip('playwright.sync_api', reason='playwright is not installed: make setup')
    path = os.environ.get('PETLOST_CHROMIUM') or next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
    if not path: pytest.skip('no browser here: apt-get install chromium, or name one in PETLOST_CHROMIUM')
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope='session')
def pictures(tmp_path_factory):
    folder = Path(os.environ.get('PETLOST_SCREENSHOTS') or tmp_path_factory.mktemp('screenshots'))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope='module')
def folder(drawn, tmp_path_factory):
    "A catalogue of 16 drawn reports whose pets nobody has told apart."
    photos, folder = read_photos(drawn), tmp_path_factory.mktemp('page') / 'catalogue'
    photos.reports = {id: replace(report, pet=None) for id, report in photos.reports.items()}
    index_photos(photos, folder, 'petlost-fast')
    return folder


@pytest.fixture(scope='module')
def query(drawn): return read_photos(drawn).photos[0]


@pytest.fixture(scope='module')
def url(folder):
    with serving(folder, env=dict(PETLOST_TOKEN=TOKEN), limit=120) as (process, url):
        yield url
        assert process.poll() is None, 'the server died on the way'
        assert '"fault"' not in process.logged() and TOKEN not in process.logged(), process.logged()


@pytest.fixture
def visit(browser, url, request):
    "A way to open a window; every request of all of them stays on this machine, and no page has a fault in its script."
    windows, asked, faults = [], [], []
    def visit(url=url, **options):
        context = browser.new_context(base_url=url, **options)
        context.set_default_timeout(90_000)
        context.on('request', lambda r: asked.append(r.url))
        context.on('weberror', lambda e: faults.append(str(e.error)))
        context.on('console', lambda m: faults.append(m.text) if m.type == 'error' and 'Failed to load resource' not in m.text else None)
        windows.append(context)
        return context.new_page()
    yield visit
    for context in windows: context.close()
    assert not faults
    assert asked and all(re.match(r'(http://127\.0\.0\.1:\d+/|blob:http://127\.0\.0\.1:|data:)', at) for at in asked), asked


@pytest.fixture
def picture(pictures, request):
    def picture(page, name):
        page.wait_for_load_state('networkidle')
        page.screenshot(path=pictures / f'{request.node.name.removeprefix("test_").replace("[", "-").replace("]", "")}-{name}.png', full_page=True)
        assert page.evaluate('document.documentElement.scrollWidth <= innerWidth'), f'{name} is wider than the window'
    return picture


def search(page, path, **filters):
    "From the first page to the list."
    page.goto('/')
    page.set_input_files('#photo', path)
    for name, value in filters.items(): page.select_option(f'#{name}', value) if name == 'species' else page.check(f'[name={name}][value="{value}"]')
    page.click('button.main')
    page.wait_for_url('**/search/*')


def sign_in(page, back='/'):
    page.goto(f'/signin?back={back}')
    page.fill('#token', TOKEN)
    page.click('button.main')


def shown(page): return page.locator('.hit .id').all_inner_texts()
def remove(url, id): assert HTTP.delete(url + 'reports/' + quote(id, safe=''), headers=KEY).status_code == 200
def said(folder):
    with Catalogue.open(folder, write=True) as catalogue: return catalogue.verdicts(), catalogue.shown()


# The way that most visitors go

def test_from_a_photo_to_a_verdict_in_the_catalogue(visit, picture, url, folder, query):
    page = visit(viewport=dict(width=1280, height=900))
    sign_in(page)
    page.set_input_files('#photo', query.path)
    page.wait_for_selector('.previews img')
    picture(page, '1-start')
    page.click('button.main')
    page.wait_for_url('**/search/*')
    picture(page, '2-list')
    first = page.locator('.hit').first
    assert first.locator('.id').inner_text() == query.report and 'Looks very similar' in first.inner_text() and 'please check the marks' in first.inner_text()
    ids, place = shown(page), 3
    page.locator('.hit h3 a').nth(place - 1).click()
    page.wait_for_function('() => document.querySelector(".agree img").naturalWidth > 0')
    picture(page, '3-pair')
    page.fill('#reviewer', 'Nora')
    page.click('summary')
    page.fill('#id', 'photo of a passer-by')
    page.click('button.different')
    page.wait_for_selector('.note.good')
    assert 'Kept: Different pets.' in page.inner_text('.note.good')
    picture(page, '4-said')
    page.click('text=Back to the list')
    assert 'You said: Different pets' in page.locator('.hit', has_text=ids[place - 1]).inner_text()
    verdicts, lists = said(folder)
    assert [(v.pair, v.said, v.reviewer, v.place) for v in verdicts if v.reviewer == 'Nora'] == [(tuple(sorted(('photo of a passer-by', ids[place - 1]))), 'different', 'Nora', place)]
    assert ('photo of a passer-by', ids) in [(one.query, list(one.reports)) for one in lists]
    page.goto('/report/photo of a passer-by')
    picture(page, '5-report')
    page.click('text=Find what looks like it')
    page.wait_for_url('**/search/*')
    assert 'photo of a passer-by' not in shown(page) and shown(page)
    page.locator('.hit h3 a').first.click()
    page.keyboard.press('3')
    page.wait_for_selector('.note.good')
    assert 'Kept: Cannot tell.' in page.inner_text('.note.good')
    remove(url, 'photo of a passer-by')


def test_what_nobody_has_signed_in_for_is_not_kept(visit, folder, query):
    page, before = visit(), len(said(folder)[0])
    search(page, query.path)
    page.locator('.hit h3 a').first.click()
    assert page.locator('button.same').count() == 0 and 'Sign in to keep' in page.inner_text('main')
    page.goto('/add')
    assert 'Sign in first' in page.inner_text('h1')
    page.click('main a:has-text("Sign in")')
    page.fill('#token', 'not the token of it')
    page.click('button.main')
    assert 'not the token' in page.inner_text('.note.bad') and len(said(folder)[0]) == before
    page.fill('#token', TOKEN)
    page.click('button.main')
    page.wait_for_url('**/add')
    (cookie,) = [c for c in page.context.cookies() if c['name'] == 'petlost']
    assert cookie['httpOnly'] and cookie['sameSite'] == 'Strict' and TOKEN not in cookie['value'] and 'petlost=' not in page.evaluate('document.cookie')
    page.click('text=Sign out')
    page.goto('/standing')
    assert 'Sign in first' in page.inner_text('h1')


def test_reports_are_added_and_standing_searches_tell(visit, picture, url, query):
    page = visit(viewport=dict(width=1280, height=900))
    sign_in(page)
    search(page, query.path)
    page.click('text=Save as a standing search')
    page.fill('#name', 'Rex <b>of Ana</b>')
    page.fill('#expires', '2099-05-04')
    page.click('text="Save"')
    page.wait_for_url('**/standing*')
    assert 'The search Rex <b>of Ana</b> stands.' in page.inner_text('main') and 'until 4 May 2099' in page.inner_text('main')
    page.goto('/add')
    page.click('button.main')
    assert 'Choose a photo first.' in page.inner_text('.count')
    page.set_input_files('#photo', query.path)
    page.check('[name=status][value=found]')
    page.fill('#id', 'just came in')
    page.fill('#near', '51.21, 4.4')
    picture(page, '1-add')
    page.click('button.main')
    page.wait_for_url('**/report/**')
    assert 'Report just came in is kept.' in page.inner_text('.note.good') and query.report in page.inner_text('.note.good') and '51.2100, 4.4000' in page.inner_text('.facts')
    page.goto('/standing')
    picture(page, '2-alerts')
    assert 'just came in' in page.inner_text('.hits') and 'for Rex <b>of Ana</b>' in page.inner_text('.hits')
    page.click('text=Seen, do not show these again')
    assert 'Nothing new.' in page.inner_text('main')
    page.click('button[aria-label^="End Rex"]')
    assert 'has ended' in page.inner_text('.note.good')
    remove(url, 'just came in')


def test_the_queue_is_answered_with_three_keys(visit, picture, folder):
    page = visit(viewport=dict(width=1280, height=900))
    sign_in(page)
    page.goto('/review')
    page.fill('#reviewer', 'Ines')
    page.click('button.main')
    page.wait_for_url('**/review/*')
    picture(page, '1-first')
    pairs = int(re.search(r'Pair 1 of (\d+)', page.inner_text('main'))[1])
    assert pairs > 4 and 'Keys: 1 same' in page.inner_text('main')
    for n, key in enumerate('123', 1):
        assert page.get_attribute('progress', 'value') == str(n - 1)
        with page.expect_navigation(): page.keyboard.press(key)
        page.wait_for_selector(f'text=Pair {n + 1} of {pairs}')
    page.uncheck('.keys')
    page.keyboard.press('1')
    page.reload()
    assert f'Pair 4 of {pairs}' in page.inner_text('main') and not page.is_checked('.keys')
    page.click('button:has-text("Skip")')
    page.wait_for_selector(f'text=Pair 5 of {pairs}')
    for at in range(4, pairs): assert page.request.post(page.url, form=dict(at=at, said='')).ok  # the others without looking
    page.reload()
    picture(page, '2-done')
    assert 'you have answered 3 pairs' in page.inner_text('.note.good')
    assert sorted(v.said for v in said(folder)[0] if v.reviewer == 'Ines') == ['different', 'same', 'unsure']


# What the pet is, and where

def test_a_phone_photo_of_12_megapixels_stands_upright(visit, picture, tmp_path, browser):
    drawing = draw(random_pet(3), random_shot(3), (900, 1200))
    upright, true = drawing.photo.resize((3000, 4000)), Image.fromarray(drawing.mask).getbbox()
    exif = Image.Exif()
    exif[0x0112], exif[0x8825] = 6, {1: 'N', 2: (51., 13., 7.), 3: 'E', 4: (4., 24., 9.)}
    upright.rotate(90, expand=True).save(tmp_path / 'phone.jpg', quality=90, exif=exif)
    for script in (True, False):
        page = visit(java_script_enabled=script, viewport=dict(width=1280, height=900))
        sent = []
        page.on('request', lambda r: sent.append(r) if r.method == 'POST' else None)
        page.goto('/')
        page.set_input_files('#photo', tmp_path / 'phone.jpg')
        if script: page.wait_for_selector('.previews img')
        page.click('button.main')
        page.wait_for_url('**/search/*')
        page.click('text=Show us the pet')
        assert '384 by 512' in page.inner_text('figcaption')
        box = [int(page.input_value(f'#{side}')) for side in ('left', 'top', 'right', 'bottom')]
        want = [x * 512 / 1200 for x in true]
        left, top, right, bottom = (f(a, b) for f, a, b in zip((max, max, min, min), box, want))
        both = max(0, right - left) * max(0, bottom - top)
        area = sum((c - a) * (d - b) for a, b, c, d in (box, want)) - both
        assert both / area > .9, (box, want)
        picture(page, f'box-{"with" if script else "without"}-script')
        src = page.get_attribute('svg.boxes image', 'href')
        kept = Image.open(io.BytesIO(page.context.request.get(src).body()))
        assert kept.size == (384, 512) and not kept.getexif()
        if script: assert int(sent[0].headers.get('content-length') or len(sent[0].post_data_buffer or b'')) < (tmp_path / 'phone.jpg').stat().st_size  # the browser has made it smaller


def test_the_frame_is_dragged_moved_with_keys_and_typed(visit, picture, query):
    page = visit(viewport=dict(width=1280, height=900))
    search(page, query.path)
    page.click('text=Show us the pet')
    def box(): return [int(page.input_value(f'#{side}')) for side in ('left', 'top', 'right', 'bottom')]
    first, corner = box(), page.locator('.corner[data-corner="23"]').bounding_box()
    page.mouse.move(corner['x'] + corner['width'] / 2, corner['y'] + corner['height'] / 2)
    page.mouse.down()
    page.mouse.move(corner['x'] - 60, corner['y'] - 40, steps=4)
    page.mouse.up()
    dragged = box()
    assert dragged[:2] == first[:2] and dragged[2] < first[2] and dragged[3] < first[3] and page.is_checked('[value=mine]')
    page.focus('.frame-group')
    page.keyboard.press('Shift+ArrowLeft')
    smaller = box()
    page.keyboard.press('ArrowRight'); page.keyboard.press('ArrowDown')
    moved = box()
    assert smaller[2] < dragged[2] and smaller[0] == dragged[0] and moved[2] - moved[0] == smaller[2] - smaller[0] and moved[:2] != smaller[:2]
    page.fill('#left', '20'); page.fill('#top', '30'); page.fill('#right', '9999'); page.fill('#bottom', '200')
    page.keyboard.press('Tab')
    assert box() == [20, 30, 256, 200] and page.get_attribute('.frame', 'width') == '236'
    picture(page, 'box')
    page.click('button.main')
    page.wait_for_url('**/search/*')
    assert 'This is the frame you set.' in page.inner_text('.taken')
    picture(page, 'list')


def test_a_photo_without_a_pet_is_told(visit, picture, tmp_path):
    Image.linear_gradient('L').convert('RGB').resize((400, 300)).save(tmp_path / 'wall.jpg')
    page = visit()
    search(page, tmp_path / 'wall.jpg')
    assert 'compares whole photos' in page.inner_text('.taken')
    page.click('text=Show us the pet')
    assert 'No pet could be told from the background' in page.inner_text('.note')
    picture(page, 'box')


def test_a_click_on_the_map_is_a_place(visit, picture):
    page = visit(viewport=dict(width=1280, height=900))
    page.goto('/')
    page.click('summary')
    page.click('.open-map')
    page.wait_for_function('() => document.querySelector(".map img").naturalWidth > 0')
    seen = Window(*[float(page.get_attribute('.map', f'data-{name}')) for name in ('lat', 'lon', 'span')])
    box = page.locator('.map img').bounding_box()
    page.mouse.click(box['x'] + box['width'] * .25, box['y'] + box['height'] * .75)
    chosen = [float(x) for x in page.input_value('#near').split(',')]
    want = place_at(seen, WIDTH * .25, HEIGHT * .75)
    assert abs(chosen[0] - want[0]) < seen.span / 100 and abs(chosen[1] - want[1]) < seen.span / 50
    page.click('[data-go=nearer]'); page.click('[data-go=west]'); page.click('[data-go=middle]')
    assert page.input_value('#near') != ', '.join(map(str, chosen))
    picture(page, 'map')


# Photos that come in other ways

def test_photos_are_dropped_and_taken_with_the_camera(visit, picture, query):
    page = visit()
    page.goto('/')
    page.evaluate('''data => {
        const bytes = Uint8Array.from(atob(data), c => c.charCodeAt(0)), basket = new DataTransfer()
        basket.items.add(new File([bytes], 'dropped.jpg', { type: 'image/jpeg' }))
        document.querySelector('.drop').dispatchEvent(new DragEvent('drop', { dataTransfer: basket, bubbles: true, cancelable: true }))
    }''', base64.b64encode(query.path.read_bytes()).decode())
    page.wait_for_selector('.previews li')
    page.click('.open-camera')
    page.wait_for_function('() => document.querySelector("video").videoWidth > 0')
    page.click('.shoot')
    page.wait_for_function('() => document.querySelectorAll(".previews li").length == 2')
    picture(page, 'two')
    assert 'Photos chosen: 2' in page.inner_text('.count') and page.evaluate('document.querySelector("#photo").files.length') == 2 and not page.is_visible('.live')
    page.click('[aria-label="Remove photo 2"]')
    page.wait_for_function('() => document.querySelectorAll(".previews li").length == 1')
    page.click('button.main')
    page.wait_for_url('**/search/*')
    assert shown(page)[0] == query.report


def test_several_photos_are_one_pet(visit, query, drawn):
    photos = read_photos(drawn)
    other = next(p for p in photos.photos if p.report != query.report and photos.pet(p) == photos.pet(query))
    page = visit()
    page.goto('/')
    page.set_input_files('#photo', [query.path, other.path])
    page.click('button.main')
    page.wait_for_url('**/search/*')
    assert page.locator('.taken figure').count() == 2 and set(shown(page)[:2]) == {query.report, other.report}


def test_a_wrong_file_is_refused_beside_the_form(visit, picture, tmp_path):
    (tmp_path / 'holiday.jpg').write_bytes(b'%PDF-1.4 not a picture')
    page = visit()
    page.goto('/')
    page.set_input_files('#photo', tmp_path / 'holiday.jpg')
    page.check('[name=status][value=found]')
    page.click('button.main')
    page.wait_for_selector('.note.bad')
    assert 'A photo could not be read' in page.inner_text('.note.bad') and 'photo 1 of 1: not a picture' in page.inner_text('.note.bad') and page.is_checked('[name=status][value=found]')
    picture(page, 'refused')
    page.click('button.main')
    assert 'Choose a photo first.' in page.inner_text('.count')


# Lists that say no

def test_no_match_and_not_similar_enough(visit, picture, query, tmp_path):
    page = visit(viewport=dict(width=1280, height=900))
    search(page, query.path, species='bird')
    assert 'No report passes what you asked for.' in page.inner_text('.ranked')
    picture(page, 'none')
    draw(random_pet(4711), random_shot(4711)).photo.save(tmp_path / 'stranger.jpg')
    search(page, tmp_path / 'stranger.jpg')
    assert 'Not similar enough' in page.inner_text('.ranked .note') and len(shown(page)) == 12
    assert not re.search(r'\d+ ?%|0\.\d', page.inner_text('.ranked')), 'a number shown as if it were certainty'
    picture(page, 'abstains')
    page.click('text=Show more reports')
    assert len(shown(page)) > 12


def test_what_has_gone_is_said(visit, picture):
    page = visit()
    page.goto('/search/' + 'x' * 22)
    assert 'This search has gone' in page.inner_text('h1') and 'kept in memory for an hour' in page.inner_text('.note')
    picture(page, 'gone')


def test_a_slow_server_says_that_it_works_and_one_that_is_full_asks_again(visit, pictures, folder, query):
    body, stop = [('photo', (f'{i}.jpg', query.path.read_bytes(), 'image/jpeg')) for i in range(8)], threading.Event()
    with serving(folder, workers=1, queue=31, limit=120) as (_, url):
        def flood():
            while not stop.is_set(): HTTP.post(url + 'invocations', files=body)
        def room(): return int(float(re.search(r'^petlost_room (\S+)', HTTP.get(url + 'metrics').text, re.M)[1]))
        floods, page = [threading.Thread(target=flood) for _ in range(7)], visit(url)
        try:
            page.goto('/')
            page.set_input_files('#photo', query.path)
            page.wait_for_selector('.previews img')
            page.evaluate('() => addEventListener("pagehide", () => sessionStorage.said = document.querySelector("#busy:not([hidden])")?.innerText)')
            for thread in floods[:3]: thread.start()
            while room() > 16: time.sleep(.02)
            page.click('button.main', no_wait_after=True)
            page.wait_for_url('**/search/*', timeout=120_000)
            assert 'Working' in page.evaluate('() => sessionStorage.said') and shown(page)[0] == query.report
            for thread in floods[3:]: thread.start()
            for _ in range(30):
                page.goto('/')
                page.set_input_files('#photo', query.path)
                page.wait_for_selector('.previews img')
                while room() > 0: time.sleep(.01)
                page.click('button.main')
                page.wait_for_url('**/search/*', timeout=120_000)
                if 'Much to do' in page.inner_text('h1'): break
            assert 'Much to do just now' in page.inner_text('h1') and 'tries again in' in page.inner_text('.note') and page.locator('text=Try again').count()
            page.screenshot(path=pictures / 'full-server.png')
        finally:
            stop.set()
            for thread in floods:
                if thread.ident: thread.join()
        page.wait_for_selector('.hits', timeout=120_000)  # by itself
        assert shown(page)[0] == query.report


# For everybody

PAGES = ['/', '/place', '/signin', '/add', '/standing', '/review', '/nowhere', 'list', 'box', 'pair', 'question', 'report']


def every_page(page, query):
    "Go to each of `PAGES` in turn."
    sign_in(page)
    search(page, query.path)
    listed, link = page.url, page.get_attribute('.hit h3 a', 'href')
    page.goto('/review')
    page.click('button.main')
    page.wait_for_url('**/review/*')
    ways = {'list': listed, 'box': listed + '/box/0', 'pair': link, 'question': page.url, 'report': '/report/' + query.report}
    for name in PAGES:
        page.goto(ways.get(name, name))
        for fold in page.locator('summary').all(): fold.click()
        page.wait_for_load_state('networkidle')
        yield name.strip('/') or 'start', page


def test_axe_finds_nothing_serious_in_light_and_dark(visit, query, picture):
    axe = pytest.importorskip('axe_playwright_python.sync_playwright').Axe()
    page = visit(viewport=dict(width=1280, height=900))
    def serious(**options): return [(v['id'], v['nodes'][0]['html'][:200], v['nodes'][0]['failureSummary'][:300]) for v in axe.run(page, options=options).response['violations'] if v['impact'] in ('serious', 'critical')]
    for name, page in every_page(page, query):
        for scheme, options in (('light', {}), ('dark', dict(runOnly=['color-contrast']))):
            page.emulate_media(color_scheme=scheme)
            assert not (found := serious(**options)), (name, scheme, found)
            picture(page, f'{name}-{scheme}')
        page.emulate_media(color_scheme='light')


def test_a_phone_in_spanish(visit, query, picture):
    page = visit(locale='es-ES', **PHONE)
    english = [one for one, _ in WORDS.values() if '{' not in one and len(one) > 6]
    for name, page in every_page(page, query):
        picture(page, name)
        text = page.inner_text('body')
        assert page.get_attribute('html', 'lang') == 'es' and not [one for one in english if one in text], name
    page.goto('/place?lat=51.2&lon=4.4&span=.3')
    page.click('text=English')
    assert 'Choose a place' in page.inner_text('h1') and 'lat=51.2' in page.url
    page.goto('/')
    assert page.get_attribute('html', 'lang') == 'en' and page.is_visible('#take') and page.get_attribute('#take', 'capture') == 'environment'


def test_by_keyboard_only(visit, query):
    page = visit(viewport=dict(width=1280, height=900))
    page.goto('/')
    def tab_to(test, most=60):
        for _ in range(most):
            page.keyboard.press('Tab')
            if page.evaluate(f'(e => {test})(document.activeElement)'): return
        raise AssertionError(f'never reached: {test}')
    tab_to('e.className == "skip"')
    page.keyboard.press('Enter')
    tab_to('e.id == "photo"')
    assert page.evaluate('getComputedStyle(document.activeElement).outlineStyle') != 'none'
    with page.expect_file_chooser() as chooser: page.keyboard.press('Space')
    chooser.value.set_files(query.path)
    page.wait_for_selector('.previews img')
    tab_to('e.name == "status"')
    page.keyboard.press('ArrowUp')
    tab_to('e.matches("button.main")')
    page.keyboard.press('Enter')
    page.wait_for_url('**/search/*')
    tab_to('e.matches(".hit h3 a")')
    page.keyboard.press('Enter')
    page.wait_for_url('**/pair*')
    page.goto('/place')
    before = page.get_attribute('.place input[type=image]', 'src')
    tab_to('e.value == "north"')
    page.keyboard.press('Enter')
    page.wait_for_function(f'() => document.querySelector(".place input[type=image]").getAttribute("src") != {before!r}')
    tab_to('e.value == "middle"')
    page.keyboard.press('Enter')
    page.wait_for_selector('.note.good')
    tab_to('e.matches(".note .button")')
    page.keyboard.press('Enter')
    page.wait_for_url('**/?near=*')
    assert page.input_value('#near')


def test_everything_without_a_script(visit, url, folder, query, picture):
    page = visit(java_script_enabled=False, viewport=dict(width=1280, height=900))
    sign_in(page)
    page.goto('/')
    page.click('summary')
    page.click('text=Choose on the map')
    page.click('.place input[type=image]', position=dict(x=100, y=100))
    page.click('text=Search from here')
    place = page.input_value('#near')
    page.set_input_files('#photo', query.path)
    picture(page, '1-start')
    page.click('button.main')
    assert '/search/' in page.url and shown(page)[0] == query.report and 'km away' in page.inner_text('.hits')
    page.click('text=Show us the pet')
    page.check('[value=mine]')
    page.fill('#right', '128')
    page.click('button.main')
    assert 'This is the frame you set.' in page.inner_text('.taken')
    picture(page, '2-list')
    page.locator('.hit h3 a').nth(1).click()
    page.fill('#reviewer', 'Plain')
    picture(page, '3-pair')
    page.click('button.unsure')
    assert 'Kept: Cannot tell.' in page.inner_text('.note.good') and place
    assert [v.said for v in said(folder)[0] if v.reviewer == 'Plain'] == ['unsure']
    remove(url, re.search(r'Report (web-[\w-]+)', page.inner_text('main'))[1])


def test_what_reports_are_called_is_never_run(visit, url, query):
    name = '<script>document.title="owned"</script><img src=x onerror=alert(1)>"\''
    assert HTTP.post(url + 'reports', headers=KEY, data=dict(id=name, status='found'), files=[('photo', ('a.jpg', query.path.read_bytes()))]).status_code == 201
    try:
        page, alarms = visit(), []
        page.on('dialog', lambda dialog: (alarms.append(dialog.message), dialog.dismiss()))
        search(page, query.path)
        assert name in shown(page)
        page.locator('.hit', has_text='<script>').locator('h3 a').click()
        assert f'Report {name}' in page.inner_text('.pair')
        page.click('.pair figcaption a')
        assert page.inner_text('h1') == f'Report {name}' and page.title() == f'Report {name} · petlost'
        page.click('text=Find what looks like it')
        page.wait_for_url('**/search/*')
        page.goto('/?near="><script>alert(2)</script>')
        assert page.input_value('#near') == '"><script>alert(2)</script>' and not alarms
    finally:
        remove(url, name)


def test_a_form_of_another_site_is_refused(visit, url, folder, query):
    page, before = visit(), len(said(folder)[0])
    sign_in(page)
    evil = page.context.new_page()
    evil.set_content(f'<form method=post action="{url}signout"><button>win a prize</button></form>')
    with evil.expect_navigation(): evil.click('button')
    assert 'Not allowed' in evil.inner_text('h1')
    page.goto('/add')
    assert page.inner_text('h1') == 'Add a report' and len(said(folder)[0]) == before


def test_without_a_token_writing_is_off_and_said(visit, folder, query, picture):
    with serving(folder, env=dict(PETLOST_TOKEN='')) as (_, url):
        page = visit(url)
        page.goto('/add')
        assert 'Writing is off' in page.inner_text('.note') and page.locator('text=Sign in').count() == 0
        picture(page, 'off')
        search(page, query.path)
        assert page.locator('text=Save as a standing search').count() == 0
        page.locator('.hit h3 a').first.click()
        assert 'Writing is off' in page.inner_text('.note') and page.locator('button.same').count() == 0
        page.goto('/review')
        assert page.locator('button.main').count() == 1  # verdicts are for everybody there, as over HTTP
