"""The service over real HTTP, in a process of its own, and archives made to do harm."""
import base64, hashlib, io, json, os, re, shutil, signal, socket, sqlite3, subprocess, sys, tarfile, tempfile, threading, time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import httpx, numpy as np, pytest
from starlette.testclient import TestClient

from petlost.facts import Report
from petlost.photoset import read_photos
from petlost.package import package, unpack, verify
from petlost.index import Catalogue, PhotoRow
from petlost.sample import sample_catalogue
from petlost.search import index_photos
from petlost.serve import MAX_BODY, create_app

HTTP = httpx.Client(timeout=60, limits=httpx.Limits(max_keepalive_connections=0))  # every request on a connection of its own
PERSON = {'accept': 'text/html'}
PROGRAM = 'import json, sys; from petlost.serve import serve; serve(sys.argv[1], port=0, **json.loads(sys.argv[2]))'


@contextmanager
def server(folder, **options):
    "A server in a process of its own; gives the process, whose `log` is a file, and its address."
    with tempfile.TemporaryFile('w+') as log:
        process = subprocess.Popen([sys.executable, '-c', PROGRAM, str(folder), json.dumps(options)], stdout=subprocess.PIPE, stderr=log, text=True)
        process.log = log
        try: yield process, process.stdout.readline().split()[-1]
        finally:
            process.kill()
            process.communicate()


def logged(process):
    "The lines of a server's log, which are all JSON."
    process.log.seek(0)
    return [json.loads(line) for line in process.log]


def wait_ready(url):
    "Poll until ready; every status and reason on the way."
    seen, end = [], time.monotonic() + 30
    while time.monotonic() < end:
        seen.append(HTTP.get(url + 'ping'))
        if seen[-1].status_code == 200: return seen
        time.sleep(.05)
    raise AssertionError(f'not ready: {seen[-1].text}')


@pytest.fixture(scope='module')
def work(tmp_path_factory):
    work = tmp_path_factory.mktemp('serve')
    sample_catalogue(work / 'photos', n_pets=8, photos=2)
    index_photos(read_photos(work / 'photos'), work / 'catalogue')
    index_photos(read_photos(work / 'photos'), work / 'quick', model='colour-histogram')  # starts at once: for tests of the server and not of the search
    return work


@pytest.fixture(scope='module')
def photos(work): return read_photos(work / 'photos').photos


@pytest.fixture(scope='module')
def photo(photos): return photos[0].path.read_bytes()


@pytest.fixture(scope='module')
def url(work):
    with server(work / 'catalogue', limit=120) as (process, url):
        wait_ready(url)
        yield url
        assert process.poll() is None, 'the server died on the way'


@pytest.fixture(scope='module')
def quick_url(work):
    with server(work / 'quick') as (_, url):
        wait_ready(url)
        yield url


def ask(url, body, kind='image/jpeg', **params): return HTTP.post(url + 'invocations', content=body, headers={'content-type': kind}, params=params)
def as_json(*photos, **fields): return json.dumps({'photos': [base64.b64encode(p).decode() for p in photos]} | fields)
def error(reply): return json.loads(reply.content)['error']


def test_not_ready_before_the_catalogue_is_loaded(work, photo):
    client = TestClient(create_app(work / 'catalogue'))  # outside a with block the application is not started, so nothing is loaded
    for reply in client.get('/ping'), client.post('/invocations', content=photo, headers={'content-type': 'image/jpeg'}):
        assert (reply.status_code, error(reply)) == (503, 'the catalogue is still loading') and reply.headers['retry-after']


def test_ping_turns_from_503_to_200_once(work):
    with server(work / 'quick') as (_, url): seen = wait_ready(url)
    assert {r.status_code for r in seen[:-1]} <= {503} and seen[-1].json()['status'] == 'ready'


def test_an_empty_catalogue_is_never_ready(work, tmp_path, photo):
    with Catalogue.open(work / 'quick') as full: Catalogue.create(tmp_path / 'empty', full.model).close()
    shutil.copytree(work / 'quick' / 'model', tmp_path / 'empty' / 'model')
    with server(tmp_path / 'empty') as (_, url):
        end = time.monotonic() + 30
        while 'loading' in error(reply := HTTP.get(url + 'ping')) and time.monotonic() < end: time.sleep(.05)
        assert (reply.status_code, error(reply)) == (503, 'the catalogue holds no photos')
        assert ask(url, photo).status_code == 503


def test_a_folder_without_catalogue_is_refused_before_listening(work):
    done = subprocess.run([sys.executable, '-c', PROGRAM, str(work / 'photos'), '{}'], capture_output=True, text=True)
    assert done.returncode and done.stdout == '' and 'not a catalogue' in done.stderr


@pytest.mark.parametrize('kind', ['image/jpeg', 'image/jpg', 'image/heic', 'IMAGE/PNG; charset=binary', 'application/octet-stream', 'application/x-image'])
def test_a_photo_finds_its_report(url, photo, photos, kind):
    reply = ask(url, photo, kind, k=3)
    assert reply.status_code == 200 and reply.headers['content-type'] == 'application/json'
    hits = reply.json()
    assert len(hits) == 3 and hits[0]['report'] == photos[0].report and hits[0]['score'] > .99
    assert {'report', 'score', 'probability', 'photo', 'species', 'status', 'lat', 'lon', 'seen_at'} <= set(hits[0])
    assert [h['score'] for h in hits] == sorted((h['score'] for h in hits), reverse=True)


def test_json_says_the_same(url, photo):
    assert ask(url, as_json(photo, k=4), 'application/json').json() == ask(url, photo, k=4).json()


def test_an_address_like_sagemakers_own(url, photo):
    reply = HTTP.post(url + 'endpoints/pets/invocations', content=photo, headers={'content-type': 'image/jpeg'}, params={'k': 2})
    assert reply.json() == ask(url, photo, k=2).json()


def test_several_photos_are_one_pet(url, work, photos):
    of_one_pet = [p for p in photos if read_photos(work / 'photos').pet(p) == read_photos(work / 'photos').pet(photos[0])]
    hits = ask(url, as_json(*[p.path.read_bytes() for p in of_one_pet], k=2), 'application/json').json()
    assert len(of_one_pet) == 2 and {h['report'] for h in hits} == {p.report for p in of_one_pet}


def test_filters(url, work, photo, photos):
    reports = read_photos(work / 'photos').reports
    here = reports[photos[0].report]
    for field in 'species', 'status':
        hits = ask(url, photo, k=100, **{field: getattr(here, field)}).json()
        assert {h['report'] for h in hits} == {r.id for r in reports.values() if getattr(r, field) == getattr(here, field)}
    by_address = ask(url, photo, near=f'{here.lat},{here.lon}', within_km=2, since='2024-01-01', until='2024-12-31')
    by_json = ask(url, as_json(photo, near=[here.lat, here.lon], within_km=2, since='2024-01-01', until='2024-12-31'), 'application/json')
    assert by_address.json() == by_json.json() and by_address.json()[0]['distance_km'] == pytest.approx(0, abs=.01)
    assert all(h['distance_km'] <= 2 for h in by_address.json())
    assert ask(url, photo, until='1999-01-01').json() == []


@pytest.mark.parametrize('params, said', [
    (dict(specis='dog'), "unknown field 'specis'"), (dict(species='dragon'), 'unknown species'), (dict(status='gone'), 'unknown status'),
    (dict(k='0'), 'k must be a number from 1'), (dict(k='many'), 'k must be'), (dict(k='101'), 'k must be'), (dict(k='9' * 5000), 'k must be'), (dict(near='here'), 'near must be two numbers'),
    (dict(near='91,0'), 'no such place'), (dict(near='nan,nan'), 'no such place'), (dict(near='1,2', within_km='-1'), 'within_km must be'),
    (dict(near='1,2', within_km='nan'), 'within_km must be'), (dict(within_km='3'), 'within_km needs a place'), (dict(since='soon'), 'not a date'), (dict(since='x' * 9999), 'since must be a short text'), ({'x' * 9999: '1'}, 'unknown field'),
    (dict(since='2024-02-01', until='2024-01-01'), 'time window is empty')])
def test_400_for_filters_that_cannot_be(url, photo, params, said):
    reply = ask(url, photo, **params)
    assert reply.status_code == 400 and said in error(reply) and len(error(reply)) < 300


@pytest.mark.parametrize('body, said', [
    ('', 'not JSON'), ('{', 'not JSON'), ('[' * 100_000, 'not JSON'), ('\xff', 'not JSON'), ('[]', 'must be a JSON object'), ('{}', 'photos must be a list'),
    ('{"photos": "abc"}', 'photos must be a list'), ('{"photos": []}', 'photos must be a list'), (json.dumps({'photos': ['aaaa'] * 9}), '1 to 8'), ('{"photos": [7]}', 'photo 1 of 1 is not base64'),
    ('{"photos": ["aaaa", "a?aa"]}', 'photo 2 of 2 is not base64'), ('{"photos": ["aaaa"], "near": {"lat": 1}}', 'near must be'), ('{"photos": ["aaaa"], "near": [1, 2, 3]}', 'near must be'),
    ('{"photos": ["aaaa"], "near": [true, 0]}', 'near must be'), ('{"photos": ["aaaa"], "near": [NaN, 0]}', 'not JSON'), ('{"photos": ["aaaa"], "near": [1e999, 0]}', 'no such place'),
    ('{"photos": ["aaaa"], "k": 2.5}', 'k must be'), ('{"photos": ["aaaa"], "k": true}', 'k must be'), ('{"photos": ["aaaa"], "species": 5}', 'species must be a short text'), ('{"photos": ["aaaa"], "Photos": 1}', 'unknown field')])
def test_400_for_json_that_cannot_be(url, body, said):
    reply = ask(url, body.encode('latin-1'), 'application/json')
    assert reply.status_code == 400 and said in error(reply)


def test_filters_belong_into_the_json(url, photo):
    reply = ask(url, as_json(photo), 'application/json', k=3)
    assert (reply.status_code, error(reply)) == (400, 'with a JSON body, write the filters into the JSON')


@pytest.mark.parametrize('kind', ['text/plain', 'application/x-www-form-urlencoded', 'jpeg', ''])
def test_415(url, photo, kind):
    reply = ask(url, photo, kind)
    assert reply.status_code == 415 and 'is not taken' in error(reply)


def test_422_names_the_photo_and_the_reason(url, photo):
    assert error(ask(url, b'not a picture')) == 'photo 1 of 1: not a picture, or too damaged to read'
    assert error(ask(url, b'')) == 'photo 1 of 1: the file is empty'
    reply = ask(url, as_json(photo, photo[:500]), 'application/json')
    assert reply.status_code == 422 and error(reply).startswith('photo 2 of 2: ')


@pytest.mark.parametrize('method, path, status', [('GET', 'nowhere', 404), ('GET', 'invocations', 405), ('DELETE', 'ping', 405), ('GET', 'photos/../../etc/passwd', 404)])
def test_other_errors_are_json_too(url, method, path, status):
    reply = HTTP.request(method, url + path)
    assert reply.status_code == status and error(reply)


def raw(url, *parts):
    "Send bytes as they are and return what comes back, with the connection still open for more."
    host, port = re.match(r'http://(.+):(\d+)/', url).groups()
    with socket.create_connection((host, int(port)), timeout=10) as s:
        for part in parts: s.sendall(part)
        return s.recv(65536)


HEAD = b'POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n'


def test_413_before_the_body_is_sent(url):
    assert raw(url, HEAD + b'Content-Length: %d\r\n\r\n' % (MAX_BODY + 1)).startswith(b'HTTP/1.1 413')


def test_413_while_the_body_is_still_coming(url):
    piece = b'100000\r\n' + bytes(2**20) + b'\r\n'
    assert raw(url, HEAD + b'Transfer-Encoding: chunked\r\n\r\n', *[piece] * 7).startswith(b'HTTP/1.1 413')


def test_just_below_the_limit_is_read(url, photo):
    assert ask(url, photo + bytes(MAX_BODY - len(photo))).status_code == 200


@pytest.mark.parametrize('rubbish', [b'hello\r\n\r\n', HEAD + b'Content-Length: 5000\r\n\r\nhalf a body', HEAD + b'Content-Length: -1\r\n\r\n', HEAD + b'X: ' + b'x' * 200_000 + b'\r\n\r\n'])
def test_broken_clients_do_no_harm(url, photo, rubbish):
    host, port = re.match(r'http://(.+):(\d+)/', url).groups()
    with socket.create_connection((host, int(port)), timeout=10) as s:
        try: s.sendall(rubbish)
        except OSError: pass
    assert ask(url, photo).status_code == 200


def test_awkward_photos_are_answered_or_refused_with_a_reason(quick_url, real_photos):
    odd = [p for p in sorted((real_photos / 'odd').iterdir()) if p.suffix != '.csv']
    with ThreadPoolExecutor(4) as pool:
        for path, reply in pool.map(lambda p: (p, ask(quick_url, p.read_bytes(), 'application/octet-stream')), odd):
            assert reply.status_code == 200 and reply.json() or reply.status_code in (413, 422) and error(reply), path.name


def test_twenty_at_once(url, photos):
    one_by_one = [ask(url, p.path.read_bytes(), k=3).json() for p in photos[:2]]
    with ThreadPoolExecutor(20) as pool: replies = list(pool.map(lambda i: ask(url, photos[i % 2].path.read_bytes(), k=3), range(20)))
    assert [r.status_code for r in replies] == [200] * 20
    assert [r.json() for r in replies] == one_by_one * 10


def test_a_full_queue_refuses_and_recovers(work, photo):
    with server(work / 'catalogue', workers=1, queue=1, limit=120) as (_, url):
        wait_ready(url)
        body = as_json(*[photo] * 3)
        with ThreadPoolExecutor(12) as pool:
            waiting = [pool.submit(ask, url, body, 'application/json') for _ in range(12)]
            while not any(w.done() for w in waiting): assert HTTP.get(url + 'ping').status_code == 200
            replies = [w.result() for w in waiting]
        refused = [r for r in replies if r.status_code == 503]
        assert refused and len(refused) < 12 and {r.status_code for r in replies} == {200, 503}
        assert {error(r) for r in refused} == {'too many searches are waiting'} and all(1 <= int(r.headers['retry-after']) <= 60 for r in refused)
        assert ask(url, photo).status_code == 200


def test_sigterm_finishes_what_it_began_and_exits_0(work, photo):
    with server(work / 'quick') as (process, url):
        wait_ready(url)
        host, port = re.match(r'http://(.+):(\d+)/', url).groups()
        with socket.create_connection((host, int(port)), timeout=20) as s:
            s.sendall(HEAD + b'Content-Length: %d\r\nExpect: 100-continue\r\n\r\n' % len(photo))
            assert s.recv(100).startswith(b'HTTP/1.1 100')  # so the application is reading this request
            process.send_signal(signal.SIGTERM)
            while (ping := HTTP.get(url + 'ping')).status_code == 200: time.sleep(.01)
            refused = ask(url, photo)
            for reply in ping, refused: assert (reply.status_code, error(reply), reply.headers['connection']) == (503, 'the service is shutting down', 'close')
            s.sendall(photo)
            assert s.recv(100).startswith(b'HTTP/1.1 200')
        assert process.wait(timeout=20) == 0
        assert process.stdout.read() == '' and {line['event'] for line in logged(process)} == {'request'}


def test_an_idle_connection_is_kept_as_long_as_a_proxy_keeps_it(url):
    connection, line = HTTPConnection(url.split('/')[2], timeout=20), None
    for pause in 0, 11:  # longer than uvicorn would wait, and than our own patience with half a header
        time.sleep(pause)
        connection.request('GET', '/ping')
        answer, line = connection.getresponse(), line or connection.sock
        assert answer.read() and answer.status == 200 and connection.sock is line


def test_sigterm_while_loading_exits_0(work):
    with server(work / 'catalogue') as (process, _):
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0


def test_the_log_tells_nothing_about_people(work, photo):
    with server(work / 'quick') as (process, url):
        wait_ready(url)
        ask(url, photo, near='51.2,4.4'); ask(url, b'no photo'); ask(url, photo, species='dragon'); raw(url, HEAD + b'Content-Length: 99999999\r\n\r\n'); raw(url, b'nonsense\r\n\r\n')
        HTTP.get(url + 'photos/secret.jpg?near=51.2,4.4', headers={'x-request-id': 'found-0001 51.2'})
        HTTP.post(url + 'verdicts', json=dict(report='found-0001', other='lost-0001', said='same', reviewer='Nora'))
        process.terminate()
        assert process.wait(timeout=20) == 0 and process.stdout.read() == ''
        lines = [line for line in logged(process) if line.get('route') != '/ping']
    assert [(line['event'], line.get('status')) for line in lines] == [('request', 200), ('request', 422), ('request', 400), ('request', 413), ('server', None), ('request', 404), ('request', 200)]
    for private in ('51.2', 'dragon', 'secret', 'found', 'Nora', str(work)): assert private not in json.dumps(lines)
    assert set(lines[0]) == {'time', 'event', 'id', 'method', 'route', 'status', 'ms', 'received', 'sent', 'photos'} and lines[0]['received'] == len(photo)
    assert list(lines[0]['ms']) == ['wait', 'decode', 'segment', 'embed', 'search', 'total']


def test_a_request_keeps_its_name_and_is_timed(url, photo):
    reply = HTTP.post(url + 'invocations', content=photo, headers={'content-type': 'image/jpeg', 'x-request-id': 'app-7'})
    assert reply.headers['x-request-id'] == 'app-7' and re.fullmatch(r'wait;dur=[\d.]+, decode;dur=[\d.]+, segment;dur=[\d.]+, embed;dur=[\d.]+, search;dur=[\d.]+, total;dur=[\d.]+', reply.headers['server-timing'])
    assert re.fullmatch('[0-9a-f]{32}', ask(url, b'no photo').headers['x-request-id'])


def test_listens_on_this_machine_only(url): assert url.startswith('http://127.0.0.1:')


def test_serving_loads_no_training_and_no_cloud():
    program = 'import sys, petlost.serve; print(*{m.partition(".")[0] for m in sys.modules})'
    loaded = set(subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, check=True).stdout.split())
    assert 'uvicorn' in loaded and not loaded & {'torch', 'fastai', 'timm', 'sagemaker', 'boto3', 'IPython', 'jupyter', 'jupyter_core', 'nbdev', 'pandas', 'matplotlib'}


def test_page_shows_the_same_ranking(url, photo):
    form = HTTP.get(url)
    assert form.status_code == 200 and 'type="file"' in form.text and "default-src 'none'" in form.headers['content-security-policy']
    page = HTTP.post(url, files={'photo': ('x.jpg', photo, 'image/jpeg')}, data={'species': '', 'status': ''}, follow_redirects=True)
    assert page.status_code == 200 and re.findall(r'<p class="id">(.*?)</p>', page.text) == [h['report'] for h in ask(url, photo, k=12).json()]
    assert page.headers['cache-control'] == 'no-store' and re.findall('<script[^>]*>', page.text) == re.findall('<script src="/static/page.js[^>]*>', page.text)
    for source in re.findall(r'<img src="/(.*?)"', page.text):
        picture = HTTP.get(url + source.replace('&amp;', '&'))
        assert picture.status_code == 200 and picture.content[:3] == b'\xff\xd8\xff' and re.match('no-store|private', picture.headers['cache-control'])


def test_page_refuses_in_words(url, photo):
    assert 'choose a photo' in HTTP.post(url, data={'species': 'dog'}).text
    bad = HTTP.post(url, files={'photo': ('x.jpg', b'nothing', 'image/jpeg')}, headers=PERSON)
    assert bad.status_code == 422 and 'not a picture' in bad.text
    assert HTTP.post(url, files={'photo': ('x.jpg', bytes(MAX_BODY + 1), 'image/jpeg')}).status_code == 413
    assert HTTP.post(url, files={'photo': ('x.jpg', photo, 'image/jpeg')}, data={'species': '<i>'}).text.count('<i>') == 0
    for path, status in ('nowhere', 404), ('search/gone', 410), ('report/nobody', 404), ('add', 403):
        refused = HTTP.get(url + path, headers=PERSON)
        assert refused.status_code == status and refused.headers['content-type'].startswith('text/html') and '<h1>' in refused.text
        assert HTTP.get(url + path).headers['content-type'] == 'application/json'


def test_page_escapes_what_a_report_says(tmp_path, photo):
    evil = '<img src=x onerror=alert(1)> "quoted" \'too\''
    (tmp_path / 'photos' / evil).mkdir(parents=True)
    (tmp_path / 'photos' / evil / 'a.jpg').write_bytes(photo)
    index_photos(read_photos(tmp_path / 'photos'), tmp_path / 'catalogue', model='colour-histogram')
    with server(tmp_path / 'catalogue') as (_, url):
        wait_ready(url)
        page = HTTP.post(url, files={'photo': ('x.jpg', photo, 'image/jpeg')}, follow_redirects=True).text
    assert '<img src=x' not in page and '&lt;img src=x onerror=alert(1)&gt;' in page


# Archives

def member(name, data=b'hi', kind=tarfile.REGTYPE, link=''):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(data) if kind == tarfile.REGTYPE else 0
    return info, data


def forge(path, *members, **files):
    "An archive of these members behind a manifest that declares `files`."
    manifest = json.dumps(dict(format=1, files={name: dict(sha256=hashlib.sha256(data).hexdigest(), size=len(data)) for name, data in files.items()})).encode()
    with tarfile.open(path, 'w:gz') as tar:
        for info, data in [member('manifest.json', manifest), *members]: tar.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize('name', ['../a', '/a', 'x/../../a', './a', 'x//a', 'C:/a', 'x\\a', '..', '.'])
def test_unsafe_names_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match='not a safe relative path') as e: unpack(forge(tmp_path / 'x.tar.gz', member(name), **{name: b'hi'}), tmp_path / 'out' / 'in')
    assert repr(name) in str(e.value) and not list((tmp_path / 'out').iterdir()) and not (tmp_path / 'a').exists() and not Path('/a').exists()


@pytest.mark.parametrize('kind', [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE])
def test_only_plain_files_are_unpacked(tmp_path, kind):
    with pytest.raises(ValueError, match="'a' in the archive is not a plain file"): unpack(forge(tmp_path / 'x.tar.gz', member('a', kind=kind, link='/etc/passwd'), a=b'hi'), tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('members, said', [
    ([member('a', b'ha')], "'a' .*SHA-256 differs"), ([member('a', b'h')], "'a' .*size differs"), ([], "'a' is in the manifest but not in the archive"),
    ([member('a'), member('a')], "'a' is twice"), ([member('a'), member('b')], "'b' is twice in the archive, or not in its manifest"), ([member('a'), member('manifest.json')], "'manifest.json' is twice")])
def test_only_what_the_manifest_says_is_unpacked(tmp_path, members, said):
    with pytest.raises(ValueError, match=said): unpack(forge(tmp_path / 'x.tar.gz', *members, a=b'hi'), tmp_path / 'out')
    assert not (tmp_path / 'out').exists() and [p.name for p in tmp_path.iterdir()] == ['x.tar.gz']


@pytest.mark.parametrize('damage', [lambda b: b[:len(b) // 2], lambda b: b[:100], lambda b: b'', lambda b: b'PK\3\4' + b, lambda b: b[:len(b) // 2] + bytes(64) + b[len(b) // 2 + 64:]])
def test_damaged_archives_are_refused(work, tmp_path, damage):
    (tmp_path / 'x.tar.gz').write_bytes(damage(package(None, tmp_path / 'good.tar.gz', work / 'quick').read_bytes()))
    with pytest.raises(ValueError): unpack(tmp_path / 'x.tar.gz', tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_package_while_somebody_is_adding(work, tmp_path):
    shutil.copytree(work / 'quick', tmp_path / 'live')
    stop, added = threading.Event(), []
    def keep_adding():
        with Catalogue.open(tmp_path / 'live', write=True) as cat:
            while not stop.is_set():
                i = len(added)
                cat.add([Report(f'new-{i}')], [PhotoRow(f'new-{i}', f'new-{i}/{j}.jpg', f'{i}-{j}', np.random.default_rng(i).standard_normal(cat.model['dim']), b'x' * 5000) for j in range(4)])
                added.append(i)
    writer = threading.Thread(target=keep_adding)
    writer.start()
    try:
        while len(added) < 3: time.sleep(.01)
        archive = package(None, tmp_path / 'm.tar.gz', tmp_path / 'live')
    finally: stop.set(); writer.join()
    folder = unpack(archive, tmp_path / 'out')
    verify(folder)
    with closing(sqlite3.connect(folder / 'catalogue' / 'catalogue.db')) as db: assert db.execute('PRAGMA integrity_check').fetchone() == ('ok',)
    with Catalogue.open(folder / 'catalogue') as cat:
        counts = cat.count()
        assert counts['photos'] == 16 + 4 * (counts['reports'] - 16) and 3 <= counts['reports'] - 16 <= len(added)
        assert len(cat.vectors()[0]) == counts['photos']


def test_served_by_nobody_from_a_folder_that_cannot_be_written(work, tmp_path, photo, photos):
    nobody = ['setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups'] if os.getuid() == 0 else []
    try: subprocess.run([*nobody, sys.executable, '-c', 'import petlost.serve'], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError): pytest.skip('another user cannot run this Python')
    folder = unpack(package(None, tmp_path / 'm.tar.gz', work / 'quick'), tmp_path / 'opt')
    before = sorted(folder.rglob('*'))
    for path in [*tmp_path.parents[:2], tmp_path]: path.chmod(0o755)
    for path in [*before, folder]: path.chmod(0o555 if path.is_dir() else 0o444)
    env = os.environ | dict(SAGEMAKER_BIND_TO_PORT='0', HOME='/nonexistent')
    process = subprocess.Popen([*nobody, sys.executable, folder / 'code' / 'inference.py'], stdout=subprocess.PIPE, text=True, env=env)
    try:
        url = process.stdout.readline().split()[-1].replace('0.0.0.0', '127.0.0.1')
        wait_ready(url)
        assert ask(url, photo).json()[0]['report'] == photos[0].report
        process.terminate()
        assert process.wait(timeout=20) == 0 and sorted(folder.rglob('*')) == before
    finally: process.kill()
