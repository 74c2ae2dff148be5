"The commands as a user runs them: a process each, real files, exit codes and what is said where."
import csv, json, resource, signal, subprocess
from pathlib import Path
import numpy as np
import pytest
from PIL import Image
from running import PETLOST, petlost, said

def rows(catalogue):
    "Everything a catalogue holds, comparable."
    from petlost.index import Catalogue
    with Catalogue.open(catalogue) as c:
        vectors, names = c.vectors()
        return names, vectors.tobytes(), c.reports()

@pytest.fixture(scope='module')
def catalogue(drawn, tmp_path_factory):
    "The drawn photos, indexed."
    folder = tmp_path_factory.mktemp('catalogue') / 'c'
    done = petlost('index', drawn, '--to', folder)
    assert done.returncode == 0, done.stderr
    return folder

@pytest.fixture(scope='module')
def photo(drawn): return sorted(drawn.parent.glob('*/*.jpg'))[0]

def test_search_finds_the_report_of_its_own_photo(catalogue, photo):
    hits = json.loads(petlost('search', photo, '--in', catalogue, '--json').stdout)
    assert hits[0]['report'] == photo.parent.name and hits[0]['score'] > .99
    assert set(hits[0]) >= {'report', 'score', 'probability', 'photo', 'species', 'status', 'lat', 'lon', 'seen_at'}
    assert [h['score'] for h in hits] == sorted((h['score'] for h in hits), reverse=True)

def test_filters_keep_what_they_say(catalogue, photo):
    def search(*options): # without the probability, which depends on what else is on the list
        return [{k: v for k, v in hit.items() if k != 'probability'} for hit in json.loads(petlost('search', photo, '--in', catalogue, '--json', *options).stdout)]
    everything = search('-k', 16)
    cats = search('-k', 16, '--species', 'cat', '--status', 'found')
    assert cats == [h for h in everything if h['species'] == 'cat' and h['status'] == 'found']
    first = everything[0]
    near = search('-k', 16, '--near', f"{first['lat']},{first['lon']}", '--within', '2km')
    assert first['report'] in {h['report'] for h in near} and all(h['distance_km'] <= 2 for h in near)
    later = search('-k', 16, '--since', first['seen_at'][:10])
    assert {h['report'] for h in later} == {h['report'] for h in everything if h['seen_at'] >= first['seen_at'][:10]}

def test_the_page_holds_everything_it_shows(catalogue, photo, tmp_path):
    assert petlost('search', photo, '--in', catalogue, '--html', tmp_path / 'r.html').returncode == 0
    page = (tmp_path / 'r.html').read_text()
    assert page.count('class="card"') == 10 and 'http:' not in page and 'https:' not in page and 'src=' not in page

def test_embed_rows_follow_the_contract(drawn, tmp_path):
    (tmp_path / 'photos' / 'a').mkdir(parents=True)
    for i, name in enumerate(('a/2.jpg', 'a/10.jpg', 'z.png')): Image.open(sorted(drawn.parent.glob('*/*.jpg'))[i]).save(tmp_path / 'photos' / name)
    (tmp_path / 'photos' / 'a' / 'broken.jpg').write_bytes(b'no')
    done = petlost('embed', tmp_path / 'photos', '--out', tmp_path / 'e.npz')
    saved = np.load(tmp_path / 'e.npz')
    assert saved['paths'].tolist() == ['a/10.jpg', 'a/2.jpg', 'z.png'] and saved['vectors'].dtype == np.float32
    assert np.allclose(np.linalg.norm(saved['vectors'], axis=1), 1, atol=1e-5)
    assert said(done) == ['skipped a/broken.jpg: not a picture, or too damaged to read']

def bad_cases(root, catalogue, photo):
    "Command, exit code, and what its one line must say."
    (root / 'empty').mkdir()
    (root / 'wrong.csv').write_text('picture,kind\n1.jpg,dog\n')
    (root / 'bare.csv').write_text('photo,report\n')
    (root / 'half.jpg').write_bytes(photo.read_bytes()[:500])
    (root / 'text').mkdir(); (root / 'text' / 'a.jpg').write_text('words')
    return [
        (['index', root / 'empty', '--to', root / 'x'], 1, 'no photos in this folder'),
        (['index', root / 'none', '--to', root / 'x'], 1, 'no such file or folder'),
        (['index', root / 'wrong.csv', '--to', root / 'x'], 1, 'missing column photo, report'),
        (['index', root / 'bare.csv', '--to', root / 'x'], 1, 'the list has no rows'),
        (['index', photo.parent, '--to', catalogue, '--model', 'lite0'], 1, 'model'),
        (['index', photo.parent, '--to', root / 'x', '--model', 'nothing'], 1, 'no model nothing'),
        (['embed', root / 'text', '--out', root / 'e.npz'], 1, 'no photo can be read'),
        (['search', root / 'half.jpg', '--in', catalogue], 1, 'half.jpg: too damaged to decode'),
        (['search', root / 'gone.jpg', '--in', catalogue], 1, 'gone.jpg: no such file'),
        (['search', photo, '--in', root / 'empty'], 1, 'not a catalogue'),
        (['search', photo, '--in', catalogue, '--species', 'unicorn'], 2, "unknown species 'unicorn'"),
        (['search', photo, '--in', catalogue, '--status', 'eaten'], 2, "unknown status 'eaten'"),
        (['search', photo, '--in', catalogue, '--near', '95,0', '--within', '5km'], 2, 'no such place'),
        (['search', photo, '--in', catalogue, '--since', 'Tuesday'], 2, 'not a date'),
        (['search', photo, '--in', catalogue, '-k', '0'], 2, '-k'),
        (['search', '--in', catalogue], 2, 'photos'),
        (['segment', photo.parent, '--out', root / 'm', '--segmenter', 'magic'], 1, "unknown segmenter 'magic'"),
        (['evaluate', root / 'empty'], 1, 'no photos in this folder'),
        (['mine', root / 'empty', '--out', root / 'x'], 1, 'not a catalogue'),
        (['package', 'nothing', '--out', root / 'm.tar.gz'], 1, 'no model nothing'),
        (['frobnicate'], 2, 'frobnicate')]

def test_bad_input_is_one_line_and_the_right_code(tmp_path, catalogue, photo):
    for args, code, words in bad_cases(tmp_path, catalogue, photo):
        done = petlost(*args)
        assert (done.returncode, done.stdout) == (code, ''), (args, done)
        assert len(said(done)) == 1 and words in said(done)[0], (args, done.stderr)

def test_one_bad_photo_or_row_does_not_stop_the_rest(drawn, tmp_path):
    photos = [f'{p.parent.name}/{p.name}' for p in sorted(drawn.parent.glob('*/*.jpg'))[:3]]
    lines = [f'{photos[0]},r1,cat', f'{photos[1]},r2,unicorn', f'{photos[2]},r3,dog', 'gone.jpg,r4,dog']
    listed = drawn.parent / 'some.csv'
    listed.write_text('photo,report,species\n' + '\n'.join(lines) + '\n')
    done = petlost('index', listed, '--to', tmp_path / 'c')
    assert done.returncode == 0 and done.stdout.startswith('2 photos added, 0 were there already, 2 skipped')
    assert [line.split(':')[0] for line in said(done)] == ['skipped some.csv line 3', 'skipped some.csv line 5', '2 rows to mend and send again']

def test_a_query_without_a_pet_is_searched_and_said(catalogue, tmp_path):
    Image.new('RGB', (300, 200), (120, 118, 110)).save(tmp_path / 'wall.png')
    done = petlost('search', tmp_path / 'wall.png', '--in', catalogue, '--json')
    assert done.returncode == 0 and len(json.loads(done.stdout)) == 10
    assert said(done) == ['no pet could be told from its background in query photo 1; the whole photo was used']

def small_files(limit):
    "Let no file grow beyond `limit` bytes, as on a disk that is nearly full."
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

def test_a_full_disk_is_one_line_and_keeps_what_was_there(drawn, tmp_path):
    folder = tmp_path / 'c'
    assert petlost('index', drawn, '--to', folder).returncode == 0
    before = rows(folder)
    more = tmp_path / 'more' / 'late'
    more.mkdir(parents=True)
    for i, p in enumerate(sorted(drawn.parent.glob('*/*.jpg'))): Image.open(p).rotate(90).save(more / f'{i}.jpg')
    done = petlost('index', more.parent, '--to', folder, preexec_fn=small_files(60_000))
    assert done.returncode == 1 and len(said(done)) == 1 and 'cannot write the catalogue' in said(done)[0], done.stderr
    assert rows(folder) == before
    done = petlost('embed', drawn.parent, '--out', tmp_path / 'e.npz', preexec_fn=small_files(20_000))
    assert done.returncode == 1 and len(said(done)) == 1 and not (tmp_path / 'e.npz').exists(), done.stderr
    assert petlost('index', more.parent, '--to', folder).returncode == 0

def test_kill_9_during_index_ends_in_the_same_catalogue(drawn, catalogue, tmp_path):
    folder = tmp_path / 'killed'
    running = subprocess.Popen([PETLOST, 'index', drawn, '--to', folder], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, bufsize=1)
    seen = ''
    while '1/16' not in seen and running.poll() is None: seen += running.stderr.read(1)
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    assert petlost('index', drawn, '--to', folder).returncode == 0
    assert rows(folder) == rows(catalogue)

def test_real_reports_find_themselves(real_photos, tmp_path):
    photos, folder = real_photos / 'identities' / 'dreambooth', tmp_path / 'c'
    done = petlost('index', photos, '--to', folder)
    assert done.returncode == 0 and done.stdout.startswith('47 photos added')
    assert petlost('index', photos, '--to', folder).stdout.startswith('0 photos added, 47 were there already')
    for photo in sorted(photos.glob('*/00.jpg'))[:3]:
        assert json.loads(petlost('search', photo, '--in', folder, '--json').stdout)[0]['report'] == photo.parent.name

def test_odd_files_become_pictures_or_reasons(real_photos, tmp_path):
    done = petlost('index', real_photos / 'odd', '--to', tmp_path / 'c', '--model', 'colour-histogram')
    assert done.returncode == 0 and 'Traceback' not in done.stderr
    named = {line.split()[1].rstrip(':') for line in said(done) if line.startswith('skipped')}
    assert named == {'broken.png', 'decompression_bomb.gif', 'heif_corrupted.heic', 'heif_corrupted.hif', 'heif_empty.heic'}
    assert done.stdout.startswith('43 photos added')

def test_masks_of_real_photos(real_photos, tmp_path):
    done = petlost('segment', real_photos / 'masks' / 'dev', '--out', tmp_path)
    assert done.returncode == 0
    shares = []
    for row in csv.DictReader(open(real_photos / 'masks' / 'masks.csv')):
        if row['split'] != 'dev': continue
        name = Path(row['image']).stem
        mask, truth = np.asarray(Image.open(tmp_path / f'{name}.png')), np.asarray(Image.open(real_photos / 'masks' / row['mask']).convert('L'))
        assert mask.shape == truth.shape and set(np.unique(mask)) <= {0, 255}
        sure = truth != 128
        if row['cls'] in ('dog', 'cat'): shares.append(((mask == 255) & (truth == 255) & sure).sum() / (((mask == 255) | (truth == 255)) & sure).sum())
    assert len(shares) == 40 and np.mean(shares) > .75
