"The site: every notebook in its place, every link and place on it there, nothing from outside."
import os, re, subprocess, sys
from pathlib import Path
import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / 'nbs/_site'))
import chapter, pages as site

def notebooks(): return sorted(p.relative_to(ROOT / 'nbs').as_posix() for p in (ROOT / 'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts)

@pytest.fixture(scope='module')
def pages(tmp_path_factory):
    "The site, built into a folder of its own."
    out = tmp_path_factory.mktemp('docs')
    subprocess.run([sys.executable, 'nbs/_site/pages.py', out], cwd=ROOT, env=dict(os.environ, PYTHONPATH='nbs/_site'), check=True)
    return out

def lychee(*what):
    "Faults that the link checker finds in pages, without a request to anywhere."
    done = subprocess.run([Path(sys.executable).with_name('lychee'), '--offline', '--include-fragments=full', '--no-progress', *map(str, what)], capture_output=True, text=True)
    return done.returncode, done.stdout

def test_every_notebook_has_one_place_in_the_reading_order():
    assert sorted(n for _, names in site.sections() for n in names) == notebooks(), 'nbs/sidebar.yml wants a line for each notebook'

def test_no_two_notebooks_become_one_page():
    made = [chapter.page_of(n) for n in notebooks()]
    assert len(set(made)) == len(made)
    assert str(chapter.page_of('05_index.ipynb')) == '05_index.html' and str(chapter.page_of('index.ipynb')) == 'index.html'

def test_a_page_for_each_notebook_and_one_for_names(pages):
    there = {p.relative_to(pages).as_posix() for p in pages.rglob('*.html')}
    assert there == {chapter.page_of(n).as_posix() for n in notebooks()} | {'names.html'}

def test_every_link_and_place_is_there(pages):
    code, said = lychee(pages)
    assert code == 0, said

@pytest.mark.parametrize('link', ['nowhere.html', 'index.html#nothing-here', 'images/none.jpg'])
def test_a_broken_link_is_found(tmp_path, link):
    (tmp_path / 'index.html').write_text(f'<h2 id="here">x</h2><a href="{link}">x</a>')
    code, said = lychee(tmp_path)
    assert code == 2 and link.partition('#')[0] in said

def test_links_of_the_texts_beside_the_notebooks():
    code, said = lychee(*(ROOT / n for n in ('README.md', 'CONTRIBUTING.md', 'CHANGELOG.md')), *ROOT.glob('petlost/models/*/README.md'))
    assert code == 0, said

def test_a_link_to_what_is_not_there_stops_the_build():
    page = chapter.Chapter.__new__(chapter.Chapter)
    page.path, page.here = ROOT / 'nbs/tutorials/x.ipynb', Path('tutorials/x.ipynb')
    assert page.link('../05_index.ipynb#What-it-costs') == '../05_index.html#what-it-costs'
    assert page.link('../../benchmarks/index.py') == 'https://github.com/petlost/petlost/blob/main/benchmarks/index.py'
    with pytest.raises(chapter.BrokenLink, match='tutorials/x.ipynb links to ../05_nothing.ipynb'): page.link('../05_nothing.ipynb')

def test_pages_ask_nothing_of_anybody(pages):
    for page in [*pages.rglob('*.html'), pages / 'style.css']:
        text = page.read_text()
        found = re.findall(r'<(?:script|img|iframe|link|source|video|audio)\b[^>]*?(?:src|href)="(?!data:|#)([^"]*)"', text) + re.findall(r'(?:url\(|@import)\s*["\']?([^)"\']+)', text)
        assert not [f for f in found if '//' in f and not f.startswith('data:')], page.name

def test_every_public_name_is_documented(pages):
    places = {p.relative_to(pages).as_posix(): set(re.findall(r' id="([^"]+)"', p.read_text())) for p in pages.rglob('*.html')}
    public = [(f'{module}.{name}', *to.split('#')) for module, names in chapter.exported().items() for name, to in names.items() if not name.startswith('_')]
    assert len(public) > 700
    assert not [name for name, page, place in public if place not in places[page]]

def test_what_nbdev_would_drop_is_shown(pages):
    "The text below the title in a first cell, exported code, and formulas."
    assert 'petlost starts where its users are' in (pages / 'data.html').read_text()
    assert 'speak' in (pages / 'weigh.html').read_text() and '<summary>source</summary>' in (pages / 'weigh.html').read_text()
    assert '<math' in (pages / 'place_time.html').read_text() and '\\frac' not in re.sub(r'<annotation.*?</annotation>', '', (pages / 'place_time.html').read_text())
