"""Damaged photos through `open_photo`, in a process of its own: `python tests/fuzz_photos.py COUNT SEED [FOLDER]`.

Photos in every format, and those of FOLDER, are damaged at random. Each must become a picture or a `BadPhoto`, within 2 seconds of
processor time and 1 GB of memory more than the process had before. The first that does not is kept in the temporary folder."""
import faulthandler, io, resource, sys, tempfile, time, warnings
from pathlib import Path
from hypothesis import HealthCheck, Phase, given, seed, settings, strategies as st
from PIL import Image
from petlost.photo import MAX_SIDE, BadPhoto, open_photo
from petlost.sample import draw, random_pet, random_shot

SECONDS, MEGABYTES = 2., 1024
MOST = 600_000 # bytes of a photo that is damaged: larger ones take the time of a hundred small ones

def saved(image, format, **options) -> bytes:
    buf = io.BytesIO()
    image.save(buf, format, **options)
    return buf.getvalue()

def seeds(folder: Path|None) -> list[bytes]:
    "One good photo in every format and mode, with metadata, and the photos of a folder."
    pet = draw(random_pet(1), random_shot(1), size=160).photo
    exif = Image.Exif()
    exif[0x0112], exif[0x8825] = 6, {1: 'N', 2: (41., 53., 24.), 3: 'E', 4: (12., 29., 32.)}
    exif, frames = exif.tobytes(), dict(save_all=True, append_images=[pet.rotate(9), pet.rotate(20)])
    made = [saved(pet, 'JPEG', exif=exif), saved(pet, 'JPEG', progressive=True, quality=40), saved(pet.convert('CMYK'), 'JPEG'), saved(pet, 'PNG', exif=exif),
            saved(pet.convert('RGBA'), 'PNG', **frames), saved(pet.convert('P'), 'PNG', transparency=3), saved(pet.convert('I;16'), 'PNG'),
            saved(pet, 'GIF', **frames), saved(pet, 'WEBP', exif=exif), saved(pet, 'WEBP', lossless=True, **frames), saved(pet, 'TIFF', exif=exif),
            saved(pet, 'TIFF', compression='tiff_lzw'), saved(pet, 'TIFF', compression='jpeg'), saved(pet.convert('F'), 'TIFF'), saved(pet, 'BMP'),
            saved(pet, 'HEIF', exif=exif), saved(pet, 'AVIF', exif=exif), saved(pet, 'AVIF', **frames), saved(pet, 'JPEG2000'), saved(pet, 'MPO', **frames)]
    odd = sorted(p for p in folder.iterdir() if p.suffix != '.csv' and 0 < p.stat().st_size <= MOST) if folder else []
    return made + [p.read_bytes() for p in odd]

NUMBERS = [n.to_bytes(size, order) for size in (2, 4) for order in ('big', 'little') for n in (0, 1, 255, 2**15, 2**(8 * size) - 1)]
# Where (a share of the file; the headers at the start are where it hurts), what, and how much.
EVEN = st.integers(0, 2**32 - 1).map(lambda n: n * 2654435761 % 2**32 / 2**32) # hypothesis alone prefers 0 and 1
PLACE = EVEN | EVEN | EVEN.map(lambda x: .02 * x)
DAMAGE = st.lists(st.tuples(st.sampled_from(['put', 'put', 'put', 'put', 'cut', 'end', 'twice', 'splice']), PLACE, st.sampled_from(NUMBERS) | st.binary(min_size=1, max_size=40), PLACE), max_size=4)

def damaged(data: bytes, damage, others: list[bytes]) -> bytes:
    for kind, where, what, much in damage:
        at, size = int(where * len(data)), int(much * len(data) / 4) + 1
        if kind == 'put': data = data[:at] + what + data[at + len(what):]
        if kind == 'cut': data = data[:at] + data[at + size:]
        if kind == 'end': data = data[:at]
        if kind == 'twice': data = data[:at + size] + data[at:]
        if kind == 'splice':
            other = others[what[0] % len(others)]
            data = data[:at] + other[int(much * len(other)):][:50_000]
    return data

def memory() -> float: return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

def check(data: bytes, before: float) -> bool:
    "A picture (true) or a `BadPhoto`, in time and in memory."
    faulthandler.dump_traceback_later(60, exit=True)
    start, taken = time.thread_time(), True
    try:
        photo = open_photo(data, name='upload')
        assert photo.mode == 'RGB' and 1 <= max(photo.size) <= MAX_SIDE and set(photo.info) == {'flags', 'size', 'jpeg_quality'}
        photo.load()
    except BadPhoto as bad:
        taken = False
        assert str(bad).startswith('upload: ') and len(str(bad)) > 12 and str(bad).isprintable()
    spent = time.thread_time() - start
    faulthandler.cancel_dump_traceback_later()
    assert spent < SECONDS, f'{spent:.1f} seconds'
    assert memory() - before < MEGABYTES, f'{memory() - before:.0f} MB'
    return taken

def main(count: int, number: int, folder: Path|None):
    warnings.simplefilter('ignore')
    good = seeds(folder)
    for data in good:
        try: open_photo(data)
        except BadPhoto: pass
    before, tried, pictures = memory(), 0, 0

    @seed(number)
    @settings(max_examples=count, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(st.integers(0, len(good) - 1), DAMAGE)
    def fuzz(which, damage):
        nonlocal tried, pictures
        data, tried = damaged(good[which], damage, good), tried + 1
        try: pictures += check(data, before)
        except BaseException:
            keep = Path(tempfile.gettempdir(), f'petlost-fuzz-{number}-{tried}')
            keep.write_bytes(data)
            print(f'failed on {keep}')
            raise
    fuzz()
    print(f'{tried} files from {len(good)} photos: {pictures} pictures, {tried - pictures} refused, {memory() - before:.0f} MB at most')

if __name__ == '__main__': main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]) if len(sys.argv) > 3 else None)
