"A planted duplicate report is never mined as a negative: over random catalogues, whatever links it."
import subprocess, sys

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from petlost.duplicates import SharedPhoto
from petlost.facts import Report
from petlost.ledger import Ledger, pair_ledger
from petlost.mining import mine, mine_catalogue
from petlost.store import PhotoRow, Store

LINKS = 'photo', 'label', 'chip', 'verdict', 'several pets', 'in doubt', 'through a third', 'looks'

def unit(x): return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)

@st.composite
def catalogues(draw, links=LINKS):
    "What `mine` takes, with a second report of the first pet in it, and the ids of the two."
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    pets, link = draw(st.integers(12, 40)), draw(st.sampled_from(links))
    counts = np.r_[draw(st.lists(st.integers(1, 4), min_size=pets, max_size=pets)), 2]
    counts[:2] = 2
    pet = rng.standard_normal((pets, 32)) + 2 * draw(st.floats(0, 1)) * rng.standard_normal((1 + pets // 8, 32))[rng.integers(1 + pets // 8, size=pets)]
    of = np.repeat(np.r_[np.arange(pets), 0], counts)
    away = 1.5 * rng.standard_normal(32) * (link != 'looks') # linked by evidence, it may look as it likes
    x = pet[of] + .4 * rng.standard_normal((len(of), 32)) + np.where(np.repeat(np.arange(pets + 1), counts)[:, None] == pets, away, 0)
    names = [f'r{i:02}' for i in np.repeat(np.arange(pets + 1), counts)]
    kind, place = draw(st.sampled_from([None, 'dog'])), draw(st.booleans())
    facts = {r: Report(r, draw(st.sampled_from([kind, 'dog'])), None, *((40. + 10 * (int(r[1:]) % pets % 2), 10.) if place else (None, None)), '2026-03-04T12:00:00Z' if place else None,
                       f'pet {int(r[1:])}' if link != 'looks' and draw(st.booleans()) and r not in ('r00', f'r{pets:02}') else None) for r in dict.fromkeys(names)}
    a, b = 'r00', f'r{pets:02}'
    if link in ('label', 'chip'): facts |= {r: Report(r, 'dog', pet={'label': 'rex', 'chip': 'chip-12'}[link]) for r in (a, b)}
    if link == 'through a third': facts['r01'] = Report('r01', 'dog')
    share = lambda a, b: SharedPhoto(*sum(sorted([(a, f'{a}/0.jpg'), (b, f'{b}/0.jpg')]), ()), 1)
    shared = {'photo': [share(a, b)], 'several pets': [share(a, b)], 'through a third': [share(a, 'r01')]}.get(link, [])
    odds = {'verdict': {(a, b): 5.}, 'in doubt': {(a, b): -1.}, 'through a third': {('r01', b): 5.}}.get(link, {})
    ledger = pair_ledger(facts, shared, odds, [(a, f'{a}/0.jpg')] if link == 'several pets' else [])
    return unit(x), [(r, f'{r}/{i}.jpg') for i, r in enumerate(names)], facts, ledger, {a, b}

def joins(mined, pair): return any({n.anchor_report, n.negative_report} == pair for n in mined.negatives)

@settings(max_examples=150, deadline=None)
@given(catalogues())
def test_a_planted_duplicate_is_never_a_negative(catalogue):
    *what, pair = catalogue
    assert not joins(mine(*what), pair)

@settings(max_examples=100, deadline=None)
@given(catalogues(LINKS[:-1]))
def test_evidence_alone_is_enough_without_any_guard(catalogue):
    *what, pair = catalogue
    assert not joins(mine(*what, risk=1., hide=0, margin=9.), pair)

def test_the_test_can_fail():
    @settings(max_examples=150, deadline=None, database=None)
    @given(catalogues())
    def naive(catalogue):
        vectors, photos, facts, _, pair = catalogue
        assert not joins(mine(vectors, photos, {}, pair_ledger({r: Report(r) for r in facts}), risk=1., hide=0, margin=9.), pair)
    with pytest.raises(AssertionError): naive()

@settings(max_examples=40, deadline=None)
@given(catalogues())
def test_rows_and_names_say_the_same(catalogue):
    vectors, photos, facts, ledger, _ = catalogue
    mined = mine(vectors, photos, facts, ledger)
    assert [(*photos[a], *photos[b]) for a, b in mined.negative_rows.tolist()] == [n[:4] for n in mined.negatives]
    assert [(*photos[a], *photos[b]) for a, b in mined.positive_rows.tolist()] == [p[:4] for p in mined.positives]
    group = dict(zip(ledger.ids, ledger.groups.tolist()))
    assert all(group[n.anchor_report] != group[n.negative_report] for n in mined.negatives)
    assert all(group[p.report] == group[p.other_report] for p in mined.positives)

def make(folder, n=30):
    rng = np.random.default_rng(3)
    pet = rng.standard_normal((n, 16))
    with Store.create(folder, dict(name='drawn', id='1', dim=16)) as store:
        store.add([Report(f'report-{i}', 'dog') for i in range(n)],
                  [PhotoRow(f'report-{i}', f'report-{i}/{j}.jpg', f'{i} {j}', pet[i] + .6 * rng.standard_normal(16)) for i in range(n) for j in range(3)])

def test_a_removed_report_leaves_no_trace(tmp_path):
    make(tmp_path / 'catalogue')
    odds = {('report-3', 'report-4'): 2., ('report-3', 'report-5'): -4.}
    mine_catalogue(tmp_path / 'catalogue', tmp_path / 'out', odds=odds, risk=.5, hide=0)
    assert any(b'report-3/' in path.read_bytes() for path in (tmp_path / 'out').iterdir())
    with Store.open(tmp_path / 'catalogue', write=True) as store: store.remove('report-3')
    mine_catalogue(tmp_path / 'catalogue', tmp_path / 'out', odds=odds, risk=.5, hide=0)
    for path in (tmp_path / 'out').rglob('*'): assert b'report-3,' not in path.read_bytes() and b'report-3/' not in path.read_bytes(), path

def test_the_same_in_another_process_to_the_last_byte(tmp_path):
    make(tmp_path / 'catalogue')
    mine_catalogue(tmp_path / 'catalogue', tmp_path / 'one', {('report-3', 'report-4'): 5.})
    code = "import sys; from petlost.mining import mine_catalogue; mine_catalogue(sys.argv[1], sys.argv[2], {('report-3', 'report-4'): 5.})"
    subprocess.run([sys.executable, '-c', code, tmp_path / 'catalogue', tmp_path / 'two'], check=True)
    for path in (tmp_path / 'one').iterdir(): assert path.read_bytes() == (tmp_path / 'two' / path.name).read_bytes(), path.name
    assert Ledger.read(tmp_path / 'one').digest in (tmp_path / 'two' / 'summary.json').read_text()
