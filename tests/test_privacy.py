"What a photo tells about its owner goes nowhere: not into the catalogue, a page, an archive, an answer. Bytes are searched, packed and unpacked."
import base64, json, re, sqlite3, struct, tarfile, zlib
from fractions import Fraction
from pathlib import Path
import pytest
from PIL import Image, PngImagePlugin
import pillow_heif
from running import petlost

pillow_heif.register_heif_opener()
MARK = b'OWNER-7f3a91'
PLACE = [struct.pack(order + 'II', 5324771, 99991) for order in '<>'] # seconds of latitude, as EXIF writes it

def telling(path: Path, image: Image.Image):
    "Save with every kind of metadata a file of this format can hold."
    text = MARK.decode()
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x013B], exif[0x9C9B] = f'{text} maker', f'{text} model', f'{text} artist', text.encode('utf-16-le')
    exif[0x8769] = {0xA431: f'{text} serial', 0x927C: MARK + b' maker note', 0x9003: '2026:03:04 18:30:00', 0x9286: b'ASCII\0\0\0' + MARK}
    exif[0x8825] = {1: 'N', 2: (41, 53, Fraction(5324771, 99991)), 3: 'E', 4: (12, 29, Fraction(5324771, 99991)), 29: '2026:03:04'}
    profile = MARK + b' profile' * 20
    if path.suffix == '.png':
        notes = PngImagePlugin.PngInfo()
        notes.add_text('Comment', text)
        notes.add_itxt('XML:com.adobe.xmp', f'<x>{text}</x>')
        image.save(path, exif=exif.tobytes(), pnginfo=notes, icc_profile=profile)
    elif path.suffix == '.gif': image.save(path, comment=MARK)
    elif path.suffix in ('.heic', '.avif'): image.save(path, exif=exif.tobytes(), xmp=f'<x>{text}</x>'.encode())
    else: image.save(path, exif=exif.tobytes(), xmp=f'<x>{text}</x>'.encode(), **(dict(comment=MARK, icc_profile=profile) if path.suffix == '.jpg' else {}))

def pieces(path: Path):
    "The bytes of a file, and what is packed in it."
    data = path.read_bytes()
    yield data
    if path.name.endswith('.gz'):
        with tarfile.open(path) as packed: yield from (packed.extractfile(m).read() for m in packed if m.isfile())
    if path.suffix == '.html': yield from (base64.b64decode(found) for found in re.findall(rb'base64,([A-Za-z0-9+/=]+)', data))
    if path.name == 'catalogue.db':
        with sqlite3.connect(path) as db:
            yield from (row[0] for row in db.execute('SELECT jpeg FROM thumbnails'))
            yield from (zlib.decompress(row[0]) for row in db.execute('SELECT mask FROM masks'))

def tells(data: bytes) -> bool: return any(secret in data for secret in (MARK, MARK.decode().encode('utf-16-le'), b'2026:03:04', *PLACE))

def segments(jpeg: bytes) -> set[int]:
    "Markers before the picture's data."
    at, found = 2, set()
    while jpeg[at + 1] != 0xDA:
        found.add(jpeg[at + 1])
        at += 2 + int.from_bytes(jpeg[at + 2:at + 4], 'big')
    return found

@pytest.fixture(scope='module')
def photos(drawn, tmp_path_factory) -> Path:
    "Drawn pets in photos that tell all, two a report."
    folder, pictures = tmp_path_factory.mktemp('telling'), sorted(drawn.parent.glob('*/*.jpg'))[:12]
    for i, (picture, ending) in enumerate(zip(pictures, 2 * ('jpg', 'png', 'webp', 'heic', 'avif', 'gif'))):
        (folder / f'pet{i // 2}').mkdir(exist_ok=True)
        telling(folder / f'pet{i // 2}' / f'{i}.{ending}', Image.open(picture))
    return folder

def test_the_photos_do_tell(photos):
    for path in photos.glob('*/*'): assert tells(path.read_bytes()), path
    jpeg = next(photos.glob('*/*.jpg')).read_bytes()
    assert any(place in jpeg for place in PLACE) and {0xE1, 0xE2, 0xFE} <= segments(jpeg)

def test_nothing_that_leaves_tells(photos, tmp_path):
    query = next(photos.glob('*/*.jpg'))
    done = [petlost('index', photos, '--to', tmp_path / 'c'), petlost('search', query, '--in', tmp_path / 'c', '--json', '--html', tmp_path / 'page.html'),
            petlost('package', 'petlost', '--in', tmp_path / 'c', '--out', tmp_path / 'model.tar.gz'), petlost('mine', tmp_path / 'c', '--out', tmp_path / 'mined'),
            petlost('embed', photos, '--out', tmp_path / 'e.npz'), petlost('segment', photos, '--out', tmp_path / 'masks'),
            petlost('demo', '--photos', photos, '--out', tmp_path / 'demo')]
    assert [run.returncode for run in done] == [0] * len(done), [run.stderr[-300:] for run in done]
    files = [path for path in tmp_path.rglob('*') if path.is_file()]
    assert len(files) > 25
    jpegs = 0
    for path in files:
        for piece in pieces(path):
            assert not tells(piece), path
            if piece[:3] == b'\xff\xd8\xff':
                jpegs += 1
                assert segments(piece) <= {0xE0, 0xDB, 0xC0, 0xC4}, f'{path}: a JPEG with more than its picture'
    assert jpegs > 30 and not any(tells(run.stdout.encode() + run.stderr.encode()) for run in done)
    assert [hit['lat'] for hit in json.loads(done[1].stdout)] == [None] * 6, 'a place nobody asked for'

def test_a_training_set_is_pixels(photos, tmp_path):
    from petlost.photoset import read_photos
    from petlost.batches import PhotoCache
    PhotoCache(read_photos(photos), tmp_path / 'photos.npy', 64)
    assert not tells((tmp_path / 'photos.npy').read_bytes())

def test_place_and_time_only_when_asked(photos, tmp_path):
    asked = petlost('index', photos, '--to', tmp_path / 'c', '--facts-from-photos')
    assert asked.returncode == 0, asked.stderr
    from petlost.store import Store
    with Store.open(tmp_path / 'c') as store: report = store.report('pet0')
    assert (round(report.lat, 4), report.seen_at) == (41.8981, '2026-03-04T18:30:00Z')
    assert not any(MARK in path.read_bytes() for path in (tmp_path / 'c').rglob('*') if path.is_file())
