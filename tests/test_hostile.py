"Clients that mean harm, or are broken: the service answers everybody else, keeps its memory, and tells nothing."
import base64, gzip, io, json, re, shutil, struct, time, zipfile, zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from petlost.http_requests import MAX_BODY
from petlost.index import Catalogue
from petlost.metrics import MOST_BYTES
from petlost.photoset import read_photos
from petlost.sample import sample_catalogue
from petlost.search import index_photos
from serving import HEAD, HTTP, KEY, TOKEN, connect, raw, serving

HASTY = '''
import json, socket, sys, uvicorn
from petlost.http_requests import Guarded
from petlost.serve import create_app
class Hasty(Guarded): header_seconds, request_seconds = 1, 2
listening = socket.create_server(('127.0.0.1', 0))
print(f'http://127.0.0.1:{listening.getsockname()[1]}/', flush=True)
uvicorn.Server(uvicorn.Config(create_app(sys.argv[1], **json.loads(sys.argv[2])), http=Hasty, ws='none', log_level='warning', access_log=False)).run(sockets=[listening])
'''


@pytest.fixture(scope='module')
def work(tmp_path_factory):
    work = tmp_path_factory.mktemp('hostile')
    sample_catalogue(work / 'photos', n_pets=6, photos=2, seed=5)
    index_photos(read_photos(work / 'photos'), work / 'quick', model='colour-histogram')
    return work


@pytest.fixture(scope='module')
def photo(work): return read_photos(work / 'photos').photos[0].path.read_bytes()


@pytest.fixture(scope='module')
def served(work):
    with serving(work / 'quick', env=dict(PETLOST_TOKEN=TOKEN), limit=100) as (process, url):
        yield process, url
        assert process.poll() is None, 'the server died on the way'


@pytest.fixture
def url(served): return served[1]


def ask(url, body, kind='image/jpeg', **params): return HTTP.post(url + 'invocations', content=body, headers={'content-type': kind}, params=params)
def statuses(answer): return [int(code) for code in re.findall(rb'HTTP/1\.1 (\d{3}) ', answer)]


# Slow ones

def test_slow_headers_are_hung_up_on_and_others_are_served(url, photo):
    lines = [connect(url) for _ in range(200)]
    for i, line in enumerate(lines): line.sendall(HEAD[:i % len(HEAD)])  # cut anywhere, also before the first byte
    assert all(ask(url, photo).status_code == 200 for _ in range(3))
    for line in lines:
        assert line.recv(1000)[:12] in (b'', b'HTTP/1.1 408')  # within the 30 seconds of `connect`
        line.close()


def test_slow_bodies_are_hung_up_on_and_others_are_served(work, photo):
    with serving(work / 'quick', program=HASTY) as (_, url):
        lines = [connect(url) for _ in range(300)]  # more than searches may wait
        for i, line in enumerate(lines): line.sendall(HEAD + (b'Content-Length: 5000\r\n\r\nhalf' if i % 2 else b'Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n'))
        assert all(ask(url, photo).status_code == 200 for _ in range(3))
        for line in lines: assert line.recv(1000).startswith(b'HTTP/1.1 408'); line.close()
        with connect(url) as line, pytest.raises(OSError):  # a byte now and then does not help
            line.sendall(HEAD + b'Content-Length: 5000\r\n\r\n')
            for _ in range(300): line.sendall(b'x'); time.sleep(.1)
        assert ask(url, photo).status_code == 200


@pytest.mark.parametrize('sent', [HEAD + b'Content-Length: 5000\r\n\r\nhalf a body', HEAD + b'Transfer-Encoding: chunked\r\n\r\n400\r\nhalf', HEAD[:40], b''])
def test_who_hangs_up_half_way_does_no_harm(url, photo, sent):
    for _ in range(20):
        with connect(url) as line: line.sendall(sent)
    assert ask(url, photo).status_code == 200


# HTTP that is none

@pytest.mark.parametrize('sent', [
    b'hello\r\n\r\n', b'\x16\x03\x01\x02\x00\x01\x00', b'GET / HTTP/9.9\r\n\r\n', b'GET http://[::1 HTTP/1.1\r\nHost: x\r\n\r\n', HEAD + b'Content-Length: -1\r\n\r\n', HEAD + b'Content-Length: 5\r\nContent-Length: 6\r\n\r\n',
    HEAD + b'Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n', HEAD + b'Transfer-Encoding: chunked\r\n\r\nzz\r\n', HEAD + b'Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n', HEAD + b'Transfer-Encoding: chunked\r\n\r\n-1\r\n',
    HEAD + b'Transfer-Encoding: gzip\r\n\r\n', HEAD + b'X: a\0b\r\n\r\n', HEAD + b'no colon\r\n\r\n', 'GET /ä HTTP/1.1\r\nHost: x\r\n\r\n'.encode()])
def test_what_is_no_http_is_400_or_nothing(url, photo, sent):
    answer = raw(url, sent)
    assert set(statuses(answer)) <= {400, 404, 408}, answer
    assert ask(url, photo).status_code == 200


def test_huge_headers_end(url, photo):
    for header in (b'X: ' + b'x' * 4_000_000, b''.join(b'X-%d: y\r\n' % i for i in range(200_000)), b'Cookie: ' + b'a=b; ' * 500_000):
        assert set(statuses(raw(url, HEAD, *[header[i:i + 2**16] for i in range(0, len(header), 2**16)]))) <= {431, 400}
    assert ask(url, photo).status_code == 200
    address = b'POST /invocations?' + b'k=' + b'1' * 2_000_000
    assert set(statuses(raw(url, *[address[i:i + 2**16] for i in range(0, len(address), 2**16)]))) <= {431, 400}


def test_many_small_headers_are_fine(url): assert statuses(raw(url, b'GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n' + b''.join(b'X-%d: y\r\n' % i for i in range(1000)) + b'\r\n')) == [200]


def test_pipelined_requests_are_answered_in_order(url, photo):
    search = HEAD + b'Content-Length: %d\r\n\r\n' % len(photo) + photo
    ping, last = b'GET /ping HTTP/1.1\r\nHost: x\r\n\r\n', b'GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'
    assert statuses(raw(url, ping * 50 + search + ping * 50 + search + last)) == [200] * 102 + [404]
    assert set(statuses(raw(url, search + HEAD[:30] + b'\0\r\n\r\n'))) <= {200, 400} and ask(url, photo).status_code == 200


def test_other_protocols_are_not_spoken(url):
    for name in (b'websocket', b'h2c'):
        answer = raw(url, b'GET /ping HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: %b\r\nSec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\nSec-WebSocket-Version: 13\r\n\r\n' % name)
        assert set(statuses(answer)) <= {200, 400}, answer


# Bodies that are more than they seem

def bomb():
    "A PNG of 400 million pixels in half a megabyte."
    def chunk(kind, data): return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', 20_000, 20_000, 8, 0, 0, 0, 0)) + chunk(b'IDAT', zlib.compress(bytes(20_001 * 20_000), 1)) + chunk(b'IEND', b'')


def bombs(photo):
    nested = io.BytesIO()
    with zipfile.ZipFile(nested, 'w', zipfile.ZIP_DEFLATED) as z: z.writestr('photo.jpg', bytes(2**24))
    return dict(png=bomb(), gzip=gzip.compress(bytes(2**24)), zip=nested.getvalue(), svg=b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>', pdf=b'%PDF-1.4', html=b'<script>alert(1)</script>')


def memory(process): return int(re.search(r'VmRSS:\s+(\d+)', Path(f'/proc/{process.pid}/status').read_text())[1]) / 1024  # MB


def test_bombs_are_refused_and_leave_no_memory_behind(served, photo):
    process, url = served
    before = memory(process)
    for name, data in bombs(photo).items():
        with ThreadPoolExecutor(4) as pool:
            for reply in pool.map(lambda _: ask(url, data), range(4)): assert reply.status_code == 422, name
        assert HTTP.post(url + 'reports', headers=KEY, data=dict(id='bomb'), files=[('photo', ('a', data))]).status_code == 422, name
    compressed = HTTP.post(url + 'invocations', content=gzip.compress(photo), headers={'content-type': 'image/jpeg', 'content-encoding': 'gzip'})
    assert compressed.status_code == 422
    with ThreadPoolExecutor(8) as pool: assert {reply.status_code for reply in pool.map(lambda _: ask(url, bytes(MAX_BODY)), range(40))} <= {422, 503}
    assert memory(process) < before + 300 and ask(url, photo).status_code == 200


def test_bodies_that_are_nearly_there_do_not_fill_the_memory(work, photo):
    with serving(work / 'quick') as (process, url):
        ask(url, photo)
        before, lines = memory(process), [connect(url) for _ in range(70)]
        def most_of_it(line):
            try: line.sendall(HEAD + b'Content-Length: %d\r\n\r\n' % MAX_BODY + bytes(MAX_BODY - 1))
            except OSError: pass
        with ThreadPoolExecutor(8) as pool: list(pool.map(most_of_it, lines))
        assert memory(process) < before + 700  # 420 MB were sent, and a body is copied once while it is put together
        def refused(line):
            line.settimeout(.2)
            try: return line.recv(1000).startswith(b'HTTP/1.1 503')
            except OSError: return False
        assert sum(map(refused, lines)) >= 70 - MOST_BYTES / (MAX_BODY - 1) - 1
        for line in lines: line.close()
        while (reply := ask(url, photo)).status_code == 503: time.sleep(.05)
        assert reply.status_code == 200


@pytest.mark.parametrize('body', [b'[' * MAX_BODY, b'{"photos":' * 500_000, b'{"photos": [' + b'"",' * 1_500_000 + b'""]}', b'{"k": ' + b'9' * 1_000_000 + b'}', b'{"photos": ["' + b'A' * 6_000_000 + b'"]}', b'{' + b','.join(b'"%d": 1' % i for i in range(400_000)) + b'}'])
def test_json_made_to_hurt(url, photo, body):
    reply = ask(url, body, 'application/json')
    assert reply.status_code in (400, 413, 422) and len(reply.content) < 1000
    assert ask(url, photo).status_code == 200


def test_forms_made_to_hurt(url, photo):
    edge, part = 'multipart/form-data; boundary=x', b'--x\r\nContent-Disposition: form-data; name="photo"; filename="a"\r\n\r\n'
    for kind, body in [(edge, part * 50_000), (edge, b'--x\r\n' + b'A: b\r\n' * 500_000), (edge, b'--x\r\nContent-Disposition: form-data; name="' + b'n' * 2_000_000 + b'"\r\n\r\n1\r\n--x--'), (edge, b'--x--'), (edge, b''),
                       (edge, part[:-2]), ('multipart/form-data', part), ('multipart/form-data; boundary=' + 'y' * 5000, part), ('multipart/form-data; boundary=x; charset=utf-7', part + b'+AGE-\r\n--x--'), ('multipart/mixed; boundary=x', part)]:
        reply = ask(url, body, kind)
        assert reply.status_code in (400, 415, 422) and len(reply.content) < 1000, (kind[:60], body[:60], reply.text)
    assert ask(url, photo).status_code == 200


def test_awkward_photos_in_every_wrapping(url, real_photos):
    odd = [p for p in sorted((real_photos / 'odd').iterdir()) if p.suffix != '.csv' and p.stat().st_size < 4 * 2**20]
    def three_ways(path):
        data = path.read_bytes()
        return [ask(url, data, 'application/octet-stream'), ask(url, json.dumps(dict(photos=[base64.b64encode(data).decode()])), 'application/json'), HTTP.post(url + 'invocations', files=[('photo', ('../../x', data))])]
    with ThreadPoolExecutor(2) as pool:
        for path, (one, *others) in zip(odd, pool.map(three_ways, odd)):
            assert one.status_code in (200, 422), (path.name, one.text)
            assert all((other.status_code, other.content) == (one.status_code, one.content) for other in others), path.name


# Names that lead elsewhere

NAMES = ['../../../../etc/passwd', '/etc/passwd', '..', '.', '..\\..\\x', 'a\0b', 'C:\\x', 'a/../../b', '%2e%2e%2fx', '<script>', "'; DROP TABLE reports; --", '\r\nSet-Cookie: a=b', 'x' * 5000]


@pytest.mark.parametrize('name', NAMES)
def test_names_lead_nowhere(work, url, photo, name):
    before = {p for p in work.rglob('*') if not p.name.startswith('catalogue.')}
    reply = HTTP.post(url + 'reports', headers=KEY, data=dict(id=name), files=[('photo', (name.replace('\0', ''), photo, 'image/jpeg'))])
    assert reply.status_code in (201, 400) and 'set-cookie' not in reply.headers
    if reply.status_code == 201:
        assert re.fullmatch('[0-9a-f]{16}', reply.json()['report']['photos'][0]['name'])
        assert HTTP.get(url.rstrip('/') + reply.headers['location']).json() == reply.json()['report']
        assert HTTP.delete(url.rstrip('/') + reply.headers['location'], headers=KEY).status_code == 200
    with Catalogue.open(work / 'quick') as catalogue: assert name not in catalogue.reports() and len(catalogue.reports()) == 12
    assert {p for p in work.rglob('*') if not p.name.startswith('catalogue.')} == before


@pytest.mark.parametrize('path', ['/reports/../../etc/passwd', '/reports/%2e%2e%2f%2e%2e%2fetc%2fpasswd', '/reports//etc/passwd', '/reports/%00', '/reports/%ff%fe', '/reports/' + 'x' * 9000, '/..%2f..%2fetc/passwd', '//etc/passwd', '/static/../serve.py', '/reports/%0d%0aSet-Cookie:%20a=b'])
def test_addresses_lead_nowhere(url, path):
    for method in (b'GET', b'DELETE'):
        answer = raw(url, method + b' ' + path.encode() + b' HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer ' + TOKEN.encode() + b'\r\n\r\n')
        assert statuses(answer) == [404] and b'root:' not in answer and b'\r\nset-cookie' not in answer.lower()


# What is told to whom

def test_no_secret_photo_name_or_place_in_the_log(work, tmp_path, photo):
    folder = shutil.copytree(work / 'quick', tmp_path / 'c')
    said = dict(id='report-of-maria', species='dog', lat='51.2187', lon='4.4025', pet='Rex-the-dog', seen_at='2026-03-04T18:31Z')
    with serving(folder, env=dict(PETLOST_TOKEN=TOKEN)) as (process, url):
        for key in (KEY, {'authorization': 'Bearer another-secret'}): HTTP.post(url + 'reports', headers=key, data=said, files=[('photo', ('marias-garden.jpg', photo))])
        HTTP.get(url + 'reports/report-of-maria'); HTTP.get(url + 'reports/report-of-marie')
        ask(url, photo, near='51.2187,4.4025', seen='2026-03-04T18:31Z'); ask(url, photo, species='marias-word'); ask(url, b'no photo')
        HTTP.post(url + 'verdicts', headers=KEY, json=dict(report='report-of-maria', other='nobody-else', said='same', reviewer='Nora-the-reviewer'))
        person = dict(headers={'accept': 'text/html'}, follow_redirects=True)
        listed = HTTP.post(url, files=[('photo', ('marias-garden.jpg', photo))], data=dict(near='51.2187,4.4025', seen='2026-03-04T18:31', zone='UTC'), **person)
        HTTP.get(f'{listed.url}/pair?report=report-of-maria', **person); HTTP.get(url + 'report/report-of-maria', **person); HTTP.get(url + 'place?near=51.2187,4.4025', **person)
        for token in (TOKEN, 'another-secret-of-16'): HTTP.post(url + 'signin', data=dict(token=token), **person)
        HTTP.delete(url + 'reports/report-of-maria', headers=KEY)
        raw(url, b'GET /marias-address?near=51.2187 HTTP/1.1\r\nHost: marias-host\r\nbroken\r\n\r\n'); HTTP.get(url + 'marias-address')
        (folder / 'catalogue.db').write_bytes(b'marias-broken-database'); ask(url, photo); HTTP.get(url + 'reports/report-of-maria')
        logged = process.logged()
    for secret in (TOKEN, 'another-secret', 'maria', 'Rex-the', '51.2187', '4.4025', '18:31', 'Nora', 'nobody-else', base64.b64encode(photo[:30]).decode(), str(photo[:20])):
        assert secret not in logged, (secret, logged)
    assert 'Traceback' not in logged


def test_no_answer_says_where_anything_lies(work, tmp_path, photo):
    folder = shutil.copytree(work / 'quick', tmp_path / 'c')
    def everything(url):
        form = dict(headers=KEY, data=dict(id='a'), files=[('photo', ('a', photo))])
        yield from (HTTP.get(url + path) for path in ('ping', 'metrics', 'openapi.json', 'reports/a', 'nowhere'))
        yield from (HTTP.get(url + path, headers={'accept': 'text/html'}) for path in ('', 'place', 'map.svg', 'report/a', 'signin', 'search/x', 'nowhere'))
        yield from (ask(url, photo), ask(url, b'x'), HTTP.post(url, files=[('photo', ('a', photo))], headers={'accept': 'text/html'}, follow_redirects=True), HTTP.post(url + 'reports', **form), HTTP.delete(url + 'reports/a', headers=KEY))
        yield HTTP.post(url + 'verdicts', headers=KEY, json=dict(report='a', other='b', said='same'))
    def check(url):
        for reply in everything(url):
            text = reply.text + str(reply.headers)
            assert str(tmp_path) not in text and '/tmp' not in text and 'Traceback' not in text and '.py' not in text and reply.status_code in (200, 201, 400, 404, 410, 422, 503), (reply.url, reply.text)
    with serving(folder, env=dict(PETLOST_TOKEN=TOKEN)) as (_, url):
        check(url)
        with Catalogue.open(folder, write=True): check(url)
        shutil.move(folder / 'model', folder / 'gone'); check(url)
        shutil.rmtree(folder); check(url)
