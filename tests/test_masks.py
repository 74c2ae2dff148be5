"Judging masks: the figures against their definitions, and real photos sorted as they should be."
import json
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image
from petlost.masks import Judged, MaskedPhoto, boundary_f1, judge_masks, mask_figures, mask_groups, read_masks
from petlost.segment import Segmentation
from running import petlost, said

def outline(mask):
    "Pixels of a mask with a neighbour in the photo that is not of it: rows and columns."
    h, w = mask.shape
    return np.array([(y, x) for y, x in np.argwhere(mask) if not mask[max(0, y - 1):y + 2, max(0, x - 1):x + 2].all()]).reshape(-1, 2)

def slow_boundary_f1(found, truth, radius):
    "By the definition: pixel by pixel, distance by distance."
    a, b = outline(found), outline(truth)
    if not len(a) or not len(b): return float(len(a) == len(b))
    apart = np.hypot(*(a[:, None] - b[None]).transpose(2, 0, 1))
    precision, recall = (apart.min(1) <= radius).mean(), (apart.min(0) <= radius).mean()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.

@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(.002, .2))
def test_boundary_f1_is_what_its_definition_says(seed, tolerance):
    rng = np.random.default_rng(seed)
    found, truth = (np.kron(rng.random((4, 5)) < .5, np.ones((6, 7))).astype(bool) for _ in range(2))
    radius = int(np.ceil(tolerance * np.hypot(*truth.shape)))
    assert boundary_f1(found, truth, tolerance) == pytest.approx(slow_boundary_f1(found, truth, radius))

def test_what_nobody_can_tell_counts_for_nothing():
    rng = np.random.default_rng(0)
    pet = np.zeros((40, 50), bool); pet[10:30, 10:40] = True
    sure = np.ones_like(pet); sure[8:12] = sure[28:32] = False
    masked = [MaskedPhoto('a', Image.new('RGB', (50, 40)), pet & sure, sure)]
    def judged(mask): return judge_masks(masked, lambda photos: [Segmentation(mask, (0, 0, 50, 40), 1.)])[0]
    guess = rng.random(pet.shape) < .5
    assert judged(np.where(sure, pet, guess)) == Judged(1., 1., ())
    assert judged(np.where(sure, ~pet, guess)).iou == 0

def test_figures_do_not_depend_on_the_order_of_photos():
    rng = np.random.default_rng(1)
    judged = [Judged(*rng.random(2), ()) for _ in range(30)]
    sequences, order = [f'{i // 6}' for i in range(30)], rng.permutation(30)
    a, b = mask_figures(judged, sequences), mask_figures([judged[i] for i in order], [sequences[i] for i in order])
    assert (a.photos, a.sequences) == (b.photos, b.sequences) == (30, 5)
    assert [*a.mean, a.low, a.boundary] == pytest.approx([*b.mean, b.low, b.boundary])

def test_real_photos_are_sorted_into_videos_and_single_photos(real_photos):
    masked = read_masks(real_photos / 'masks')
    groups = mask_groups(masked)
    assert {name: len(members) for name, members in groups.items()} == {
        'dogs and cats': 40, '  photos': 10, '  video frames': 30, '  dogs': 33, '  cats': 7, 'other animals': 59}
    assert {masked[i].sequence for i in groups['  video frames']} == {'dev/davis_dog'}
    assert len({masked[i].sequence for i in groups['  photos']}) == 10
    assert {masked[i].sequence for i in groups['other animals']} == {f'dev/davis_{name}' for name in ('bear', 'blackswan', 'cows', 'goat', 'horsejump-high', 'mallard-fly')}

def test_the_command_prints_json_that_any_reader_takes(tmp_path):
    Image.new('RGB', (64, 48), (200, 30, 30)).save(tmp_path / 'a.png')
    Image.new('L', (64, 48), 255).save(tmp_path / 'a_mask.png')
    (tmp_path / 'masks.csv').write_text('image,mask,cls\na.png,a_mask.png,dog\n')
    done = petlost('evaluate', tmp_path, '--segmentation', '--drawn', 0, '--segmenter', 'none', '--json')
    figures = json.loads(done.stdout, parse_constant=lambda word: pytest.fail(f'{word} is not JSON'))
    assert done.returncode == 0 and said(done) == []
    assert figures['dogs']['none'] == dict(photos=1, sequences=1, mean_iou=1., interval=None, p10_iou=1., boundary_f1=1.)

@pytest.mark.parametrize('options, code, words', [
    (['--segmentation', '--record'], 2, '--record does not go with --segmentation'),
    (['--segmentation', '--model', 'lite0'], 2, '--model does not go with --segmentation'),
    (['--segmenter', 'none'], 2, '--segmenter needs --segmentation'),
    (['--drawn', '3'], 2, '--drawn needs --segmentation'),
    (['--sheet', 'worst.png'], 2, '--sheet needs --segmentation'),
    (['--segmentation', '--sheet', 'worst.txt'], 2, 'no picture file'),
    (['--segmentation', '--drawn', '-1'], 2, '--drawn'),
    (['--segmentation'], 1, 'masks.csv: no such file')])
def test_options_that_do_not_go_together_are_wrong_use(tmp_path, options, code, words):
    done = petlost('evaluate', tmp_path, *options)
    assert (done.returncode, done.stdout) == (code, '') and len(said(done)) == 1 and words in done.stderr
