"Kept searches, replayed between real services: what is kept of people, what holds a release, and what is left behind."
import hashlib, json, shutil, tarfile

import psutil, pytest
from PIL import Image

from petlost.package import package
from petlost.index import Catalogue
from petlost.photoset import read_photos
from petlost.replay import ReplayLimits, archive_sha256, forget_queries, keep_query, kept_queries, replay, served
from petlost.sample import sample_catalogue
from petlost.search import index_photos
from running import petlost

PATIENT = ReplayLimits(slower=50, slowest=50, cpu=50)  # the machine may be busy: what is judged here is what is found
WHO = 'Ada Example agreed on 2026-03-01 to keep this search'


def catalogue_of(folder, photos, model='colour-histogram'):
    index_photos(read_photos(photos), folder, model)
    return folder


@pytest.fixture(scope='module')
def work(tmp_path_factory):
    "A catalogue with 24 kept searches; the same packed; and one in which every photo lies in another pet's report."
    work = tmp_path_factory.mktemp('replay')
    photos = read_photos(sample_catalogue(work / 'photos', n_pets=6, photos=4))
    catalogue_of(work / 'c', work / 'photos')
    for photo in photos.photos: keep_query(work / 'c', photo.path, photo.report, WHO, dict(species=photos.reports[photo.report].species))
    shutil.copytree(work / 'photos', work / 'mixed')
    files = sorted((work / 'mixed').rglob('*.jpg'))
    bytes_of = [file.read_bytes() for file in files]
    for file, data in zip(files, bytes_of[6:] + bytes_of[:6]): file.write_bytes(data)
    catalogue_of(work / 'wrong', work / 'mixed')
    for name in ('c', 'wrong'): package(None, work / f'{name}.tar.gz', work / name)
    return work


def failed(report): return [check['name'] for check in report['checks'] if not check['passed']]


def test_the_same_archive_is_promoted(work, tmp_path):
    report = replay(work / 'c.tar.gz', work / 'c.tar.gz', work / 'c', tmp_path, PATIENT)
    assert (report['decision'], failed(report), len(report['searches']), report['left_out']) == ('promote', [], 24, 0)
    assert report['candidate'] == report['current'] == hashlib.sha256((work / 'c.tar.gz').read_bytes()).hexdigest()
    assert json.loads((tmp_path / 'report.json').read_text()) == report
    change = next(check for check in report['checks'] if check['name'] == 'rank-1')
    assert change['parent'] == change['candidate'] == 1 and change['change'] == [0, 0, 0]


def test_an_archive_with_the_wrong_photos_is_held(work, tmp_path):
    done = petlost('replay', work / 'wrong.tar.gz', '--current', work / 'c.tar.gz', '--queries', work / 'c', '--out', tmp_path, '--slower', 50)
    report = json.loads((tmp_path / 'report.json').read_text())
    assert (done.returncode, report['decision'], report['candidate']) == (1, 'hold', archive_sha256(work / 'wrong.tar.gz'))
    assert {'rank-1', '1 / rank'} <= set(failed(report))
    assert done.stdout.splitlines()[-1] == 'hold: 24 searches, 0 left out' and 'Replay: hold' in (tmp_path / 'report.html').read_text()


def test_without_a_current_service_the_candidate_must_be_good_by_itself(work, tmp_path):
    assert replay(None, work / 'c', work / 'c', tmp_path / 'a')['decision'] == 'promote'
    report = replay(None, work / 'wrong', work / 'c', tmp_path / 'b')
    assert (report['decision'], report['candidate'], report['current']) == ('hold', None, None)


def test_searches_whose_answer_is_gone_are_left_out_and_few_hold(work, tmp_path):
    shutil.copytree(work / 'c', smaller := tmp_path / 'smaller')
    with Catalogue.open(smaller, write=True) as catalogue: removed = [report for report in list(catalogue.reports())[:8] if catalogue.remove(report)]
    report = replay(work / 'c', smaller, work / 'c', tmp_path / 'out', PATIENT)
    assert (report['left_out'], len(report['searches'])) == (2 * len(removed), 24 - 2 * len(removed)) == (16, 8)
    assert 'searches' in failed(report)


def test_an_archive_that_does_not_start_is_named_and_nothing_is_left_running(work, tmp_path):
    before = {child.pid for child in psutil.Process().children()}
    (tmp_path / 'cut.tar.gz').write_bytes((work / 'c.tar.gz').read_bytes()[:-500])
    with pytest.raises(ValueError, match='cut.tar.gz'): replay(work / 'c', tmp_path / 'cut.tar.gz', work / 'c', tmp_path / 'out')
    package('colour-histogram', tmp_path / 'model.tar.gz')
    with pytest.raises(ValueError, match='no catalogue'): replay(None, tmp_path / 'model.tar.gz', work / 'c', tmp_path / 'out')
    assert not (tmp_path / 'out').exists() and {child.pid for child in psutil.Process().children()} <= before


def test_a_service_that_dies_on_the_way_is_held(work, tmp_path):
    from petlost.replay import alone_checks, ask_turn
    kept = kept_queries(work / 'c')
    photo = (work / 'c' / 'queries' / kept[0].photo).read_bytes()
    with served(work / 'c') as (service, _):
        alive = ask_turn(service, kept[0], photo)
        psutil.Process(service.pid).kill()
        dead = [[ask_turn(service, kept[0], photo)] for _ in range(20)]
    assert alive.rank == 1 and {turn.rank for turn, in dead} == {None} and all(turn.why for turn, in dead)
    assert [check.name for check in alone_checks(dead) if not check.passed][0] == 'answered'


def test_what_is_kept_says_nothing_of_the_camera_and_the_report_nothing_of_people(work, tmp_path):
    exif = Image.Exif()
    exif[0x010F], exif[0x8825] = 'SecretCamera', {1: 'N', 2: (41., 54., 0.), 3: 'E', 4: (12., 30., 0.)}
    Image.effect_noise((300, 300), 60).convert('RGB').save(tmp_path / 'IMG_of_Ada.jpg', exif=exif)
    shutil.copytree(work / 'c', copy := tmp_path / 'c')
    match = next(iter(kept_queries(copy))).match
    one = keep_query(copy, tmp_path / 'IMG_of_Ada.jpg', match, WHO)
    data = (copy / 'queries' / one.photo).read_bytes()
    assert b'SecretCamera' not in data and not Image.open(copy / 'queries' / one.photo).getexif() and 'Ada' not in one.photo
    replay(None, copy, copy, tmp_path / 'out')
    said = (tmp_path / 'out' / 'report.json').read_text() + (tmp_path / 'out' / 'report.html').read_text()
    assert not [word for word in ('Ada', 'Example', 'species', match, str(tmp_path)) if word in said]


def test_an_archive_holds_no_kept_search(work):
    with tarfile.open(work / 'c.tar.gz') as archive: assert not [name for name in archive.getnames() if 'quer' in name]


def test_forgetting_leaves_no_photo(work, tmp_path):
    shutil.copytree(work / 'c', copy := tmp_path / 'c')
    kept = kept_queries(copy)
    assert forget_queries(copy, [kept[0].match]) == sum(one.match == kept[0].match for one in kept) == 2
    left = kept_queries(copy)
    assert {path.name for path in (copy / 'queries').glob('*.jpg')} == {one.photo for one in left} and kept[0] not in left
    assert forget_queries(copy, [one.match for one in left]) == 22 and not list((copy / 'queries').glob('*.jpg'))
    with pytest.raises(ValueError, match='no search is kept'): replay(None, copy, copy, tmp_path / 'out')


def test_a_list_altered_by_hand_reaches_no_file_outside(work, tmp_path):
    shutil.copytree(work / 'c', copy := tmp_path / 'c')
    (tmp_path / 'mine.jpg').write_bytes(b'mine')
    with (copy / 'queries' / 'queries.csv').open('a') as f: f.write(f'../../mine.jpg,evil,x,{{}}\n')
    assert forget_queries(copy, ['evil']) == 1 and (tmp_path / 'mine.jpg').exists()
