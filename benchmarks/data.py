"""The data room beside the plain way, in one run, as ratios: `make bench-data`, or `python benchmarks/data.py [--photo FILE.jpg] [--hashes 200000]`.

Each pair of contestants takes turns, so that a busy machine slows both; the ratio is of their medians."""
import argparse, io, statistics, tempfile
from pathlib import Path
import cv2, faiss, numpy as np
from PIL import Image
from petlost.data import check_photos
from petlost.duplicates import MAX_BITS, near_pairs
from petlost.photo import open_photo
from petlost.photoset import read_photos
from petlost.sample import draw, random_pet, random_shot
from turns import keep_figures, seconds, take_turns, versions

def phone_photo() -> bytes:
    "A drawn pet as a 12-megapixel phone JPEG, with the grain of a sensor."
    small = draw(random_pet(3), random_shot(1, light='day'), size=1024).photo.resize((4032, 3024), Image.Resampling.BICUBIC)
    grain = np.random.default_rng(0).normal(0, 4, (3024, 4032, 1)).astype(np.float32)
    buf = io.BytesIO()
    Image.fromarray((np.asarray(small, np.float32) + grain).clip(0, 255).astype(np.uint8)).save(buf, 'JPEG', quality=90)
    return buf.getvalue()

def opening(data: bytes, rounds: int):
    from fastai.vision.core import PILImage
    def plain(): return Image.open(io.BytesIO(data)).convert('RGB').resize((256, 256))
    def fastai(): return PILImage.create(io.BytesIO(data)).resize((256, 256))
    took = take_turns(rounds, ours=lambda: open_photo(data, max_side=256), plain=plain, fastai=fastai)
    w, h = Image.open(io.BytesIO(data)).size
    keep_figures(f'a photo of {w} x {h}, {len(data) / 2**20:.1f} MB, opened at 256 px', 'ms', {'petlost': took['ours'], 'PIL: open, convert, resize': took['plain'], 'fastai: PILImage.create, resize': took['fastai']},
                 {'PIL: open, convert, resize': versions('pillow'), 'fastai: PILImage.create, resize': versions('fastai')}, 1000)
    print(f'opening a photo of {w} x {h}, {len(data) / 2**20:.1f} MB, at 256 px: {1000 * took["ours"]:.0f} ms')
    for name, what in dict(plain='PIL open, convert, resize', fastai="fastai's PILImage.create, resize").items():
        print(f'  {took[name] / took["ours"]:.1f} times as fast as {what} ({1000 * took[name]:.0f} ms)')

def ingesting(data: bytes, photos: int):
    "Open, hash, judge: what `petlost check` does, on one core."
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        shared = open_photo(data, max_side=1600)
        for i in range(photos): shared.rotate(i).save(Path(folder, f'{i}.jpg'), quality=85)
        found = read_photos(folder)
        took = statistics.median(seconds(lambda: check_photos(found, workers=1)) for _ in range(3))
    print(f'checking photos of {shared.width} x {shared.height} (key, open, hash, quality): {photos / took:.0f} a second on one core')

def hashes_of(n: int) -> tuple[np.ndarray, np.ndarray]:
    "Random hashes, with planted near-duplicates, exact copies, and 5,000 copies of one logo; the planted pairs."
    rng = np.random.default_rng(0)
    codes, rows = rng.integers(0, 256, (n, 32), np.uint8), rng.permutation(n)
    near, equal = rows[:n // 10].reshape(-1, 2), rows[n // 10:n // 10 + n // 50].reshape(-1, 2)
    for i, j in near:
        flipped = np.zeros(256, bool)
        flipped[rng.choice(256, rng.integers(1, MAX_BITS + 1), replace=False)] = True
        codes[j] = codes[i] ^ np.packbits(flipped)
    codes[equal[:, 1]], codes[rows[-min(5000, n // 20):]] = codes[equal[:, 0]], codes[rows[-1]]
    return codes, np.sort(np.concatenate([near, equal]), axis=1)

def matching(n: int):
    "Near-duplicates of a whole catalogue, beside the loop over all pairs; the loop is timed on every 400th row."
    codes, planted = hashes_of(n)
    words, runs = codes.view(np.uint64), []
    def loop(rows):
        for j in rows: np.flatnonzero(np.bitwise_count(words[:j] ^ words[j]).sum(axis=1) <= MAX_BITS)
    for run in range(2):
        ours = seconds(lambda: near_pairs(codes))
        runs.append((ours, 400 * seconds(lambda: loop(range(run * 200, n, 400)))))
    ours, plain = (statistics.median(column) for column in zip(*runs))
    found = {tuple(pair) for pair in near_pairs(codes)[0].tolist()}
    keep_figures(f'near-duplicates among {n:,} photos', 's', {'petlost': ours, 'a NumPy loop over all pairs, from every 400th row': plain}, {'a NumPy loop over all pairs, from every 400th row': versions('numpy')})
    recall = sum(tuple(pair) in found for pair in planted.tolist()) / len(planted)
    print(f'near-duplicates among {n:,} photos: {ours:.0f} s on {faiss.omp_get_max_threads()} threads, {recall:.1%} of the planted pairs')
    print(f'  {plain / ours:.1f} times as fast as the NumPy loop over all pairs ({plain:.0f} s, from every 400th row)')
    print(f'  1,000 new photos among them: {seconds(lambda: near_pairs(codes, since=n - 1000)):.2f} s')

if __name__ == '__main__':
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument('--photo', type=Path, help='a JPEG of your own in place of the drawn one')
    options.add_argument('--hashes', type=int, default=200_000)
    asked = options.parse_args()
    data = asked.photo.read_bytes() if asked.photo else phone_photo()
    opening(data, 15)
    ingesting(data, 150)
    matching(asked.hashes)
