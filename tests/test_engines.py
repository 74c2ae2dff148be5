"""One suite for every engine: a catalogue in a folder, exact and in two stages, and one in a real Milvus server, which is killed as well."""
import itertools, json, random, signal, subprocess, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from starlette.testclient import TestClient

from petlost.calibrate import Calibration
from petlost.facts import SPECIES, STATUSES, Report, haversine_km, parse_tags
from petlost.index import Catalogue, CatalogueError, PhotoRow
from petlost.milvus import MilvusCatalogue
from petlost.cli import app
from petlost.milvus_rows import MILVUS_FORMAT
from petlost.photo import open_photo
from petlost.search import Searcher
from petlost.serve import create_app
from petlost.terminal import outcome

sys.path.insert(0, str(Path(__file__).parent))
import milvus_server
from catalogue_model import AnyCatalogue, brute
from catalogue_rows import MODEL, Low, mask, photo, vector
from running import petlost, said

NAMES = (f'c{i}' for i in itertools.count())
CURVED = MODEL | dict(calibration=Calibration(12, -3, -4, .1, .3).to_dict())

@pytest.fixture(scope='session')
def milvus(tmp_path_factory):
    "A real server, or a word why there is none."
    if not milvus_server.HOME.joinpath('ready').exists(): pytest.skip(milvus_server.WHY_NOT)
    server = milvus_server.MilvusServer(tmp_path_factory.mktemp('milvus') / 'server').start().wait()
    yield server
    server.stop()

@pytest.fixture(params=['folder', 'two stages', 'Milvus'])
def engine(request, tmp_path):
    "The class of the catalogue, and a new place for one."
    if request.param == 'Milvus': return MilvusCatalogue, request.getfixturevalue('milvus').address(next(NAMES))
    return (Low if request.param == 'two stages' else Catalogue), tmp_path / 'c'

# --- the suite

def facts(i):
    "Facts of the report r{i}: every mixture of what is known and what is not, some of it beside the date line and the pole."
    rng = random.Random(i)
    place = rng.choice([None, (41.9 + rng.gauss(0, .2), 12.5 + rng.gauss(0, .2)), (-17 + rng.gauss(0, .1), 180 - rng.random()), (-17, -180 + rng.random()), (89.9, rng.uniform(-180, 180))])
    seen = rng.choice([None, '2026-01-01', f'2026-02-{rng.randint(1, 28):02d}T12:00:00', '1999-12-31T23:59:59'])
    return Report(f'r{i}', rng.choice([None, *SPECIES]), rng.choice([None, *STATUSES]), *(place or (None, None)), seen, rng.choice([None, 'a pet']), rng.choice([None, ('black',), ('black', "it's \\ \"odd\" 猫"), ('red collar',)]))

ROWS = {(f'r{random.Random(-i).randrange(60)}', str(i)): None for i in range(1, 160)}
FILTERS = [dict(), dict(species='dog'), dict(status='found', species='cat'), dict(near=(41.9, 12.5), within_km=20), dict(near=(-17, 179.9), within_km=60),
           dict(near=(90, 0), within_km=30), dict(near=(41.9, 12.5), within_km=20_040), dict(since='2026-02-10'), dict(until='2026-01-01'),
           dict(tags='black'), dict(tags=['Black', "it's \\ \"odd\" 猫"], status='found'), dict(tags='black; red collar'), dict(since='1999-12-31', until='2026-02-14', status='lost'), dict(near=(41.9, 12.5), within_km=0), dict(near=(0, 0), within_km=1)]

def passes(report, species=None, status=None, near=None, within_km=None, since=None, until=None, tags=None):
    "The same, the plain way."
    seen = np.datetime64(report.seen_at.rstrip('Z')) if report.seen_at else None
    return all([set(parse_tags(tags) or ()) <= set(report.tags or ()), species in (None, report.species), status in (None, report.status),
                within_km is None or report.lat is not None and haversine_km(*near, report.lat, report.lon) <= within_km,
                since is None or seen is not None and seen >= np.datetime64(since), until is None or seen is not None and seen < np.datetime64(until) + np.timedelta64(1, 'D')])

@pytest.fixture
def filled(engine):
    "A catalogue of 60 reports and 159 photos."
    kind, where = engine
    with kind.create(where, CURVED) as cat:
        assert cat.add([facts(i) for i in range(60)], [photo(*row) for row in ROWS]) == len(ROWS)
        yield cat

def test_every_filter_and_hit_and_refusal(filled):
    reports, rng = filled.reports(), np.random.default_rng(0)
    assert list(reports) == [f'r{i}' for i in range(60)] and filled.keys() == set(ROWS)
    for filters in FILTERS:
        keep = lambda report: passes(reports[report], **filters)
        for queries, k in ((rng.standard_normal((1, 16)), 7), (rng.standard_normal((3, 16)), 60)):
            hits = filled.search(queries, k, **filters)
            assert [hit.report for hit in hits] == brute(ROWS, queries, k, keep), filters
        assert filled.count(**filters) == dict(reports=sum(map(keep, reports)), photos=sum(keep(report) for report, _ in ROWS)), filters

    hits_say_everything(filled)
    bad_input_changes_nothing(filled)

def hits_say_everything(filled):
    for queries in (vector(7), np.stack([vector(7), vector(8)])):
        hits = filled.search(queries, 12, near=(41.9, 12.5), exclude_reports=['r3', 'nobody'])
        for hit in hits:
            report, own = filled.report(hit.report), sorted((key for owner, key in ROWS if owner == hit.report), key=lambda key: -(np.atleast_2d(queries) @ vector(key) / np.linalg.norm(vector(key)) / np.linalg.norm(np.atleast_2d(queries), axis=1)).max())
            assert (hit.species, hit.status, hit.lat, hit.lon, hit.seen_at, hit.tags) == (report.species, report.status, report.lat, report.lon, report.seen_at, report.tags or ())
            assert hit.photos == [f'{key}.jpg' for key in own[:5]] and hit.photo == hit.photos[0] and hit.evidence is None
            assert hit.distance_km == (None if report.lat is None else pytest.approx(haversine_km(41.9, 12.5, report.lat, report.lon)))
            assert hit.likely == (hit.probability > .3) and -1 <= hit.score <= 1 and hit.report != 'r3'
    assert filled.search(vector(7), 1)[0].score == pytest.approx(1, abs=1e-3)
    alone = [filled.search(vector(i), 5) for i in range(16)]
    with ThreadPoolExecutor(4) as pool: assert list(pool.map(lambda i: filled.search(vector(i), 5), range(16))) == alone, 'threads share it'

def bad_input_changes_nothing(filled):
    before = filled.keys(), filled.reports()
    def adding(vector, report='new', **kw): return lambda: filled.add([Report('new', **kw)], [PhotoRow(report, 'n.jpg', 'n', vector)])
    for step, words in [(adding(np.full(16, np.nan)), 'NaN'), (adding(np.zeros(16)), 'all zeros'), (adding(np.ones(3)), 'length 16'), (adding(None), 'photo n.jpg'),
                        (adding(np.ones(16), 'nobody'), 'nobody'), (adding(np.ones(16), species='unicorn'), 'report new: unknown species'), (adding(np.ones(16), lat=91., lon=0.), 'no such place'), (adding(np.ones(16), tags='x' * 41), 'report new: not a tag'),
                        (lambda: filled.search(np.full(16, np.nan)), 'NaN'), (lambda: filled.search(np.zeros(16)), 'all zeros'), (lambda: filled.search(np.ones((2, 17))), 'length 16'),
                        (lambda: filled.search(np.ones(16), 0), 'k is 0'), (lambda: filled.search(np.ones(16), species='unicorn'), 'unknown species'),
                        (lambda: filled.search(np.ones(16), within_km=3), 'of what'), (lambda: filled.search(np.ones(16), since='2026-02-02', until='2026-01-01'), 'empty'),
                        (lambda: filled.search({'x': np.ones(16)}), 'no photo here'), (lambda: filled.thumbnail('r1', 'no.jpg'), "no photo 'no.jpg'"), (lambda: filled.check_model('x'), 'made with model random')]:
        with pytest.raises(ValueError, match=words) as e: step()
        assert '\n' not in str(e.value)
    assert (filled.keys(), filled.reports()) == before

def test_engines_agree_to_the_last_digits(milvus, tmp_path):
    with Catalogue.create(tmp_path / 'c', CURVED) as folder, MilvusCatalogue.create(milvus.address(next(NAMES)), CURVED) as far:
        for cat in (folder, far): cat.add([facts(i) for i in range(60)], [photo(*row) for row in ROWS])
        assert far.reports() == folder.reports() and np.allclose(far.vectors()[0], folder.vectors()[0], atol=1e-7) and far.vectors()[1] == folder.vectors()[1]
        for seed, k in ((0, 1), (1, 5), (2, 40)):
            queries = np.random.default_rng(seed).standard_normal((1 + seed, 16))
            ours, theirs = far.search(queries, k), folder.search(queries, k)
            assert [(hit.report, hit.photos) for hit in ours] == [(hit.report, hit.photos) for hit in theirs]
            np.testing.assert_allclose([(hit.score, hit.probability) for hit in ours], [(hit.score, hit.probability) for hit in theirs], atol=1e-5)

def test_changes_are_seen_at_once(filled):
    query = vector(7)
    report = filled.search(query, 1)[0].report
    filled.update([Report(report, 'bird', 'lost', 1., 1., '2020-01-01')])
    assert filled.search(query, 1, species='bird', near=(1, 1), within_km=1, until='2020-01-01')[0].report == report
    with pytest.raises(CatalogueError, match="no report 'nobody'"): filled.update([Report(report, 'cat'), Report('nobody')])
    assert filled.report(report).species == 'bird'
    assert filled.remove(report) and not filled.remove(report)
    assert report not in [hit.report for hit in filled.search(query, 60)] and not any(owner == report for owner, _ in filled.keys())
    with pytest.raises(CatalogueError, match='no report'): filled.report(report)
    filled.compact()
    assert filled.count()['reports'] == 59 and [hit.report for hit in filled.search(query, 5)] == brute([row for row in ROWS if row[0] != report], query[None], 5)

def looks(*bits):
    "A perceptual hash with these bits turned."
    return (int.from_bytes(b'\x5a' * 32) ^ sum(1 << bit for bit in bits)).to_bytes(32)

def test_the_same_photo_again(engine):
    kind, where = engine
    def shows(report, name, key, hash=b''): return PhotoRow(report, name, str(key), vector(key), b'jpeg %d' % key, ('dark',), hash, mask(key), 's1')
    with kind.create(where, MODEL) as cat:
        assert cat.add([Report('a'), Report('b')], [shows('a', '1.jpg', 1, looks()), shows('a', '2.jpg', 2, looks(*range(9))), shows('b', '1.jpg', 1, looks())]) == 2
        assert cat.repeats() == [('a', '2.jpg', '1.jpg')] and cat.keys() == {('a', '1'), ('a', '2'), ('b', '1')}
        assert cat.count() == dict(reports=2, photos=2) and len(cat.search(vector(2), 5)) == 2 and cat.search(vector(2), 1)[0].score < .99
        assert cat.add([], [shows('a', 'other.jpg', 1, looks()), shows('a', '2.jpg', 2, looks())]) == 0
        assert cat.add([], [shows('a', '1.jpg', 3, bytes(32))]) == 1, 'other bytes of that name take its place'
        assert cat.keys() == {('a', '3'), ('b', '1')} and not cat.repeats() and cat.thumbnail('a', '1.jpg') == b'jpeg 3'
        hashes, names = cat.hashes()
        assert names == [('b', '1.jpg'), ('a', '1.jpg')] and [bytes(h) for h in hashes] == [looks(), bytes(32)]
        assert [(one.name, one.key, one.flags) for one in cat.photos('a')] == [('1.jpg', '3', ('dark',))]
        assert (cat.mask('1', 's1'), cat.mask('1', 's2'), cat.mask('2', 's1')) == (mask(1), None, None)
        cat.remove('b')
        assert cat.mask('1', 's1') is None and cat.mask('3', 's1') == mask(3)

ODD = ['"', "'", '\\', '\\"; drop', 'a\nb\tc', '🐈 кот 猫', '%_*', ' ', 'x' * 900, '{"a": 1}', '\x01', '../..', 'id in ["a"]']

def test_odd_names_are_only_names(engine):
    kind, where = engine
    with kind.create(where, MODEL) as cat:
        cat.add([Report(name, 'dog') for name in ODD], [PhotoRow(name, f'{name}.jpg', name, vector(i), b'jpeg', mask=b'm', segmenter=name) for i, name in enumerate(ODD)])
        assert list(cat.reports()) == ODD and cat.keys() == {(name, name) for name in ODD}
        for i, name in enumerate(ODD):
            hit = cat.search(vector(i), 1, species='dog')[0]
            assert (hit.report, hit.photo, cat.thumbnail(name, f'{name}.jpg'), cat.mask(name, name), cat.report(name).id) == (name, f'{name}.jpg', b'jpeg', b'm', name)
            assert cat.search(vector(i), 1, exclude_reports=[name])[0].report != name
        for name in ODD: assert cat.remove(name)
        assert cat.count() == dict(reports=0, photos=0) and cat.search(vector(1)) == [] and cat.made_by() == []

def test_a_snapshot_is_a_folder_with_everything(filled, tmp_path):
    filled.add([], [PhotoRow('r1', f'{name}.jpg', name, vector(key), b'jpeg', ('dark',), looks(key), b'm', 's1') for key, name in ((1, 'first'), (2, 'second'))])
    filled.snapshot(tmp_path / 'copy')
    with Catalogue.open(tmp_path / 'copy', write=True) as copy:
        assert (copy.reports(), copy.keys(), copy.repeats(), copy.model, copy.mask('7', 's1')) == (filled.reports(), filled.keys(), filled.repeats(), filled.model, mask(7))
        assert np.array_equal(copy.vectors()[0], filled.vectors()[0].astype(np.float16).astype(np.float32)) or np.allclose(copy.vectors()[0], filled.vectors()[0], atol=1e-6)
        assert copy.vectors()[1] == filled.vectors()[1] and np.array_equal(copy.hashes()[0], filled.hashes()[0])
        for row in copy.photos('r1'): assert copy.thumbnail('r1', row.name) == filled.thumbnail('r1', row.name) and row in filled.photos('r1')
        assert copy.add([], [photo('r1', 10**6)]) == 1
    with pytest.raises(CatalogueError, match='is there already'): filled.snapshot(tmp_path / 'copy')

def test_a_reader_cannot_write(engine):
    kind, where = engine
    kind.create(where, MODEL).close()
    with pytest.raises(CatalogueError, match='already'): kind.create(where, MODEL)
    with kind.open(where) as cat:
        for step in (lambda: cat.add([Report('r')], []), lambda: cat.remove('r'), lambda: cat.compact()):
            with pytest.raises(CatalogueError, match='opened for reading only'): step()
        assert cat.generations() == [(MODEL, 0)] and cat.describe()['photos'] == 0
    with pytest.raises(CatalogueError, match='is closed'): cat.count()

# --- what only Milvus does

class AgainstMilvus(AnyCatalogue):
    "The machine of tests/test_index.py over a real server."
    kind = MilvusCatalogue
    def place(self): return self.server.address(next(NAMES))
    def masks(self): return {key: self.cat.mask(key, 's1') for _, key in self.cat.keys()}

def test_milvus_against_two_dicts(milvus):
    AgainstMilvus.server = milvus
    AgainstMilvus.TestCase.settings = settings(max_examples=2, stateful_step_count=15, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    AgainstMilvus.TestCase().runTest()

def test_nothing_acknowledged_is_missed_by_others(milvus):
    "The writer waits, so that searches on another connection need not."
    where = milvus.address(next(NAMES))
    with MilvusCatalogue.create(where, MODEL) as writer, MilvusCatalogue.open(where) as reader:
        missed = 0
        for i in range(10):
            writer.add([Report(f'r{i}')], [photo(f'r{i}', i)])
            missed += [hit.report for hit in reader.search(vector(i), 1)] != [f'r{i}']
            writer.remove(f'r{i}')
            missed += any(hit.report == f'r{i}' for hit in reader.search(vector(i), 5)) or bool(reader.keys())
        assert not missed

def test_an_index_in_place_of_comparing_everything(milvus):
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((3000, 16))
    with MilvusCatalogue.create(milvus.address(next(NAMES)), MODEL) as cat:
        cat.add([Report(f'r{i}', SPECIES[i % 5]) for i in range(1500)], [PhotoRow(f'r{i // 2}', f'{i}.jpg', str(i), vectors[i]) for i in range(3000)])
        queries = vectors[:100] + .3 * rng.standard_normal((100, 16))
        exact = [[hit.report for hit in cat.search(query, 10)] for query in queries]
        cat.exact_bytes = 100_000
        cat.compact()
        assert 'IVF_SQ8' in cat.describe()['search']
        found = [cat.search(query, 10) for query in queries]
        assert np.mean([hit.report in true for hits, true in zip(found, exact) for hit in hits]) > .95
        assert found[0][0].score == pytest.approx(float(queries[0] @ vectors[0] / np.linalg.norm(queries[0]) / np.linalg.norm(vectors[0])), abs=1e-3), 'ranked by full vectors'
        cat.add([Report('late')], [photo('late', 9)])
        assert cat.search(vector(9), 1)[0].report == 'late' and all(SPECIES.index(hit.species) == 1 for hit in cat.search(queries[0], 50, species='cat'))

def test_a_server_killed_between_acknowledged_writes_has_all_of_them(milvus):
    where, rng, confirmed = milvus.address(next(NAMES)), random.Random(0), []
    with MilvusCatalogue.create(where, MODEL) as cat, MilvusCatalogue.open(where) as reader:
        def write():
            while not ended.is_set():
                i = len(confirmed)
                cat.add([Report(f'r{i}', 'dog')], [photo(f'r{i}', 2 * i), photo(f'r{i}', 2 * i + 1)])
                if i % 5 == 4: cat.remove(f'r{i - 2}')
                confirmed.append(i)
        ended, writer = threading.Event(), threading.Thread(target=write)
        writer.start()
        for _ in range(2):
            before = len(confirmed)
            while len(confirmed) < before + 4 and writer.is_alive(): time.sleep(.05)
            time.sleep(rng.random() * .3)
            milvus.kill()
            killed, reader.patience = time.monotonic(), .5
            with pytest.raises(CatalogueError, match='cannot search: .*unavailable'): reader.search(vector(0))
            milvus.start()
            reader.patience = 60
            assert reader.search(vector(0), 1)[0].report == 'r0', 'a search waits for the server'
            print(f'searchable {time.monotonic() - killed:.0f} s after it was killed')
        ended.set()
        writer.join(120)
        assert not writer.is_alive() and len(confirmed) > 8
        state = {(f'r{i}', str(key)) for i in confirmed if not (i % 5 == 2 and i + 2 in confirmed) for key in (2 * i, 2 * i + 1)}
        assert cat.keys() == reader.keys() == state
        assert [hit.report for hit in reader.search(vector(1), 500)] == brute(state, vector(1)[None], 500)

WRITER = '''
import sys
sys.path.insert(0, sys.argv[1])
from catalogue_rows import *
from petlost.milvus import MilvusCatalogue
cat = MilvusCatalogue.open(sys.argv[2], write=True)
for i in range(1000):
    print(i, flush=True)
    cat.add([Report(f'r{i}', 'dog')], [photo(f'r{i}', 300 * i + j) for j in range(250)])
'''

def test_a_killed_writer_leaves_what_the_next_one_finishes(milvus):
    where = milvus.address(next(NAMES))
    MilvusCatalogue.create(where, MODEL).close()
    writer = subprocess.Popen([sys.executable, '-c', WRITER, Path(__file__).parent, where], stdout=subprocess.PIPE, text=True)
    lines = [writer.stdout.readline() for _ in range(3)]
    time.sleep(.1)
    writer.send_signal(signal.SIGKILL)
    last = int((lines + writer.stdout.read().splitlines())[-1])
    writer.wait()
    state = {(f'r{i}', str(300 * i + j)) for i in range(last + 1) for j in range(250)}
    with MilvusCatalogue.open(where, write=True) as cat:
        there = cat.keys()
        assert {row for row in state if row[0] != f'r{last}'} <= there <= state and {report for report, _ in there} <= set(cat.reports())
        cat.add([Report(f'r{last}', 'cat')], [photo(f'r{last}', 300 * last + j) for j in range(250)])
        assert cat.keys() == state and cat.count(species='cat') == dict(reports=1, photos=250)

def test_not_a_catalogue_of_ours(milvus, tmp_path):
    from pymilvus import MilvusClient
    client = MilvusClient(f'http://127.0.0.1:{milvus.port}')
    newer = json.dumps(dict(petlost=MILVUS_FORMAT + 1, model=MODEL))
    for name, description, words in [('shop', 'our products', 'not made by petlost'), ('newer', newer, 'made by a newer petlost')]:
        schema = client.create_schema(auto_id=True, description=description)
        from pymilvus import DataType
        schema.add_field('id', DataType.INT64, is_primary=True)
        schema.add_field('vector', DataType.FLOAT_VECTOR, dim=4)
        client.create_collection(name, schema=schema)
        with pytest.raises(CatalogueError, match=words): MilvusCatalogue.open(milvus.address(name))
        with pytest.raises(CatalogueError, match='there already'): MilvusCatalogue.create(milvus.address(name), MODEL)
    client.close()
    with pytest.raises(CatalogueError, match='no such catalogue'): MilvusCatalogue.open(milvus.address('nothing'))

def test_no_server_is_one_line_and_soon(tmp_path):
    port, = milvus_server.free_ports(1)
    where, start = f'milvus://127.0.0.1:{port}/pets', time.monotonic()
    (tmp_path / 'p.jpg').write_bytes(picture())
    done = petlost('search', tmp_path / 'p.jpg', '--in', where)
    assert done.returncode == 1 and len(said(done)) == 1 and f'nothing answers at 127.0.0.1:{port}' in said(done)[0], done.stderr
    for args in (['index', tmp_path, '--to'], ['index', '--info', '--to'], ['serve', '--in']):
        code, out, err = outcome(app, *args, where)
        assert (code, out, err.count('\n')) == (1, '', 1) and f'nothing answers at 127.0.0.1:{port}' in err
    assert time.monotonic() - start < 60

def picture():
    "A small JPEG."
    import io
    from PIL import Image
    data = io.BytesIO()
    Image.new('RGB', (64, 64), (90, 120, 80)).save(data, 'JPEG')
    return data.getvalue()

def test_without_the_client_it_names_the_extra(milvus):
    code = f"import sys; sys.modules['pymilvus'] = None\nfrom petlost.cli import main\nmain(['index', '--info', '--to', {milvus.address('pets')!r}])"
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and "petlost[milvus]" in done.stderr, done.stderr

# --- as a user runs it

def test_index_search_and_serve_as_in_a_folder(milvus, drawn, tmp_path):
    places, query = (tmp_path / 'c', milvus.address('drawn')), sorted(drawn.parent.glob('*/*.jpg'))[0]
    for where, *known in ((places[0],), (places[1], '--masks-from', places[0])):
        done = petlost('index', drawn, '--to', where, *known)
        assert done.stdout == f'16 photos added{" (16 with a mask that was known)" if known else ""}, 0 were there already, 0 skipped: {where}\n', done.stderr
    def run(command, *args): return outcome(app, command, *args)
    def search(where, *options): return json.loads(run('search', query, '--in', where, '--json', *options)[1])
    assert run('index', drawn, '--to', places[1])[1].startswith('0 photos added, 16 were there already')
    first, = search(places[1], '-k', 1)
    assert first['report'] == query.parent.name
    near = '--near', f'{first["lat"]},{first["lon"]}'
    for options in ([], ['-k', 3, '--species', first['species']], [*near, '--within', '30km', '--since', first['seen_at'][:10]]): same_hits(*(search(where, *options) for where in places))
    for options, words in (['--weigh', *near], 'does not weigh'), (['--model', 'lite0'], 'another model'):
        code, out, err = run('search', query, '--in', places[1], *options)
        assert (code, out, err.count('\n')) == (1, '', 1) and words in err
    assert 'made with model petlost' in run('index', drawn, '--to', places[1], '--model', 'lite0')[2]
    assert run('index', drawn, '--to', places[1], '--model', 'lite0', '--reembed')[0] == 1
    info = run('index', '--info', '--to', places[1])[1]
    assert 'photos: 16' in info and 'Milvus, exact' in info
    assert run('search', query, '--in', places[1], '--html', tmp_path / 'r.html')[0] == 0 and 'data:image/jpeg' in (tmp_path / 'r.html').read_text()
    answers = []
    for where in places:
        with TestClient(create_app(where)) as client:
            while client.get('/ping').status_code != 200: time.sleep(.1)
            answers.append(client.post('/invocations?k=5', content=query.read_bytes(), headers={'content-type': 'image/jpeg'}).json())
            page = client.post('/', files=dict(photo=query.read_bytes())).text
            assert page.lower().count('<!doctype') == 1 and all(hit['report'] in page for hit in answers[-1]), 'the page lists them too'
    same_hits(*answers)

def test_a_folder_copied_from_milvus_is_searched_like_any(milvus, drawn, tmp_path):
    query = sorted(drawn.parent.glob('*/*.jpg'))[0]
    with Searcher(milvus.address('drawn')) as far:
        far.catalogue.snapshot(tmp_path / 'copy', far.model)
        hits = far.search([open_photo(query)])
    with Searcher(tmp_path / 'copy') as near: same_hits(near.search([open_photo(query)]), hits)

def same_hits(ours, theirs):
    "Equal, but for the last digits of scores."
    rest = [[{k: v for k, v in hit.items() if k not in ('score', 'probability', 'distance_km')} for hit in hits] for hits in (ours, theirs)]
    assert rest[0] == rest[1] and ours
    for name in ('score', 'probability', 'distance_km'): assert [hit[name] for hit in ours] == pytest.approx([hit[name] for hit in theirs], abs=1e-4)
