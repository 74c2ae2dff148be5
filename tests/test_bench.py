"`make bench` does nothing twice, says what failed, and the docs show what it wrote."
import json, os, subprocess, sys
from pathlib import Path
import pytest
from petlost.where_we_stand import accuracy_table, defeats, job_table, read_standing, step_table

ROOT = Path(__file__).parents[1]
TINY = '--pets 3 --rounds 1 --timed 2 --only "colour histogram" "perceptual hash, 256 bits" petlost-fast'

@pytest.fixture(scope='module')
def folder(tmp_path_factory): return tmp_path_factory.mktemp('bench')

def bench(folder, *args):
    "Run it on a few drawn pets, with figures in a folder of its own."
    words = [sys.executable, ROOT / 'benchmarks' / 'bench.py', '--keep', folder / 'kept', '--to', folder / 'stand.json', '--args', 'rivals', TINY, *args]
    return subprocess.run(words, capture_output=True, text=True, timeout=300, env={k: v for k, v in os.environ.items() if k != 'PYTHONPATH'})

def test_a_step_is_done_once_and_a_fault_is_named(folder):
    first = bench(folder, '--only', 'rivals', 'mining', '--args', 'mining', '--dim nonsense')
    assert (first.returncode, 'mining failed' in first.stderr, "invalid int value: 'nonsense'" in first.stdout) == (1, True, True), first.stdout + first.stderr
    found = read_standing(folder / 'stand.json')
    rows = found['steps']['rivals']['rows']
    assert [r['who'] for r in rows] == ['petlost', 'colour histogram', 'perceptual hash, 256 bits', 'petlost-fast'] and list(found['steps']) == ['rivals']
    assert found['steps']['rivals']['told']['kind'] == 'drawn' and str(folder) not in json.dumps(found)
    assert all(0 <= r['rank1']['low'] <= r['rank1']['high'] <= 1 and r['photo']['ms']['value'] > 0 for r in rows)
    assert rows[3]['photo']['ratio']['value'] == 1 and rows[1]['version'].startswith('petlost ')
    assert accuracy_table(found) in first.stdout and step_table(found) in first.stdout
    again = bench(folder, '--only', 'rivals')
    assert again.returncode == 0 and 'rivals: done before' in again.stdout and '--- make bench-rivals' not in again.stdout
    assert read_standing(folder / 'stand.json') == found

def test_it_is_done_anew_when_asked_or_when_its_code_is_another(folder):
    kept = folder / 'kept' / 'rivals.json'
    if not kept.exists(): pytest.skip('the first test made nothing')
    facts = json.loads(kept.read_text())
    kept.write_text(json.dumps(facts | dict(key=facts['key'] | dict(code='of yesterday'))))
    anew = bench(folder, '--only', 'rivals', '--args', 'rivals', TINY.replace('--rounds 1', '--rounds 0'))
    assert '--- make bench-rivals' in anew.stdout and 'of 12 photos' not in anew.stdout # the vectors are there
    same = bench(folder, '--only', 'rivals', '--args', 'rivals', TINY.replace('--rounds 1', '--rounds 0'))
    assert 'rivals: done before' in same.stdout
    asked = bench(folder, '--only', 'rivals', '--args', 'rivals', TINY.replace('--rounds 1', '--rounds 0'), '--again', 'rivals')
    assert '--- make bench-rivals' in asked.stdout

def test_a_step_that_is_none_is_refused(folder):
    assert bench(folder, '--again', 'nothing').returncode == 2

def test_the_notebook_shows_what_the_file_says():
    found = read_standing(ROOT / 'nbs' / 'where_we_stand.json')
    cells = json.loads((ROOT / 'nbs' / '02k_where_we_stand.ipynb').read_text(encoding='utf-8'))['cells']
    shown = [''.join(out['data']['text/markdown']) for cell in cells for out in cell.get('outputs', []) if 'text/markdown' in out.get('data', {})]
    assert shown == [step_table(found), accuracy_table(found), job_table(found, ('engines', 'index')), job_table(found, tuple(n for n in found['steps'] if n not in ('engines', 'index'))),
                     '\n'.join(f'- {line}' for line in defeats(found))]
