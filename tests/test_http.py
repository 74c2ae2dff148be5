"The contract of the service: what its document says, what boto3 sends, and what is written over HTTP."
import base64, io, json, re, shutil, signal, subprocess, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3, pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from PIL import Image

from petlost.index import Catalogue
from petlost.openapi import document, operations
from petlost.photoset import read_photos
from petlost.sample import sample_catalogue
from petlost.search import index_photos
from petlost.serve import create_app
from running import PLAIN
from serving import HTTP, KEY, PROGRAM, TOKEN, serving


@pytest.fixture(scope='module')
def work(tmp_path_factory):
    work = tmp_path_factory.mktemp('http')
    sample_catalogue(work / 'photos', n_pets=8, photos=2, seed=5)
    index_photos(read_photos(work / 'photos'), work / 'quick', model='colour-histogram')
    (work / 'token').write_text(TOKEN)
    return work


@pytest.fixture(scope='module')
def photo(work): return read_photos(work / 'photos').photos[0].path.read_bytes()


@pytest.fixture
def folder(work, tmp_path): return shutil.copytree(work / 'quick', tmp_path / 'catalogue')


@pytest.fixture(scope='module')
def served(work):
    folder = shutil.copytree(work / 'quick', work / 'served')
    with serving(folder, token_file=str(work / 'token')) as (process, url):
        yield url, folder
        assert process.poll() is None, 'the server died on the way'


@pytest.fixture
def url(served): return served[0]


def new_photo(i):
    "A photo like no other."
    hue = Image.linear_gradient('L').resize((320, 240)).rotate(17 * i, fillcolor=40 * i % 256)
    Image.merge('HSV', (hue.point(lambda v: (v // 3 + 31 * i) % 256), hue, hue.transpose(0))).convert('RGB').save(box := io.BytesIO(), 'JPEG')
    return box.getvalue()


def form(*photos): return [('photo', (f'{i}.jpg', data, 'image/jpeg')) for i, data in enumerate(photos)]
def in_json(*photos, **fields): return dict(photos=[base64.b64encode(p).decode() for p in photos]) | fields
def put(url, id, *photos, key=KEY, **facts): return HTTP.post(url + 'reports', headers=key, data=dict(id=id) | facts, files=form(*photos)) if photos else HTTP.post(url + 'reports', headers=key, json=dict(id=id) | facts)
def find(url, photo, **params): return [hit['report'] for hit in HTTP.post(url + 'invocations', content=photo, headers={'content-type': 'image/jpeg'}, params=params).json()]


# The document

def test_every_address_is_described_and_every_description_has_an_address(work):
    paths = document(create_app(work / 'quick').routes)['paths']
    assert {(method.upper(), path) for path, methods in paths.items() for method in methods} == set(operations())


def test_what_the_document_says_holds(url, tmp_path):
    st = Path(sys.executable).parent / 'schemathesis'  # positive data: no schema can say what a photo is
    done = subprocess.run([st, 'run', url + 'openapi.json', '-H', f'Authorization: Bearer {TOKEN}', '-n', '40', '--seed', '1', '--phases', 'examples,coverage,fuzzing', '--exclude-checks', 'positive_data_acceptance'],
                          capture_output=True, text=True, cwd=tmp_path, timeout=120)
    tried = re.search(r'(\d+) generated, (\d+) passed', done.stdout)
    assert done.returncode == 0 and tried and int(tried[1]) == int(tried[2]) > 500, done.stdout[-3000:] + done.stderr[-1000:]


def test_the_examples_of_the_document_work(url):
    body = HTTP.get(url + 'openapi.json').json()['paths']['/reports']['post']['requestBody']['content']['application/json']['schema']
    reply = HTTP.post(url + 'reports', headers=KEY, json={name: part['examples'][0] for name, part in body['properties'].items()})
    assert reply.status_code in (200, 201) and HTTP.get(url + 'reports/shelter-7/2026-114').json()['seen_at'] == '2026-03-04T16:30:00Z'


# Searching

def test_boto3_gets_the_same_answer(url, photo):
    client = boto3.client('sagemaker-runtime', endpoint_url=url.rstrip('/'), region_name='eu-central-1', aws_access_key_id='x', aws_secret_access_key='x', config=Config(retries=dict(max_attempts=1)))
    by_curl = HTTP.post(url + 'invocations', content=photo, headers={'content-type': 'image/jpeg'}).json()
    answer = client.invoke_endpoint(EndpointName='pets', ContentType='image/jpeg', Body=photo)
    assert json.loads(answer['Body'].read()) == by_curl and answer['ContentType'] == 'application/json'
    answer = client.invoke_endpoint(EndpointName='pets', ContentType='application/json', Body=json.dumps(in_json(photo, k=2)))
    assert json.loads(answer['Body'].read()) == by_curl[:2]
    with pytest.raises(ClientError) as e: client.invoke_endpoint(EndpointName='pets', ContentType='image/jpeg', Body=b'no photo')
    assert e.value.response['ResponseMetadata']['HTTPStatusCode'] == 422


def test_a_form_says_the_same(url, photo):
    asked = dict(k=3, species='dog', near='51.2,4.4', within_km=100)
    by_photo = HTTP.post(url + 'invocations', content=photo, headers={'content-type': 'image/jpeg'}, params=asked).json()
    assert HTTP.post(url + 'invocations', files=form(photo), data={k: str(v) for k, v in asked.items()}).json() == by_photo
    assert HTTP.post(url + 'invocations', json=in_json(photo, **asked | dict(near=[51.2, 4.4]))).json() == by_photo
    assert HTTP.post(url + 'invocations', files=form(photo, photo)).json() == HTTP.post(url + 'invocations', json=in_json(photo, photo)).json()


@pytest.mark.parametrize('files, data, status, field', [
    ([], dict(k='3'), 415, 'content-type'), ([('photo', ('', b''))], {}, 400, 'photo'), (form(b'x'), dict(k='0'), 400, 'k'), (form(b'x'), dict(specis='dog'), 400, 'specis'), (form(b'x'), dict(near='1'), 400, 'near'),
    (form(b'x'), dict(k=['1', '2']), 400, 'k'), (form(*[b'x'] * 9), {}, 400, 'body'), ([('other', ('a', b'x'))], {}, 400, 'other'), (form(b'x'), {f'f{i}': '' for i in range(30)}, 400, 'body'),
    (form(b'x'), {}, 422, 'photos'), (form(bytes(6 * 2**20)), {}, 413, 'body'), (form(b'x'), {'since': 'x' * 20_000}, 400, 'body')])
def test_forms_that_cannot_be_name_the_field(url, files, data, status, field):
    reply = HTTP.post(url + 'invocations', files=files, data=data)
    assert (reply.status_code, reply.json().get('field')) == (status, field), reply.text


# Who may write

def test_without_a_token_nobody_writes(folder, photo):
    with serving(folder) as (_, url):
        for reply in put(url, 'a', photo), HTTP.delete(url + 'reports/a', headers=KEY):
            assert reply.status_code == 403 and 'PETLOST_TOKEN' in reply.json()['error']
        assert HTTP.get(url + 'reports/a').status_code == 404


def test_the_token_may_come_from_the_environment(folder):
    a, b = sorted(read_reports(folder))[:2]
    with serving(folder, env=dict(PETLOST_TOKEN=TOKEN)) as (_, url):
        assert put(url, 'new', new_photo(1)).status_code == 201
        assert HTTP.post(url + 'verdicts', json=dict(report=a, other=b, said='same')).status_code == 401
        assert HTTP.post(url + 'verdicts', json=dict(report=a, other=b, said='same'), headers=KEY).json() == {'kept': 1}


def read_reports(folder):
    with Catalogue.open(folder) as catalogue: return catalogue.reports()


@pytest.mark.parametrize('key', [{}, {'authorization': ''}, {'authorization': 'Bearer'}, {'authorization': 'Bearer x'}, {'authorization': f'Basic {TOKEN}'}, {'authorization': f'Bearer {TOKEN}x'}, {'authorization': b'Bearer \xff\xfe'}])
def test_a_wrong_token_is_401_before_the_body_is_read(url, key):
    reply = put(url, 'a', bytes(7 * 2**20), key=key)  # 413 if it were read
    assert reply.status_code == 401 and reply.headers['www-authenticate'] == 'Bearer realm="petlost"' and reply.json()['field'] == 'authorization'
    assert HTTP.delete(url + 'reports/a', headers=key).status_code == 401


@pytest.mark.parametrize('content', [b'', b'short', b'with spaces in the middle of it', b'\xff' * 40])
def test_a_bad_token_file_is_refused_before_listening(folder, tmp_path, content):
    (tmp_path / 'token').write_bytes(content)
    done = subprocess.run([sys.executable, '-c', PROGRAM, folder, json.dumps(dict(token_file=str(tmp_path / 'token')))], capture_output=True, text=True)
    assert done.returncode and done.stdout == '' and 'token' in done.stderr.splitlines()[-1]


# Writing

def test_a_report_comes_is_found_changes_and_goes(served):
    url, folder = served
    photos = [new_photo(2), new_photo(3)]
    reply = put(url, 'shelter 7/ä', *photos, species='kitten', status='found', lat='51.2', lon='4.4', seen_at='2026-03-04T18:30+01:00', pet='Minou')
    assert reply.status_code == 201 and reply.json() | dict(report=None) == dict(report=None, added=2, known=0, repeats=0, shown_by=[])
    known = HTTP.get(url.rstrip('/') + reply.headers['location']).json()
    assert known == reply.json()['report'] and (known['species'], known['seen_at'], len(known['photos']), 'pet' in known) == ('cat', '2026-03-04T17:30:00Z', 2, False)
    assert find(url, photos[1])[0] == 'shelter 7/ä'
    again = put(url, 'shelter 7/ä', *photos, species='cat')
    assert again.status_code == 200 and again.json() == reply.json() | dict(added=0, known=2)
    assert put(url, 'shelter 7/ä', status='lost').json()['report'] == known | dict(status='lost')
    assert 'shelter 7/ä' not in find(url, photos[1], status='found', k=100)
    assert HTTP.delete(url + 'reports/shelter%207%2F%C3%A4', headers=KEY).json() == {'removed': 'shelter 7/ä'}
    assert HTTP.get(url + 'reports/shelter 7/ä').status_code == 404 and 'shelter 7/ä' not in find(url, photos[1], k=100)
    for path in folder.glob('catalogue.*'): assert 'shelter 7/ä'.encode() not in path.read_bytes() and b'Minou' not in path.read_bytes(), path


def test_it_is_what_petlost_index_would_have_made(work, folder, tmp_path):
    photos = [p for p in read_photos(work / 'photos').photos if p.report == read_photos(work / 'photos').photos[0].report]
    with Catalogue.open(folder, write=True) as catalogue: vectors = dict(zip(catalogue.vectors()[1], catalogue.vectors()[0])); catalogue.remove(photos[0].report)
    with serving(folder, env=dict(PETLOST_TOKEN=TOKEN)) as (_, url): put(url, photos[0].report, *[p.path.read_bytes() for p in photos])
    with Catalogue.open(folder) as catalogue:
        anew = [vector for vector, (report, _) in zip(*catalogue.vectors()) if report == photos[0].report]
        assert len(anew) == len(photos) and all((a == vectors[p.report, p.name]).all() for a, p in zip(anew, photos))
        assert all(catalogue.thumbnail(photos[0].report, row.name) for row in catalogue.photos(photos[0].report)) and catalogue.hashes()[0].any(axis=1).all()


def test_one_bad_photo_and_nothing_is_stored(url):
    reply = put(url, 'half', new_photo(4), b'no photo', new_photo(5))
    assert reply.status_code == 422 and reply.json() == dict(error='photo 2 of 3: not a picture, or too damaged to read', field='photos')
    assert HTTP.get(url + 'reports/half').status_code == 404
    assert put(url, 'half').json() == dict(error='a new report needs a photo', field='photos')


@pytest.mark.parametrize('facts, field', [
    (dict(id=''), 'id'), (dict(id='../../etc/passwd'), 'id'), (dict(id='/etc'), 'id'), (dict(id='a\0b'), 'id'), (dict(id='a\nb'), 'id'), (dict(id='x' * 201), 'id'), (dict(id='C:\\x'), 'id'), (dict(id=7), 'id'), (dict(id='\ud800'), 'id'),
    (dict(species='dragon'), 'species'), (dict(status='gone'), 'status'), (dict(lat=91, lon=0), 'lat'), (dict(lat=1), 'lon'), (dict(lat='1', lon='2'), 'lat'), (dict(seen_at='soon'), 'seen_at'), (dict(pet='\ud800'), 'pet'),
    (dict(photos='x'), 'photos'), (dict(photos=['?']), 'photos'), (dict(near=[1, 2]), 'near'), ({'\ud800': 1}, '\\ud800')])
def test_facts_that_cannot_be_name_the_field(url, facts, field):
    reply = HTTP.post(url + 'reports', headers=KEY | {'content-type': 'application/json'}, content=json.dumps(dict(id='odd') | facts))
    assert (reply.status_code, reply.json().get('field')) == (400, field), reply.text


def test_answered_means_kept(folder):
    with serving(folder, env=dict(PETLOST_TOKEN=TOKEN)) as (process, url):
        assert put(url, 'kept', new_photo(6)).status_code == 201
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert 'kept' in read_reports(folder)


def test_searches_go_on_while_reports_come(url, photo):
    stop, seen = threading.Event(), []
    def keep_searching():
        while not stop.is_set(): seen.append(HTTP.post(url + 'invocations', content=photo, headers={'content-type': 'image/jpeg'}).status_code)
    threads = [threading.Thread(target=keep_searching) for _ in range(3)]
    for thread in threads: thread.start()
    try:
        with ThreadPoolExecutor(4) as pool: replies = list(pool.map(lambda i: put(url, f'beside-{i}', new_photo(10 + i)), range(8)))
    finally:
        stop.set()
        for thread in threads: thread.join()
    assert [reply.status_code for reply in replies] == [201] * 8 and set(seen) == {200}
    assert all(find(url, new_photo(10 + i))[0] == f'beside-{i}' for i in range(8))


def test_another_writer_means_come_again(served):
    url, folder = served
    with Catalogue.open(folder, write=True):
        for reply in put(url, 'late', new_photo(20)), HTTP.delete(url + 'reports/late', headers=KEY):
            assert (reply.status_code, reply.json()['error'], bool(reply.headers['retry-after'])) == (503, 'another process is writing to this catalogue', True)
    assert put(url, 'late', new_photo(20)).status_code == 201


def test_two_services_over_one_catalogue(folder):
    with serving(folder, env=dict(PETLOST_TOKEN=TOKEN)) as (_, one), serving(folder, env=dict(PETLOST_TOKEN=TOKEN)) as (_, other):
        def insist(i):
            while (reply := put((one, other)[i % 2], f'r{i}', new_photo(30 + i))).status_code == 503: time.sleep(.05)
            return reply.status_code
        with ThreadPoolExecutor(4) as pool: assert list(pool.map(insist, range(8))) == [201] * 8
        assert [find((other, one)[i % 2], new_photo(30 + i))[0] for i in range(8)] == [f'r{i}' for i in range(8)]


def test_a_replica_that_cannot_write_says_so(folder):
    for path in [*folder.rglob('*'), folder]: path.chmod(0o555 if path.is_dir() else 0o444)
    with serving(folder, before=PLAIN, env=dict(PETLOST_TOKEN=TOKEN)) as (_, url):
        for reply in put(url, 'a', new_photo(40)), HTTP.delete(url + 'reports/a', headers=KEY):
            assert (reply.status_code, reply.headers['allow']) == (405, 'GET, HEAD') and 'only reads' in reply.json()['error']
        assert find(url, new_photo(40))
