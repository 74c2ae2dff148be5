"""The engine under load, in a process of its own: more work than it can do, clients that leave, snapshots that come, and ends of every kind."""
import asyncio, json, re, shutil, signal, threading, time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx, pytest
from starlette.testclient import TestClient

from petlost.package import package
from petlost.index import Catalogue
from petlost.photo import open_photo
from petlost.photoset import read_photos
from petlost.sample import sample_catalogue
from petlost.search import Searcher, index_photos
from petlost.serve import create_app
from petlost.service import Service
from test_serve import HTTP, ask, as_json, error, logged, server, wait_ready

JPEG = {'content-type': 'image/jpeg'}


@pytest.fixture(scope='module')
def work(tmp_path_factory):
    work = tmp_path_factory.mktemp('service')
    sample_catalogue(work / 'photos', n_pets=6, photos=2)
    index_photos(read_photos(work / 'photos'), work / 'catalogue')
    return work


@pytest.fixture(scope='module')
def bodies(work): return [p.path.read_bytes() for p in read_photos(work / 'photos').photos]


def number(url, name):
    "One number of /metrics; 0 while it is not there yet."
    found = re.search(rf'^{re.escape(name)} (\S+)$', HTTP.get(url + 'metrics').text, re.M)
    return float(found[1]) if found else 0.


def resident(pid): return int(re.search(r'VmRSS:\s+(\d+)', Path(f'/proc/{pid}/status').read_text())[1]) / 1024  # MB


class Load:
    "Clients that ask again and again, each on connections of its own; `replies` and `errors` grow until the block ends."
    def __init__(self, clients, ask): self.clients, self.ask, self.replies, self.errors, self.stop = clients, ask, [], [], threading.Event()

    def one(self):
        with httpx.Client(timeout=60) as http:
            while not self.stop.is_set():
                try: self.replies.append(self.ask(http))
                except httpx.TransportError as e: self.errors.append(e)
                if self.errors or self.replies[-1].status_code == 503: time.sleep(.05)

    def __enter__(self):
        self.threads = [threading.Thread(target=self.one) for _ in range(self.clients)]
        for thread in self.threads: thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads: thread.join()

    def wait_for(self, count, seconds=20):
        "Until there are that many replies more."
        end, count = time.monotonic() + seconds, len(self.replies) + count
        while len(self.replies) < count and time.monotonic() < end: time.sleep(.02)


def test_together_the_answers_are_those_of_the_searcher(work, bodies):
    queries = [bodies[i:i + 1 + i % 3] for i in range(4)]
    with Searcher(work / 'catalogue') as searcher: alone = [searcher.search([open_photo(data) for data in query], 5) for query in queries]
    with server(work / 'catalogue', limit=60) as (_, url):
        wait_ready(url)
        with ThreadPoolExecutor(8) as pool: together = list(pool.map(lambda i: ask(url, as_json(*queries[i % 4], k=5), 'application/json').json(), range(8)))
        assert together == json.loads(json.dumps(alone)) * 2
        assert number(url, 'petlost_search_photos_sum') == 2 * sum(map(len, queries))


def test_ten_times_too_much(work, bodies, pytestconfig):
    seconds, body = pytestconfig.getoption('overload'), bodies[0] + bytes(2**20)
    with server(work / 'catalogue', workers=2, queue=2) as (process, url):
        wait_ready(url)
        right = ask(url, bodies[0], k=3).json()
        with Load(40, lambda http: http.post(url + 'invocations', content=body, headers=JPEG, params=dict(k=3))) as load:
            time.sleep(seconds / 3)
            before = resident(process.pid)
            time.sleep(seconds * 2 / 3)
            after = resident(process.pid)
        statuses = Counter(reply.status_code for reply in load.replies)
        assert set(statuses) == {200, 503} and statuses[200] >= 4, (statuses, load.errors[:3])
        assert all(reply.json() == right for reply in load.replies if reply.status_code == 200)
        assert all(1 <= int(reply.headers['retry-after']) <= 60 for reply in load.replies if reply.status_code == 503)
        assert after < before + 60, f'{before:.0f} MB, then {after:.0f}'
        assert process.poll() is None and ask(url, bodies[0], k=3).json() == right
        assert (number(url, 'petlost_room'), number(url, 'petlost_photos_waiting')) == (4, 0)


def test_what_is_late_never_reaches_the_networks(work, bodies):
    with server(work / 'catalogue', workers=1, limit=1.5) as (_, url):
        wait_ready(url)
        with ThreadPoolExecutor(20) as pool: replies = list(pool.map(lambda _: ask(url, bodies[0]), range(20)))
        late = [reply for reply in replies if reply.status_code == 503]
        assert late and {reply.status_code for reply in replies} <= {200, 503}
        assert {error(reply) for reply in late} == {'this cannot be answered within 1.5 s; there is too much to do'} and all(reply.headers['retry-after'] for reply in late)
        assert number(url, 'petlost_dropped_total{why="late"}') == len(late)
        assert number(url, 'petlost_stage_seconds_count{stage="embed"}') < 20 - len(late) + 2


def test_clients_that_leave_cost_nothing(work, bodies):
    with server(work / 'catalogue', workers=1) as (_, url):
        wait_ready(url)
        def leave(_):
            try: httpx.post(url + 'invocations', content=bodies[0], headers=JPEG, timeout=.1)
            except httpx.TimeoutException: pass
        with ThreadPoolExecutor(10) as pool: list(pool.map(leave, range(10)))
        assert ask(url, bodies[0]).status_code == 200
        gone = number(url, 'petlost_dropped_total{why="gone"}')
        assert gone >= 8 and number(url, 'petlost_requests_total{route="/invocations",status="499"}') == gone
        assert number(url, 'petlost_stage_seconds_count{stage="search"}') <= 11 - gone


def test_sigterm_under_load_answers_what_it_has_let_in(work, bodies):
    with server(work / 'catalogue', queue=8) as (process, url):
        wait_ready(url)
        with Load(6, lambda http: http.post(url + 'invocations', content=bodies[0], headers=JPEG)) as load:
            load.wait_for(3)
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=40) == 0
        lines = [line for line in logged(process) if line['method'] == 'POST']
    statuses = Counter(reply.status_code for reply in load.replies)
    assert Counter(line['status'] for line in lines) == statuses and set(statuses) <= {200, 503}, 'somebody who was let in got no answer'
    assert {error(reply) for reply in load.replies if reply.status_code == 503} <= {'the service is shutting down'}


def test_killed_and_started_again(work, bodies, tmp_path):
    shutil.copytree(work / 'catalogue', tmp_path / 'catalogue')
    a, b = list(read_photos(work / 'photos').reports)[:2]
    kept, answers = [], []
    for _ in range(2):
        with server(tmp_path / 'catalogue') as (process, url):
            wait_ready(url)
            answers.append(ask(url, bodies[0]).json())
            def verdict(http):
                reply = http.post(url + 'verdicts', json=dict(report=a, other=b, said='same', reviewer=f'{len(kept)}-{threading.get_ident()}'))
                if reply.status_code == 200: kept.append(reply.json()['kept'])
                return reply
            with Load(2, verdict) as verdicts, Load(4, lambda http: http.post(url + 'invocations', content=bodies[0], headers=JPEG)):
                verdicts.wait_for(5)
                process.kill()
                process.wait(timeout=20)
                verdicts.stop.set()
    assert answers[0] == answers[1] and kept
    with Catalogue.open(tmp_path / 'catalogue', write=True) as catalogue: assert len(catalogue.verdicts()) >= len(kept)


@pytest.fixture(scope='module')
def days(work):
    "Catalogues of the same photos whose reports are called after their day."
    for day in ('monday', 'tuesday', 'wednesday'):
        for photo in read_photos(work / 'photos').photos[:8]:
            target = work / day / f'{day}-{photo.report}' / photo.path.name
            target.parent.mkdir(parents=True)
            shutil.copy(photo.path, target)
        index_photos(read_photos(work / day), work / f'{day}.catalogue', model='colour-histogram')
    return work


def leave_snapshot(work, day, to):
    with Catalogue.open(work / f'{day}.catalogue') as catalogue: catalogue.snapshot(to / day)


def test_snapshots_come_under_load_and_nobody_notices(days, bodies, tmp_path):
    snapshots = tmp_path / 'snapshots'
    snapshots.mkdir(); leave_snapshot(days, 'monday', snapshots)
    with server(days / 'monday.catalogue', follow=str(snapshots), every=.2) as (process, url):
        wait_ready(url)
        def json_and_page(http):
            if len(load.replies) % 3: return http.post(url + 'invocations', content=bodies[0], headers=JPEG, params=dict(k=8))
            return http.post(url, files={'photo': ('x.jpg', bodies[0], 'image/jpeg')}, follow_redirects=True)
        with Load(4, json_and_page) as load:
            for day in ('tuesday', 'wednesday'):
                load.wait_for(20)
                leave_snapshot(days, day, snapshots)
                while number(url, f'petlost_catalogue_info{{catalogue="{day}",model="colour-histogram",model_id="{Catalogue.open(days / "monday.catalogue").model["id"]}"}}') != 1: time.sleep(.05)
                load.wait_for(20)
                shutil.rmtree(snapshots / ('monday' if day == 'tuesday' else 'tuesday'))
        assert not load.errors and {reply.status_code for reply in load.replies} == {200}
        seen = [set(re.findall('(monday|tuesday|wednesday)-', reply.text)) for reply in load.replies]
        assert all(len(days) == 1 for days in seen), 'a mixture of two snapshots'
        assert set.union(*seen) == {'monday', 'tuesday', 'wednesday'}
        taken = [line['snapshot'].rsplit('/', 1)[-1] for line in logged(process) if line['event'] == 'snapshot taken']
        assert taken[-2:] == ['tuesday', 'wednesday']
        refused = HTTP.post(url + 'verdicts', json=dict(report='a', other='b', said='same'))
        assert refused.status_code == 503 and 'replica' in error(refused)


def test_archives_come_from_a_bucket(days, bodies, tmp_path, monkeypatch):
    import boto3
    from moto import mock_aws
    monkeypatch.setenv('TMPDIR', str(tmp_path))
    with mock_aws():
        s3 = boto3.client('s3', region_name='us-east-1')
        s3.create_bucket(Bucket='pets')
        with TestClient(create_app(days / 'monday.catalogue', follow='s3://pets/models/', every=.1)) as client:
            def top(): return client.post('/invocations', content=bodies[0], headers=JPEG).json()[0]['report'].partition('-')[0]
            while client.get('/ping').status_code == 503: time.sleep(.05)
            assert top() == 'monday'
            s3.put_object(Bucket='pets', Key='models/0.tar.gz', Body=b'damaged')
            time.sleep(1)  # S3 tells times to the second
            s3.upload_file(str(package(None, tmp_path / 'm.tar.gz', days / 'tuesday.catalogue')), 'pets', 'models/1.tar.gz')
            end = time.monotonic() + 20
            while top() != 'tuesday' and time.monotonic() < end: time.sleep(.05)
            assert top() == 'tuesday'


def test_a_folder_to_follow_must_be_there(days, tmp_path):
    with pytest.raises(ValueError, match='nowhere'): create_app(days / 'monday.catalogue', follow=tmp_path / 'nowhere')
    with pytest.raises(ValueError, match='s3://bucket/prefix/'): create_app(days / 'monday.catalogue', follow='http://pets')


def test_searches_that_were_given_up_hold_no_photos(days, bodies):
    async def many():
        service = Service(days / 'monday.catalogue', workers=1, queue=1000)
        service.load()
        blocked = threading.Event()
        service.cores.submit(blocked.wait)
        async def gone(): return True
        before = resident('self')
        for _ in range(100): await asyncio.gather(service.search([bodies[0] + bytes(2**21)], {}, gone=gone), return_exceptions=True)
        after = resident('self')
        blocked.set(); service.close()
        return before, after
    before, after = asyncio.run(many())
    assert after < before + 100, f'{before:.0f} MB, then {after:.0f}'  # of 200 that came
